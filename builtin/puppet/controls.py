"""Where a pose puts the controls of a face: lips, jaw, lids, irises and brows.

All lengths are shares of the face's height (points 10 to 152); the face is upright, x right, y down, in its
own frame (head.py). A radial basis spreads the ways of the controls over the other points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from singer_core.portrait.landmarks import POINTS, SILHOUETTE

from ..world.geometry import Expression
from ..world.landmarks import (
    IRISES,
    LEFT_BROW,
    LEFT_LIDS,
    LOWER_LIP,
    NOSE_LINE,
    NOSTRILS,
    RIGHT_BROW,
    RIGHT_LIDS,
    UPPER_LIP,
)
from .photograph import MESH, Variation

Floats = NDArray[np.float64]

GAP = 0.150  # between the inner lips at opening 1
UPPER_SHARE = 0.11  # of the gap that the upper lip rises
CORNER_SHARE = 0.37  # of the gap that the corners sink
CHIN_SHARE = 0.74  # of the gap that the chin sinks
EYES = tuple(zip((LEFT_LIDS, RIGHT_LIDS), IRISES, strict=True))  # rows of lids, first point of the iris
GAZE = np.array([0.20, 0.13])  # way of the iris at gaze 1, in half widths of the eye
INNER = (
    UPPER_LIP[3],
    (UPPER_LIP[3][0], *LOWER_LIP[3], UPPER_LIP[3][10]),
)  # contours of the mouth, left to right

# How far each point sinks with the chin: outline from the chin to the ear, chin, cheeks.
_OUTLINE = (1, 0.99, 0.96, 0.9, 0.78, 0.62, 0.44, 0.27, 0.13, 0.05, 0.0)
_JAW = {SILHOUETTE[k]: s for i, s in enumerate(_OUTLINE) for k in (18 + i, 18 - i)}
_CHIN = {18: 1.10, 200: 1.06, 199: 1.03, 175: 1.01, 194: 1.06, 418: 1.06, 204: 1.02, 424: 1.02}
_CHEEKS = {
    164: -0.10,
    165: -0.05,
    391: -0.05,
    205: 0.10,
    425: 0.10,
    187: 0.22,
    411: 0.22,
    147: 0.16,
    376: 0.16,
}
_HOLLOW = {205: 0.5, 425: 0.5, 187: 0.3, 411: 0.3}  # cheeks drawn in by round lips
_STILL = (*NOSE_LINE, *NOSTRILS, 151, 50, 280, 117, 346, 129, 358, 48, 278, 102, 331)
_NOSE = (*NOSTRILS, 129, 358, 48, 278, 102, 331)
_LIPS = [i for ring in (*UPPER_LIP, *LOWER_LIP) for i in ring]
_LIDS = [i for rows in (LEFT_LIDS, RIGHT_LIDS) for row in rows for i in row]
_BROWS = [i for row in (*LEFT_BROW, *RIGHT_BROW) for i in row]

CONTROLS = np.array(list(dict.fromkeys([*_LIPS, *_LIDS, *_BROWS, *SILHOUETTE, *_CHIN, *_CHEEKS, *_STILL])))


def shifts(face: Floats, pose: Expression, gap: float, eyes: bool = True) -> Floats:
    """(478, 2) ways of the controls and irises of a face (478, 2+), zero elsewhere.

    gap   between the inner lips in this pose
    eyes  they can be seen; dark glasses stay where they are, and so do the brows above them
    """
    shift = np.zeros((POINTS, 2))
    _move_lips(shift, face, pose, gap)
    _move_jaw(shift, face, pose, gap)
    if eyes:
        _move_lids(shift, face, pose)
        _move_brows(shift, pose)
    return shift


def reshaped(face: Floats, basis: Floats, variation: Variation) -> Floats:
    """(478, 3) another person's face: jaw, eyes and nose as wide as `variation` says."""
    shift = np.zeros((POINTS, 2))
    for i, share in _JAW.items():
        shift[i, 0] = (variation.jaw - 1) * min(2 * share, 1) * face[i, 0]
    shift[list(_NOSE), 0] = (variation.nose - 1) * (face[list(_NOSE), 0] - face[1, 0])
    for (above, below), iris in EYES:
        corners = face[[above[0], above[-1]], :2].mean(axis=0)
        own = [*above, *below, *range(iris, iris + 5)]
        shift[own] = (variation.eyes - 1) * (face[own, :2] - corners)
    return moved(face, basis, shift)


def moved(face: Floats, basis: Floats, shift: Floats) -> Floats:
    """(478, 3) the face after controls and irises went the ways (478, 2); the basis spreads them."""
    result = face.copy()
    result[:MESH, :2] += basis @ shift[CONTROLS]
    result[MESH:, :2] += shift[MESH:]
    return result


def spread(face: Floats) -> Floats:
    """(468, c) how the ways of c controls spread over the mesh: radial basis r^1.3, exact at controls."""
    places = _parted(face)[:MESH]
    known = places[CONTROLS]
    c = len(known)
    system, right = np.ones((c + 1, c + 1)), np.ones((MESH, c + 1))
    system[:c, :c] = -(np.linalg.norm(known[:, None] - known, axis=2) ** 1.3) + 1e-5 * np.eye(c)
    system[c, c] = 0.0
    right[:, :c] = -(np.linalg.norm(places[:, None] - known, axis=2) ** 1.3)
    basis = np.asarray(np.linalg.solve(system, right.T).T[:, :c], np.float64)
    basis[CONTROLS] = np.eye(c)
    return basis


def _parted(face: Floats) -> Floats:
    """(478, 2) the face with its lips apart, so that no control of one lip is near the other's."""
    places = face[:, :2].copy()
    u = np.clip(2 * (places[:, 0] - places[78, 0]) / (places[308, 0] - places[78, 0]) - 1, -1, 1)
    line = places[list(INNER[0])]
    seam = np.interp(places[:, 0], line[:, 0], line[:, 1])
    below = (places[:, 1] > seam + 0.02) & (np.abs(u) < 1)
    below[[i for ring in LOWER_LIP for i in ring]] = True
    floor = places[152, 1] + 0.05
    fade = np.clip((floor - places[:, 1]) / (floor - seam), 0, 1)
    places[:, 1] += 0.10 * below * (1 - u * u) ** 0.7 * fade
    return places


def _move_lips(shift: Floats, face: Floats, pose: Expression, gap: float) -> None:
    """Inner contours exactly `gap` apart in the middle, the rings around them with less of the change."""
    wide = pose.spread - 0.3
    bared = max(wide, 0) * min(3 * pose.opening, 1)  # spread lips show the teeth
    rise = gap * UPPER_SHARE * (1 + 0.5 * wide) + 0.006 * bared
    thick = (1 - 0.13 * pose.opening) * (1 + 0.12 * pose.rounding) * (1 - 0.10 * max(wide, 0))
    narrow = 0.13 * wide - 0.33 * pose.rounding - 0.12 * pose.opening * (1 - pose.rounding)
    middle = 0.5 * (face[78, 0] + face[308, 0])
    apart = np.zeros(11)  # in the photograph
    apart[1:-1] = face[list(LOWER_LIP[3]), 1] - face[list(UPPER_LIP[3][1:-1]), 1]
    for rings, opened, close, columns in (
        (UPPER_LIP, -rise, 0.5 * apart, slice(None)),
        (LOWER_LIP, gap - rise, -0.5 * apart, slice(1, -1)),
    ):
        inner = face[list(rings[3])]
        u = 2 * (inner[:, 0] - face[78, 0]) / (face[308, 0] - face[78, 0]) - 1
        u[len(u) // 2] = 0.0  # points 13 and 14 show the whole opening
        bow = (1 - np.clip(np.abs(u), 0, 1) ** 2.1) ** 0.64
        y = CORNER_SHARE * gap * (1 - bow) + opened * bow - 0.010 * wide * u * u
        for row, ring in enumerate(rings):
            own = face[list(ring)]
            shift[list(ring), 0] = (own[:, 0] - middle) * narrow * (0.78 + 0.22 * row / 3)
            thinner = (inner[:, 1] - own[:, 1]) * (1 - thick)
            shift[list(ring), 1] = y + thinner + close[columns] * (0.4 + 0.2 * row)


def _move_jaw(shift: Floats, face: Floats, pose: Expression, gap: float) -> None:
    for i, share in (*_JAW.items(), *_CHIN.items(), *_CHEEKS.items()):
        shift[i, 1] = share * CHIN_SHARE * gap
    for i, share in _JAW.items():
        shift[i, 0] = -0.035 * pose.opening * share * face[i, 0]
    for i, share in _HOLLOW.items():
        shift[i, 0] = -share * (0.10 * pose.rounding + 0.03 * pose.opening) * face[i, 0]


def _move_lids(shift: Floats, face: Floats, pose: Expression) -> None:
    squint = 0.10 * pose.opening * (1 - pose.rounding)
    for (above, below), iris in EYES:
        top, low = list(above), list(below)
        x = face[top, 0]
        ring = [top[0], *low, top[8]]
        tall = np.maximum(np.interp(x, face[ring, 0], face[ring, 1]) - face[top, 1], 0)
        look = GAZE * pose.gaze * (0.5 * (x[8] - x[0]))
        follow = 0.4 * look[1] * (1 - pose.blink) * np.sin(np.pi * np.arange(9) / 8)
        shift[top, 1] = pose.blink * 0.90 * tall + follow
        shift[low, 1] = -(0.10 * pose.blink + squint * (1 - pose.blink)) * tall[1:-1]
        shift[iris : iris + 5] = look


def _move_brows(shift: Floats, pose: Expression) -> None:
    for row in (*LEFT_BROW, *RIGHT_BROW):  # from the inner end, which rises more
        shift[list(row), 1] = -pose.brow * (0.026 + 0.010 * np.linspace(1, 0, 5))
