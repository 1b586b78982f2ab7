"""How far a mouth is open, read from pixels: for drawn frames, and for frames that a network made of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .identity import Colour, Identity, blend, glowing, lit, shaded

CAVITY: Colour = (74, 22, 34)
CAVITY_DEPTH: Colour = (44, 12, 24)
TEETH: Colour = (255, 252, 244)
TONGUE: Colour = (206, 84, 92)

TALLEST = 0.12  # share of the columns of the box that count: the tallest, near the middle of the mouth
UNSURE = 0.25  # shares of the way between the two groups of colours below this count as outside


def measured_opening(frame: NDArray[np.uint8], box: tuple[int, int, int, int], identity: Identity) -> float:
    """Opening 0..about 1 of the mouth of a known person.

    frame     (H, W, 3) RGB; box: left, top, right, bottom in pixels, around the lips and not much more
    A pixel is inside the mouth as far as its colour is nearer to cavity, teeth or tongue than to lips, skin
    or beard. The result is the height of the tallest columns of such pixels over that of a fully open mouth.
    At 128 pixels it reads about a tenth low (edges count half); compare it with itself or by correlation.
    """
    left, top, right, bottom = box
    pixels = frame[max(top, 0) : bottom, max(left, 0) : right].astype(np.float32)
    within = (CAVITY, CAVITY_DEPTH, TEETH, shaded(TEETH, 0.2), TONGUE, lit(TONGUE, 0.2), shaded(TONGUE, 0.4))
    near, far = _nearest(pixels, within), _nearest(pixels, _around(identity))
    share = far / (near + far + 1e-6)
    inside = np.clip((share - UNSURE) / (1.0 - 2.0 * UNSURE), 0.0, 1.0)
    heights = np.sort(inside.sum(axis=0))[::-1]
    count = max(round(TALLEST * len(heights)), 1)
    full = identity.mouth.gap * identity.zoom * frame.shape[0] / 100.0
    return float(heights[:count].mean() / full)


def _around(identity: Identity) -> tuple[Colour, ...]:
    lip, skin = identity.mouth.colour, identity.skin
    tones = [
        lip,
        shaded(lip, 0.22),
        shaded(lip, 0.5),
        lit(lip, 0.35),
        skin,
        glowing(skin, 0.5),
        shaded(skin, 0.3),
    ]
    tones += [blend(skin, lip, 0.5), shaded(skin, 0.6)]
    if identity.beard != "none":
        tones += [
            shaded(identity.hair, 0.2),
            shaded(identity.hair, 0.4),
            blend(skin, shaded(identity.hair, 0.4), 0.3),
        ]
    return tuple(tones)


def _nearest(pixels: NDArray[np.float32], colours: tuple[Colour, ...]) -> NDArray[np.float32]:
    """(H, W) distance of each pixel to the nearest of some colours."""
    tones = np.array(colours, np.float32)
    return np.sqrt(((pixels[:, :, None] - tones) ** 2).sum(axis=-1).min(axis=-1))
