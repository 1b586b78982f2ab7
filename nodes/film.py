"""Latents -> a video file, a few frames at a time."""

from __future__ import annotations

import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
from comfy_api.latest import InputImpl
from torch import Tensor

from singer_core.audio.waveform import Waveform
from singer_core.audio.wavfile import write_wave
from singer_core.portrait.crop import PasteBack
from singer_core.portrait.portrait import Portrait
from singer_core.render.video import VideoWriter

from .sound import to_waveform

DECODED_AT_ONCE = 8  # frames; 8 of 512 x 512 are 25 MB


@dataclass(frozen=True)
class Film:
    """How the video is written; audio_start in seconds."""

    fps: float
    crf: int
    audio_start: float


def write_film(
    latents: Tensor, vae: Any, film: Film, audio: Any = None, portrait: Portrait | None = None
) -> InputImpl.VideoFromFile:
    """VIDEO of latents (frames, 4, h, w), which lies in ComfyUI's temporary folder."""
    frames, folder = len(latents), Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"singer_{secrets.token_hex(8)}.mp4"
    paste, size = _paste(portrait, vae, latents)
    bar = comfy.utils.ProgressBar(frames)
    with tempfile.TemporaryDirectory(prefix="singer-") as scratch:
        sound = None if audio is None else _sound(audio, film.audio_start, Path(scratch) / "song.wav")
        with VideoWriter(path, size, film.fps, frames=frames, audio=sound, crf=film.crf) as writer:
            for part in latents.split(DECODED_AT_ONCE):
                comfy.model_management.throw_exception_if_processing_interrupted()
                pictures = vae.decode(part).movedim(-1, 1).float().cpu()  # f H W C -> f C H W
                writer.write(pictures if paste is None else paste(pictures))
                bar.update(len(part))
    return InputImpl.VideoFromFile(str(path))


def _paste(portrait: Portrait | None, vae: Any, latents: Tensor) -> tuple[PasteBack | None, tuple[int, int]]:
    """What puts a frame into its picture, and the size (H, W) of the video."""
    scale = vae.spacial_compression_decode()
    size = (latents.shape[-2] * scale, latents.shape[-1] * scale)
    if portrait is None:
        return None, size
    if portrait.original is None or portrait.crop.size != size:
        raise ValueError(
            f"`portrait` was prepared for {portrait.crop.size[1]} x {portrait.crop.size[0]} pixels, the "
            f"latents are {size[1]} x {size[0]}. Connect the portrait that was sampled, or none."
        )
    return PasteBack(portrait.original, portrait.crop), portrait.crop.original_size


def _sound(audio: Any, start: float, path: Path) -> Path:
    waveform = to_waveform(audio, "audio")
    first = round(start * waveform.rate)
    if first >= waveform.length:
        raise ValueError(
            f"`audio_start` is {start} s; the sound has {waveform.seconds:.2f} s. Choose an earlier start."
        )
    return write_wave(path, Waveform(waveform.samples[:, first:], waveform.rate, waveform.mapped))
