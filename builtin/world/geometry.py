"""Where things are on a face: outline, lips, lids, brows as polylines, in hundredths of the picture's side.

Both the drawing and the landmarks are made from these points, so they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from .identity import Eyes, FaceShape, Identity, Mouth

Points = NDArray[np.float64]  # (n, 2) x, y

OUTLINE_POINTS = 144  # four for each of the 36 silhouette landmarks
LIP_POINTS = 41
LID_POINTS = 25
UPPER_SHARE = 0.28  # of the gap is above the line of the closed lips
JAW_DROP = 5.0  # how far the chin sinks at opening 1
PIVOT = (50.0, 90.0)  # the head turns about the base of the neck


@dataclass(frozen=True)
class Expression:
    """What a face does in one frame.

    opening, rounding, spread   the mouth, 0..1
    blink                       0 open to 1 closed
    brow                        lift of the brows, -1..1
    gaze                        pupils right and down, -1..1
    shift                       head right and down, hundredths of the side
    roll                        radians, clockwise in the picture
    yaw, nod                    turn to the right and down, -1..1: features move over the face
    """

    opening: float = 0.0
    rounding: float = 0.0
    spread: float = 0.3
    blink: float = 0.0
    brow: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)
    shift: tuple[float, float] = (0.0, 0.0)
    roll: float = 0.0
    yaw: float = 0.0
    nod: float = 0.0


@dataclass(frozen=True)
class Lips:
    """Contours from the image-left to the image-right corner, (LIP_POINTS, 2) each."""

    upper_outer: Points
    upper_inner: Points
    lower_inner: Points
    lower_outer: Points


def spline(points: list[tuple[float, float]], count: int) -> Points:
    """(count, 2) points on a smooth open curve through the given ones: cubic Hermite, even in length."""
    knots = np.array(points)
    chord = knots[1:] - knots[:-1]
    length = np.sqrt((chord * chord).sum(axis=1))[:, None]
    slope = chord / length
    inner = (slope[:-1] * length[1:] + slope[1:] * length[:-1]) / (length[:-1] + length[1:])
    first, last = 1.5 * slope[0] - 0.5 * inner[0], 1.5 * slope[-1] - 0.5 * inner[-1]
    tangent = np.concatenate([first[None], inner, last[None]])
    along = np.concatenate([[0.0], np.cumsum(length)])
    place = np.linspace(0.0, along[-1], count)
    k = np.clip(np.searchsorted(along, place, side="right") - 1, 0, len(chord) - 1)
    step = length[k]
    t = (place[:, None] - along[k][:, None]) / step
    bend = (1 - t) * tangent[k] - t * tangent[k + 1]
    return knots[k] + t * chord[k] + t * (1 - t) * (step * bend - (1 - 2 * t) * chord[k])


def shifted(points: Points, dx: float, dy: float) -> Points:
    """The points moved right and down."""
    return points + np.array([dx, dy])


def mirrored(points: Points) -> Points:
    """The points on the other side of x = 50, in reverse order."""
    return np.stack([100.0 - points[::-1, 0], points[::-1, 1]], axis=1)


def outline(shape: FaceShape) -> Points:
    """(OUTLINE_POINTS, 2) contour of the face, clockwise from the middle of the forehead, jaw closed."""
    half = [
        (0.0, shape.top),
        (0.52 * shape.forehead, shape.top + 1.6),
        (0.93 * shape.forehead, shape.top + 10.0),
        (shape.cheek, 50.0),
        (0.96 * shape.cheek, 60.0),
        (shape.jaw, 70.5),
        (shape.chin, shape.bottom - 2.4),
        (0.0, shape.bottom),
    ]
    knots = np.array([*half, *[(-x, y) for x, y in half[-2:0:-1]], half[0]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(knots, axis=0).T))])
    curve = CubicSpline(along, knots, bc_type="periodic")(
        np.linspace(0.0, along[-1], OUTLINE_POINTS + 1)[:-1]
    )
    return shifted(curve, 50.0, 0.0)


def dropped(points: Points, shape: FaceShape, opening: float) -> Points:
    """The outline with the jaw sunk by a mouth opening."""
    depth = np.clip((points[:, 1] - 60.0) / (shape.bottom - 60.0), 0.0, 1.0)
    weight = depth * depth * (3.0 - 2.0 * depth) * opening
    moved = points.copy()
    moved[:, 0] = 50.0 + (points[:, 0] - 50.0) * (1.0 - 0.05 * weight)
    moved[:, 1] += JAW_DROP * weight
    return moved


def lips(mouth: Mouth, face: Expression) -> Lips:
    """The lips of an expression: the gap at the middle is exactly opening x mouth.gap high."""
    u = np.linspace(-1.0, 1.0, LIP_POINTS)
    half = mouth.width * (1.0 + 0.14 * (face.spread - 0.3) - 0.40 * face.rounding)
    gap = mouth.gap * face.opening * (1.0 - np.abs(u) ** 2.3) ** 0.72
    smile = mouth.smile * (1.0 - 0.8 * face.rounding) * (1.0 - 0.45 * face.opening)
    line = mouth.y + 0.6 * smile - 1.9 * smile * u * u
    full = mouth.fullness * (1.0 - 0.12 * face.opening) * (1.0 + 0.30 * face.rounding)
    side = np.sqrt(1.0 - u * u)
    bow = 1.0 - 0.24 * np.exp(-((u / 0.17) ** 2)) + 0.06 * np.exp(-(((np.abs(u) - 0.33) / 0.16) ** 2))
    inner, outer = 50.0 + (half - 0.5) * u, 50.0 + (half + 0.35) * u
    top, bottom = line - UPPER_SHARE * gap, line + (1.0 - UPPER_SHARE) * gap
    return Lips(
        upper_outer=np.stack([outer, top - 0.95 * full * side**0.9 * bow], axis=1),
        upper_inner=np.stack([inner, top], axis=1),
        lower_inner=np.stack([inner, bottom], axis=1),
        lower_outer=np.stack([outer, bottom + 1.25 * full * side], axis=1),
    )


def lids(eyes: Eyes, face: Expression, right: bool) -> tuple[Points, Points]:
    """Upper and lower lid of the image-right (or -left) eye, from left to right, (LID_POINTS, 2) each."""
    v = np.linspace(-1.0, 1.0, LID_POINTS)
    squint = 0.16 * face.opening * (1.0 - face.rounding)
    upper = eyes.height * (1.0 - np.abs(v) ** 2.4) ** 0.85
    lower = 0.78 * eyes.height * (1.0 - squint) * (1.0 - v * v)
    closed = 0.80 * lower
    outward = v if right else -v
    slope = -eyes.tilt * eyes.width * outward
    x = 50.0 + (eyes.apart if right else -eyes.apart) + eyes.width * v
    top = eyes.y + slope - upper * (1.0 - face.blink) + closed * face.blink
    bottom = eyes.y + slope + lower
    return np.stack([x, np.minimum(top, bottom)], axis=1), np.stack([x, bottom], axis=1)


def brow(identity: Identity, face: Expression, right: bool) -> tuple[Points, Points]:
    """Upper and lower edge of a brow from its inner to its outer end, (12, 2) each."""
    side = 1.0 if right else -1.0
    along = np.linspace(0.0, 1.0, 12)
    eyes = identity.eyes
    x = 50.0 + side * (eyes.apart - 0.85 * eyes.width + 1.95 * eyes.width * along)
    arch = identity.brow_arch * np.sin(np.pi * np.minimum(along / 1.25, 1.0)) + 0.6 * face.brow * (
        1.0 - along
    )
    y = eyes.y - eyes.height - 3.4 - arch - 1.5 * face.brow + 1.3 * along**2
    thick = identity.brow_thickness * (0.75 + 0.5 * np.sin(np.pi * (0.25 + 0.6 * along))) * (1.0 - along**4)
    return np.stack([x, y - 0.5 * thick], axis=1), np.stack([x, y + 0.5 * thick], axis=1)


def parallax(face: Expression, depth: float) -> tuple[float, float]:
    """How far something at a depth (0 on the outline, 1 at the nose tip) moves over the face."""
    return 2.6 * depth * face.yaw, 1.8 * depth * face.nod


def head_matrix(identity: Identity, face: Expression) -> Points:
    """(2, 3) affine map of the head's own coordinates to the picture's, both in hundredths of the side."""
    cos, sin = np.cos(face.roll), np.sin(face.roll)
    turn = np.array([[cos, -sin], [sin, cos]])
    pivot = np.array(PIVOT)
    offset = pivot - turn @ pivot + np.array(face.shift)
    return frame_matrix(identity) @ np.vstack([np.column_stack([turn, offset]), [0.0, 0.0, 1.0]])


def frame_matrix(identity: Identity) -> Points:
    """(2, 3) map of the figure to the picture: zoom about the middle and shift."""
    middle = np.array([50.0, 52.0])
    offset = middle * (1.0 - identity.zoom) + (identity.x, identity.y)
    return np.column_stack([identity.zoom * np.eye(2), offset])


def mapped(matrix: Points, points: Points) -> Points:
    """(n, 2) points under a (2, 3) affine map."""
    return points @ matrix[:, :2].T + matrix[:, 2]
