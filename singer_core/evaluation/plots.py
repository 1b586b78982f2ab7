"""Pictures of an evaluation: curves over time (matplotlib) and a contact sheet (Pillow)."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..libraries import require
from .evaluate import Evaluation
from .stability import at_seams

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

WIDTH = 11.0  # inches
ROW = 1.9  # inches
COLUMNS = 8  # of the contact sheet
LABEL = 14  # pixels below a thumbnail
CHANNELS = (("tab:red", "red"), ("tab:green", "green"), ("tab:blue", "blue"))


def plot_curves(found: Evaluation) -> bytes:
    """A PNG of everything that changes over time. Raises RuntimeError where matplotlib is missing."""
    figure_module = require("matplotlib.figure", "Plotting", "matplotlib")
    panels = [panel for panel, needed in _PANELS if set(needed) & set(found.curves)]
    figure = figure_module.Figure(figsize=(WIDTH, ROW * len(panels)), layout="constrained")
    rows = np.atleast_1d(figure.subplots(len(panels), 1, sharex=True))
    for axes, panel in zip(rows, panels, strict=True):
        panel(axes, found)
        axes.set_xlim(0, found.info["seconds"])
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    rows[-1].set_xlabel("seconds")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()


def contact_sheet(found: Evaluation) -> Image.Image:
    """The thumbnails in rows of eight, each with its time."""
    high, wide = found.thumbnails[0][1].shape[:2]
    columns = min(COLUMNS, len(found.thumbnails))
    rows = -(-len(found.thumbnails) // columns)
    sheet = Image.new("RGB", (columns * wide, rows * (high + LABEL)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (frame, pixels) in enumerate(found.thumbnails):
        left, top = place % columns * wide, place // columns * (high + LABEL)
        sheet.paste(Image.fromarray(pixels), (left, top))
        draw.text((left + 2, top + high + 1), f"{frame / found.info['fps']:.2f} s", fill="black")
    return sheet


def poster(found: Evaluation) -> Image.Image:
    """Curves above the contact sheet, in one picture; the sheet alone where matplotlib is missing."""
    sheet = contact_sheet(found)
    try:
        curves = Image.open(io.BytesIO(plot_curves(found))).convert("RGB")
    except RuntimeError as error:
        logger.warning("No curves are drawn: %s", error)
        return sheet
    sheet = sheet.resize((curves.width, round(sheet.height * curves.width / sheet.width)))
    whole = Image.new("RGB", (curves.width, curves.height + sheet.height), "white")
    whole.paste(curves, (0, 0))
    whole.paste(sheet, (0, curves.height))
    return whole


def _times(found: Evaluation, curve: Floats) -> Floats:
    """Middles of the frames' intervals, seconds."""
    return (np.arange(len(curve)) + 0.5) / found.info["fps"]


def _plot_mouth(axes: Axes, found: Evaluation) -> None:
    curves = found.curves
    if "sung" in curves:
        sung = curves["sung"]
        axes.fill_between(
            _times(found, sung), 0, 1, where=(sung > 0).tolist(), color="0.93", step="mid", label="sung"
        )
    if "vocal_level" in curves:
        level = curves["vocal_level"]
        axes.plot(_times(found, level), level, color="tab:orange", label="vocal level")
    if "opening" in curves:
        opening = curves["opening"]
        axes.plot(_times(found, opening), _unit(opening), color="tab:blue", label="mouth opening")
    if "true_opening" in curves:
        true = curves["true_opening"]
        axes.plot(_times(found, true), _unit(true), color="0.4", ls=":", label="reference's mouth")
    axes.set_ylim(0, 1.05)
    axes.set_title("Mouth and voice, each over its own range", loc="left", fontsize=9)


def _plot_beats(axes: Axes, found: Evaluation) -> None:
    curves = found.curves
    speed = curves["head_speed"]
    axes.plot(_times(found, speed), speed, color="tab:blue", label="head motion")
    top = max(float(speed.max()), 1e-9)
    axes.vlines(curves["beats"], 0, top, color="tab:orange", lw=1, label="beats of the song")
    turns = curves["movements"]
    axes.plot(turns, 0 * turns, "^", color="tab:blue", ms=6, clip_on=False, label="turning points")
    axes.set_ylim(0, 1.05 * top)
    unit = "distances of the eyes" if "head_motion" in found.values else "grey levels outside the lip box"
    axes.set_title(f"Head motion ({unit}, a frame) and beats", loc="left", fontsize=9)


def _plot_drift(axes: Axes, found: Evaluation) -> None:
    colour, clip = found.curves["colour"], found.info["clip_frames"]
    for channel, (tint, name) in enumerate(CHANNELS):
        drift = colour[:, channel] - colour[:clip, channel].mean()
        axes.plot(_times(found, drift), drift, color=tint, lw=1, label=name)
    axes.axhline(0, color="0.7", lw=0.5)
    reach = max(2.5, float(np.abs(colour - colour[:clip].mean(axis=0)).max()))
    axes.set_ylim(-reach, reach)
    axes.axhspan(-2, 2, color="0.95", zorder=0, label="aim")
    axes.set_title("Colour against the first clip, grey levels", loc="left", fontsize=9)


def _plot_sharpness(axes: Axes, found: Evaluation) -> None:
    sharpness, clip = found.curves["sharpness"], found.info["clip_frames"]
    change = 100 * (sharpness / max(float(sharpness[:clip].mean()), 1e-9) - 1)
    axes.plot(_times(found, change), change, color="tab:purple", label="sharpness")
    axes.axhline(0, color="0.7", lw=0.5)
    axes.set_title("Sharpness against the first clip, %", loc="left", fontsize=9)


def _plot_seams(axes: Axes, found: Evaluation) -> None:
    step, overlap = found.curves["step"], found.info["overlap"]
    at = np.arange(len(step))
    seam = at_seams(len(step), found.info["clip_frames"] - overlap, overlap)
    times, width = at / found.info["fps"], 0.8 / found.info["fps"]
    axes.bar(times[~seam], step[~seam], width, color="0.75", label="inside clips")
    axes.bar(times[seam], step[seam], width, color="tab:red", label="at seams")
    axes.set_title("Change from frame to frame, grey levels", loc="left", fontsize=9)


def _plot_fidelity(axes: Axes, found: Evaluation) -> None:
    psnr, ssim = found.curves["psnr"], found.curves["ssim"]
    axes.plot(_times(found, psnr), psnr, color="tab:blue", label="PSNR, dB")
    axes.plot(_times(found, ssim), 100 * ssim, color="tab:orange", label="SSIM x 100")
    axes.set_title("Against the reference", loc="left", fontsize=9)


def _unit(curve: Floats) -> Floats:
    """From its 1 % to its 99 % quantile -> 0 to 1."""
    low, high = np.quantile(curve, (0.01, 0.99))
    return np.clip((curve - low) / max(high - low, 1e-9), 0, 1)


_PANELS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (_plot_mouth, ("opening", "vocal_level")),
    (_plot_beats, ("head_speed",)),
    (_plot_drift, ("colour",)),
    (_plot_sharpness, ("sharpness",)),
    (_plot_seams, ("step",)),
    (_plot_fidelity, ("psnr",)),
)
