"""Pictures of a song's wavelet bands."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from singer_core import constants
from singer_core.audio.features import AudioFeatures
from singer_core.network.wavelet import analysis

from .loading import options_of

PANEL = (640, 150)  # width, height in pixels
BANDS = ("LL", "LH", "HL", "HH")
MARGIN = 24


def spectrum_plot(audio: AudioFeatures, first: int, length: int, model: Any = None) -> Tensor:
    """IMAGE (1, H, W, 3): features of frames [first, first + length), their four bands, the MSM's gains.

    Raises ValueError where the frames lie outside the song.
    """
    if first >= audio.frames:
        raise ValueError(f"`first_frame` is {first}; the song has {audio.frames} frames. Choose a lower one.")
    plane = audio.features[first : min(first + length, audio.frames)].flatten(1).T.float()  # (l d, frames)
    titles = [f"features of frames {first} to {first + plane.shape[1] - 1}", *BANDS]
    energy = plane.square().sum()
    bands = analysis(plane)
    for index, band in enumerate(bands):
        titles[index + 1] += f": {band.square().sum() / energy:.1%} of the energy"
    if model is not None:
        for index, gain in enumerate(_gains(model)):
            titles[index + 1] += f", gain {gain:.2f}"
    panels = [_panel(values, title) for values, title in zip((plane, *bands), titles, strict=True)]
    return torch.cat(panels)[None]


def _gains(model: Any) -> list[float]:
    """Expected gain of each band for a clip of 16 frames under the model's options."""
    options = options_of(model)
    if options is None:
        raise ValueError("`model` is not a SINGER model. Connect `Load SINGER Model`.")
    module = model.model.diffusion_model.adapter.multi_scale_spectral
    if module is None or options.msm_input == "off":
        return list(options.band_gains)
    gains = module.expected_gains(constants.CLIP_FRAMES)
    if options.msm_scale == "trained_length":
        gains = gains * (constants.TRAINED_CLIP_FRAMES / constants.CLIP_FRAMES)
    return [gain * factor for gain, factor in zip(gains.tolist(), options.band_gains, strict=True)]


def _panel(values: Tensor, title: str) -> Tensor:
    """(rows, frames) as grey levels below a title, (H, W, 3)."""
    width, height = PANEL
    low, high = values.min(), values.max()
    levels = ((values - low) / (high - low).clamp_min(1e-6) * 255).byte().flip(0)
    picture = Image.new("L", (width, height), 255)
    grey = Image.fromarray(levels.numpy()).resize((width, height - MARGIN), Image.Resampling.BOX)
    picture.paste(grey, (0, MARGIN))
    ImageDraw.Draw(picture).text((6, 6), title, fill=0)
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(height, width, 1)
    return pixels.expand(-1, -1, 3).float() / 255
