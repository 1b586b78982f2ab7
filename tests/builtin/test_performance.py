"""The drawn singer: pixels, landmarks and declared truth agree."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("skia", reason="drawing needs skia-python", exc_type=ImportError)

from builtin.world import Expression, Identity, Performance, Song, measured_opening
from builtin.world.face import Painter
from builtin.world.identity import CLOTHES_STYLES, HAIR_STYLES, shaded
from builtin.world.landmarks import LOWER_LIP, UPPER_LIP, landmarks
from builtin.world.performance import LAG
from singer_core.portrait.crop import LIPS_AT
from singer_core.portrait.landmarks import LIPS, SILHOUETTE
from singer_core.render.video import probe_video


@pytest.fixture(scope="module")
def song() -> Song:
    return Song.random(7, 4.0)


def pixel(frame: np.ndarray, point: np.ndarray) -> np.ndarray:
    x, y = np.floor(point).astype(int)
    return frame[y, x].astype(int)


def lip_box(points: np.ndarray) -> tuple[int, int, int, int]:
    lips = points[list(LIPS)]
    (left, top), (right, bottom) = np.floor(lips.min(axis=0)), np.ceil(lips.max(axis=0))
    return int(left), int(top), int(right), int(bottom)


def test_frames_come_in_any_order_with_the_same_bits(song: Song) -> None:
    first = Performance(Identity.random(3), song)
    forward = [first.frame(i).tobytes() for i in range(0, len(first), 9)]
    second = Performance(Identity.random(3), Song.random(7, 4.0))
    backward = [second.frame(i).tobytes() for i in reversed(range(0, len(first), 9))]
    assert forward == backward[::-1] and len(set(forward)) > 1
    assert len(first) == 100 and first.frame(0).shape == (128, 128, 3) and first.frame(0).dtype == np.uint8
    assert first.frame(-1).tobytes() == first.frame(99).tobytes()


def test_declared_opening_is_the_song_at_the_middle_of_the_frame(song: Song) -> None:
    show = Performance(Identity.random(1), song)
    times = (np.arange(100) + 0.5) / 25
    assert np.array_equal([show.opening(i) for i in range(100)], song.curves.at("opening", times))
    assert all(show.opening(i) == 0.0 for i in range(100) if not show.motion.sung[i])


@pytest.mark.parametrize(("seed", "style"), [(1, "pop"), (5, "operatic"), (9, "rap"), (16, "growl")])
def test_drawn_mouth_is_as_open_as_declared(seed: int, style: str) -> None:
    show = Performance(Identity.random(seed), Song.random(seed, 3.0, style), size=256)
    frames = range(0, len(show), 2)
    measured = [measured_opening(show.frame(i), lip_box(show.landmarks(i)), show.identity) for i in frames]
    declared = [show.opening(i) for i in frames]
    assert np.corrcoef(measured, declared)[0, 1] >= 0.98
    slope, offset = np.polyfit(declared, measured, 1)
    assert 0.8 < slope < 1.1 and abs(offset) < 0.06


def test_measured_opening_is_a_ratio_of_heights() -> None:
    identity = Identity.random(4)
    frame = np.empty((200, 200, 3), np.uint8)
    frame[:] = identity.skin
    assert measured_opening(frame, (60, 60, 140, 140), identity) < 0.01
    full = identity.mouth.gap * identity.zoom * 2.0
    frame[90 : 90 + round(full / 2), 80:120] = (44, 12, 24)
    assert measured_opening(frame, (60, 60, 140, 140), identity) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("seed", [1, 4, 8, 20])
def test_lip_landmarks_lie_on_the_drawn_lips(seed: int) -> None:
    """Repainting only the lips changes the picture inside their rings and nowhere else."""
    identity = Identity.random(seed)
    mouth = dataclasses.replace(identity.mouth, colour=(20, 220, 60))
    face = Expression(opening=0.8, roll=0.05, yaw=0.6, nod=-0.4, shift=(1.5, -1.0))
    size = 512
    before = Painter(identity, size).frame(face).astype(int)
    after = Painter(dataclasses.replace(identity, mouth=mouth), size).frame(face).astype(int)
    changed = np.abs(after - before).sum(axis=2) > 60
    points = landmarks(identity, face, size)
    for ring in (*UPPER_LIP[1:3], *LOWER_LIP[1:3]):  # between outer and inner edge
        inside = [points[k] for k in ring[2:-2]]
        assert all(changed[int(y), int(x)] for x, y in inside)
    left, top, right, bottom = lip_box(points)
    rows, columns = np.nonzero(changed)
    assert abs(columns.min() - left) <= 6 and abs(columns.max() - right) <= 6
    assert abs(rows.min() - top) <= 4 and abs(rows.max() - bottom) <= 4
    middle = 0.5 * (points[13] + points[14])
    assert not changed[int(middle[1]), int(middle[0])]


@pytest.mark.parametrize("seed", [2, 6, 13])
def test_silhouette_landmarks_lie_on_the_drawn_jaw_line(seed: int) -> None:
    identity = dataclasses.replace(Identity.random(seed), beard="none", hair_style="bald", glasses="none")
    face = Expression(opening=0.5, roll=-0.04, shift=(-1.0, 1.0))
    frame = Painter(identity, 512).frame(face)
    points = landmarks(identity, face, 512)
    jaw = [k for k in SILHOUETTE if points[k, 1] > 330]
    line = np.array(shaded(identity.skin, 0.8))
    away = [np.abs(pixel(frame, points[k]) - line).max() for k in jaw]
    inside = [np.abs(pixel(frame, points[k] + 0.2 * (points[1] - points[k])) - line).max() for k in jaw]
    assert len(jaw) >= 9 and max(away) < 40 and min(inside) > max(away)


def test_landmarks_cover_the_mesh_and_stay_in_the_picture(song: Song) -> None:
    show = Performance(Identity.random(11), song, size=256)
    for i in (0, 40, 80):
        points = show.landmarks(i)
        assert points.shape == (478, 2) and points.dtype == np.float32
        assert points.min() >= 0 and points.max() <= 256
        box = points[list(SILHOUETTE)]
        assert (points >= box.min(axis=0) - 1).all() and (points <= box.max(axis=0) + 1).all()
    closed = landmarks(show.identity, Expression(), 256)
    open_ = landmarks(show.identity, Expression(opening=1.0), 256)
    gap = show.identity.mouth.gap * show.identity.zoom * 2.56
    assert np.allclose(closed[13], closed[14])
    assert open_[14, 1] - open_[13, 1] == pytest.approx(gap)
    assert open_[152, 1] > closed[152, 1] + 5 and np.allclose(open_[10], closed[10])


def test_landmarks_scale_with_the_picture(song: Song) -> None:
    small, large = (Performance(Identity.random(2), song, size=size) for size in (128, 512))
    assert np.allclose(4 * small.landmarks(30), large.landmarks(30), atol=1e-3)


def test_eyes_close_in_a_blink(song: Song) -> None:
    show = Performance(Identity.random(2), Song.random(2, 12.0), size=64)
    blink = show.motion.blink
    assert blink.max() > 0.9 and np.median(blink) == 0.0
    i = int(blink.argmax())
    points = show.landmarks(i)
    rest = landmarks(show.identity, Expression(), 64)
    assert points[145, 1] - points[159, 1] < 0.35 * (rest[145, 1] - rest[159, 1])


def test_head_follows_vowels_and_loudness_and_rests_with_the_voice() -> None:
    show = Performance(Identity.random(2), Song.random(9, 20.0), size=32)
    motion, curves = show.motion, show.song.curves
    times = (np.arange(len(show)) + 0.5) / 25 - LAG / 2
    curve = curves.spread - curves.rounding
    colour, effort = (np.interp(times, curves.times, values) for values in (curve, curves.effort))
    assert np.corrcoef(motion.yaw[motion.sung], colour[motion.sung])[0, 1] > 0.7
    assert np.corrcoef(motion.nod[motion.sung], effort[motion.sung])[0, 1] < -0.7
    quiet = np.convolve(motion.sung, np.ones(15))[: len(show)] == 0  # for 0.6 s
    assert quiet.any() and not motion.yaw[quiet].any() and np.ptp(motion.nod[quiet]) == 0


def test_beats_are_those_of_the_song() -> None:
    show = Performance(Identity.random(2), Song.random(9, 20.0), fps=50, size=32)
    assert len(show.beats) == len(show.song.beats)
    assert np.all(np.abs((show.beats + 0.5) / 50 - show.song.beats) <= 0.0101)


def test_seeds_give_different_people() -> None:
    people = [Identity.random(seed) for seed in range(80)]
    assert Identity.random(5) == people[5]
    assert {p.hair_style for p in people} == set(HAIR_STYLES)
    assert {p.clothes for p in people} == set(CLOTHES_STYLES)
    faces = np.stack([Painter(p, 64).frame(Expression()) for p in people[:16]]).astype(float)
    apart = np.abs(faces[:, None] - faces[None]).mean(axis=(2, 3, 4)) + 100 * np.eye(16)
    assert apart.min() > 8.0


def test_only_the_singer_moves_not_the_background(song: Song) -> None:
    show = Performance(Identity.random(8), song)
    corner = np.stack([show.frame(i)[:10, :10] for i in (0, 33, 66)])
    assert np.ptp(corner, axis=0).max() == 0


def test_video_has_every_frame_and_the_sound(tmp_path: Path) -> None:
    show = Performance(Identity.random(1), Song.random(1, 1.0), size=64)
    show.render_video(tmp_path / "song.mp4")
    info = probe_video(tmp_path / "song.mp4")
    assert (info.frames, info.fps, info.size, info.has_audio) == (25, 25.0, (64, 64), True)


def test_bad_input_is_refused(song: Song) -> None:
    with pytest.raises(ValueError, match="`size` is 8 pixels"):
        Performance(Identity.random(0), song, size=8)
    with pytest.raises(ValueError, match="`fps` is 0"):
        Performance(Identity.random(0), song, fps=0)
    with pytest.raises(IndexError, match="Frame 100 of a performance of 100"):
        Performance(Identity.random(0), song).frame(100)


def test_a_missing_drawing_library_is_named_with_its_remedy(
    song: Song, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("face", "brush", "body", "hair", "features"):
        monkeypatch.delitem(sys.modules, f"builtin.world.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "skia", None)
    with pytest.raises(RuntimeError, match="pip install skia-python"):
        Performance(Identity.random(0), song).frame(0)


def test_a_framed_face_is_where_a_prepared_portrait_has_it(song: Song) -> None:
    show = Performance(Identity.random(2), song, size=128)
    framed = show.framed()
    face, lips = (framed.landmarks(0)[list(ring)] for ring in (SILHOUETTE, LIPS))
    assert np.allclose((lips.min(0) + lips.max(0)) / 2, 128 * np.array(LIPS_AT), atol=1)
    assert np.ptp(face, axis=0).max() == pytest.approx(128 / 1.8, abs=1)
    assert framed.frame(30).shape == show.frame(30).shape == (128, 128, 3)
    left, top, right, _bottom = framed.crop.box
    there = (framed.landmarks(30) * (right - left) / 128 + (left, top)).round().astype(int)
    assert np.allclose(there, show.landmarks(30), atol=1) and show.crop is None
