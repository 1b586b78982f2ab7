"""The drawn face as the 478 points of MediaPipe's face mesh.

True to the drawing: silhouette, the four rings of the lips, lids, irises, brows, nose and the middle line.
The other points have no counterpart in a flat drawing; they are spread evenly over the face, inside its
outline."""

from __future__ import annotations

import numpy as np

from singer_core.portrait.landmarks import POINTS, SILHOUETTE

from .geometry import (
    Expression,
    Lips,
    Points,
    brow,
    dropped,
    head_matrix,
    lids,
    lips,
    mapped,
    outline,
    parallax,
)
from .identity import Identity

# Rings from the image-left to the image-right corner; rows run from the outer to the inner edge of a lip.
UPPER_LIP = (
    (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291),
    (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306),
    (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292),
    (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308),
)
LOWER_LIP = (
    (146, 91, 181, 84, 17, 314, 405, 321, 375),
    (77, 90, 180, 85, 16, 315, 404, 320, 307),
    (96, 89, 179, 86, 15, 316, 403, 319, 325),
    (95, 88, 178, 87, 14, 317, 402, 318, 324),
)
# Lids from image-left to image-right, corners included in the upper row.
LEFT_LIDS = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (7, 163, 144, 145, 153, 154, 155))
RIGHT_LIDS = ((362, 398, 384, 385, 386, 387, 388, 466, 263), (382, 381, 380, 374, 373, 390, 249))
# Brows from the inner to the outer end: upper edge, lower edge.
LEFT_BROW = ((107, 66, 105, 63, 70), (55, 65, 52, 53, 46))
RIGHT_BROW = ((336, 296, 334, 293, 300), (285, 295, 282, 283, 276))
IRISES = (468, 473)  # centres; four points follow each: right, top, left, bottom
NOSE_LINE = (168, 6, 197, 195, 5, 4, 1, 19, 94, 2)  # bridge to the base of the nose
NOSTRILS = (98, 97, 326, 327)
FOREHEAD_LINE = (151, 9, 8)
CHIN_LINE = (18, 200, 199, 175)
PHILTRUM = 164

LIP_MIDDLE = 20  # of the 41 points of a contour

DEPTHS = {"brow": 0.55, "eyes": 0.6, "nose": 1.0, "mouth": 0.7, "rest": 0.4}


def landmarks(identity: Identity, face: Expression, size: int) -> Points:
    """(478, 2) x and y in pixels of a square picture of `size`; pixel centres are at half-integers."""
    points = np.full((POINTS, 2), np.nan)
    contour = dropped(outline(identity.shape), identity.shape, face.opening)
    points[list(SILHOUETTE)] = contour[::4]
    mouth = lips(identity.mouth, face)
    _put_lips(points, mouth, face)
    _put_eyes(points, identity, face)
    _put_nose(points, identity, mouth, face)
    _put_rest(points, contour, face)
    return mapped(head_matrix(identity, face), points) * (size / 100.0)


def _moved(points: Points, face: Expression, part: str) -> Points:
    return points + parallax(face, DEPTHS[part])


def _put_lips(points: Points, mouth: Lips, face: Expression) -> None:
    pairs = (
        (UPPER_LIP, mouth.upper_outer, mouth.upper_inner, slice(None)),
        (LOWER_LIP, mouth.lower_outer, mouth.lower_inner, slice(1, -1)),
    )
    for rings, outer, inner, inside in pairs:
        for share, ring in zip((0.0, 1 / 3, 2 / 3, 1.0), rings, strict=True):
            row = (1.0 - share) * outer + share * inner
            points[list(ring)] = _moved(row[::4][inside], face, "mouth")


def _put_eyes(points: Points, identity: Identity, face: Expression) -> None:
    for right, rows, brows, iris in (
        (False, LEFT_LIDS, LEFT_BROW, IRISES[0]),
        (True, RIGHT_LIDS, RIGHT_BROW, IRISES[1]),
    ):
        upper, lower = lids(identity.eyes, face, right)
        points[list(rows[0])] = _moved(upper[::3], face, "eyes")
        points[list(rows[1])] = _moved(lower[3:-1:3], face, "eyes")
        centre, radius = iris_of(identity, face, right)
        circle = np.array([[0, 0], [radius, 0], [0, -radius], [-radius, 0], [0, radius]])
        points[iris : iris + 5] = _moved(centre + circle, face, "eyes")
        for ring, edge in zip(brows, brow(identity, face, right), strict=True):
            points[list(ring)] = _moved(edge[[0, 3, 6, 8, 11]], face, "brow")


def iris_of(identity: Identity, face: Expression, right: bool) -> tuple[Points, float]:
    """Centre (2,) and radius of an iris, before parallax."""
    eyes = identity.eyes
    side = eyes.apart if right else -eyes.apart
    centre = np.array([50.0 + side + 1.1 * face.gaze[0], eyes.y - 0.25 + 0.8 * face.gaze[1]])
    return centre, 0.86 * eyes.height


def _put_nose(points: Points, identity: Identity, mouth: Lips, face: Expression) -> None:
    top, tip = identity.eyes.y, identity.nose_y
    heights = np.concatenate([np.linspace(top, tip, 7), tip + np.array([0.8, 1.5, 2.0])])
    line = np.stack([np.full(10, 50.0), heights], axis=1)
    bridge = np.linspace(0.3, 1.0, 7)[:, None] * np.array(parallax(face, 1.0))
    points[list(NOSE_LINE[:7])] = line[:7] + bridge
    points[list(NOSE_LINE[7:])] = _moved(line[7:], face, "nose")
    wings = np.array([[47.2, tip + 1.2], [48.7, tip + 1.7], [51.3, tip + 1.7], [52.8, tip + 1.2]])
    points[list(NOSTRILS)] = _moved(wings, face, "nose")
    between = 0.5 * (line[-1] + mouth.upper_outer[LIP_MIDDLE])
    points[PHILTRUM] = _moved(between, face, "mouth")
    brow_y = identity.eyes.y - identity.eyes.height - 3.0
    forehead = np.stack(
        [np.full(3, 50.0), np.linspace(0.5 * (identity.shape.top + brow_y), brow_y + 3, 3)], 1
    )
    points[list(FOREHEAD_LINE)] = _moved(forehead, face, "rest")
    chin = points[152] + parallax(face, 0.2)
    lip = _moved(mouth.lower_outer[LIP_MIDDLE], face, "mouth")
    shares = np.array([0.15, 0.45, 0.65, 0.85])[:, None]
    points[list(CHIN_LINE)] = (1.0 - shares) * lip + shares * chin


def _put_rest(points: Points, contour: Points, face: Expression) -> None:
    """Spread the unnamed points as a sunflower spreads its seeds, each on a ray to the outline."""
    unnamed = np.flatnonzero(np.isnan(points[:, 0]))
    middle = np.array([50.0, 55.0])
    turn = (np.arange(len(unnamed)) * 0.618034) % 1.0
    edge = contour[(turn * len(contour)).astype(int)]
    reach = 0.94 * np.sqrt((np.arange(len(unnamed)) + 0.5) / len(unnamed))[:, None]
    points[unnamed] = (
        middle + reach * (edge - middle) + (1.0 - reach) * np.array(parallax(face, DEPTHS["rest"]))
    )
