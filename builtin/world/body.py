"""Background, neck, shoulders and clothes."""

from __future__ import annotations

import numpy as np
import skia

from .brush import Brush, ellipse, joined, path
from .geometry import Points, mirrored, shifted, spline
from .identity import Identity, blend, lit, shaded


def paint_backdrop(brush: Brush, identity: Identity) -> None:
    """A two-colour gradient with a quiet motif."""
    top, bottom, accent = identity.background
    whole = path(np.array([[-2.0, -2.0], [102.0, -2.0], [102.0, 102.0], [-2.0, 102.0]]))
    brush.down(whole, 0, 100, [top, bottom])
    rng = np.random.default_rng([identity.seed, 1])
    if identity.backdrop == "sun":
        brush.fill(ellipse(50, 46, 44, 44), accent, 0.55)
        brush.fill(ellipse(50, 46, 37, 37), accent, 0.5)
    elif identity.backdrop == "bokeh":
        for _ in range(12):
            x, y, r = rng.uniform(0, 100), rng.uniform(0, 80), rng.uniform(3, 9)
            brush.fill(ellipse(x, y, r, r), accent, float(rng.uniform(0.2, 0.5)), 0.5)
    elif identity.backdrop == "rays":
        for turn in np.linspace(0, 2 * np.pi, 12, endpoint=False):
            wedge = [[50 + 120 * np.sin(turn + d), 50 - 120 * np.cos(turn + d)] for d in (-0.13, 0.13)]
            brush.fill(path(np.array([[50.0, 50.0], *wedge])), accent, 0.35)
    elif identity.backdrop == "hills":
        brush.fill(ellipse(78, 22, 9, 9), accent, 0.9)
        for x, y, r, share in ((15, 92, 40, 0.25), (80, 96, 46, 0.45), (45, 108, 40, 0.6)):
            brush.fill(ellipse(x, y, r, 0.75 * r), blend(bottom, shaded(bottom, 0.5), share))
    glow = [lit(top, 0.8), top]
    brush.glow(whole, (50, 44), 62, glow, [0.5, 0.0])
    brush.glow(whole, (50, 46), 82, [shaded(bottom, 0.8)] * 3, [0.0, 0.0, 0.32], [0.0, 0.62, 1.0])


def paint_body(brush: Brush, identity: Identity, contour: Points, head: tuple[float, float]) -> None:
    """Neck with the head's shadow, then the clothes; `head` is the head's shift against the body."""
    skin = identity.skin
    half = [(50 + 9.5 + head[0], 68.0 + head[1]), (59.0, 80.0), (59.6, 87.0), (64.0, 91.5), (74.0, 95.0)]
    side = spline(half, 24)
    other = mirrored(side) + (2 * head[0], 0) * np.linspace(0, 1, 24)[:, None] ** 3
    neck = joined(side, np.array([[74.0, 104.0], [26.0, 104.0]]), other)
    brush.down(neck, 74, 98, [shaded(skin, 0.34), shaded(skin, 0.08)])
    with brush.inside(neck):
        brush.fill(path(shifted(contour, head[0] + 1.0, head[1] + 3.6)), shaded(skin, 0.8), 0.5, 1.4)
    brush.stroke(path(side[:18], closed=False), shaded(skin, 0.8), 0.55, 0.8)
    brush.stroke(path(other[-18:], closed=False), shaded(skin, 0.8), 0.55, 0.8)
    _paint_clothes(brush, identity)


def _paint_clothes(brush: Brush, identity: Identity) -> None:
    colour, dark = identity.clothes_colour, shaded(identity.clothes_colour, 0.6)
    shoulder = spline([(61.0, 89.6), (70.0, 91.0), (84.0, 94.5), (95.0, 101.0), (99.0, 112.0)], 30)
    neckline = _neckline(identity.clothes)
    cloth = joined(mirrored(shoulder), neckline, shoulder)
    brush.down(cloth, 88, 108, [lit(colour, 0.10), shaded(colour, 0.22)])
    with brush.inside(cloth):
        if identity.clothes == "stripes":
            for y in (95.0, 100.0, 105.0):
                band = spline([(0.0, y + 3.5), (50.0, y), (100.0, y + 3.5)], 24)
                brush.stroke(path(band, closed=False), identity.accent, 2.0)
        brush.fill(ellipse(85, 107, 20, 12), dark, 0.35, 3.0)
        brush.stroke(
            path(shifted(mirrored(shoulder), 1.5, 1.6), closed=False), lit(colour, 0.6), 1.2, 0.45, 0.6
        )
    if identity.clothes == "collar":
        _paint_collar(brush, identity)
    elif identity.clothes == "hoodie":
        _paint_hood(brush, identity)
    else:
        rim = 3.4 if identity.clothes == "turtleneck" else 1.5
        brush.stroke(path(neckline, closed=False), shaded(colour, 0.25), rim)
        brush.stroke(path(shifted(neckline, 0.0, 0.5 * rim), closed=False), dark, 0.4, 0.7)
    brush.stroke(path(shoulder, closed=False), dark, 0.6, 0.8)
    brush.stroke(path(mirrored(shoulder), closed=False), dark, 0.6, 0.8)


def _neckline(style: str) -> Points:
    """From the image-left to the image-right end of the collar."""
    if style == "vneck":
        return np.concatenate(
            [
                spline([(39.0, 89.6), (44.0, 96.0), (50.0, 103.0)], 16),
                spline([(50.0, 103.0), (56.0, 96.0), (61.0, 89.6)], 16),
            ]
        )
    if style == "turtleneck":
        return spline([(40.2, 86.4), (44.0, 88.6), (50.0, 89.6), (56.0, 88.6), (59.8, 86.4)], 30)
    deep = {"collar": 95.5, "hoodie": 96.5}.get(style, 96.0)
    return spline([(39.0, 89.6), (43.0, deep - 2.4), (50.0, deep), (57.0, deep - 2.4), (61.0, 89.6)], 30)


def _paint_collar(brush: Brush, identity: Identity) -> None:
    light, dark = lit(identity.clothes_colour, 0.45), shaded(identity.clothes_colour, 0.6)
    flap = np.array([[39.2, 87.4], [50.0, 96.4], [44.2, 102.0], [34.6, 93.4]])
    for points in (flap, np.stack([100 - flap[:, 0], flap[:, 1]], axis=1)):
        brush.fill(path(shifted(points, 0.3, 0.9)), dark, 0.35, 0.6)
        brush.fill(path(points), light)
        brush.stroke(path(points), dark, 0.5, 0.8)


def _paint_hood(brush: Brush, identity: Identity) -> None:
    colour, dark = identity.clothes_colour, shaded(identity.clothes_colour, 0.6)
    left = np.concatenate(
        [
            spline([(40.5, 85.0), (36.0, 86.0), (31.0, 92.0), (37.0, 99.0), (50.0, 102.0)], 24),
            spline([(50.0, 97.4), (43.0, 93.0), (40.5, 85.0)], 12),
        ]
    )
    for points in (left, np.stack([100 - left[:, 0], left[:, 1]], axis=1)):
        brush.fill(path(points), shaded(colour, 0.12))
        brush.stroke(path(points), dark, 0.55, 0.8)
    for x in (45.5, 54.5):
        cord = skia.Path()
        cord.moveTo(x, 99.0)
        cord.lineTo(x + 0.4, 106.0)
        brush.stroke(cord, lit(identity.accent, 0.5), 0.9)
