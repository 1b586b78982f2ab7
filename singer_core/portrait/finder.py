"""Finds the faces of a picture with three small networks that ship with the pack.

The detector looks at the whole picture and says where faces are. The pointer looks at a cut around each one
three times, upright from the second on, and gives the points that SINGER reads, and its confidence. A second
pointer looks at the mouth, closer, and gives the lips once more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ..weights import load_state
from .image import to_tensor
from .landmarks import FIVE, LIPS, POINTS, SILHOUETTE, FaceLandmarks

SHIPPED = Path(__file__).with_name("finder.safetensors")

READ = tuple(dict.fromkeys((*SILHOUETTE, *LIPS, *FIVE)))  # the points that anything here reads
DETECTOR_SIDE, DETECTOR_STRIDE = 192, 8
LOOKS = 3
CUT_SIDE, MOUTH_SIDE = 128, 64  # pixels
MARGIN, MOUTH_MARGIN = 1.5, 1.6  # side of a cut over the larger side of the face, of the lips
EYES, CORNERS = (READ.index(FIVE[0]), READ.index(FIVE[1])), (LIPS.index(FIVE[3]), LIPS.index(FIVE[4]))
LIP_ROWS = [READ.index(i) for i in LIPS]
CANDIDATE, CONFIDENT = 0.25, 0.95  # scores from which the detector's and the pointer's word counts
APART = 0.5  # of their larger side, by which two faces' middles differ at least


@dataclass(frozen=True)
class Cut:
    """A square of a picture: middle (x, y) and side in pixels, turned clockwise by `angle` in radians."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def to_picture(self, points: Tensor) -> Tensor:
        """Points (..., 2) in [-1, 1] of the cut -> pixels of the picture."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        turned = points @ points.new_tensor([[cos, sin], [-sin, cos]])
        return turned * (self.side / 2) + points.new_tensor([self.x, self.y])

    def to_cut(self, points: Tensor) -> Tensor:
        """The inverse of `to_picture`."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return (
            (points - points.new_tensor([self.x, self.y]))
            @ points.new_tensor([[cos, -sin], [sin, cos]])
            * (2 / self.side)
        )

    def of(self, image: Image.Image, size: int = CUT_SIDE) -> Image.Image:
        """The picture's part, `size` pixels square; black outside."""
        factor = max(int(self.side / size), 1)  # against aliasing
        small = image.reduce(factor) if factor > 1 else image
        scale = self.side / size / factor
        cos, sin = math.cos(self.angle) * scale, math.sin(self.angle) * scale
        left = self.x / factor - (cos - sin) * size / 2
        top = self.y / factor - (sin + cos) * size / 2
        return small.transform(
            (size, size), Image.Transform.AFFINE, (cos, -sin, left, sin, cos, top), Image.Resampling.BILINEAR
        )


@dataclass(frozen=True, eq=False)
class FoundFace:
    """A face's landmarks, of which `READ` are found and the rest lie in its middle; confidence in [0, 1]."""

    landmarks: FaceLandmarks
    confidence: float


def _conv(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(out), nn.ReLU())


class Stage(nn.Module):
    """Half the resolution, then one residual block."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.down = _conv(channels, out, stride=2)
        self.block = nn.Sequential(
            _conv(out, out), nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return F.relu(x + self.block(x))


def _stages(widths: tuple[int, ...]) -> nn.ModuleList:
    return nn.ModuleList(Stage(a, b) for a, b in zip((3, *widths[:-1]), widths, strict=True))


class Detector(nn.Module):
    """Where faces are: for every 8 x 8 pixels of a picture a score and the face it belongs to.

    x        (b, 3, 192, 192) in [-1, 1]
    returns  (b, 4, 24, 24): logit; right and down from the cell's middle to the face's, in cells; log of
             the face's larger side in cells
    """

    def __init__(self, widths: tuple[int, ...] = (8, 16, 32, 48, 64)) -> None:
        super().__init__()
        self.stages = _stages(widths)
        self.lateral = nn.ModuleList(nn.Conv2d(width, widths[2], 1) for width in widths[3:])
        self.head = nn.Sequential(_conv(widths[2], widths[2]), nn.Conv2d(widths[2], 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for stage in self.stages:
            levels.append(x := stage(x))
        merged = levels[2]
        for layer, level in zip(self.lateral, levels[3:], strict=True):
            merged = merged + F.interpolate(layer(level), merged.shape[-2:], mode="bilinear")
        return self.head(merged)


class Pointer(nn.Module):
    """Where `count` points are in a cut around a face or mouth, `side` pixels square.

    x        (b, 3, side, side) in [-1, 1]
    returns  (r, b, count, 2): points in [-1, 1] of the cut, better after every round, and (b,): logit
             that there is a face at all
    """

    def __init__(
        self, count: int, side: int, widths: tuple[int, ...], detail: int, hidden: int, rounds: int
    ) -> None:
        super().__init__()
        self.stages = _stages(widths)
        flat = widths[-1] * (side >> len(widths)) ** 2
        self.first = nn.Linear(flat, 2 * count + 1)
        self.detail = nn.Conv2d(widths[1], detail, 1)
        self.rounds = nn.ModuleList(
            nn.Sequential(nn.Linear(detail * count, hidden), nn.ReLU(), nn.Linear(hidden, 2 * count))
            for _ in range(rounds)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = fine = self.stages[1](self.stages[0](x))
        for stage in self.stages[2:]:
            x = stage(x)
        answer = self.first(x.flatten(1))
        first, logit = answer[:, :-1], answer[:, -1]
        found, detail = [first.unflatten(1, (-1, 2))], self.detail(fine)
        for mend in self.rounds:  # what the picture shows at the points tells how far they are off
            seen = F.grid_sample(detail, found[-1].detach()[:, :, None], align_corners=False)
            found.append(found[-1] + mend(seen.flatten(1)).unflatten(1, (-1, 2)))
        return torch.stack(found), logit


class Finder(nn.Module):
    """All networks, as they lie in one file."""

    def __init__(self) -> None:
        super().__init__()
        self.detector = Detector()
        self.pointer = Pointer(len(READ), CUT_SIDE, (16, 32, 48, 64, 96), detail=16, hidden=64, rounds=2)
        self.lips = Pointer(len(LIPS), MOUTH_SIDE, (8, 16, 24, 24), detail=8, hidden=16, rounds=1)


def load_finder(path: Path) -> Finder:
    """The networks of a file, ready to run on the CPU."""
    finder = Finder()
    finder.load_state_dict(load_state(path), strict=False)  # counters of batches are not in the file
    return finder.float().eval()


@torch.inference_mode()
def find_faces(image: Image.Image, finder: Finder) -> list[FoundFace]:
    """All faces of an upright RGB picture, from left to right."""
    found = [point(image, cut, finder) for cut in candidates(image, finder.detector)]
    found.sort(key=lambda face: -face.confidence)
    kept: list[FoundFace] = []
    for face in found:
        box = _box(face)
        if face.confidence >= CONFIDENT and all(apart(box, _box(other)) for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda face: _box(face)[0])


def candidates(image: Image.Image, detector: Detector) -> list[Cut]:
    """Cuts where the detector sees a face, best first."""
    scale = DETECTOR_SIDE / max(image.size)
    whole = Cut(max(image.size) / 2, max(image.size) / 2, max(image.size))
    answer = detector(_pixels(whole.of(image, DETECTOR_SIDE)))[0]
    score = answer[0].sigmoid()
    best = (score >= CANDIDATE) & (score == F.max_pool2d(score[None], 3, 1, 1)[0])
    rows, columns = best.nonzero(as_tuple=True)
    order = score[rows, columns].argsort(descending=True)
    stride = DETECTOR_STRIDE / scale
    found: list[Cut] = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        right, down, size = answer[1:, row, column].tolist()
        middle = (column + 0.5 + right) * stride, (row + 0.5 + down) * stride
        face = (*middle, math.exp(size) * stride)
        if all(apart(face, (cut.x, cut.y, cut.side / MARGIN)) for cut in found):
            found.append(Cut(*middle, face[2] * MARGIN))
    return found


def point(image: Image.Image, cut: Cut, finder: Finder) -> FoundFace:
    """The face in a cut: every look tells how it lies, the next one is upright and better placed."""
    for _ in range(LOOKS):
        points, logit = finder.pointer(_pixels(cut.of(image)))
        found = cut.to_picture(points[-1, 0])
        cut = around_face(found)
    mouth = around_mouth(found)
    lips, _ = finder.lips(_pixels(mouth.of(image, MOUTH_SIDE)))
    found[LIP_ROWS] = mouth.to_picture(lips[-1, 0])
    mesh = found.mean(0).repeat(POINTS, 1)
    mesh[list(READ)] = found
    return FoundFace(FaceLandmarks(mesh), float(logit.sigmoid()))


def around_face(points: Tensor) -> Cut:
    """The cut around a face, upright; points (len(READ), 2) in pixels."""
    return _upright(points, EYES, MARGIN)


def around_mouth(points: Tensor) -> Cut:
    """The cut around a face's mouth, its corners level; points (len(READ), 2) in pixels."""
    return _upright(points[LIP_ROWS], CORNERS, MOUTH_MARGIN)


def _upright(points: Tensor, level: tuple[int, int], margin: float) -> Cut:
    """The cut around points (n, 2), turned so that two of them lie level."""
    across = (points[level[1]] - points[level[0]]).tolist()
    angle = math.atan2(across[1], across[0])
    turned = Cut(0.0, 0.0, 2.0, angle).to_cut(points)
    low, high = turned.amin(0), turned.amax(0)
    x, y = Cut(0.0, 0.0, 2.0, angle).to_picture((low + high) / 2).tolist()
    return Cut(x, y, float((high - low).max()) * margin, angle)


def _pixels(image: Image.Image) -> Tensor:
    return to_tensor(image)[None] * 2 - 1


def _box(face: FoundFace) -> tuple[float, float, float]:
    """Middle and larger side of a face's points."""
    points = face.landmarks.points[list(READ)]
    low, high = points.amin(0), points.amax(0)
    x, y = ((low + high) / 2).tolist()
    return x, y, float((high - low).max())


def apart(first: tuple[float, float, float], second: tuple[float, float, float]) -> bool:
    distance = math.hypot(first[0] - second[0], first[1] - second[1])
    return distance > APART * max(first[2], second[2])
