"""Write sound as a 16-bit WAV file, block by block."""

from __future__ import annotations

import wave
from pathlib import Path

import torch

from ..files import renamed_on_success
from .waveform import Waveform

_FULL_SCALE = 32767


def write_wave(path: Path, sound: Waveform) -> Path:
    """Write `sound` at its own rate and channels; values beyond [-1, 1] are clipped. Returns `path`."""
    with renamed_on_success(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(sound.channels)
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        for block in sound.blocks():
            levels = (block.clamp(-1, 1) * _FULL_SCALE).round().to(torch.int16)
            file.writeframes(levels.T.contiguous().numpy().astype("<i2").tobytes())
    return path
