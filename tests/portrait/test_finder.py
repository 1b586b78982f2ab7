"""Cuts around faces: where they lie, what they show, and which faces are the same one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from skimage import data

from singer_core.demo import files
from singer_core.portrait import finder as f
from singer_core.portrait.landmarks import FIVE, read_landmarks

CUT = f.Cut(200.0, 150.0, 240.0, 0.4)


@pytest.fixture(scope="module")
def finder():
    return f.load_finder(f.SHIPPED)


def test_points_of_a_cut_and_of_the_picture_are_each_others_inverse():
    points = torch.rand(7, 2) * 2 - 1
    torch.testing.assert_close(CUT.to_cut(CUT.to_picture(points)), points, atol=1e-5, rtol=0)
    corner = f.Cut(10.0, 20.0, 8.0).to_picture(torch.tensor([[-1.0, 1.0]]))
    torch.testing.assert_close(corner, torch.tensor([[6.0, 24.0]]))


@pytest.mark.parametrize("side", [60.0, 240.0, 700.0])
def test_a_cut_shows_a_point_of_the_picture_where_it_says(side):
    cut, place = f.Cut(400.0, 380.0, side, -0.6), torch.tensor([[0.5, -0.3]])
    image = Image.new("L", (800, 700))
    x, y = cut.to_picture(place)[0].tolist()
    radius = side / 30
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    shown = np.asarray(cut.of(image), float)
    rows, columns = np.mgrid[: f.CUT_SIDE, : f.CUT_SIDE] + 0.5
    found = [(axis * shown).sum() / shown.sum() / (f.CUT_SIDE / 2) - 1 for axis in (columns, rows)]
    assert found == pytest.approx([0.5, -0.3], abs=0.02)


@pytest.mark.parametrize("degrees", [-45, 0, 30])
def test_an_upright_cut_has_level_eyes_and_the_face_in_its_middle(degrees):
    points = torch.rand(len(f.READ), 2) * 50
    left, right = (f.READ.index(FIVE[i]) for i in (0, 1))
    points[left], points[right] = torch.tensor([10.0, 20.0]), torch.tensor([40.0, 20.0])
    points = f.Cut(300.0, 300.0, 2.0, math.radians(degrees)).to_picture(points)
    seen = f.around_face(points).to_cut(points)
    across = (seen[right] - seen[left]).tolist()
    assert across[0] > 0 and across[1] == pytest.approx(0, abs=1e-4)
    torch.testing.assert_close(seen.amin(0), -seen.amax(0), atol=1e-4, rtol=0)
    assert float(seen.amax()) == pytest.approx(1 / f.MARGIN, abs=1e-4)


class Fixed(torch.nn.Module):
    """Answers what it is given."""

    def __init__(self, *answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: torch.Tensor):
        return self.answer if len(self.answer) > 1 else self.answer[0]


def test_candidates_are_the_peaks_of_the_score_in_pixels_of_the_picture():
    cells = f.DETECTOR_SIDE // f.DETECTOR_STRIDE
    answer = torch.zeros(1, 4, cells, cells)
    answer[:, 0] = -9
    answer[0, :, 4, 6] = torch.tensor([3.0, 0.5, -0.5, math.log(3.0)])
    answer[0, 0, 4, 7] = 2.0  # beside the peak
    answer[0, :, 20, 20] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    found = f.candidates(Image.new("RGB", (384, 300)), Fixed(answer))
    scale = 384 / cells
    assert [(cut.x, cut.y, cut.side) for cut in found] == [
        pytest.approx((7 * scale, 4 * scale, 3 * scale * f.MARGIN)),
        pytest.approx((20.5 * scale, 20.5 * scale, scale * f.MARGIN)),
    ]


def test_one_face_seen_twice_is_one_and_doubtful_ones_are_none(monkeypatch):
    faces = {
        10.0: (0.99, torch.rand(f.POINTS, 2) * 40),
        11.0: (0.98, torch.rand(f.POINTS, 2) * 40),
        12.0: (0.97, torch.rand(f.POINTS, 2) * 90 + 200),
        13.0: (0.3, torch.rand(f.POINTS, 2) * 90 + 600),
    }

    def point(image, cut, finder):
        confidence, points = faces[cut.x]
        return f.FoundFace(f.FaceLandmarks(points), confidence)

    monkeypatch.setattr(f, "candidates", lambda image, detector: [f.Cut(x, 0, 9) for x in faces])
    monkeypatch.setattr(f, "point", point)
    found = f.find_faces(Image.new("RGB", (64, 64)), f.Finder().eval())
    assert [face.confidence for face in found] == [0.99, 0.97]  # from left to right


def share(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of the boxes of two sets of points (n, 2)."""
    low = np.maximum(first.min(0), second.min(0))
    high = np.minimum(first.max(0), second.max(0))
    both = float(np.clip(high - low, 0, None).prod())
    return both / (float(np.ptp(first, 0).prod() + np.ptp(second, 0).prod()) - both)


def seen(points: np.ndarray, image: Image.Image, degrees: float) -> np.ndarray:
    """Where points are after `image.rotate(degrees)`."""
    angle, middle = math.radians(degrees), np.array(image.size) / 2
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return (points - middle) @ turn + middle


@pytest.mark.parametrize("degrees", [0, -30, 30])
@pytest.mark.parametrize("factor", [0.5, 1, 3])
def test_the_face_of_a_photograph_is_found_where_it_is(finder, photo, make_face, degrees, factor):
    image = photo.rotate(degrees, Image.Resampling.BICUBIC)
    image = image.resize([round(side * factor) for side in image.size], Image.Resampling.LANCZOS)
    found = max(f.find_faces(image, finder), key=lambda face: face.confidence)
    face = make_face()
    for name, least in (("silhouette", 0.6), ("lips", 0.3)):
        true = seen(getattr(face, name), photo, degrees) * factor
        assert share(getattr(found.landmarks, name), true) > least, name
    assert abs(found.landmarks.turn) < 0.2


def test_the_drawn_singer_is_found_where_it_was_drawn(finder):
    with Image.open(files.PORTRAIT) as opened:
        image = opened.convert("RGB")
    [found] = f.find_faces(image, finder)
    [true] = read_landmarks(files.LANDMARKS, image.size)
    assert share(found.landmarks.silhouette, true.silhouette) > 0.7  # hair hides the upper forehead
    assert share(found.landmarks.lips, true.lips) > 0.6


@pytest.mark.parametrize("name", ["brick", "grass", "gravel", "horse", "rocket"])
def test_there_is_no_face_in_a_picture_of_something_else(finder, name):
    image = Image.fromarray(np.asarray(getattr(data, name)(), np.uint8)).convert("RGB")
    assert f.find_faces(image, finder) == []
