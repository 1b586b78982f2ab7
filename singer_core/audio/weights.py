"""Checkpoints of the audio networks: opened without running code from them, checked against the model."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from singer_core.audio.separation import SeparatorFile

State = dict[str, torch.Tensor]


def load_state(path: Path) -> State:
    """The tensors of a .safetensors, .pt, .pth or .ckpt file, also inside a training checkpoint.

    Raises RuntimeError for a damaged file or one that needs code to be opened.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise RuntimeError(f"{path.name} is damaged ({error}). Get it again.") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise RuntimeError(f"{path.name} is damaged or not a plain weights file. Get it again.") from error
    for key in ("state_dict", "state"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise RuntimeError(f"{path.name} holds a {type(state).__name__}; a dict of tensors is accepted.")
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


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
