"""Eyes, brows, nose and mouth, drawn from their polylines."""

from __future__ import annotations

import numpy as np

from .brush import Brush, ellipse, joined, path
from .geometry import Expression, brow, lids, lips, parallax, shifted, spline
from .identity import Identity, blend, lit, shaded
from .landmarks import DEPTHS, iris_of
from .measure import CAVITY, CAVITY_DEPTH, TEETH, TONGUE

INK = (58, 38, 44)


def paint_mouth(brush: Brush, identity: Identity, face: Expression) -> None:
    """Lips around a dark cavity with teeth and tongue; a line when closed."""
    mouth = identity.mouth
    edge = lips(mouth, face)
    gap = mouth.gap * face.opening
    outer = joined(edge.upper_outer, edge.lower_outer[::-1])
    line = shaded(mouth.colour, 0.55)
    with brush.moved(*parallax(face, DEPTHS["mouth"])):
        low = float(edge.lower_outer[:, 1].max())
        if identity.beard != "beard":
            brush.fill(ellipse(50, low + 1.3, 0.55 * mouth.width, 0.9), shaded(identity.skin, 0.6), 0.32, 0.6)
        brush.fill(outer, mouth.colour)
        brush.fill(joined(edge.upper_outer, edge.upper_inner[::-1]), shaded(mouth.colour, 0.22), 0.8)
        if gap > 0:
            _paint_cavity(brush, identity, face)
        shine = edge.lower_outer[12:-12] * 0.62 + edge.lower_inner[12:-12] * 0.38
        brush.stroke(path(shine, closed=False), lit(mouth.colour, 0.7), 0.55, 0.6, 0.2)
        if gap < 0.9:
            brush.stroke(path(edge.upper_inner, closed=False), line, 0.65, 1.0 - gap / 0.9)
        for corner, way in ((edge.upper_outer[0], -1.0), (edge.upper_outer[-1], 1.0)):
            x, y = corner.tolist()
            fold = spline([(x + 0.25 * way, y - 0.9), (x + 0.75 * way, y), (x + 0.3 * way, y + 0.8)], 8)
            brush.stroke(path(fold, closed=False), shaded(identity.skin, 0.75), 0.5, 0.6)


def _paint_cavity(brush: Brush, identity: Identity, face: Expression) -> None:
    edge = lips(identity.mouth, face)
    gap = identity.mouth.gap * face.opening
    hole = joined(edge.upper_inner, edge.lower_inner[::-1])
    top, bottom = float(edge.upper_inner[:, 1].min()), float(edge.lower_inner[:, 1].max())
    brush.down(hole, top, bottom, [CAVITY_DEPTH, CAVITY])
    half = 0.5 * float(np.ptp(edge.upper_inner[:, 0]))
    with brush.inside(hole):
        rise = 0.40 * gap + 0.6 * face.spread
        tongue = ellipse(50, bottom + 0.32 * gap, 0.66 * half, rise + 0.32 * gap)
        brush.fill(tongue, TONGUE)
        brush.fill(ellipse(50, bottom - 0.05 * gap, 0.36 * half, 0.24 * gap), lit(TONGUE, 0.22), 0.7, 0.5)
        crown = min(2.7, 0.42 * gap) * (1.0 - 0.72 * face.rounding)
        middle = edge.upper_inner.copy()
        sag = 1.0 - 0.35 * ((middle[:, 0] - 50) / max(half, 1e-6)) ** 2
        lower = middle + np.stack([0 * sag, crown * sag], axis=1)
        inset = slice(2, -2)
        brush.fill(joined(middle[inset], lower[inset][::-1]), TEETH)
        brush.fill(joined(middle, shifted(middle[::-1], 0.0, 0.28 * crown)), shaded(TEETH, 0.6), 0.35, 0.3)
        if face.spread > 0.5 and gap > 2.0:
            floor = edge.lower_inner
            height = min(1.2, 0.2 * gap) * min((face.spread - 0.5) * 3.0, 1.0)
            brush.fill(joined(floor[6:-6], floor[6:-6][::-1] - (0.0, height)), shaded(TEETH, 0.12))
    brush.stroke(hole, shaded(identity.mouth.colour, 0.6), 0.35, 0.8)


def paint_eyes(brush: Brush, identity: Identity, face: Expression) -> None:
    """Both eyes with lids, iris, light and lashes."""
    with brush.moved(*parallax(face, DEPTHS["eyes"])):
        for right in (False, True):
            _paint_eye(brush, identity, face, right)


def _paint_eye(brush: Brush, identity: Identity, face: Expression, right: bool) -> None:
    eyes = identity.eyes
    upper, lower = lids(eyes, face, right)
    middle = 50.0 + (eyes.apart if right else -eyes.apart)
    socket = ellipse(middle, eyes.y - 0.4, 1.35 * eyes.width, 1.35 * eyes.height)
    brush.glow(socket, (middle, eyes.y), 1.35 * eyes.width, [shaded(identity.skin, 0.6)] * 2, [0.34, 0.0])
    if face.blink < 0.96:
        opening = joined(upper, lower[::-1])
        brush.fill(opening, (255, 253, 248))
        with brush.inside(opening):
            _paint_iris(brush, identity, face, right)
            brush.stroke(path(upper, closed=False), shaded(identity.skin, 0.9), 2.0, 0.38, 0.6)
    fold = upper[3:-3] - (0.0, 1.5 * (1.0 - 0.5 * face.blink))
    brush.stroke(path(fold, closed=False), shaded(identity.skin, 0.75), 0.5, 0.6)
    brush.stroke(path(lower[5:-5], closed=False), shaded(identity.skin, 0.85), 0.4, 0.55)
    thick = 0.9 + 0.7 * np.sin(np.linspace(0.15, np.pi - 0.15, len(upper)))[:, None] * (0.0, 1.0)
    brush.fill(joined(upper - 0.55 * thick * (0.0, 1.0), upper[::-1] + 0.45 * thick * (0.0, 1.0)), INK)
    if eyes.lashes:
        _paint_lashes(brush, upper, right)


def _paint_iris(brush: Brush, identity: Identity, face: Expression, right: bool) -> None:
    centre, radius = iris_of(identity, face, right)
    x, y = centre.tolist()
    colour = identity.eyes.colour
    disk = ellipse(x, y, radius, radius)
    brush.glow(disk, (x, y + 0.45 * radius), 1.4 * radius, [lit(colour, 0.38), colour, shaded(colour, 0.6)])
    brush.stroke(disk, shaded(colour, 0.85), 0.45, 0.9)
    brush.fill(ellipse(x, y, 0.5 * radius, 0.5 * radius), (30, 20, 26))
    brush.fill(ellipse(x - 0.34 * radius, y - 0.40 * radius, 0.27 * radius, 0.27 * radius), (255, 255, 255))
    brush.fill(
        ellipse(x + 0.36 * radius, y + 0.38 * radius, 0.14 * radius, 0.14 * radius), (255, 255, 255), 0.75
    )


def _paint_lashes(brush: Brush, upper: np.ndarray, right: bool) -> None:
    way = 1.0 if right else -1.0
    corner = upper if right else upper[::-1]
    for index, length in ((-1, 1.9), (-4, 1.7), (-7, 1.4)):
        x, y = corner[index].tolist()
        tip = [
            (x, y),
            (x + 0.6 * way * length, y - 0.35 * length),
            (x + 0.95 * way * length, y - 0.95 * length),
        ]
        brush.stroke(path(spline(tip, 6), closed=False), INK, 0.6)


def paint_brows(brush: Brush, identity: Identity, face: Expression) -> None:
    """Two tapered brows in a darker tone of the hair."""
    tone = shaded(identity.hair, 0.35) if identity.hair_style != "bald" else (70, 48, 42)
    if sum(tone) > 0.72 * sum(identity.skin):
        tone = blend(
            tone, shaded(identity.skin, 0.9), 0.75
        )  # fair brows need the skin's own shadow to be seen
    with brush.moved(*parallax(face, DEPTHS["brow"])):
        for right in (False, True):
            upper, lower = brow(identity, face, right)
            brush.fill(joined(upper, lower[::-1]), tone)
            brush.stroke(path(0.5 * (upper + lower)[:-2], closed=False), tone, 0.5)


def paint_nose(brush: Brush, identity: Identity, face: Expression) -> None:
    """A small nose: shadow below, light on the tip, and what the style adds."""
    y = identity.nose_y
    dark = shaded(identity.skin, 0.8)
    with brush.moved(*parallax(face, DEPTHS["nose"])):
        brush.fill(ellipse(50.3, y + 2.3, 3.2, 1.0), shaded(identity.skin, 0.6), 0.42, 0.6)
        if identity.nose != "button":
            bridge = spline([(51.4, y - 9.0), (52.3, y - 4.0), (53.0, y - 0.6)], 12)
            brush.stroke(path(bridge, closed=False), shaded(identity.skin, 0.6), 1.3, 0.38, 0.6)
        if identity.nose == "line":
            curve = spline([(51.2, y - 3.8), (53.3, y + 0.4), (51.6, y + 1.9), (49.2, y + 1.7)], 16)
            brush.stroke(path(curve, closed=False), dark, 0.7, 0.8)
        else:
            for side in (-1.0, 1.0):
                wing = spline(
                    [(50 + 2.3 * side, y - 0.2), (50 + 3.0 * side, y + 1.0), (50 + 1.9 * side, y + 1.8)], 10
                )
                brush.stroke(path(wing, closed=False), dark, 0.6, 0.6)
            base = spline([(48.9, y + 1.8), (50.0, y + 2.25), (51.1, y + 1.8)], 8)
            brush.stroke(path(base, closed=False), dark, 0.6, 0.75)
        brush.fill(ellipse(49.5, y - 0.6, 1.3, 1.0), lit(identity.skin, 0.6), 0.5, 0.5)


def paint_cheeks(brush: Brush, identity: Identity, face: Expression) -> None:
    """Blush and freckles."""
    y = 61.5 - 0.6 * face.opening
    red = blend(identity.skin, (236, 88, 84), 0.62)
    for side in (-1.0, 1.0):
        x = 50.0 + side * 14.6
        brush.glow(ellipse(x, y, 6.2, 4.8), (x, y), 6.2, [red, red], [0.75 * identity.blush, 0.0])
        if identity.freckles:
            for dx, dy in ((-3.1, -0.9), (-1.2, 0.6), (0.4, -1.3), (1.9, 0.2), (3.3, -0.8)):
                brush.fill(ellipse(x + dx, y - 2.0 + dy, 0.36, 0.36), shaded(identity.skin, 0.7), 0.6)
