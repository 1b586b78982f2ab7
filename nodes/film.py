"""Latents of one singer or two -> a video file, a few frames at a time."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import InputImpl
from torch import Tensor

from singer_core.audio.waveform import Waveform, write_wave
from singer_core.portrait.portrait import Portrait
from singer_core.render.canvas import Canvas, bare, in_one_picture, pasted, side_by_side
from singer_core.render.video import VideoWriter

from .sockets import to_waveform

DECODED_BYTES = 200e6  # of pictures that wait in main memory to be written
DECODED_FRAMES = 64  # at most, so that cancel is heard


@dataclass(frozen=True)
class Film:
    """How the video is written; audio_start in seconds."""

    fps: float
    crf: int
    audio_start: float


def write_film(
    latents: Sequence[Tensor], canvas: Canvas, vae: Any, film: Film, audio: Any = None
) -> InputImpl.VideoFromFile:
    """VIDEO of one film or several, latents (frames, 4, h, w) each, put together by the canvas.

    It lies in ComfyUI's temporary folder. Raises ValueError where the films are not equally long.
    """
    frames, folder = len(latents[0]), Path(folder_paths.get_temp_directory())
    if any(len(one) != frames for one in latents):
        raise ValueError(
            f"The singers have {' and '.join(str(len(one)) for one in latents)} frames. Sample all of them "
            "over the same song: stems of one length."
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"singer_{secrets.token_hex(8)}.mp4"
    bar = comfy.utils.ProgressBar(frames)
    with tempfile.TemporaryDirectory(prefix="singer-") as scratch:
        sound = None if audio is None else _sound(audio, film.audio_start, Path(scratch) / "song.wav")
        with VideoWriter(path, canvas.size, film.fps, frames=frames, audio=sound, crf=film.crf) as writer:
            count = decoded_at_once(vae, latents)
            for parts in zip(*(one.split(count) for one in latents), strict=True):
                comfy.model_management.throw_exception_if_processing_interrupted()
                # f H W C -> f C H W
                decoded = [vae.decode(part).movedim(-1, 1).float().cpu() for part in parts]
                for shown in zip(*decoded, strict=True):
                    writer.write(canvas.compose(shown)[None])
                bar.update(len(parts[0]))
    return InputImpl.VideoFromFile(str(path))


def decoded_at_once(vae: Any, latents: Sequence[Tensor]) -> int:
    """How many frames `vae.decode` is given: core splits them by the free memory of the VAE's device."""
    scale = vae.spacial_compression_decode()
    pixels = sum(one.shape[-2] * one.shape[-1] * scale**2 for one in latents)
    return max(1, min(int(DECODED_BYTES / (3 * 4 * pixels)), DECODED_FRAMES))


def canvas_of(latents: Tensor, vae: Any, portrait: Portrait | None, socket: str = "portrait") -> Canvas:
    """Frames as they are, or pasted back. Raises ValueError where the portrait has another size."""
    scale = vae.spacial_compression_decode()
    size = (latents.shape[-2] * scale, latents.shape[-1] * scale)
    if portrait is None:
        return bare(size)
    if portrait.original is None or portrait.crop.size != size:
        raise ValueError(
            f"`{socket}` was prepared for {portrait.crop.size[1]} x {portrait.crop.size[0]} pixels, the "
            f"latents are {size[1]} x {size[0]}. Connect the portrait that was sampled, or none."
        )
    return pasted(portrait)


def canvas_of_two(
    latents: Sequence[Tensor], vae: Any, first: Portrait | None, second: Portrait | None
) -> Canvas:
    """Side by side, or back in the picture that both portraits are from."""
    left = canvas_of(latents[0], vae, first, "first_portrait")
    right = canvas_of(latents[1], vae, second, "second_portrait")
    if first is not None and second is not None and torch.equal(first.original, second.original):
        return in_one_picture(first, second)
    return side_by_side(left, right)


def _sound(audio: Any, start: float, path: Path) -> Path:
    waveform = to_waveform(audio, "audio")
    first = round(start * waveform.rate)
    if first >= waveform.length:
        raise ValueError(
            f"`audio_start` is {start} s; the sound has {waveform.seconds:.2f} s. Choose an earlier start."
        )
    return write_wave(path, Waveform(waveform.samples[:, first:], waveform.rate, waveform.mapped))
