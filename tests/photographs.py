"""Drawn faces as if they were photographs, with the depth that a drawing lacks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from builtin.puppet import Photograph
from builtin.world import Expression, Identity
from builtin.world.face import Painter

SIZE = 256


def drawn_photograph(seed: int) -> Photograph:
    painter = Painter(Identity.random(seed), SIZE)
    points = painter.landmarks(Expression()).astype(float)
    middle, half = points[[10, 152]].mean(axis=0), 0.5 * np.ptp(points[[10, 152], 1])
    depth = 0.5 * half * (np.square((points - middle) / half).sum(axis=1) - 1)
    return Photograph(painter.frame(Expression()), np.column_stack([points, depth]))


def write_faces(folder: Path, names: list[str]) -> None:
    """A folder of drawn photographs, all of them fit to sing."""
    entries = {}
    for seed, name in enumerate(names):
        photo = drawn_photograph(seed + 1)
        Image.fromarray(photo.image).save(folder / name)
        entries[name] = {"size": [SIZE, SIZE], "points": photo.points.tolist(), "yaw": 0.0, "mouth": 0.0}
    (folder / "faces.json").write_text(json.dumps(entries), encoding="utf-8")
