"""The clock of the video: how many frames a sound has, and the features that belong to them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

MAX_FPS_DENOMINATOR = 10_000  # 29.97 and 23.976 given as floats become 30000/1001-like ratios again


def exact_fps(fps: float) -> Fraction:
    """Frames per second as a ratio of integers. Raises ValueError where not positive and finite."""
    if not 0 < fps < float("inf"):
        raise ValueError(f"fps is {fps}; a positive number is accepted. The model was trained at 25.")
    return Fraction(fps).limit_denominator(MAX_FPS_DENOMINATOR)


def frame_count(samples: int, rate: int, fps: float) -> int:
    """Video frames of a sound: ceil(samples / rate * fps), in exact arithmetic.

    The authors' script computes it in floats, which now and then gives one frame more where the sound is
    an exact number of frames long (`authors_frame_count`).
    """
    ratio = exact_fps(fps)
    return -(-samples * ratio.numerator // (rate * ratio.denominator))


def authors_frame_count(samples: int, rate: int, fps: float) -> int:
    """The same in the floats of the authors' script: 0.28 s at 25 fps are 8 frames, not 7."""
    return int(np.ceil(samples / rate * fps))


def padded_count(frames: int, clip_length: int) -> int:
    """`frames` rounded up to whole clips. Raises ValueError for a clip length below 1."""
    if clip_length < 1:
        raise ValueError(f"clip_length is {clip_length}; at least 1 frame is accepted. The model uses 16.")
    return -(-frames // clip_length) * clip_length


@dataclass(frozen=True)
class AudioFeatures:
    """Features of a song at the video rate.

    features  s l d      float32 or float16, CPU, maybe mapped from a file; s = `frames` rounded up to clips
    fps                  frames per second
    frames               video frames the sound really has; the features behind them belong to the padding
    activity  s or None  vocal activity in [0, 1] of every frame, 0 in the padding
    """

    features: torch.Tensor
    fps: float
    frames: int
    activity: torch.Tensor | None = None
