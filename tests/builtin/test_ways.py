"""True ways of the drawn world."""

from __future__ import annotations

import numpy as np
import torch

from builtin.ways import ways
from builtin.world import Identity, Performance, Song
from singer_core.network.warp import FIELD, moved


def test_ways_bring_the_portrait_nearer_to_every_frame_than_it_is() -> None:
    show = Performance(Identity.random(2), Song.random(3, 1.0, accompaniment=False), size=128)
    landmarks = np.stack([show.landmarks(i) for i in range(0, len(show), 6)])
    found = ways(landmarks, show.size).float()
    assert found.shape == (len(landmarks), FIELD, 16, 16)
    drawn = np.stack([show.frame(i) for i in range(0, len(show), 6)])
    frames = torch.from_numpy(drawn).movedim(-1, 1) / 255
    known = torch.nn.functional.interpolate(found[:, :1].isfinite().float(), scale_factor=8) > 0
    portrait = frames[:1].expand_as(frames)
    errors = [
        float(((picture - frames).square() * known).mean())
        for picture in (moved(portrait, found.nan_to_num()), portrait)
    ]
    assert errors[0] < 0.6 * errors[1]
    assert not found[0].nan_to_num().any()
