"""Checkpoints of the audio networks: opened without running code from them, checked against the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..weights import open_weights

if TYPE_CHECKING:
    from .separation import SeparatorFile

State = dict[str, torch.Tensor]


def load_state(path: Path) -> State:
    """The tensors of a weight file, also of a training checkpoint. Raises as `open_weights`."""
    file = open_weights(path, within=("state_dict", "state"))
    return {name: file.tensor(name) for name in file.shapes}


def match_state(model: torch.nn.Module, state: State, title: str, file: SeparatorFile | None) -> None:
    """Load `state` into `model`. Raises RuntimeError naming three missing keys where it does not fit."""
    wanted = model.state_dict()
    bad = [key for key, value in wanted.items() if key not in state or state[key].shape != value.shape]
    if bad:
        link = f" Get them from {file.link}" if file else ""
        names = ", ".join(bad[:3])
        counts = f"{len(bad)} of {len(wanted)} tensors are missing or of another shape"
        raise RuntimeError(f"These are not the weights of {title}: {counts} ({names}).{link}")
    model.load_state_dict({key: state[key].float() for key in wanted})
