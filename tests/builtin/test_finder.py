"""Training the face finder: mirrors, scenes whose truth is known, and that both networks learn."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image

pytest.importorskip("skia")

from builtin import finder as b
from singer_core.portrait import finder as f


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


def test_cuts_around_mouths_show_the_lips(people):
    pictures, points, faces = b.Scenes(people, 0).mouths(8)
    assert pictures.shape == (8, 3, f.MOUTH_SIDE, f.MOUTH_SIDE) and faces.all()
    assert points.shape == (8, len(f.LIPS), 2) and points.abs().max() < 1
    assert 0.8 < points[..., 0].amax(1).sub(points[..., 0].amin(1)).mean() < 1.6


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
    b.train_finder(tmp_path, None, None, steps=4, batch=4, people=3)
    finder = b.train_finder(tmp_path, None, None, steps=6, batch=4, people=3)
    assert "6 of 6" in caplog.text
    loaded = f.load_finder(tmp_path / "finder.safetensors")
    assert (tmp_path / "finder.safetensors").stat().st_size < 2e6
    for name, value in finder.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(loaded.state_dict()[name], value.half().float())


def test_pictures_without_a_face_come_from_the_folder_every_13th_for_judging(tmp_path):
    for number in range(14):
        Image.new("RGB", (500, 300), (number * 10, 0, 0)).save(tmp_path / f"{number:02d}.jpg", quality=100)
    kept = [picture.getpixel((5, 5))[0] // 10 for picture in b.pictures_in(tmp_path, held_out=False)]
    assert kept == list(range(1, 13))
    assert [picture.width for picture in b.pictures_in(tmp_path, held_out=True)] == [b.STORED] * 2
    with pytest.raises(ValueError, match="Put pictures without a face there"):
        b.pictures_in(tmp_path / "none", held_out=False)


@pytest.mark.parametrize(("offset", "remembered"), [(0, 3), (300, 6)])  # on somebody's face, and beside it
def test_what_was_taken_for_a_face_is_shown_again(people, monkeypatch, offset, remembered):
    scenes = b.Scenes(people, 2, [Image.new("RGB", (90, 80), (0, 200, 0))])
    fooled = f.FoundFace(f.FaceLandmarks(torch.rand(f.POINTS, 2) * 60 + 20 + offset), 0.9)
    monkeypatch.setattr(f, "candidates", lambda image, detector: [f.Cut(90.0, 90.0, 60.0)])
    monkeypatch.setattr(f, "point", lambda image, cut, finder: fooled)
    finder = f.Finder()
    scenes.look_for_mistakes(finder, count=3)
    assert len(scenes.mistakes) == remembered and finder.training
    assert sum(len(mistake.boxes) for mistake in scenes.mistakes) == remembered - 3
    mistake = scenes.mistakes[1]
    assert mistake.picture.size == (f.DETECTOR_SIDE,) * 2 and mistake.cut.size == (f.CUT_SIDE,) * 2
    for box in mistake.boxes:  # the drawn people's faces are about half of their pictures
        assert all(0.2 * f.DETECTOR_SIDE < value < 0.8 * f.DETECTOR_SIDE for value in box)
