"""Mouths of drawn people, whose true opening is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from singer_core.evaluation import mouth
from singer_core.portrait.landmarks import POINTS, FaceLandmarks, write_landmarks

pytest.importorskip("skia")


@pytest.fixture(scope="module")
def shows():
    from builtin.world import Identity, Performance, Song

    songs = [(1, "pop"), (7, "pop"), (9, "pop")]  # fair, dark and bearded
    return [
        Performance(Identity.random(seed), Song.random(seed, 2.0, style, accompaniment=False))
        for seed, style in songs
    ]


def openings(frames, box) -> np.ndarray:
    return mouth.box_openings(np.stack([mouth.box_levels(frame, box) for frame in frames]))


def test_landmarks_give_the_true_opening(shows):
    for show in shows:
        track = mouth.track_of([show.landmarks(i) for i in range(len(show))])
        assert np.corrcoef(track.opening, show.motion.opening)[0, 1] > 0.99


def test_the_lip_box_follows_the_true_opening(shows):
    for show in shows:
        box = mouth.lip_box(FaceLandmarks(torch.from_numpy(show.landmarks(0))), (128, 128))
        frames = [torch.from_numpy(show.frame(i)).permute(2, 0, 1) for i in range(0, len(show), 2)]
        opening = openings(frames, box)
        assert np.corrcoef(opening, show.motion.opening[::2])[0, 1] > 0.85


def test_the_portraits_lip_mask_gives_a_box_that_serves_as_well(shows):
    from singer_core.portrait.portrait import prepare_portrait

    for show in shows:
        first = torch.from_numpy(show.frame(0)).permute(2, 0, 1).float() / 255
        face = FaceLandmarks(torch.from_numpy(show.landmarks(0)))
        portrait = prepare_portrait(first, (128, 128), landmarks=face, crop="squash")
        box = mouth.portrait_lip_box(portrait, (128, 128))
        assert np.abs(np.array(box) - mouth.lip_box(face, (128, 128))).max() <= 8
        frames = [torch.from_numpy(show.frame(i)).permute(2, 0, 1) for i in range(0, len(show), 2)]
        opening = openings(frames, box)
        assert np.corrcoef(opening, show.motion.opening[::2])[0, 1] > 0.8


def test_the_lip_box_of_a_pasted_video_lies_where_the_crop_was(shows):
    from singer_core.portrait.portrait import prepare_portrait

    picture = torch.nn.functional.pad(
        torch.from_numpy(shows[0].frame(0)).permute(2, 0, 1) / 255, (40, 60, 20, 0)
    )
    points = torch.from_numpy(shows[0].landmarks(0)) + torch.tensor([40.0, 20.0])
    portrait = prepare_portrait(picture, (128, 128), landmarks=FaceLandmarks(points), crop="face")
    pasted = mouth.portrait_lip_box(portrait, (148, 228))
    assert np.abs(np.array(pasted) - mouth.lip_box(FaceLandmarks(points), (148, 228))).max() <= 8
    with pytest.raises(ValueError, match="The video has 60 x 50 pixels"):
        mouth.portrait_lip_box(portrait, (50, 60))


def test_dark_share_of_a_box_is_its_area():
    frame = torch.full((3, 40, 40), 200, dtype=torch.uint8)
    frame[:, 20:25, 10:30] = 10
    assert openings([frame], (10, 10, 30, 30)) == pytest.approx([5 / 20])
    assert openings([frame // 2], (10, 10, 30, 30)) == pytest.approx([5 / 20])  # light does not matter


def test_a_beard_that_fills_half_of_the_box_does_not_turn_the_mouth_round():
    """Open, its mouth makes most of the box bright; relative to each frame's own median that read as shut."""
    from builtin.world import Identity, Performance, Song

    seed = 700_000_002
    show = Performance(Identity.random(seed), Song.random(seed, 2.0, "pop", accompaniment=False))
    box = mouth.lip_box(FaceLandmarks(torch.from_numpy(show.landmarks(0))), (128, 128))
    frames = [torch.from_numpy(show.frame(i)).permute(2, 0, 1) for i in range(0, len(show), 2)]
    assert np.corrcoef(openings(frames, box), show.motion.opening[::2])[0, 1] > 0.8


def test_a_lip_box_outside_the_picture_is_refused():
    assert mouth.check_box((-5, 2, 30, 80), (60, 40)) == (0, 2, 30, 60)
    with pytest.raises(ValueError, match="does not lie in the picture of 40 x 60"):
        mouth.check_box((38, 0, 90, 30), (60, 40))


def test_a_track_is_read_as_written_scaled_and_with_gaps_filled(tmp_path):
    faces = [np.full((POINTS, 2), float(value)) for value in (0, 1, 2)]
    path = tmp_path / "track.json"
    frames = [faces[0].tolist(), None, faces[2].tolist()]
    path.write_text(json.dumps({"size": [100, 50], "frames": frames}), encoding="utf-8")
    track = mouth.read_track(path, (100, 200))
    assert isinstance(track, mouth.FaceTrack)
    assert track.points[:, 0] == pytest.approx(np.array([[0, 0], [2, 2], [4, 4]]))


def test_the_landmarks_of_a_portrait_are_one_face(tmp_path):
    face = FaceLandmarks(torch.rand(POINTS, 2) * 50)
    write_landmarks(tmp_path / "face.json", [face], (100, 50))
    found = mouth.read_track(tmp_path / "face.json", (100, 200))
    assert isinstance(found, FaceLandmarks)
    assert torch.allclose(found.points, face.points * 2, atol=2e-3)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"size": [10, 10], "frames": [None, None]}, "a face in 0 of 2 frames"),
        ({"size": [10, 10], "frames": [[[1, 2]]]}, "no landmarks of every frame"),
        ({"frames": []}, "is accepted"),
        ({"size": [10, 10], "frames": [3]}, "no landmarks of every frame"),
    ],
)
def test_a_broken_track_says_what_is_wrong(tmp_path, data, said):
    path = tmp_path / "track.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        mouth.read_track(path, (10, 10))


def test_a_head_that_nods_does_not_open_its_mouth():
    """Everything upright shrinks alike."""
    from singer_core.evaluation.mouth import FaceTrack

    points = np.random.default_rng(0).normal(size=(1, POINTS, 2)) * 20
    points[0, [13, 14, 168, 2], 0] = 0  # upright
    nodded = points * [1.0, 0.8]
    assert FaceTrack(nodded).opening == pytest.approx(FaceTrack(points).opening)
