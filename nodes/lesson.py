"""A training run inside ComfyUI: data, the library's trainer, and the file that comes out.

A run lives in output/singer_training and goes on from its newest checkpoint, like one of `singer train`.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.utils
import folder_paths
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from singer_core.network.checkpoint import Checkpoint, open_checkpoint, published_key
from singer_core.training.checkpoints import AVERAGE, FACTORS, NETWORK, newest_step
from singer_core.training.config import TrainConfig, from_mapping
from singer_core.training.lora import is_factor
from singer_core.training.runlog import LOG, Report
from singer_core.training.trainer import Trainer
from singer_core.weights import WeightFile, open_weights, save_weights

from . import folders
from .rehearsal import Preparation, prepared_clips

SAVE_EVERY = 250  # steps between checkpoints to go on from after a cancel
RUN = "singer.run"  # metadata of a trained file: which run wrote it
PLOT = (640, 360)  # width, height in pixels
MARGIN = 40


@dataclass(frozen=True)
class Lesson:
    """What is trained and how: the widgets of `Train SINGER`."""

    checkpoint: str
    recipe: str
    steps: int
    rank: int
    rate: float
    seed: int
    name: str
    accumulate: int
    clip_frames: int
    motion_modules: bool

    def run(self, data: Path) -> str:
        """Of which run this is: everything but its length and its name."""
        settings = dataclasses.replace(self, steps=0, name="")
        return hashlib.sha256(f"{data.name} {settings}".encode()).hexdigest()[:12]


def train(data: Path, lesson: Lesson, preparation: Preparation) -> tuple[str, Tensor]:
    """(path of the trained file, IMAGE (1, H, W, 3) of the loss).

    Raises ValueError for a bad name or data that do not fit, RuntimeError for a wrong checkpoint or a missing
    package, and what core raises where the user cancels.
    """
    run, target = lesson.run(data), _target(lesson, data)
    start = open_checkpoint(Path(lesson.checkpoint))
    config = _config(lesson, prepared_clips(data, _workplace(), start, lesson.clip_frames, preparation), run)
    _check_length(config)
    mm.unload_all_models()
    mm.soft_empty_cache()
    with torch.inference_mode(False):  # in which core runs nodes, and which knows no gradients
        _learn(config)
    _export(config, start, target, run)
    return str(target), loss_plot(config.output / LOG)


def _learn(config: TrainConfig) -> None:
    from accelerate import PartialState

    PartialState(cpu=mm.is_device_cpu(mm.get_torch_device()))  # the trainer's accelerator follows it
    bar = comfy.utils.ProgressBar(config.steps)

    def report(step: Report) -> None:
        mm.throw_exception_if_processing_interrupted()
        bar.update_absolute(step.step)

    trainer = Trainer(config)
    try:
        trainer.run(report)
    finally:
        trainer.accelerator.free_memory()


def _config(lesson: Lesson, clips: Path, run: str) -> TrainConfig:
    """The settings of the recipe with the user's."""
    values: dict[str, Any] = {
        "data": str(clips),
        "output": str(_workplace() / f"{lesson.name}-{run}"),
        "start": lesson.checkpoint,
        "recipe": lesson.recipe,
        "steps": lesson.steps,
        "rate": lesson.rate,
        "seed": lesson.seed,
        "accumulate": lesson.accumulate,
        "frames": lesson.clip_frames,
        "lora_rank": lesson.rank,
        "lora_motion": lesson.motion_modules,
        "precision": _precision(),
        "gradient_checkpointing": True,
        "save_every": SAVE_EVERY,
        "log_every": 1,
        "keep": 1,
    }
    return from_mapping(values, name="`Train SINGER`")


def _precision() -> str:
    device = mm.get_torch_device()
    if mm.should_use_bf16(device):
        return "bf16"
    return "fp16" if mm.should_use_fp16(device) else "no"


def _workplace() -> Path:
    return Path(folder_paths.get_output_directory()) / "singer_training"


def _target(lesson: Lesson, data: Path) -> Path:
    """Where the trained file goes. ValueError for a bad name, or one that another run has taken."""
    if not re.fullmatch(r"\w[\w .-]*", lesson.name) or lesson.name.endswith((" ", ".")):
        raise ValueError(
            f"`name` is {lesson.name!r}; letters, digits, spaces, dots, dashes and underscores are accepted, "
            "and no folder. Choose a plain name."
        )
    category = "loras" if lesson.recipe == "lora" else folders.CHECKPOINTS
    target = Path(folder_paths.get_folder_paths(category)[0]) / f"{lesson.name}_{lesson.steps}.safetensors"
    if target.exists() and open_weights(target).metadata.get(RUN) != lesson.run(data):
        raise ValueError(f"{target} exists and is of other settings. Choose another `name`, or move it away.")
    return target


def _check_length(config: TrainConfig) -> None:
    """ValueError where the run has more steps behind it than are asked for."""
    newest = newest_step(config.output)
    done = 0 if newest is None else int(newest.name.removeprefix("step-"))
    if done > config.steps:
        raise ValueError(
            f"`steps` is {config.steps}, but this run is at step {done}. Ask for more, choose another "
            f"`name`, or delete {config.output} to begin anew."
        )


def _export(config: TrainConfig, start: Checkpoint, target: Path, run: str) -> None:
    """Write what the run's newest checkpoint holds as users load it."""
    newest = newest_step(config.output)
    assert newest is not None  # the trainer has just written it
    target.parent.mkdir(parents=True, exist_ok=True)
    if config.recipe == "lora":
        factors = open_weights(newest / FACTORS)
        save_weights(target, lora_tensors(factors, start), {**factors.metadata, RUN: run})
        return
    average = newest / AVERAGE
    network = open_weights(average if average.exists() else newest / NETWORK)
    stored = start.file.dtypes
    tensors = ((key, network.tensor(key).to(stored.get(key))) for key in network.shapes)
    save_weights(target, tensors, {**network.metadata, RUN: run})


def lora_tensors(factors: WeightFile, start: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    """What a `lora` run trained, under the names that core's LoRA loaders know.

    Factors are a pair for each layer; their scale is 1, as `training.lora` sets it. Gate of the MSM and SFM,
    which train in full, are stored as the difference from `start`.
    """
    for name in factors.shapes:
        value, layer = factors.tensor(name), f"diffusion_model.{name}"
        if is_factor(name):
            yield layer.replace(".default.", "."), value
        else:
            before = start.file.tensor(published_key(name)).float()
            yield f"{layer.removesuffix('.weight')}.diff", value - before


def loss_plot(log: Path) -> Tensor:
    """IMAGE (1, H, W, 3): the loss of every step of a run's log, and its running mean."""
    with log.open(newline="", encoding="utf-8") as stream:
        rows = [(float(row["step"]), float(row["loss"])) for row in csv.DictReader(stream)]
    steps, losses = torch.tensor(rows).unbind(1)
    smooth = _running_mean(losses, max(len(losses) // 20, 1))
    width, height = PLOT
    picture = Image.new("RGB", PLOT, "white")
    draw = ImageDraw.Draw(picture)
    low, high = float(losses.min()), float(losses.max())
    along = (steps - steps[0]) / (steps[-1] - steps[0]).clamp_min(1)
    for values, colour in ((losses, "lightgray"), (smooth, "crimson")):
        up = (values - low) / max(high - low, 1e-12)
        x = MARGIN + along * (width - 2 * MARGIN)
        y = height - MARGIN - up * (height - 2 * MARGIN)
        points = torch.stack([x, y], 1).tolist()
        draw.line([tuple(point) for point in points], fill=colour, width=2)
    draw.rectangle((MARGIN, MARGIN, width - MARGIN, height - MARGIN), outline="black")
    draw.text(
        (MARGIN, MARGIN - 16), f"loss {low:.4g} to {high:.4g}, last {float(smooth[-1]):.4g}", fill="black"
    )
    draw.text((MARGIN, height - MARGIN + 6), f"steps {steps[0]:.0f} to {steps[-1]:.0f}", fill="black")
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(1, height, width, 3)
    return pixels.float() / 255


def _running_mean(values: Tensor, window: int) -> Tensor:
    """Mean of each value and up to `window` - 1 before it."""
    sums = torch.cat([values.new_zeros(1), values.double().cumsum(0).to(values)])
    last = torch.arange(1, len(values) + 1)
    first = (last - window).clamp_min(0)
    return (sums[last] - sums[first]) / (last - first)
