"""A photograph with its face mesh, and what makes more people of it: mirrored, coloured, reframed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from singer_core.portrait.landmarks import POINTS

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]

# Points on the middle line of MediaPipe's mesh. The others come in pairs: those below 248, in order, are
# the mirror images of 248 to 467, in order.
MIDDLE = (0, 1, 2, *range(4, 7), *range(8, 20), 94, 151, 152, 164, 168, 175, 195, 197, 199, 200)
HALF, MESH = 248, 468
IRIS = (0, 3, 2, 1, 4)  # centre, right, top, left, bottom: right and left change places

MARGIN = 0.16  # of the side, kept around the picture so that edges can move inwards
ABOVE = 0.46  # share of the side above the middle of the face
LUMA = np.array([0.30, 0.59, 0.11])


def _mirrored_indices() -> NDArray[np.int64]:
    mirror = np.arange(POINTS)
    left = np.setdiff1d(np.arange(HALF), MIDDLE)
    mirror[left], mirror[HALF:MESH] = np.arange(HALF, MESH), left
    iris = np.array(IRIS)
    mirror[MESH : MESH + 5], mirror[MESH + 5 :] = MESH + 5 + iris, MESH + iris
    return mirror


MIRROR = _mirrored_indices()  # (478,) the point on the other side of the face


@dataclass(frozen=True)
class Photograph:
    """A portrait and the face mesh found in it.

    image   (H, W, 3) RGB uint8
    points  (478, 3) x, y, z in pixels, z on the scale of x and growing away from the camera
    """

    image: Picture
    points: Floats

    @property
    def tall(self) -> float:
        """Height of the face in pixels: from the top of the forehead to the chin."""
        return float(np.hypot(*(self.points[152] - self.points[10])[:2]))

    @property
    def middle(self) -> Floats:
        """(2,) between the top of the forehead and the chin."""
        return np.asarray(0.5 * (self.points[10] + self.points[152])[:2])

    def flipped(self) -> Photograph:
        """Seen in a mirror; renumbered, so that every point is on the same side of the picture as before."""
        points = self.points[MIRROR] * (-1, 1, 1) + (self.image.shape[1], 0, 0)
        return Photograph(np.ascontiguousarray(self.image[:, ::-1]), points)


@dataclass(frozen=True)
class Variation:
    """What sets one clip of a photograph apart from another; constant within the clip.

    Nothing that a closed mouth hides: it could not be learnt, and the mean of many teeth is grey.

    flip         left and right change places
    framing      height of the face over the side of the picture, where the photograph is large enough
    offset       of the face in the picture, right and down, in shares of the side
    roll         radians, clockwise
    gains        (3,) brightness of red, green and blue
    gamma, saturation   1 leaves the photograph as it is
    grain        deviation of the noise in levels of 0..255
    jaw, eyes, nose     widths (of the eyes also the heights) against the photograph's
    """

    flip: bool = False
    framing: float = 0.54
    offset: tuple[float, float] = (0.0, 0.0)
    roll: float = 0.0
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    saturation: float = 1.0
    grain: float = 0.0
    jaw: float = 1.0
    eyes: float = 1.0
    nose: float = 1.0
    seed: int = 0

    @staticmethod
    def random(seed: int) -> Variation:
        """Everything but the mirror is near the photograph, so that people stay plausible."""
        rng = np.random.default_rng([seed, 11])
        red, green, blue = np.exp(rng.normal(0, 0.06) + rng.normal(0, 0.03, 3)).tolist()
        return Variation(
            flip=bool(rng.uniform() < 0.5),
            framing=rng.uniform(0.42, 0.64),
            offset=(rng.uniform(-0.05, 0.05), rng.uniform(-0.05, 0.04)),
            roll=rng.normal(0, 0.05),
            gains=(red, green, blue),
            gamma=float(np.exp(rng.normal(0, 0.12))),
            saturation=float(np.exp(rng.normal(0, 0.15))),
            grain=max(rng.normal(0, 2.5), 0.0),
            jaw=1 + rng.uniform(-0.06, 0.06),
            eyes=1 + rng.uniform(-0.08, 0.08),
            nose=1 + rng.uniform(-0.10, 0.10),
            seed=seed,
        )

    def coloured(self, picture: Picture) -> Picture:
        """The picture (H, W, 3) with another colour, contrast and grain."""
        light = (picture / 255.0) ** self.gamma * self.gains
        grey = (light @ LUMA)[..., None]
        noise = np.random.default_rng([self.seed, 12]).normal(0, self.grain / 255, picture.shape)
        changed = grey + self.saturation * (light - grey) + noise
        return np.asarray((changed.clip(0, 1) * 255).round().astype(np.uint8))


PLAIN = Variation()


def reframed(photo: Photograph, variation: Variation, size: int) -> Photograph:
    """The square around the face as a picture of `size` pixels, and `MARGIN` of it on all sides.

    Mirrored at the edges of the photograph. The square stays inside it unless it is rolled.
    """
    height, width = photo.image.shape[:2]
    side = min(photo.tall / variation.framing, float(min(height, width)))
    corner = photo.middle - (np.array([0.5, ABOVE]) + variation.offset) * side
    centre = np.clip(corner, 0, np.array([width, height]) - side) + 0.5 * side
    total = round(size * (1 + 2 * MARGIN))
    cos, sin = np.cos(variation.roll), np.sin(variation.roll)
    turn = np.array([[cos, -sin], [sin, cos]])
    points = photo.points * (size / side)
    points[:, :2] = (photo.points[:, :2] - centre) @ turn.T * (size / side) + 0.5 * total
    return Photograph(_resampled(photo.image, centre, turn.T * (side / size), total), points)


def _resampled(image: Picture, centre: Floats, back: Floats, total: int) -> Picture:
    """(total, total, 3) the image about `centre`; `back` (2, 2) takes steps of the result to its own."""
    fine = max(int(np.ceil(np.hypot(*back[0]))), 1)  # samples a pixel, so that none of the image is skipped
    room = np.minimum(centre, np.array(image.shape[1::-1]) - centre)
    pad = max(int(np.ceil((np.abs(back).sum(axis=1) * 0.5 * total - room).max())) + 2, 0)
    wide = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
    step = back / fine
    start = centre + pad - step @ np.full(2, 0.5 * total * fine)
    (a, b), (d, e) = step.tolist()
    sampled = Image.fromarray(wide).transform(
        (total * fine, total * fine),
        Image.Transform.AFFINE,
        (a, b, float(start[0]), d, e, float(start[1])),
        Image.Resampling.BICUBIC,
    )
    return np.asarray(sampled.reduce(fine) if fine > 1 else sampled)
