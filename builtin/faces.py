"""A folder of photographs with face meshes: which of them can sing, and which are kept for judging.

`faces.json` in the folder: file name -> `size` [w, h], `points` 478 x [x, y, z] in pixels (MediaPipe's face
mesh with irises), `yaw` (0 = frontal) and `mouth` (inner-lip gap over the height of the face).
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from singer_core import constants
from singer_core.portrait.landmarks import POINTS

from .puppet import Photograph, PuppetShow, Variation
from .world import Song

logger = logging.getLogger(__name__)

FACES = "faces.json"
CLOSED, FRONTAL = 0.03, 0.20  # `mouth` and |`yaw`| below which a face qualifies
SMALLEST, LARGEST = 90.0, 0.74  # pixels of the face's height; its share of the picture's shorter side
# `source` of faces whose mesh misses the mouth (an open mouth, a tongue, a heavy moustache): on the puppet
# MediaPipe reads another opening than the one that was asked for.
REFUSED = frozenset(
    {
        "SFHQ_variability_ethnicity-3-5",
        "textual_search_2_Age_top_10_matches-5-2",
        "textual_search_2_Age_top_10_matches-5-7",
        "textual_search_2_Age_x_Ethnicity_x_Sex_2_top_10_matches-4-5",
        "textual_search_2_Ethnicity_x_Age_1_top_10_matches-2-3",
        "textual_search_2_Ethnicity_x_Age_2_top_10_matches-5-2",
        "textual_search_2_Expression_top_10_matches-4-5",
        "textual_search_2_Expression_top_10_matches-5-0",
        "textual_search_2_Expression_x_Sex_top_10_matches-1-9",
        "textual_search_2_Expression_x_Sex_top_10_matches-5-4",
        "textual_search_2_Eye_Color_top_10_matches-5-3",
        "textual_search_2_Eye_Gaze_top_9_matches-2-0",
        "textual_search_2_Facial_Hair_top_10_matches-1-4",
        "textual_search_2_Facial_Hair_top_10_matches-1-8",
        "textual_search_2_Facial_Hair_top_10_matches-2-2",
        "textual_search_2_Facial_Hair_top_10_matches-2-5",
        "textual_search_2_Physical_Characteristics_top_9_matches-0-3",
        "textual_search_2_Physical_Characteristics_top_9_matches-1-8",
    }
)
JUDGED = 13  # names whose number it divides are never trained on


@dataclass(frozen=True)
class Faces:
    """Photographs of a folder that can sing: names and (478, 3) meshes, in the order of the names."""

    folder: Path
    meshes: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.meshes)

    def photograph(self, name: str) -> Photograph:
        with Image.open(self.folder / name) as picture:
            return Photograph(np.asarray(picture.convert("RGB")), self.meshes[name])

    def show(self, seed: int, song: Song, size: int = 256, fps: float = constants.FPS) -> PuppetShow:
        """A face under a variation, chosen by the seed; consecutive seeds show all faces before one again."""
        order = np.random.default_rng(JUDGED).permutation(len(self.meshes))
        photo = self.photograph(list(self.meshes)[order[seed % len(order)]])
        return PuppetShow(photo, song, fps, size, Variation.random(seed))

    @property
    def fingerprint(self) -> str:
        """Of the names and meshes, not of where they lie."""
        meshes = b"".join(name.encode() + mesh.tobytes() for name, mesh in self.meshes.items())
        return hashlib.sha256(meshes).hexdigest()[:16]


def read_faces(folder: Path, judged: bool = False) -> Faces:
    """The faces to train on, or to judge on; the log counts those that cannot sing.

    Raises FileNotFoundError for a folder without `faces.json`, ValueError where no face of it can sing.
    """
    entries, damages = read_entries(folder, judged)
    reasons = {name: unfit(entry) for name, entry in entries.items()}
    skipped = Counter([*filter(None, reasons.values()), *damages.values()])
    counts = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common()) or "none"
    meshes = {name: np.array(entries[name]["points"], np.float64) for name in entries if not reasons[name]}
    logger.info("%d faces in %s can sing; skipped: %s", len(meshes), folder, counts)
    if not meshes:
        raise ValueError(
            f"No face in {folder} can sing (skipped: {counts}). Give frontal faces with closed mouths."
        )
    return Faces(folder, meshes)


def read_entries(folder: Path, judged: bool) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Sound entries of `faces.json` in the order of their names, and what is wrong with the others.

    The log names the others. Raises FileNotFoundError for a folder without `faces.json`.
    """
    path = folder / FACES
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {FACES} in {folder}; photographs need their face meshes. "
            "Give the folder that holds both."
        )
    entries = json.loads(path.read_text(encoding="utf-8"))
    names = sorted(name for name in entries if is_held_out(name) == judged)
    damages = {name: damage for name in names if (damage := damaged(folder / name, entries[name]))}
    for name, damage in damages.items():
        logger.warning("%s is skipped: %s", name, damage)
    return {name: entries[name] for name in names if name not in damages}, damages


def is_held_out(name: str) -> bool:
    """Whether a face is for judging: the number in its name is divisible by 13."""
    digits = re.findall(r"\d+", Path(name).stem)
    return bool(digits) and int(digits[-1]) % JUDGED == 0


def damaged(path: Path, entry: dict[str, Any]) -> str:
    """What is wrong with a picture or its entry in `faces.json`, or nothing."""
    points, size = np.array(entry["points"], np.float64), np.array(entry["size"])
    if points.shape != (POINTS, 3):
        return f"mesh of shape {points.shape}"
    if (points[:, :2].min(axis=0) < 0).any() or (points[:, :2].max(axis=0) > size).any():
        return "mesh outside the picture"
    try:
        with Image.open(path) as picture:
            picture.load()
            return "" if picture.size == tuple(size) else "picture of another size than its mesh"
    except OSError:
        return "picture unreadable"


def unfit(entry: dict[str, Any]) -> str:
    """Why a sound entry of `faces.json` cannot sing, or nothing."""
    points = np.array(entry["points"])
    tall = float(np.hypot(*(points[152] - points[10])[:2]))
    if not SMALLEST < tall < LARGEST * min(entry["size"]):
        return "too small or too near"
    if entry["mouth"] >= CLOSED:
        return "mouth open"
    if abs(entry["yaw"]) >= FRONTAL:
        return "turned away"
    return "mesh off the mouth" if entry.get("source") in REFUSED else ""
