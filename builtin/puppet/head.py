"""The head of a photographed person: a mesh in shallow relief that turns, and what follows it.

The face has a frame of its own: origin between the ears, upright, x right, y down, in heights of the face.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay, cKDTree

from singer_core.portrait.landmarks import SILHOUETTE

from ..world.brush import path
from ..world.geometry import Expression
from ..world.landmarks import LEFT_LIDS, RIGHT_LIDS
from .controls import GAP, moved, reshaped, shifts, spread
from .photograph import MARGIN, MESH, Variation

Floats = NDArray[np.float64]

# Lengths are shares of the face's height (points 10 to 152) unless stated.
GRID = 20  # cells a side of the mesh outside the face
RINGS = (1.09, 1.2, 1.36)  # enlarged outlines of the face that are part of the mesh
DEPTH, SMOOTH = 0.9, 0.055  # of the mesh's relief, and the width it is smoothed by: less of it looks firmer
YAW, NOD = np.deg2rad(8.0), np.deg2rad(6.0)  # at yaw 1 and nod 1
DRAWN_FACE = 60.0  # face height of the drawn world, in the units of `Expression.shift`
BODY = 0.3  # how much of the head's shift the shoulders follow
NECK = 0.13  # below the chin: the head rolls about this point
EARS = (234, 454, 127, 356)


class Head:
    """Geometry of one person in one picture.

    photo      (478, 3) mesh in pixels of the picture
    size       side of the picture; the mesh around the face reaches `MARGIN` beyond it
    eyes       they can be seen, and so move
    face       (478, 3) the person's face in its own frame; `seen`: in the photograph, before `variation`
    outer      (m, 3) points around the face in the same frame
    triangles  of face (468) and outer points together
    texels     (468 + m, 2) where they lie in the photograph, in pixels of the picture
    """

    def __init__(self, photo: Floats, size: int, variation: Variation, eyes: bool) -> None:
        self.size, self.eyes = size, eyes
        self.tall = float(np.hypot(*(photo[152] - photo[10])[:2]))
        self.seen = self._upright(photo)
        self.basis = spread(self.seen)
        self.face = reshaped(self.seen, self.basis, variation)
        around, room = self._around(photo)
        self._follow(self.own(around), room)
        apart = self.expressed(Expression(opening=0.6))[:MESH, :2]  # so that no triangle joins the lips
        self.triangles = Delaunay(np.concatenate([apart, self.outer[:, :2]])).simplices
        self.texels = np.concatenate([photo[:MESH, :2], around])

    def own(self, pixels: Floats) -> Floats:
        """(n, 2) points of the picture in the face's frame."""
        return np.asarray((pixels - self.origin) @ self.turn / self.tall)

    def pixels(self, own: Floats) -> Floats:
        """(n, 2) points of the face's frame, the head at rest, in the picture."""
        return np.asarray(own[:, :2] @ self.turn.T * self.tall + self.origin)

    def expressed(self, pose: Expression) -> Floats:
        """(478, 3) the face with its expression in its own frame, before the head moves."""
        way = shifts(self.face, pose, GAP * pose.opening, self.eyes)
        return moved(self.face, self.basis, way)

    def posed(self, pose: Expression) -> tuple[Floats, Floats]:
        """(478, 2) the face's points and (m, 2) those outside in the picture, after the head has moved."""
        own, outer = self.expressed(pose), self.outer.copy()
        outer[:, :2] += self.follow @ (own - self.seen)[list(SILHOUETTE), :2]
        still = self.pixels(outer)
        turned = self.head_share * (self.rigid(outer, pose) - still)
        return self.rigid(own, pose), still + turned + self.body_share * self._shift(pose)

    def rigid(self, own: Floats, pose: Expression) -> Floats:
        """Points (n, 3) of the face's frame in the picture, turned and shifted with the head."""
        yaw, nod = YAW * pose.yaw, NOD * pose.nod
        x = own[:, 0] * np.cos(yaw) - own[:, 2] * np.sin(yaw)
        z = own[:, 0] * np.sin(yaw) + own[:, 2] * np.cos(yaw)
        neck = self.face[152, 1] + NECK
        y = own[:, 1] * np.cos(nod) - z * np.sin(nod) - neck
        cos, sin = np.cos(pose.roll), np.sin(pose.roll)
        flat = np.column_stack([x * cos - y * sin, x * sin + y * cos + neck])
        return self.pixels(flat) + self._shift(pose)

    def opening(self, points: NDArray[np.float32]) -> float:
        """Mouth opening 0..1 read from moved points: the gap's height, square to the line of the eyes."""
        (x, y), (dx, dy) = points[263] - points[33], points[14] - points[13]
        return float((dy * x - dx * y) / np.hypot(x, y) / (GAP * self.tall))

    def _shift(self, pose: Expression) -> Floats:
        return np.array(pose.shift) * (self.tall / DRAWN_FACE)

    def _upright(self, photo: Floats) -> Floats:
        """(478, 3) the photograph's face in its own frame, its relief smoothed."""
        across = photo[RIGHT_LIDS[0][-1]] - photo[LEFT_LIDS[0][0]]
        roll = float(np.arctan2(across[1], across[0]))
        self.turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        ears = photo[list(EARS)]
        self.origin = np.array([ears[:, 0].mean(), photo[[33, 263, 61, 291], 1].mean()])
        plane = self.own(photo[:, :2])
        apart = np.linalg.norm(plane[:, None] - plane[None, :MESH], axis=2)
        weight = np.exp(-0.5 * (apart / SMOOTH) ** 2)
        relief = (photo[:MESH, 2] - ears[:, 2].mean()) / self.tall
        return np.column_stack([plane, DEPTH * (weight @ relief) / weight.sum(axis=1)])

    def _around(self, photo: Floats) -> tuple[Floats, Floats]:
        """(m, 2) mesh points around the face in pixels, (m,) their distance from the edge in shares."""
        low, high = -MARGIN * self.size, (1 + MARGIN) * self.size
        line = np.linspace(low, high, GRID + 1)
        grid = np.stack(np.meshgrid(line, line), axis=2).reshape(-1, 2)
        oval = photo[list(SILHOUETTE), :2]
        centre = oval.mean(axis=0)
        rings = np.concatenate([centre + (oval - centre) * k for k in RINGS])
        rings = rings[((rings > low) & (rings < high)).all(axis=1)]
        far = cKDTree(np.concatenate([oval, rings])).query(grid)[0] > 0.09 * self.tall
        outline = path(oval)
        outside = np.array([not outline.contains(x, y) for x, y in grid.tolist()])
        edge = ((grid == low) | (grid == high)).any(axis=1)
        around = np.concatenate([grid[edge | (far & outside)], rings])
        return around, np.minimum(around - low, high - around).min(axis=1) / (high - low)

    def _follow(self, plane: Floats, room: Floats) -> None:
        """What the points around the face follow: jaw, head, body; the edges of the picture nothing."""
        oval = self.seen[list(SILHOUETTE)]
        distance = np.linalg.norm(plane[:, None] - oval[None, :, :2], axis=2)
        pull = 1 / (distance + 0.01) ** 3
        pull /= pull.sum(axis=1, keepdims=True)
        near = distance.min(axis=1)
        self.follow = pull * (1 - _ease(near / 0.34))[:, None]
        back = _ease(near / 0.30)[:, None]
        self.outer = np.column_stack([plane, (1 - back) * (pull @ oval[:, 2:]) + 0.05 * back])
        below = np.clip(plane[:, 1] - 0.3, 0, 1)
        anchored = _ease(room / 0.2)
        away = _beyond_hair(plane, oval) / (0.55 - 0.2 * below)
        self.head_share = ((1 - _ease(away)) * anchored)[:, None]
        self.body_share = (1 - self.head_share) * (BODY * anchored * _ease(below / 0.3))[:, None]


def _beyond_hair(plane: Floats, oval: Floats) -> Floats:
    """(m,) how far points (m, 2) are beyond an ellipse around face and hair."""
    low, high = oval[:, :2].min(axis=0), oval[:, :2].max(axis=0)
    half = 0.5 * (high[0] - low[0])
    x = np.abs(plane[:, 0] - 0.5 * (low[0] + high[0])) / (1.25 * half)
    y = np.where(plane[:, 1] < 0, plane[:, 1] / (low[1] - 0.24), plane[:, 1] / (high[1] + 0.02))
    return np.asarray(np.maximum(np.hypot(x, y) - 1, 0) * half)


def _ease(x: Floats) -> Floats:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(x, 0, 1)
    return np.asarray(t * t * (3 - 2 * t))
