"""What a photograph says about the light on a face, for what is painted into it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import skia
from numpy.typing import NDArray

from ..world.brush import path
from ..world.identity import Colour
from .controls import EYES
from .photograph import LUMA, Photograph

Floats = NDArray[np.float64]

SKIN = np.array([1.18, 0.96, 0.86])  # colour of skin in white light, mean 1
CHEEKS, UNDER_EYES = (50, 280, 205, 425), (230, 450, 229, 449)
SIDES = ((205, 187, 61), (425, 411, 291))  # beside the mouth, image-left and -right
ABOVE_LIDS, BELOW_LIDS = ((29, 27, 28), (259, 257, 258)), ((230, 229), (450, 449))
LASHES = (160, 159, 158, 385, 386, 387)
SOCKET = 0.88  # a closed lid is at least as light as this share of the skin below the eye
LIP_COLOUR = (0, 17, 37, 267, 84, 314, 61, 291)


@dataclass(frozen=True)
class Light:
    """Measured on the whites of the eyes, cheeks and lips.

    white      (3,) 0..1, colour of something white
    colourful  0 for a grey photograph, about 1 for a usual one
    sides      brightness of the mouth's image-left and image-right, the brighter one 1
    lash, lids colours of closed lids: their edge, and the skin of either
    dark_glasses  the eyes cannot be seen
    """

    white: Floats
    colourful: float
    sides: tuple[float, float]
    lash: Colour
    lids: tuple[Colour, Colour]
    dark_glasses: bool

    @staticmethod
    def of(photo: Photograph) -> Light:
        probe = _Probe(photo)
        skin, eyes = probe.median(CHEEKS), probe.eyes()
        face, bright = float(skin @ LUMA), float(eyes @ LUMA)
        dark = bright < 0.62 * face and float(probe.median(UNDER_EYES) @ LUMA) < 0.55 * face
        level = min(max(1.15 * face if dark else bright, 70.0, 0.75 * face), 215.0, 1.9 * face + 20)
        seen = 1.0 if dark else eyes / max(eyes.mean(), 1)
        cast = 0.4 * skin / max(skin.mean(), 1) / SKIN + 0.6 * seen
        lips = probe.colours(LIP_COLOUR)
        chroma = np.ptp(lips, axis=1).mean() / (lips.max(axis=1).mean() + 1)
        left, right = (max(float(np.mean([probe.patch(i) @ LUMA for i in side])), 1.0) for side in SIDES)
        return Light(
            white=level / 255 * np.clip(cast, 0.7, 1.3),
            colourful=float(np.clip(chroma / 0.38, 0.0, 1.15)),
            sides=(max(min(left / right, 1.0), 0.4), max(min(right / left, 1.0), 0.4)),
            lash=colour(0.55 * np.median(probe.colours(LASHES), axis=0)),
            lids=(probe.lid(0), probe.lid(1)),
            dark_glasses=dark,
        )

    def on(self, own: Colour) -> Colour:
        """A colour under this light, as colourful as the photograph."""
        plain = np.array(own, np.float64)
        grey = plain @ LUMA
        return colour((grey + self.colourful * (plain - grey)) * self.white * 1.08)


class _Probe:
    """Colours of a photograph at points of its mesh."""

    def __init__(self, photo: Photograph) -> None:
        self.image, self.points = photo.image.astype(np.float64), photo.points
        high = np.array(photo.image.shape[1::-1]) - 1
        self.places = np.clip(photo.points[:, :2], 0, high).astype(int)
        self.reach = max(int(0.02 * photo.tall), 1)

    def colours(self, points: tuple[int, ...]) -> Floats:
        """(n, 3) of the pixels at some points."""
        x, y = self.places[list(points)].T
        return self.image[y, x]

    def patch(self, point: int) -> Floats:
        """(3,) median around a point."""
        x, y = self.places[point]
        rows = slice(max(y - self.reach, 0), y + self.reach + 1)
        columns = slice(max(x - self.reach, 0), x + self.reach + 1)
        return np.asarray(np.median(self.image[rows, columns].reshape(-1, 3), axis=0))

    def median(self, points: tuple[int, ...]) -> Floats:
        """(3,) median of the patches around some points."""
        return np.asarray(np.median([self.patch(i) for i in points], axis=0))

    def lid(self, eye: int) -> Colour:
        """Of a closed lid: the skin above the eye, unless that is in the shadow of a socket or a brow."""
        above, below = self.median(ABOVE_LIDS[eye]), SOCKET * self.median(BELOW_LIDS[eye])
        return colour(above if above @ LUMA > below @ LUMA else below)

    def eyes(self) -> Floats:
        """(3,) of the brighter pixels between the lids: the whites, without the glints."""
        found = np.concatenate([self._beside_iris(rows, iris) for rows, iris in EYES])
        ranked = found[np.argsort(found @ LUMA)]
        return np.asarray(ranked[int(0.80 * len(ranked)) : int(0.95 * len(ranked)) + 1].mean(axis=0))

    def _beside_iris(self, lids: tuple[tuple[int, ...], ...], iris: int) -> Floats:
        """(n, 3) the pixels between the lids and beside the iris."""
        pixels = np.zeros((*self.image.shape[:2], 4), np.uint8)
        canvas = skia.Surface(pixels, colorType=skia.kRGBA_8888_ColorType).getCanvas()
        canvas.drawPath(path(self.points[[*lids[0], *lids[1][::-1]], :2]), skia.Paint(Color=0xFFFFFFFF))
        y, x = np.nonzero(pixels[..., 0])
        centre, edge = self.points[[iris, iris + 1], :2]
        beside = np.hypot(x + 0.5 - centre[0], y + 0.5 - centre[1]) > 1.1 * np.hypot(*(edge - centre))
        found = self.image[y[beside], x[beside]]
        return found if len(found) else self.image[y, x] if len(y) else np.full((1, 3), 128.0)


def colour(value: Floats) -> Colour:
    """The nearest colour of 0..255."""
    red, green, blue = np.clip(value, 0, 255).astype(int).tolist()
    return red, green, blue
