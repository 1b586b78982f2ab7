"""Training the face finder: mirrors, scenes whose truth is known, and that both networks learn."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("skia")

from builtin.finder import find as f
from builtin.finder import train as b


@pytest.fixture(scope="module")
def people() -> list[b.Shown]:
    return b.drawn(3, 40, size=96)


def test_the_mirror_image_of_a_mirror_image_is_the_picture(people):
    twice = people[0].mirrored().mirrored()
    assert twice.image.tobytes() == people[0].image.tobytes()
    torch.testing.assert_close(twice.points, people[0].points)


def test_mirrored_points_keep_their_meaning(people):
    """The left eye lies left of the right one in the mirror, too, and the lips stay in order."""
    mirrored = people[0].mirrored().points
    left, right = (f.READ.index(i) for i in (468, 473))
    assert mirrored[left, 0] < mirrored[right, 0]
    assert mirrored[f.READ.index(61), 0] < mirrored[f.READ.index(0), 0] < mirrored[f.READ.index(291), 0]
    assert mirrored[f.READ.index(0), 1] < mirrored[f.READ.index(17), 1]


def test_cuts_with_a_face_show_its_points_and_others_lie_beside_it(people):
    scenes = b.Scenes(people, 0)
    pictures, points, faces = scenes.pointed(16)
    assert pictures.shape == (16, 3, f.CUT_SIDE, f.CUT_SIDE) and pictures.abs().max() <= 1
    assert 0 < faces.sum() < 16
    assert points[faces].abs().mean() < 1 and points[faces].abs().max() < 2
    x, y, side = people[0].box
    for _ in range(20):
        if cut := scenes._beside(people[0]):
            assert math.hypot(cut.x - x, cut.y - y) > b.CLEAR * side


def test_scenes_say_where_their_faces_are(people):
    pictures, boxes = b.Scenes(people, 1).whole(12)
    assert pictures.shape[-1] == f.DETECTOR_SIDE
    found = torch.cat(boxes)
    assert any(len(box) == 0 for box in boxes)
    assert ((found[:, :2] > 0) & (found[:, :2] < f.DETECTOR_SIDE)).all()
    assert found[:, 2].min() > 0.07 * f.DETECTOR_SIDE


def test_a_perfect_detector_has_no_loss_and_a_blind_one_has():
    cells, stride = f.DETECTOR_SIDE // f.DETECTOR_STRIDE, f.DETECTOR_STRIDE
    centre = (torch.arange(cells) + 0.5) * stride
    x, y, side = 60.0, 100.0, 50.0
    right = (x - centre).expand(cells, cells) / stride
    down = (y - centre)[:, None].expand(cells, cells) / stride
    near = torch.hypot(right, down) * stride <= 0.15 * side
    answer = torch.stack([near * 40.0 - 20, right, down, torch.full_like(right, math.log(side / stride))])
    boxes = [torch.tensor([[x, y, side]])]
    assert b.detector_loss(lambda _: answer[None], torch.zeros(1), boxes) < 1e-4
    assert b.detector_loss(lambda _: 0 * answer[None], torch.zeros(1), boxes) > 1


def test_overlap_of_boxes():
    assert b.overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert b.overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert b.overlap((0, 0, 1, 1), (2, 2, 3, 3)) == 0


@pytest.mark.slow
def test_training_learns_writes_a_small_file_and_goes_on(tmp_path, caplog):
    caplog.set_level("INFO")
    b.train_finder(tmp_path, None, steps=4, batch=4, people=3)
    finder = b.train_finder(tmp_path, None, steps=6, batch=4, people=3)
    assert "6 of 6" in caplog.text
    loaded = f.load_finder(tmp_path / "finder.safetensors")
    assert (tmp_path / "finder.safetensors").stat().st_size < 2e6
    for name, value in finder.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(loaded.state_dict()[name], value.half().float())
