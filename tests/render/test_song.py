"""The loop over a song's clips, without a network."""

from __future__ import annotations

import pytest
import torch

from singer_core.render.song import render_song
from singer_core.render.store import ClipStore, chained
from singer_core.settings import OFFICIAL


def test_a_clip_of_nan_ends_the_song_there_and_is_not_stored(tmp_path):
    """Of four clips the second is bad: what is finished stays, the message names clip and frames."""
    options = OFFICIAL.but(clip_frames=4, motion_frames=2)

    def sample(clip, carried):
        latents = torch.full((4, 4, 2, 2), float(clip.index))
        latents[3, 0, 0, 0] = torch.nan if clip.index == 1 else 0
        return latents

    with ClipStore(tmp_path, "key", chained("key", range(4))) as store:
        song = render_song(range(16), options, sample, lambda latents, rest: latents, store=store)
        assert next(song).clip.index == 0
        with pytest.raises(RuntimeError, match=r"Clip 2 \(frames 4 to 8\) came out as NaN or Inf"):
            next(song)
        assert store.load(0) is not None and store.load(1) is None
