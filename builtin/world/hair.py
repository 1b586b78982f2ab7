"""Hair styles: what lies behind the head, what frames the face, and the light on both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .brush import Brush, ellipse, joined, path
from .geometry import Points, mirrored, shifted, spline
from .identity import Colour, FaceShape, Identity, lit, shaded

Knots = list[tuple[float, float]]  # x in half widths of the face from its middle, y in the picture

# Lower edge of the front hair from image-right to image-left, and how far it stands off the skull at the top.
HAIRLINES: dict[str, tuple[Knots, float]] = {
    "short": (
        [(0.99, 50), (0.90, 38), (0.62, 31.5), (0.0, 30.5), (-0.62, 31.5), (-0.90, 38), (-0.99, 50)],
        3.0,
    ),
    "quiff": (
        [(0.99, 49), (0.89, 36), (0.55, 29), (0.10, 31.5), (-0.5, 27.5), (-0.88, 36), (-0.99, 49)],
        8.0,
    ),
    "side": ([(0.99, 52), (0.90, 41), (0.45, 38.5), (0.0, 34), (-0.45, 26.5), (-0.84, 34), (-0.99, 50)], 5.5),
    "buzz": ([(0.99, 47), (0.88, 35), (0.60, 29), (0.0, 27.5), (-0.60, 29), (-0.88, 35), (-0.99, 47)], 1.2),
    "curly": ([(1.0, 50), (0.86, 38), (0.5, 34.5), (0.0, 33), (-0.5, 34.5), (-0.86, 38), (-1.0, 50)], 6.0),
    "afro": ([(0.97, 46), (0.84, 35), (0.5, 30), (0.0, 28.5), (-0.5, 30), (-0.84, 35), (-0.97, 46)], 8.0),
    "bob": ([(1.04, 66), (0.93, 46), (0.80, 40), (0.0, 38.5), (-0.80, 40), (-0.93, 46), (-1.04, 66)], 5.0),
    "long": ([(1.02, 62), (0.86, 45), (0.48, 37), (-0.22, 26), (-0.62, 35), (-0.88, 46), (-1.02, 62)], 5.0),
    "wavy": ([(1.04, 64), (0.90, 48), (0.60, 36), (0.18, 26.5), (-0.50, 37), (-0.88, 46), (-1.04, 64)], 6.5),
    "curtain": ([(1.0, 60), (0.90, 46), (0.52, 35), (0.0, 25.5), (-0.52, 35), (-0.90, 46), (-1.0, 60)], 5.0),
    "bun": ([(0.97, 50), (0.86, 37), (0.5, 30), (0.0, 28.5), (-0.5, 30), (-0.86, 37), (-0.97, 50)], 2.5),
    "ponytail": (
        [(0.98, 52), (0.90, 41), (0.55, 37), (0.05, 32), (-0.40, 27), (-0.86, 36), (-0.98, 52)],
        3.5,
    ),
}
BUMPY = {"curly": 1.5, "afro": 1.8}  # height of the curls
LOCKS = {
    "short": (6, 1.5),
    "quiff": (5, 1.9),
    "side": (5, 1.3),
    "bob": (7, 1.3),
}  # tips along the hairline, length
COMBED = ("bun", "ponytail", "quiff")  # strands run over the head, not down from the crown
CAP_POINTS = 61


@dataclass(frozen=True)
class Hair:
    """Polylines of one person's hair: outer edge and hairline of the cap, and shapes behind the head."""

    outer: Points
    hairline: Points
    back: tuple[Points, ...]
    light: Colour
    dark: Colour

    @staticmethod
    def of(identity: Identity) -> Hair | None:
        """The hair of a person, None for a bald one."""
        if identity.hair_style == "bald":
            return None
        shape = identity.shape
        knots, volume = HAIRLINES[identity.hair_style]
        offset = shape.top - 23.0
        line = spline([(50.0 + x * shape.cheek, y + offset) for x, y in knots], CAP_POINTS)
        outer = _skull(shape, volume, line[-1], line[0])
        if identity.hair_style in LOCKS:
            line = _locked(line, *LOCKS[identity.hair_style])
        bump = BUMPY.get(identity.hair_style, 0.0)
        if bump:
            outer, line = _curled(outer, bump, 9), _curled(line, 0.6 * bump, 7)
        return Hair(
            outer=outer,
            hairline=line,
            back=_back(identity.hair_style, shape),
            light=lit(identity.hair, 0.16),
            dark=shaded(identity.hair, 0.42),
        )


def paint_back(brush: Brush, hair: Hair | None, identity: Identity) -> None:
    """What hangs behind the head and shoulders."""
    if hair is None:
        return
    tone = shaded(identity.hair, 0.22)
    for points in hair.back:
        shape = path(points)
        low, high = float(points[:, 1].min()), float(points[:, 1].max())
        brush.down(shape, low, high, [tone, hair.dark])
        with brush.inside(shape):
            brush.stroke(shape, hair.dark, 3.0, 0.5, 1.4)
            brush.stroke(shape, hair.light, 1.1, 0.35, 0.5)
            for share in (0.72, 0.86):
                inner = np.stack([50 + share * (points[:, 0] - 50), points[:, 1] + 3.0], axis=1)
                if identity.hair_style in ("bob", "long", "wavy", "curtain"):
                    brush.stroke(path(inner, closed=False), hair.dark, 0.7, 0.4)


def paint_shadow(brush: Brush, hair: Hair | None, identity: Identity) -> None:
    """The soft shadow of the front hair on the forehead; call inside the face."""
    if hair is not None:
        below = shifted(hair.hairline, 0.4, 1.7)
        top = shifted(hair.outer, 0.0, -4.0)
        brush.fill(joined(top, below), shaded(identity.skin, 0.75), 0.42, 1.0)


def paint_front(brush: Brush, hair: Hair | None, identity: Identity) -> None:
    """The cap of hair over the head, with strands and a band of light."""
    if hair is None:
        brush.glow(ellipse(42, 27, 9, 5), (42, 27), 9, [lit(identity.skin, 0.8)] * 2, [0.55, 0.0])
        return
    cap = joined(hair.outer, hair.hairline)
    brush.down(cap, hair.outer[:, 1].min(), 56.0, [hair.light, identity.hair, shaded(identity.hair, 0.2)])
    inner = hair.hairline[::-1]
    with brush.inside(cap):
        if identity.hair_style in BUMPY:
            _paint_curls(brush, hair, identity, inner)
        elif identity.hair_style == "buzz":
            brush.glow(ellipse(43, 22, 16, 8), (43, 22), 15, [lit(identity.hair, 0.6)] * 2, [0.4, 0.0])
        else:
            _paint_strands(brush, hair, identity, inner)
        brush.stroke(path(hair.hairline, closed=False), hair.dark, 1.6, 0.4, 0.7)
    brush.stroke(cap, hair.dark, 0.5, 0.75)


def _paint_strands(brush: Brush, hair: Hair, identity: Identity, inner: Points) -> None:
    """Fine lines along the hair and a band of light across it."""
    if identity.hair_style in COMBED:
        strands = [(1 - share) * hair.outer + share * inner for share in (0.2, 0.38, 0.62, 0.82)]
    else:
        strands = _fan(hair)
    for index, strand in enumerate(strands):
        tone, width = (hair.dark, 0.55) if index % 2 == 0 else (lit(identity.hair, 0.4), 0.4)
        brush.stroke(path(strand, closed=False), tone, width, 0.4)
    band = (0.52 * hair.outer + 0.48 * inner)[14:-14]
    brush.stroke(path(band, closed=False), lit(identity.hair, 0.75), 2.6, 0.34, 0.9)
    brush.stroke(path(band[4:16], closed=False), lit(identity.hair, 0.9), 1.0, 0.35, 0.35)


def _fan(hair: Hair) -> list[Points]:
    """Strands that leave the parting and bend outwards to the hairline."""
    top = hair.hairline[int(np.argmin(hair.hairline[:, 1]))]
    crown = np.array([0.55 * top[0] + 22.5, hair.outer[:, 1].min() + 2.0])
    strands = []
    for end in hair.hairline[3:-3:5]:
        bend = np.array([end[0] + 0.12 * (end[0] - 50.0), 0.72 * crown[1] + 0.28 * end[1]])
        t = np.linspace(0.0, 1.0, 14)[:, None]
        strands.append((1 - t) ** 2 * crown + 2 * t * (1 - t) * bend + t**2 * end)
    return strands


def _paint_curls(brush: Brush, hair: Hair, identity: Identity, inner: Points) -> None:
    """Rows of round curls, each with its light and its shadow."""
    for row, share in enumerate((0.16, 0.42, 0.68, 0.92)):
        points = ((1 - share) * hair.outer + share * inner)[2 + 3 * (row % 2) : -1 : 6]
        for x, y in points.tolist():
            curl = ellipse(x, y, 3.5, 3.1)
            tones = [lit(identity.hair, 0.30), identity.hair, hair.dark]
            brush.glow(curl, (x - 0.9, y - 1.2), 4.6, tones, [0.6, 0.4, 0.45], [0.0, 0.55, 1.0])


def _skull(shape: FaceShape, volume: float, left: Points, right: Points) -> Points:
    """Outer edge of the cap from the image-left end of the hairline over the crown to the image-right one."""
    wide, top = shape.cheek, shape.top - 6.5 - volume
    side = 0.45 * volume
    knots = [
        (float(left[0]) - 0.4, float(left[1])),
        (50 - wide - 1.0 - side, 42.0),
        (50 - 0.95 * wide - side, 29.0),
        (50 - 0.60 * wide - 0.5 * side, top + 4.2),
        (50.0, top),
        (50 + 0.60 * wide + 0.5 * side, top + 4.2),
        (50 + 0.95 * wide + side, 29.0),
        (50 + wide + 1.0 + side, 42.0),
        (float(right[0]) + 0.4, float(right[1])),
    ]
    return spline(knots, CAP_POINTS)


def _locked(line: Points, count: int, length: float) -> Points:
    """The hairline with pointed tips of hair; none at its ends."""
    along = np.linspace(0.0, 1.0, len(line))
    tooth = (along * count) % 1.0
    tip = np.where(tooth < 0.68, tooth / 0.68, (1.0 - tooth) / 0.32) ** 1.4 - 0.4
    return line + np.stack([0 * along, length * tip * np.sin(np.pi * along) ** 0.5], axis=1)


def _curled(curve: Points, height: float, curls: int) -> Points:
    """The curve with round bumps along it, twice as many as `curls`."""
    fine = spline([(float(x), float(y)) for x, y in curve[::4]], CAP_POINTS * 3)
    tangent = np.gradient(fine, axis=0)
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    along = np.linspace(0.0, 2.0 * curls * np.pi, len(fine))
    return (fine + height * np.abs(np.sin(along))[:, None] * normal)[::3]


def _back(style: str, shape: FaceShape) -> tuple[Points, ...]:
    wide = shape.cheek
    if style == "afro":
        turn = np.linspace(0.0, 2 * np.pi, 160, endpoint=False)
        radius = wide + 9.5 + 1.3 * np.abs(np.sin(9 * turn))
        return (np.stack([50 + radius * np.sin(turn), 37.5 - 0.92 * radius * np.cos(turn)], axis=1),)
    if style == "bob":
        half = [
            (50.0, 15.0),
            (50 + wide, 28.0),
            (50 + wide + 5, 52.0),
            (50 + wide + 4, 74.0),
            (50 + wide - 5, 83.5),
        ]
        return (_symmetric([*half, (50 + 0.5 * wide, 85.0)]),)
    if style == "long":
        half = [
            (50.0, 15.0),
            (50 + wide, 28.0),
            (50 + wide + 4.5, 52.0),
            (50 + wide + 6, 78.0),
            (50 + wide + 8, 106.0),
        ]
        return (_symmetric(half),)
    if style == "wavy":
        half = [
            *((50.0, 14.0), (50 + wide, 26.0), (50 + wide + 6.5, 44.0), (50 + wide + 4.0, 56.0)),
            *(
                (50 + wide + 8.5, 68.0),
                (50 + wide + 5.5, 80.0),
                (50 + wide + 10.0, 92.0),
                (50 + wide + 8, 106.0),
            ),
        ]
        return (_symmetric(half),)
    if style == "curtain":
        half = [
            (50.0, 15.0),
            (50 + wide, 28.0),
            (50 + wide + 4, 50.0),
            (50 + wide + 3, 70.0),
            (50 + wide - 1, 92.0),
        ]
        return (_symmetric([*half, (50 + 0.6 * wide, 95.0)]),)
    if style == "bun":
        turn = np.linspace(0.0, 2 * np.pi, 48, endpoint=False)
        return (np.stack([50 + 10.5 * np.sin(turn), shape.top - 11.5 - 8.5 * np.cos(turn)], axis=1),)
    if style == "ponytail":
        side = spline([(58, 17), (76, 16), (87, 30), (88, 52), (83, 70), (86, 84)], 40)
        return (np.concatenate([side, spline([(86, 84), (76, 72), (73, 52), (72, 34), (62, 28)], 40)]),)
    return ()


def _symmetric(half: Knots) -> Points:
    right = spline(half, 40)
    return np.concatenate([right, mirrored(right)])
