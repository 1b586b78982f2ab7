"""Seconds sung again: what is around them stays, both ends meet it, and every take is found again."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch

from singer_core.marks import Take
from singer_core.render.clips import Clip
from singer_core.render.pipeline import SingerPipeline
from singer_core.render.seams import Held
from singer_core.render.song import FinishedClip
from singer_core.render.store import ClipStore
from singer_core.render.takes import (
    KNOWN,
    RAMP,
    freedom,
    note_takes,
    noted_takes,
    plan_take,
    unevenness,
    weights_of,
    with_takes,
)
from singer_core.settings import BUILT_IN, OFFICIAL

SPAN = range(100)


@pytest.mark.parametrize("options", [OFFICIAL, BUILT_IN, OFFICIAL.but(clip_frames=6, overlap=2)])
@pytest.mark.parametrize("span", [(0, 5), (1, 2), (3, 40), (30, 31), (30, 62), (90, 100), (0, 100)])
def test_the_clips_of_a_take_cover_it_and_end_in_what_is_known_behind(options, span):
    take = Take(*span, seed=1)
    plan = plan_take(take, SPAN, options)
    assert plan[0].start == SPAN.start or take.start - options.clip_frames < plan[0].start <= take.start
    assert plan[-1].stop >= min(take.stop + KNOWN, SPAN.stop)
    assert plan[0].start == SPAN.start or plan[-1].stop == min(take.stop + KNOWN, SPAN.stop)
    assert len(plan) == 1 or plan[-2].stop < min(take.stop + KNOWN, SPAN.stop)


def test_frames_are_held_outside_of_a_take_and_let_go_on_a_ramp():
    free = freedom(Take(20, 40, seed=1), Clip(0, 16, 46, 0), SPAN)
    ramp = torch.arange(1, RAMP + 1) / (RAMP + 1)
    torch.testing.assert_close(free[4:24], torch.cat([ramp, torch.ones(12), ramp.flip(0)]))
    assert not free[:4].any() and not free[24:].any()
    assert freedom(Take(0, 100, seed=1), Clip(0, 0, 100, 0), SPAN).eq(1).all()  # nothing to meet


def test_what_is_known_is_held_at_the_noise_of_the_step():
    known, latents = torch.ones(3, 4, 1, 1), torch.full((3, 4, 1, 1), 5.0)
    held = Held(known, torch.tensor([0.0, 0.25, 1.0]))
    assert held.joined(latents)[:, 0, 0, 0].tolist() == [1, 2, 5]
    assert held.joined(latents, lambda latents: latents * 3)[:, 0, 0, 0].tolist() == [3, 3.5, 5]


def song_of(frames: int = 100, clip: int = 10) -> list[FinishedClip]:
    latents = torch.arange(float(frames)).view(-1, 1, 1, 1).expand(-1, 4, 1, 1)
    return [
        FinishedClip(Clip(i, start, start + clip, 0), latents[start : start + clip], clip, latents[:1])
        for i, start in enumerate(range(0, frames, clip))
    ]


def test_only_frames_of_takes_change_and_clips_are_handed_on_as_soon_as_they_can_be():
    takes, asked, seen = [Take(33, 38, seed=1), Take(38, 52, seed=2)], [], []

    def sing(take, known):
        asked.append((take, len(seen)))
        assert known.rows(take.start - 12, take.stop)[:, 0, 0, 0].tolist() == list(
            range(take.start - 12, take.stop)
        )
        return torch.full((len(take.span), 4, 1, 1), 1000.0 + take.seed)

    options = OFFICIAL.but(clip_frames=10)
    for done in with_takes(iter(song_of()), takes, SPAN, options, sing):
        seen.append(done)
    values = torch.cat([done.latents for done in seen])[:, 0, 0, 0]
    expected = torch.arange(100.0)
    expected[33:38], expected[38:52] = 1001, 1002
    assert torch.equal(values, expected) and [done.clip.index for done in seen] == list(range(10))
    assert [count for _, count in asked] == [2, 2]
    assert [done.pictures is None for done in seen] == [2 <= i <= 5 for i in range(10)]


def test_a_take_whose_end_is_not_met_goes_on_to_the_next_rest(caplog):
    activity = torch.ones(100)
    activity[30:33], activity[47:60] = 0, 0
    asked = []

    def sing(take, _known):
        asked.append(take.stop)
        return torch.arange(take.start, take.stop).view(-1, 1, 1, 1).expand(-1, 4, 1, 1) + (
            100.0 if take.stop < 40 else 0.0
        )

    list(with_takes(iter(song_of()), [Take(12, 25, seed=1)], SPAN, OFFICIAL, sing, activity))
    assert asked == [25, 51]
    assert "Frames 12 to 25: the end moves" in caplog.text and "to the next rest, frame 51" in caplog.text
    list(with_takes(iter(song_of()), [Take(12, 25, seed=1)], SPAN, OFFICIAL, sing))
    assert asked == [25, 51, 25]  # nobody knows where the voice rests


def test_an_end_is_uneven_where_it_moves_more_than_the_take_and_the_song():
    even, behind = torch.arange(20.0).view(-1, 1, 1, 1), torch.full((1, 1, 1, 1), 100.0)
    assert unevenness(even, even, behind - 80) == 1
    assert unevenness(even, even + 80, behind) > 2
    assert unevenness(even, even, behind) == 1  # the song itself moves there


def test_weights_of_a_take_multiply_the_songs():
    take = Take(0, 2, (1.0, 0.5, 2.0), seed=1)
    assert weights_of(Take(0, 2, seed=1), None, 4) is None
    assert weights_of(take, None, 2).tolist() == [[1, 0.5, 2]] * 2
    assert weights_of(take, torch.full((2, 3), 3.0), 2).tolist() == [[3, 1.5, 6]] * 2


# with a network

SONG, PORTRAIT = tiny.audio_of(16), tiny.portrait_of()
TAKE = Take(9, 12, seed=7)


def pipeline_of(network, vae, **changes) -> SingerPipeline:
    options = OFFICIAL.but(**{"steps": 2, "clip_frames": 4, "motion_frames": 2, "overlap": 0, **changes})
    return SingerPipeline(network, vae, options)


def stored(root, pipeline, song=SONG) -> ClipStore:
    shared = pipeline.shared_key(PORTRAIT)
    return ClipStore(root, shared, pipeline.clip_keys(shared, song))


def latents_of(pipeline, store=None, takes=(), song=SONG) -> torch.Tensor:
    clips = pipeline.render(PORTRAIT, song, store=store, takes=takes)
    return torch.cat([clip.latents[: len(clip.pictures)] for clip in clips])


@pytest.mark.parametrize(
    "changes", [{"steps": 1}, {"carry": "latents", "overlap": 2, "solver": "dpmpp_2m"}], ids=len
)
def test_a_retake_changes_its_frames_alone_and_is_found_again(tmp_path, tiny_network, tiny_vae, changes):
    pipeline, runs = pipeline_of(tiny_network, tiny_vae, **changes), []
    with (
        tiny_network.unet.register_forward_hook(lambda *_: runs.append(1)),
        stored(tmp_path, pipeline) as store,
    ):
        song = latents_of(pipeline, store)
        files = {path: path.read_bytes() for path in store.folder.glob("clip-*")}
        runs.clear()
        found = latents_of(pipeline, store, [TAKE])
        assert len(runs) == pipeline.options.steps * len(plan_take(TAKE, range(16), pipeline.options))
        changed = (found != song).flatten(1).any(1)
        assert changed.nonzero().flatten().tolist() == list(TAKE.span)
        assert all(path.read_bytes() == content for path, content in files.items())
        other = (
            dataclasses.replace(TAKE, seed=8)
            if len(changes) > 1
            else dataclasses.replace(TAKE, weights=(1.0, 1.0, 0.0))
        )
        assert not torch.equal(latents_of(pipeline, store, [other]), found)
        runs.clear()
        assert torch.equal(latents_of(pipeline, store, [TAKE]), found)
        assert torch.equal(latents_of(pipeline, store), song)
        assert runs == []


def test_two_renders_at_once_with_other_takes_give_what_each_gives_alone(tmp_path, tiny_network, tiny_vae):
    pipeline, song = pipeline_of(tiny_network, tiny_vae, steps=1), tiny.audio_of(8)
    takes = Take(5, 8, seed=7), Take(5, 8, seed=8)
    with stored(tmp_path / "alone", pipeline, song) as store:
        alone = [latents_of(pipeline, store, [take], song) for take in takes]
    with (
        stored(tmp_path / "shared", pipeline, song) as one,
        stored(tmp_path / "shared", pipeline, song) as other,
    ):
        renders = [
            pipeline.render(PORTRAIT, song, store=store, takes=[take])
            for store, take in zip((one, other), takes, strict=True)
        ]
        by_turns = zip(*renders, strict=True)
        for clips, expected in zip(zip(*by_turns, strict=True), alone, strict=True):
            assert torch.equal(torch.cat([clip.latents for clip in clips]), expected)
        assert not list(one.folder.glob(".*"))  # half-written


def test_pictures_are_those_of_the_take(tiny_network, tiny_vae):
    pipeline = pipeline_of(tiny_network, tiny_vae, steps=1)
    for clip in pipeline.render(PORTRAIT, SONG, takes=[TAKE]):
        assert torch.equal(clip.pictures, tiny_vae.decode(clip.latents[: len(clip.pictures)]))


def test_notes_keep_their_order_and_go_with_the_clips(tmp_path):
    with ClipStore(tmp_path, "a" * 32, []) as store:
        note_takes(store, [TAKE, Take(9, 12, number=2), Take(5, 7, seed=3)])
        note_takes(store, [Take(9, 12, (1.0, 1.0, 1.5), seed=9), TAKE])
        assert noted_takes(store, 20) == [TAKE, Take(5, 7, seed=3), Take(9, 12, (1.0, 1.0, 1.5), seed=9)]
        assert noted_takes(store, 8) == [Take(5, 7, seed=3)]
    assert list(tmp_path.iterdir()) == []
