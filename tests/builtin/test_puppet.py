"""Photo puppets: what is drawn is what was asked for. The photographs are drawn faces."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("skia", reason="drawing needs skia-python", exc_type=ImportError)

from photographs import SIZE, drawn_photograph

from builtin.drawn import face_boxes
from builtin.puppet import PLAIN, Photograph, Puppet, PuppetShow, Variation
from builtin.puppet.photograph import MIRROR
from builtin.world import Expression, Identity, Performance, Song
from builtin.world.landmarks import LEFT_BROW, LEFT_LIDS, LOWER_LIP, RIGHT_BROW, RIGHT_LIDS, UPPER_LIP
from singer_core.portrait.landmarks import LIPS, SILHOUETTE

PEOPLE = (1, 4)


@pytest.fixture(scope="module", params=PEOPLE)
def photo(request: pytest.FixtureRequest) -> Photograph:
    return drawn_photograph(request.param)


@pytest.fixture(scope="module")
def song() -> Song:
    return Song.random(3, 1.6, accompaniment=False)


def test_the_mirror_pairs_the_points_of_both_sides() -> None:
    assert np.array_equal(MIRROR[MIRROR], np.arange(478))
    for ring in (*UPPER_LIP, *LOWER_LIP):
        assert list(MIRROR[list(ring)]) == list(ring[::-1])
    for left, right in zip(LEFT_LIDS, RIGHT_LIDS, strict=True):
        assert list(MIRROR[list(left)]) == list(right[::-1])
    for left, right in zip(LEFT_BROW, RIGHT_BROW, strict=True):
        assert list(MIRROR[list(left)]) == list(right)
    assert [MIRROR[i] for i in SILHOUETTE[1:]] == list(SILHOUETTE[:0:-1]) and MIRROR[10] == 10
    assert list(MIRROR[468:473]) == [473, 476, 475, 474, 477]


def test_flipping_twice_gives_the_photograph_back(photo: Photograph) -> None:
    flipped = photo.flipped()
    assert np.array_equal(flipped.image[:, ::-1], photo.image)
    assert flipped.points[61, 0] < flipped.points[291, 0]
    again = flipped.flipped()
    assert np.array_equal(again.image, photo.image) and np.allclose(again.points, photo.points)


def test_a_flipped_puppet_is_the_mirror_image_of_the_other(photo: Photograph) -> None:
    pose = Expression(opening=0.7, yaw=0.5, roll=0.05, gaze=(0.4, 0.0), shift=(1.0, 0.5))
    mirrored = dataclasses.replace(pose, yaw=-0.5, roll=-0.05, gaze=(-0.4, 0.0), shift=(-1.0, 0.5))
    plain, flipped = Puppet(photo, 128), Puppet(photo, 128, Variation(flip=True))
    expected = plain.landmarks(pose)[MIRROR] * (-1, 1) + (128, 0)
    assert np.allclose(flipped.landmarks(mirrored), expected, atol=0.5)
    apart = np.abs(flipped.frame(mirrored)[:, ::-1].astype(int) - plain.frame(pose))
    assert apart.mean() < 2.0


@pytest.mark.parametrize("variation", [PLAIN, Variation.random(2), Variation.random(5)])
def test_the_mouth_opens_as_far_as_asked(photo: Photograph, variation: Variation) -> None:
    puppet = Puppet(photo, SIZE, variation)
    for opening in (0.0, 0.34, 0.7, 1.0):
        still = puppet.landmarks(Expression(opening=opening, rounding=0.3))
        assert puppet.head.opening(still) == pytest.approx(opening, abs=1e-5)
        turned = puppet.landmarks(Expression(opening=opening, yaw=0.8, nod=-0.6, roll=0.05, shift=(2, 1)))
        assert puppet.head.opening(turned) == pytest.approx(opening, abs=0.01)


def test_an_open_mouth_is_painted_between_the_lips_alone(photo: Photograph) -> None:
    puppet = Puppet(photo, SIZE)
    pose = Expression(opening=0.9)
    frame, points = puppet.frame(pose), puppet.landmarks(pose)
    x, y = (0.3 * points[13] + 0.7 * points[14]).astype(int)
    lip_x, lip_y = points[16].astype(int)
    assert np.abs(frame[y, x].astype(int) - frame[lip_y, lip_x]).max() > 40
    closed = puppet.frame(Expression())
    assert np.abs(frame[:60].astype(int) - closed[:60]).mean() < 1.0  # above the eyes


def test_a_resting_puppet_is_its_photograph(photo: Photograph) -> None:
    plain = Variation(framing=0.3)  # the whole picture
    puppet = Puppet(photo, SIZE, plain)
    assert np.abs(puppet.frame(Expression(spread=0.3)).astype(int) - photo.image).mean() < 2.5
    boxes = face_boxes(puppet.landmarks(Expression()))
    assert (boxes[0, :2] < boxes[1, :2]).all() and (boxes[0, 2:] > boxes[1, 2:]).all()
    lips = puppet.landmarks(Expression())[list(LIPS)]
    assert np.allclose(lips, photo.points[list(LIPS), :2], atol=2.0)


def test_variations_are_deterministic_and_differ(photo: Photograph, song: Song) -> None:
    def frames(seed: int) -> np.ndarray:
        show = PuppetShow(photo, song, size=96, variation=Variation.random(seed))
        return np.stack([show.frame(i) for i in (0, 17)])

    assert np.array_equal(frames(8), frames(8))
    assert np.abs(frames(8).astype(int) - frames(9)).mean() > 3


def test_grain_and_colour_stay_the_same_in_a_clip(photo: Photograph) -> None:
    puppet = Puppet(photo, 128, dataclasses.replace(Variation.random(1), grain=6.0))
    first, second = puppet.frame(Expression()), puppet.frame(Expression(opening=0.5))
    corner = np.abs(first[:12, :12].astype(int) - second[:12, :12])
    assert corner.max() <= 1 and first[:12, :12].std(axis=(0, 1)).min() > 1


def test_a_puppet_sings_as_the_drawn_world_does(photo: Photograph, song: Song) -> None:
    show, drawn = PuppetShow(photo, song, size=64), Performance(Identity.random(2), song, size=64)
    assert len(show) == len(drawn) == 40
    assert show.expression(20) == drawn.expression(20)
    assert show.frame(3).shape == (64, 64, 3) and show.landmarks(3).shape == (478, 2)
    read = [show.person.head.opening(show.landmarks(i)) for i in range(len(show))]
    assert np.allclose(read, show.motion.opening, atol=0.01)
