"""What is known of the drawn world's motion."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from builtin.ways import EYES, MOUTH, ways
from builtin.world import Identity, Performance, Song
from builtin.world.geometry import Expression
from singer_core.network.warp import CERTAIN, COVER, COVER_CELLS, FIELD, moved, spread


def test_ways_bring_the_portrait_nearer_to_every_frame_than_it_is() -> None:
    show = Performance(Identity.random(2), Song.random(3, 1.0, accompaniment=False), size=128)
    landmarks = np.stack([show.landmarks(i) for i in range(0, len(show), 6)])
    found = ways(landmarks, show.size).float()
    assert found.shape == (len(landmarks), FIELD + COVER, 16, 16)
    drawn = np.stack([show.frame(i) for i in range(0, len(show), 6)])
    frames = torch.from_numpy(drawn).movedim(-1, 1) / 255
    known = torch.nn.functional.interpolate(found[:, :1].isfinite().float(), scale_factor=8) > 0
    portrait = frames[:1].expand_as(frames)
    errors = [
        float(((picture - frames).square() * known).mean())
        for picture in (moved(portrait, found[:, :FIELD].nan_to_num()), portrait)
    ]
    assert errors[0] < 0.6 * errors[1]


def test_paint_covers_an_open_mouth_and_nothing_else() -> None:
    show = Performance(Identity.random(2), Song.random(3, 1.0, accompaniment=False), size=128)
    opening = show.motion.opening
    marks = np.stack([show.landmarks(i) for i in (0, int(np.argmax(opening)))])
    closed, wide = spread(ways(marks, show.size).float()[:, FIELD:], COVER_CELLS)[:, 0] > CERTAIN / 2
    assert closed.sum() < 0.1 * wide.sum()
    down, across = (torch.nonzero(wide) + 0.5).unbind(1)
    lips = marks[1][MOUTH]
    assert lips[:, 0].min() - 1 < across.min() and across.max() < lips[:, 0].max() + 1
    assert lips[:, 1].min() - 1 < down.min() and down.max() < lips[:, 1].max() + 1
    height = marks[1][14, 1] - marks[1][13, 1]
    assert float(wide.sum(0).max()) == pytest.approx(height, rel=0.25)


@pytest.mark.parametrize(("blink", "covered"), [(0.0, (0, 0)), (0.1, (0, 0)), (1.0, (1, 1))])
def test_paint_covers_eyes_that_close_with_their_lashes_and_open_ones_not(blink, covered) -> None:
    show = Performance(Identity.random(2), Song.random(3, 1.0, accompaniment=False), size=128)
    marks = np.stack([show.person.landmarks(Expression(blink=share)) for share in (0.0, blink)])
    cover = spread(ways(marks, show.size).float()[:, FIELD:], COVER_CELLS)[1, 0] / CERTAIN
    for eye, share in zip(EYES, covered, strict=True):
        (left, top), (right, bottom) = marks[0][eye].min(0), marks[0][eye].max(0)
        lashes = cover[int(top) - 1 : int(bottom) + 1, int(left + 2) : int(right - 2)]
        assert float(lashes.mean()) == pytest.approx(share, abs=0.15)
