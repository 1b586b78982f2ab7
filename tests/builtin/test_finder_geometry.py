"""Cuts around faces: where they lie, what they show, and which faces are the same one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from builtin.finder import find as f
from singer_core.portrait.landmarks import FIVE

CUT = f.Cut(200.0, 150.0, 240.0, 0.4)


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
    seen = f.upright(points).to_cut(points)
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
        10.0: (0.9, torch.rand(f.POINTS, 2) * 40),
        11.0: (0.8, torch.rand(f.POINTS, 2) * 40),
        12.0: (0.7, torch.rand(f.POINTS, 2) * 90 + 200),
        13.0: (0.3, torch.rand(f.POINTS, 2) * 90 + 600),
    }

    def point(image, cut, pointer):
        confidence, points = faces[cut.x]
        return f.FoundFace(f.FaceLandmarks(points), confidence)

    monkeypatch.setattr(f, "candidates", lambda image, detector: [f.Cut(x, 0, 9) for x in faces])
    monkeypatch.setattr(f, "point", point)
    found = f.find_faces(Image.new("RGB", (64, 64)), f.Finder().eval())
    assert [face.confidence for face in found] == [0.9, 0.7]  # from left to right
