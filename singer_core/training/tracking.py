"""The singer's face through a video, cut where the picture is or where it is not clear who sings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..portrait.detection import DetectedFace
from ..portrait.masks import Box, bounding_box, overlap

FindFaces = Callable[[Image.Image], Sequence[DetectedFace]]

GRID = 16  # side of the pictures by which cuts are seen
CUT = 0.1  # mean change of their levels in [0, 1] from one frame to the next, at a cut
ABOVE_NEIGHBOURS = 3  # and how many times the changes before and after it; flashes and pans have equals
SAME_PLACE = 0.2  # least box IoU of one face in two looks, a fifth of a second apart
SAME_PERSON = 0.2  # least cosine of two embeddings of one person (ArcFace: others are around 0)
RIVAL = 0.5  # of the singer's height from which another face may be who sings


@dataclass(frozen=True, eq=False)
class Shot:
    """Frames in which one face is followed without a cut.

    boxes     (frames, 2, 4) face and lips in pixels
    identity  mean embedding, if any
    """

    frames: range
    boxes: np.ndarray
    identity: Tensor | None

    def before(self, end: int) -> Shot:
        """Its frames before frame `end` of the video."""
        frames = range(self.frames.start, min(self.frames.stop, end))
        return Shot(frames, self.boxes[: len(frames)], self.identity)


@dataclass(frozen=True, eq=False)
class Track:
    """What was seen of a video: its shots, the number of its frames, and why it was cut where."""

    shots: list[Shot]
    frames: int
    breaks: dict[int, str]


def track_face(pictures: Iterable[np.ndarray], stride: int, find_faces: FindFaces) -> Track:
    """Follow the first face of every `stride`-th picture; boxes in between are interpolated.

    Pictures with a second face that is large enough to be the singer's belong to no shot.
    Raises ValueError where half of the looks find no face.
    """
    looks, small = dict[int, Sequence[DetectedFace]](), list[np.ndarray]()
    for frame, picture in enumerate(pictures):
        small.append(_shrunk(picture))
        if frame % stride == 0:
            looks[frame] = find_faces(Image.fromarray(picture))
    if not looks:
        raise ValueError("it has no pictures that can be decoded")
    found = {frame: faces for frame, faces in looks.items() if faces}
    if len(found) <= len(looks) // 2:
        raise ValueError(f"a face was found in {len(found)} of {len(looks)} pictures only")
    cuts, seen = _cuts(np.stack(small)), list(found)
    breaks, edges = dict.fromkeys(cuts, "a cut"), [0, *cuts, len(small)]
    groups = _groups(found, breaks)
    return Track([_shot(group, _extent(list(group), seen, edges)) for group in groups], len(small), breaks)


def _shrunk(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> its levels in [0, 1] on a coarse grid."""
    small = Image.fromarray(picture).resize((GRID, GRID), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 255


def _cuts(small: np.ndarray) -> list[int]:
    """The frames, (s, GRID, GRID, 3), that begin a new shot: they alone differ from the one before."""
    change = np.abs(np.diff(small, axis=0)).mean((1, 2, 3))
    around = np.pad(change, 1)
    neighbours = np.maximum(around[:-2], around[2:])
    return [int(k) + 1 for k in np.nonzero((change > CUT) & (change > ABOVE_NEIGHBOURS * neighbours))[0]]


def _groups(
    found: dict[int, Sequence[DetectedFace]], breaks: dict[int, str]
) -> list[dict[int, DetectedFace]]:
    """Looks at one face without a break between them; breaks that only faces show are added to `breaks`."""
    groups, last, crowded = list[dict[int, DetectedFace]](), None, False
    for frame, faces in found.items():
        alone, before, last = not _has_rival(faces), last, None
        if not alone:
            if not crowded:
                breaks[frame] = "a second face"
        elif before is None or any(before < cut <= frame for cut in breaks):
            groups.append({frame: faces[0]})
        elif _is_same(groups[-1][before], faces[0]):
            groups[-1][frame] = faces[0]
        else:
            breaks[frame] = "another face"
            groups.append({frame: faces[0]})
        crowded, last = not alone, frame if alone else None
    return groups


def _has_rival(faces: Sequence[DetectedFace]) -> bool:
    heights = [box[3] - box[1] for box in map(_face, faces)]
    return any(height >= RIVAL * heights[0] for height in heights[1:])


def _is_same(one: DetectedFace, other: DetectedFace) -> bool:
    """Whether two looks at successive pictures show one person."""
    if overlap(_face(one), _face(other)) < SAME_PLACE:
        return False
    if one.identity is None or other.identity is None:
        return True
    return float(torch.cosine_similarity(one.identity, other.identity, dim=0)) >= SAME_PERSON


def _face(face: DetectedFace) -> Box:
    return bounding_box(face.landmarks.silhouette)


def _extent(group: list[int], seen: list[int], edges: list[int]) -> range:
    """The frames of a group of looks: up to the cuts around it, but not where others are `seen`."""
    first, last = group[0], group[-1]
    start = max(edge for edge in edges if edge <= first)
    stop = min(edge for edge in edges if edge > last)
    if any(start <= other < first for other in seen):
        start = first
    if any(last < other < stop for other in seen):
        stop = last + 1
    return range(start, stop)


def _shot(group: dict[int, DetectedFace], frames: range) -> Shot:
    marks = [face.landmarks for face in group.values()]
    seen = np.array([[*bounding_box(x.silhouette), *bounding_box(x.lips)] for x in marks], float)
    every = np.stack([np.interp(frames, list(group), column) for column in seen.T], axis=1)
    identities = [face.identity for face in group.values() if face.identity is not None]
    identity = torch.stack(identities).mean(0) if identities else None
    return Shot(frames, every.round().reshape(-1, 2, 4), identity)


def words_of(breaks: dict[int, str], fps: float) -> str:
    """Breaks as a person reads them: "a cut at 0.48 s, a second face at 2.00 s"."""
    return ", ".join(f"{why} at {frame / fps:.2f} s" for frame, why in sorted(breaks.items()))
