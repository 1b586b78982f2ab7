"""A video as the evaluation sees it: pictures at a constant rate, from a file or from memory.

A file whose frames do not come evenly is shown as a player shows it: at every tick of its nominal rate, the
picture that is up.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..render.video import probe_video, read_frames

Floats = NDArray[np.float64]

EVEN = 0.1  # intervals within this share of the median count as even
LUMA = (0.299, 0.587, 0.114)  # BT.601 weights of red, green, blue


@dataclass(frozen=True, eq=False)
class Footage:
    """A video to be measured.

    frames    pictures that `pictures()` yields: (3, H, W) uint8, RGB, one every 1 / fps seconds
    uneven    intervals of the file that differ from the median one; 0 for a constant rate
    sound     seconds of the file's sound track, None without one
    path      the file, None for pictures in memory
    """

    name: str
    frames: int
    fps: float
    size: tuple[int, int]
    pictures: Callable[[], Iterator[Tensor]]
    uneven: int = 0
    sound: float | None = None
    path: Path | None = None

    @property
    def seconds(self) -> float:
        return self.frames / self.fps

    def spread(self, count: int) -> set[int]:
        """Up to `count` frames, evenly apart from the first to the last."""
        return set(np.linspace(0, self.frames - 1, min(count, self.frames)).round().astype(int))


def open_footage(path: Path, fps: float | None = None, size: tuple[int, int] | None = None) -> Footage:
    """A video file, shown at another rate or size where these are given.

    Raises FileNotFoundError, and ValueError for a file without pictures or a rate of 0 or less.
    """
    if fps is not None and not fps > 0:
        raise ValueError(f"`fps` is {fps:g}; more than 0 is accepted. The model was trained at 25.")
    info = probe_video(path)
    times = np.array(info.times)
    uneven, own = pace(times)
    # the container's rate is exact; that of uneven or oddly stored times is the median's
    own = info.fps if not uneven and abs(info.fps / own - 1) < 0.02 else own
    rate = fps or own
    if not uneven and abs(rate - own) < 1e-6 * own:
        chosen = np.arange(info.frames)
    else:
        ticks = max(round((times[-1] - times[0] + 1 / own) * rate), 1)
        middles = times[0] + (np.arange(ticks) + 0.5) / rate
        chosen = np.searchsorted(times, middles, side="right") - 1
    shape = size or info.size
    return Footage(
        path.name, len(chosen), rate, shape, lambda: _shown(path, chosen, shape), uneven, info.sound, path
    )


def footage_of(pictures: Tensor, fps: float, name: str = "pictures") -> Footage:
    """Pictures in memory: (s, 3, H, W), uint8 or floating in [0, 1].

    Raises ValueError on other shapes, NaN, or a rate of 0 or less.
    """
    if pictures.ndim != 4 or pictures.shape[1] != 3 or len(pictures) == 0:
        raise ValueError(f"Pictures have shape {tuple(pictures.shape)}; (frames, 3, H, W) is accepted.")
    if not fps > 0:
        raise ValueError(f"`fps` is {fps}; more than 0 is accepted. The model was trained at 25.")

    def levels() -> Iterator[Tensor]:
        for picture in pictures:
            if picture.dtype == torch.uint8:
                yield picture
                continue
            if not torch.isfinite(picture).all():
                raise ValueError("The pictures hold NaN or infinity; values from 0 to 1 are accepted.")
            yield (picture.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)

    return Footage(name, len(pictures), float(fps), (pictures.shape[2], pictures.shape[3]), levels)


def pace(times: Floats) -> tuple[int, float]:
    """(intervals that differ from the median one, 1 / median interval) of ascending times in seconds."""
    intervals = np.diff(times)
    if len(intervals) == 0:
        return 0, 25.0
    median = float(np.median(intervals))
    return int((np.abs(intervals - median) > EVEN * median).sum()), 1 / max(median, 1e-6)


def windows(footage: Footage, length: int) -> Iterator[Tensor]:
    """Successive stretches of `length` frames, (length, 3, H, W) uint8, without the rest at the end."""
    return (clip for clip in batched(footage.pictures(), length) if len(clip) == length)


def batched(pictures: Iterator[Tensor], size: int) -> Iterator[Tensor]:
    """Successive pictures, (size, 3, H, W); the last batch may be smaller."""
    while held := list(itertools.islice(pictures, size)):
        yield torch.stack(held)


def luma(pixels: Tensor) -> Tensor:
    """(3, H, W) -> (H, W) brightness."""
    return (pixels * pixels.new_tensor(LUMA)[:, None, None]).sum(dim=0)


def resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, h, w) uint8 at another size (H, W), antialiased."""
    if tuple(picture.shape[1:]) == size:
        return picture
    scaled = F.interpolate(picture[None].float(), size, mode="bilinear", antialias=True, align_corners=False)
    return scaled[0].round().clamp(0, 255).to(torch.uint8)


def _shown(path: Path, chosen: NDArray[np.int64], size: tuple[int, int]) -> Iterator[Tensor]:
    """Picture chosen[0], chosen[1], ... of a file; `chosen` does not descend."""
    at = 0
    for index, picture in enumerate(read_frames(path)):
        ready: Tensor | None = None
        while at < len(chosen) and chosen[at] == index:
            ready = resized(picture, size) if ready is None else ready
            yield ready
            at += 1
        if at == len(chosen):
            return
