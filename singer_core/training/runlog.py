"""What a run writes while it trains: `log.csv`, `portrait.csv`, and TensorBoard events on request."""

from __future__ import annotations

import csv
import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..files import renamed_on_success
from ..libraries import require

logger = logging.getLogger(__name__)

LOG, PORTRAIT_LOG = "log.csv", "portrait.csv"
EVENTS = "tensorboard"
PICTURE = (640, 360)  # width, height in pixels
MARGIN = 40


@dataclass(frozen=True)
class Report:
    """A step: mean loss since the last report, learning rate, gradient norm, seconds since the start."""

    FILE: ClassVar[str] = LOG
    PREFIX: ClassVar[str] = ""

    step: int
    loss: float
    rate: float
    gradient_norm: float
    seconds: float


@dataclass(frozen=True)
class Sensitivity:
    """How much the portrait matters: loss of the pictures of a fixed batch of people, nothing dropped.

    right      with their portraits
    wrong      with another person's portrait
    attention  with another person's portrait in the reference UNet alone
    """

    FILE: ClassVar[str] = PORTRAIT_LOG
    PREFIX: ClassVar[str] = "portrait/"

    step: int
    right: float
    wrong: float
    attention: float

    def __str__(self) -> str:
        return (
            f"step {self.step}: a wrong portrait multiplies the loss by {self.wrong / self.right:.2f}, "
            f"through the reference attention alone by {self.attention / self.right:.2f}"
        )


class RunLog:
    """The log of a run in its folder. Rows of steps that a killed run lost are written anew, not twice."""

    def __init__(self, folder: Path, step: int, tensorboard: bool) -> None:
        """`step`: the one that the run goes on from. Raises RuntimeError where TensorBoard is missing."""
        self.folder = folder
        self.writer: Any = None
        folder.mkdir(parents=True, exist_ok=True)
        if tensorboard:
            writers = require("torch.utils.tensorboard", "The setting `tensorboard`", "tensorboard")
            self.writer = writers.SummaryWriter(str(folder / EVENTS), purge_step=step + 1)
        for name in (LOG, PORTRAIT_LOG):
            _forget_after(folder / name, step)

    def add(self, row: Report | Sensitivity) -> None:
        path, values = self.folder / row.FILE, dataclasses.asdict(row)
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as stream:
            rows = csv.writer(stream)
            if new:
                rows.writerow(values)
            rows.writerow([f"{value:.6g}" for value in values.values()])
        if self.writer is not None:
            step = values.pop("step")
            for name, value in values.items():
                self.writer.add_scalar(f"{row.PREFIX}{name}", value, step)
            self.writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def _forget_after(path: Path, step: int) -> None:
    """Drop the rows behind `step`, and one that a kill cut short."""
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    kept = [row for row in rows[1:] if len(row) == len(rows[0]) and float(row[0]) <= step]
    if len(kept) == len(rows) - 1:
        return
    logger.info("%s: %d rows behind step %d are written anew", path.name, len(rows) - 1 - len(kept), step)
    with renamed_on_success(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([rows[0], *kept])


def loss_picture(log: Path) -> Image.Image:
    """The loss of every step of a run's log, and its running mean."""
    with log.open(newline="", encoding="utf-8") as stream:
        rows = [(float(row["step"]), float(row["loss"])) for row in csv.DictReader(stream)]
    steps, losses = torch.tensor(rows).unbind(1)
    smooth = _running_mean(losses, max(len(losses) // 20, 1))
    width, height = PICTURE
    picture = Image.new("RGB", PICTURE, "white")
    draw = ImageDraw.Draw(picture)
    low, high = float(losses.min()), float(losses.max())
    x = MARGIN + (steps - steps[0]) / (steps[-1] - steps[0]).clamp_min(1) * (width - 2 * MARGIN)
    for values, colour in ((losses, "lightgray"), (smooth, "crimson")):
        y = height - MARGIN - (values - low) / max(high - low, 1e-12) * (height - 2 * MARGIN)
        draw.line([tuple(point) for point in torch.stack([x, y], 1).tolist()], fill=colour, width=2)
    draw.rectangle((MARGIN, MARGIN, width - MARGIN, height - MARGIN), outline="black")
    text = f"loss {low:.4g} to {high:.4g}, last {float(smooth[-1]):.4g}"
    draw.text((MARGIN, MARGIN - 16), text, fill="black")
    draw.text((MARGIN, height - MARGIN + 6), f"steps {steps[0]:.0f} to {steps[-1]:.0f}", fill="black")
    return picture


def _running_mean(values: Tensor, window: int) -> Tensor:
    """Mean of each value and up to `window` - 1 before it."""
    sums = torch.cat([values.new_zeros(1), values.double().cumsum(0).to(values)])
    last = torch.arange(1, len(values) + 1)
    first = (last - window).clamp_min(0)
    return (sums[last] - sums[first]) / (last - first)
