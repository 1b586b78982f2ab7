"""AUDIO of ComfyUI <-> the library's waveforms, and the progress of long work on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils
import torch

from singer_core.audio.waveform import Waveform, check_waveform

TICKS = 1000  # of a progress bar


def to_waveform(audio: Any, socket: str) -> Waveform:
    """The sound of an AUDIO socket. Raises ValueError where there is none, or several, or it is silent."""
    if audio is None or audio["waveform"].numel() == 0:
        raise ValueError(f"`{socket}` is empty. Load a song with sound.")
    samples: torch.Tensor = audio["waveform"]
    if len(samples) != 1:
        raise ValueError(f"`{socket}` holds {len(samples)} sounds; one is accepted. Send them one by one.")
    waveform = Waveform(samples[0].float().cpu(), int(audio["sample_rate"]))
    check_waveform(waveform, f"`{socket}`")
    return waveform


def to_audio(waveform: Waveform) -> dict[str, Any]:
    """What an AUDIO socket carries, in memory."""
    return {"waveform": waveform.block(0, waveform.length)[None], "sample_rate": waveform.rate}


def progress_bar() -> Callable[[float], None]:
    """A report for the library's long jobs; raises where the user has pressed cancel."""
    bar = comfy.utils.ProgressBar(TICKS)

    def report(done: float) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(round(done * TICKS))

    return report
