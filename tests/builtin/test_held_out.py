"""The measures of the model card: each is known for pictures whose truth is known."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from singer_core.render.clips import plan_clips

pytest.importorskip("skia")

from photographs import write_faces

from builtin import held_out as h
from builtin.faces import read_faces
from builtin.reader import SAME_PERSON, FaceReader


@pytest.fixture(scope="module")
def show():
    return h.performance(3, 3.2, 128)


@pytest.fixture(scope="module")
def truth(show):
    return h.true_frames(show)


def test_a_perfect_render_is_called_perfect(show, truth):
    found = h.measure(show, truth, truth, h.DEMO)
    assert found["sync"] > 0.95 and found["lag"] == 0
    assert found["rest_motion"] < 0.06
    assert found["psnr_first"] == h.HIGHEST_PSNR and found["sharpness"] == 1
    assert 0.5 < found["seam_ratio"] < 1.5
    assert all(found[f"colour_{region}"] < 0.04 for region in ("skin", "hair", "background"))


def test_a_late_mouth_has_a_lag(show, truth):
    late = np.concatenate([truth[:1].repeat(3, axis=0), truth[:-3]])
    found = h.measure(show, truth, late, h.DEMO)
    assert found["lag"] == 3 and found["sync"] > 0.95


def test_a_frozen_picture_has_no_sync(show, truth):
    frozen = truth[:1].repeat(len(truth), axis=0)
    assert abs(h.measure(show, truth, frozen, h.DEMO)["sync"]) < 0.1


@pytest.mark.parametrize("seconds", [2.32, 5.0])
def test_a_shuffled_song_has_the_same_frames_and_another_mouth(seconds):
    show = h.performance(100, seconds, 128)
    heard, order = h.features_of(show).features[: len(show)], h.shuffled(show).features[: len(show)]
    match = (order[:, None] == heard[None]).flatten(2).all(2)  # frame of the shuffled song, of the true one
    assert match.any(1).all() and match.any(0).all()
    mouth = show.motion.opening[match.float().argmax(1).numpy()]
    assert abs(h.correlation(mouth, show.motion.opening)) < 0.1


def test_a_tint_is_a_colour_error_of_its_size(show, truth):
    tinted = np.clip(truth.astype(int) - 20, 0, 255).astype(np.uint8)
    plain, darker = (h.colour_errors(show, truth, frames) for frames in (truth, tinted))
    assert darker["background"] == pytest.approx(20 / 255, abs=0.01)
    assert darker["skin"] > plain["skin"]


def test_seams_are_what_happens_where_clips_meet():
    rng = np.random.default_rng(0)
    frames = np.zeros((64, 8, 8, 3))
    for clip in plan_clips(64, 16):
        frames[clip.start :] += 30  # a jump at every boundary
    frames += rng.integers(0, 4, frames.shape)
    assert h.seam_ratio(frames.astype(np.uint8), h.joints(64, h.DEMO.but(overlap=0))) > 10
    still = np.cumsum(np.ones((64, 8, 8, 3)), axis=0).astype(np.uint8)
    for overlap in (0, 4):
        assert h.seam_ratio(still, h.joints(64, h.DEMO.but(overlap=overlap))) == pytest.approx(1)


def test_clips_meet_where_a_cross_fade_begins():
    assert h.joints(40, h.DEMO.but(clip_frames=16, overlap=4)) == [(12, 4), (24, 4)]
    assert h.joints(16, h.DEMO) == []


def test_drift_is_counted_in_grey_levels():
    ramp = np.linspace(100, 108, 200)[:, None, None, None] * np.ones((1, 8, 8, 3))
    drifts = h.drifts(ramp.astype(np.uint8))
    assert drifts[0] == 0 and len(drifts) == 8
    assert drifts[-1] == pytest.approx(7, abs=0.6)


def test_drift_finds_a_shade_in_the_middle_and_the_last_frames():
    frames = np.full((60, 4, 4, 3), 100, np.uint8)
    frames[25:50] = 90
    assert h.drifts(frames).tolist() == pytest.approx([0, 10, 10 * 15 / 25])


def test_rests_exclude_the_frames_around_the_voice():
    sung = np.zeros(20, bool)
    sung[8:12] = True
    assert np.flatnonzero(h.resting(sung)).tolist() == [*range(6), *range(14, 20)]
    opening = np.where(sung, np.arange(20) % 2, 0.0)
    assert h.rest_motion(opening, sung) == 0
    assert np.isnan(h.rest_motion(opening, np.ones(20, bool)))


def test_ledger_goes_on_behind_a_line_cut_short(tmp_path):
    path = tmp_path / "lines.jsonl"
    h.Ledger(path).add("one", {"value": 1})
    with path.open("a") as stream:
        stream.write('{"key": "two", "val')
    again = h.Ledger(path)
    assert set(again.found) == {"one"}
    again.add("three", {"value": 3})
    assert set(h.Ledger(path).found) == {"one", "three"}


def test_tables_are_filled_in_between_their_lines(tmp_path):
    document = tmp_path / "card.md"
    document.write_text("before\n<!-- measures -->\nold\n<!-- /measures -->\nafter\n")
    for text in ("first", "| new |\n"):
        h.fill_in(document, "measures", text)
    assert document.read_text() == "before\n<!-- measures -->\n| new |\n<!-- /measures -->\nafter\n"
    with pytest.raises(SystemExit, match="has no lines <!-- other -->"):
        h.fill_in(document, "other", "text")


@pytest.fixture(scope="module")
def puppet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    write_faces(folder, ["0013.png"])
    return h.show(1, 3.2, 128, read_faces(folder, judged=True))


def test_regions_around_a_photographs_face_show_a_tint_where_it_is(puppet):
    truth = h.true_frames(puppet)
    tinted = truth.copy()
    tinted[:, -16:] = truth[:, -16:] // 2  # below the chin
    errors = h.region_errors(puppet, truth, tinted)
    assert set(errors) == set(h.AROUND_FACE)
    assert errors["clothes"] > 0.03 and errors["skin"] == errors["hair"] == 0


def test_a_reader_that_knows_nothing_of_ours_sees_mouth_and_person(puppet):
    if not all(map(importlib.util.find_spec, ("dlib", "face_recognition_models"))):
        pytest.skip("dlib and its models are not there")
    truth, reader = h.true_frames(puppet), FaceReader()
    found = h.measure(puppet, truth, truth, h.DEMO, reader)
    assert found["sync"] > 0.8 and abs(found["lag"]) <= 1
    assert found["likeness_1s"] < SAME_PERSON and "likeness_5s" not in found
    shuffled = h.measure(puppet, truth, truth[::-1].copy(), h.DEMO, reader)
    assert shuffled["sync"] < found["sync"] - 0.2
