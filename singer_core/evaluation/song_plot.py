"""A picture of a song as the network hears it: waveform, activity, beats, energies, bands, motion weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw

from ..audio.activity import vocal_activity
from ..audio.logmel import LogMelFrontEnd
from ..audio.waveform import Waveform
from ..files import renamed_on_success
from ..libraries import require
from ..network.wavelet import analysis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOTTED_SECONDS = 600  # of longer songs the beginning is shown
ENVELOPE_POINTS = 2000
MEL_BANDS = 64
PANEL = (640, 150)  # width, height in pixels, of one of `band_picture`
PANEL_TITLE = 24  # pixels above it
BAND_TITLES = ("LL: slow change", "LH: detail along time", "HL: detail along pitch", "HH: detail along both")


def plot_song(
    path: Path,
    vocals: Waveform,
    fps: float,
    beats: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
) -> Path:
    """Write a PNG of the vocals, (1, n) at 16 kHz, with activity at `fps` and beat times (b,) in seconds.

    weights  (s, 3) pose, face and lip weight of every frame, drawn below; None = not drawn

    Returns the path. Raises RuntimeError where matplotlib is missing.
    """
    Figure = require("matplotlib.figure", "Plotting a song", "matplotlib").Figure
    shown = Waveform(vocals.samples[:, : PLOTTED_SECONDS * vocals.rate], vocals.rate)
    figure = Figure(figsize=(14, 11), layout="constrained")
    heights = (1.2, 2, 1, 1, 1, 1) if weights is None else (1.2, 2, 1, 1, 1, 1, 1.2)
    rows = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    _plot_waveform(rows[0], shown, fps, beats)
    encoded = LogMelFrontEnd(1, MEL_BANDS, levelled=False).encode(shown, fps, clip_length=2)
    plane = encoded.features[:, 0].T.float()  # (mel bands, frames)
    _plot_plane(rows[1], plane, shown.seconds, "log-mel energy")
    for axes, band, title in zip(rows[2:6], analysis(plane), BAND_TITLES, strict=True):
        _plot_plane(axes, band, shown.seconds, title)
    if weights is not None:
        _plot_weights(rows[-1], weights, fps)
    rows[-1].set_xlabel("seconds")
    with renamed_on_success(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)
    return path


def _plot_waveform(axes: Axes, song: Waveform, fps: float, beats: torch.Tensor | None) -> None:
    step = max(1, song.length // ENVELOPE_POINTS)
    peaks = [block.abs().max().item() for block in song.blocks(step)]
    times = np.arange(len(peaks)) * step / song.rate
    axes.fill_between(times, -np.array(peaks), peaks, color="0.7", label="waveform")
    activity = vocal_activity(song, fps).numpy()
    axes.plot(np.arange(len(activity)) / fps, activity, color="tab:red", label="vocal activity")
    if beats is not None:
        inside = beats[beats <= song.seconds].numpy()
        axes.vlines(inside, -1, -0.8, color="tab:blue", label="beats")
    axes.set_xlim(0, song.seconds)
    axes.set_ylim(-1, 1.05)
    axes.legend(loc="upper right", ncols=3)


def _plot_weights(axes: Axes, weights: torch.Tensor, fps: float) -> None:
    times = (np.arange(len(weights)) + 0.5) / fps
    for name, curve, colour in zip(
        ("pose", "face", "lip"), weights.T, ("tab:blue", "0.3", "tab:red"), strict=True
    ):
        axes.plot(times, curve.numpy(), color=colour, label=name)
    axes.set_title("motion weights, 1 = as trained", loc="left", fontsize=9)
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right", ncols=3)


def _plot_plane(axes: Axes, plane: torch.Tensor, seconds: float, title: str) -> None:
    """plane (bands, frames), low bands below."""
    limits = np.quantile(plane.numpy(), (0.01, 0.99))
    axes.imshow(
        plane.numpy(),
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, len(plane)),
        cmap="magma",
        vmin=limits[0],
        vmax=limits[1],
        interpolation="nearest",
    )
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_yticks([])


def band_picture(features: torch.Tensor, first: int, gains: Sequence[float] | None = None) -> Image.Image:
    """Grey levels of features (frames, l, d) from frame `first` on and of their four wavelet bands.

    gains  of the bands, written beside them
    """
    plane = features.flatten(1).T.float()  # (l d, frames)
    planes, energy = [plane, *analysis(plane)], plane.square().sum()
    titles = [f"features of frames {first} to {first + len(features) - 1}"]
    for index, band in enumerate(planes[1:]):
        weight = "" if gains is None else f", gain {gains[index]:.2f}"
        titles.append(f"{BAND_TITLES[index][:2]}: {band.square().sum() / energy:.1%} of the energy{weight}")
    picture = Image.new("L", (PANEL[0], len(planes) * PANEL[1]), 255)
    for index, (values, title) in enumerate(zip(planes, titles, strict=True)):
        low, high = values.min(), values.max()
        levels = ((values - low) / (high - low).clamp_min(1e-6) * 255).byte().flip(0)
        size = (PANEL[0], PANEL[1] - PANEL_TITLE)
        grey = Image.fromarray(levels.numpy()).resize(size, Image.Resampling.BOX)
        picture.paste(grey, (0, index * PANEL[1] + PANEL_TITLE))
        ImageDraw.Draw(picture).text((6, index * PANEL[1] + 6), title, fill=0)
    return picture.convert("RGB")
