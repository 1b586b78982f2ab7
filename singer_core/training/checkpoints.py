"""Checkpoints of a run: folders `step-000500`, complete or absent, from which the run goes on exactly.

network.safetensors  the weights in float32, a checkpoint like any other in the published layout
average.safetensors  the averaged weights (EMA), where the run keeps them
factors.safetensors  what a run of factors trains; network.safetensors has it merged
state.pt             optimizer, average, step and configuration
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..files import renamed_on_success
from ..network.architecture import Architecture
from ..network.checkpoint import Checkpoint, expected_shapes, open_checkpoint, our_key, published_key
from ..weights import load_plain, load_state, open_weights, save_weights
from .config import TrainConfig
from .lora import is_factor, loadable_factors, merged_state

if TYPE_CHECKING:  # diffusers
    from ..network.backbone import SingerNetwork

logger = logging.getLogger(__name__)

NETWORK, AVERAGE, STATE = "network.safetensors", "average.safetensors", "state.pt"
FACTORS = "factors.safetensors"
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class RunState:
    """What a run needs beside its weights to go on: step (forwards done), optimizer and average."""

    step: int
    optimizer: dict[str, Any]
    average: dict[str, Any] | None
    config: str


def published_tensors(state: Mapping[str, Tensor], arch: Architecture) -> Iterator[tuple[str, Tensor]]:
    """A network's state dict under the published names, complete; motion modules that nothing runs are 0."""
    for key, shape in expected_shapes(arch).items():
        if our_key(key, arch) is None:
            yield key, torch.zeros(shape)
    for name, value in state.items():
        yield published_key(name), value.detach().to("cpu", torch.float32)


def metadata_of(
    config: TrainConfig, arch: Architecture, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What shapes do not show: heads, what locator and audio projection read, noise schedule, clip length."""
    found = {
        "singer.heads": str(arch.heads),
        "singer.locator_input": arch.locator_input,
        "singer.carried_input": arch.carried_input,
        "singer.audio_past": str(arch.audio_past),
        "singer.noise_schedule": config.noise_schedule,
        "singer.recipe": config.recipe,
        "singer.stage": str(config.stage),
        "singer.clip_frames": str(config.frames),
    }
    if config.recipe == "distill":
        found |= _made_for(config.distilled_steps, config.reference_scale, config.audio_scale)
    elif config.sampled_steps:
        found |= _made_for(config.sampled_steps, 1.0, 1.0)
    return {**found, **(extra or {})}


def _made_for(steps: int, reference_scale: float, audio_scale: float) -> dict[str, str]:
    """How a few-step network is sampled, and the guidance that it has learnt to do without."""
    return {
        "singer.distilled_steps": str(steps),
        "singer.folded_guidance": f"{reference_scale:g},{audio_scale:g}",
    }


def save_network(
    path: Path,
    network: SingerNetwork,
    metadata: Mapping[str, str],
    changed: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a network as a checkpoint in the published layout; `changed` replaces some of its tensors."""
    state = {**merged_state(network), **(changed or {})}
    save_weights(path, published_tensors(state, network.architecture), dict(metadata))


def save_step(
    folder: Path,
    network: SingerNetwork,
    metadata: Mapping[str, str],
    state: RunState,
    average: Mapping[str, Tensor] | None,
    keep: int,
) -> Path:
    """Write the checkpoint of a step beside the others, then delete the oldest beyond `keep`.

    It appears under its name only when all of it is on disk, so an error (a full disk) or a kill leaves the
    last one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{state.step:06d}"
    unfinished = Path(tempfile.mkdtemp(dir=folder, prefix=".unfinished-"))
    try:
        save_network(unfinished / NETWORK, network, metadata)
        if average is not None:
            save_network(unfinished / AVERAGE, network, metadata, average)
        factors = _factors(network)
        if factors:
            save_weights(unfinished / FACTORS, factors.items(), dict(metadata))
        with renamed_on_success(unfinished / STATE) as temporary:
            torch.save(vars(state), temporary)
        if target.exists():  # the same step again, after a run was set back
            shutil.rmtree(target)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    for old in all_steps(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def _factors(network: SingerNetwork) -> dict[str, Tensor]:
    """What a run of factors trains; empty for other runs."""
    trained = {name: p.detach().cpu() for name, p in network.named_parameters() if p.requires_grad}
    return trained if any(is_factor(name) for name in trained) else {}


def all_steps(folder: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=_number)


def _number(step: Path) -> int:
    return int(step.name.removeprefix("step-"))


def newest_step(folder: Path) -> Path | None:
    """The checkpoint to go on from, or None."""
    steps = all_steps(folder)
    return steps[-1] if steps else None


def check_length(config: TrainConfig) -> None:
    """ValueError where a run has more steps behind it than are asked for."""
    newest = newest_step(config.output)
    done = 0 if newest is None else _number(newest)
    if done > config.steps:
        raise ValueError(
            f"`steps` is {config.steps}, but this run is at step {done}. Ask for more, choose another "
            f"`name`, or delete {config.output} to begin anew."
        )


def export_newest(config: TrainConfig, start: Checkpoint, target: Path, extra: Mapping[str, str]) -> None:
    """Write what a run's newest checkpoint holds as users load it: a LoRA, or a network, averaged if it is.

    The network is stored in the types of `start`; `extra` joins the metadata.
    """
    newest = newest_step(config.output)
    assert newest is not None  # the trainer has just written it
    target.parent.mkdir(parents=True, exist_ok=True)
    if config.has_factors:
        factors = open_weights(newest / FACTORS)
        save_weights(target, loadable_factors(factors, start), {**factors.metadata, **extra})
        return
    average = newest / AVERAGE
    network, stored = open_weights(average if average.exists() else newest / NETWORK), start.file.dtypes
    tensors = ((key, network.tensor(key).to(stored.get(key))) for key in network.shapes)
    save_weights(target, tensors, {**network.metadata, **extra})


def load_step(folder: Path, network: SingerNetwork) -> RunState:
    """Fill the network from a checkpoint of this run and return the rest of its state.

    Raises RuntimeError where the checkpoint is of another network or damaged.
    """
    checkpoint = open_checkpoint(folder / NETWORK)
    if checkpoint.architecture != network.architecture:
        raise RuntimeError(
            f"{folder} holds a network of other widths. Give the run an empty `output`, or its own widths."
        )
    if _factors(network):
        network.load_state_dict(load_state(folder / FACTORS), strict=False)
    else:
        network.load_state_dict({name: checkpoint.file.tensor(key) for key, name in checkpoint.names.items()})
    return RunState(**load_plain(folder / STATE))
