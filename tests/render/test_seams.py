"""Laws of what keeps clips together: noise, statistics, rests."""

from __future__ import annotations

import itertools

import pytest
import torch

from singer_core.render.clips import plan_clips
from singer_core.render.seams import (
    cross_fade,
    departure,
    hold_statistics,
    rest_before,
    shared_noise_rows,
    steadied,
    towards_portrait,
)
from singer_core.render.song import render_song
from singer_core.settings import OFFICIAL


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rows_of(plan, seed=0):
    return shared_noise_rows(plan, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("length", "overlap"), [(16, 0), (16, 4), (16, 14), (4, 2), (30, 15), (2, 0)])
def test_every_clip_starts_from_each_frame_of_the_first_noise_once(length, overlap):
    plan = plan_clips(100, length, overlap)
    rows = rows_of(plan)
    assert len(rows) == len(plan)
    assert all(sorted(part.tolist()) == list(range(length)) for part in rows)
    assert rows[0].tolist() == list(range(length))


@pytest.mark.parametrize("overlap", [1, 4, 14])
def test_frames_that_two_clips_share_start_from_one_noise(overlap):
    for one, other in itertools.pairwise(rows_of(plan_clips(100, 16, overlap))):
        assert one[-overlap:].tolist() == other[:overlap].tolist()


def test_the_seed_decides_on_the_shuffling():
    plan = plan_clips(64, 16)
    first, again, other = (torch.stack(rows_of(plan, seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[1], first[2])


@pytest.mark.parametrize("shared", [0, 1, 2, 4])
def test_a_fade_keeps_constants_and_goes_evenly_from_one_to_the_other(shared):
    ones = torch.ones(6, 2, 3)
    assert torch.equal(cross_fade(None, ones), ones)
    torch.testing.assert_close(cross_fade(ones[:shared], ones), ones)
    faded = cross_fade(torch.zeros(shared, 2, 3), ones)[:, 0, 0]
    expected = torch.ones(6)
    expected[:shared] = torch.arange(1, shared + 1) / (shared + 1)
    torch.testing.assert_close(faded, expected)


def moments(frames, where=None):
    flat = frames.transpose(0, 1).flatten(2)
    share = torch.ones(flat.shape[-1]) if where is None else where.flatten()
    mean = (flat * share).sum(2).mean(1) / share.sum()
    variance = ((flat - mean[:, None, None]).square() * share).sum(2).mean(1) / share.sum()
    return mean, variance.sqrt()


@pytest.mark.parametrize("where", [None, torch.rand(6, 8, generator=torch.Generator().manual_seed(5))])
def test_held_frames_have_the_statistics_of_the_portrait(where):
    frames, portrait = 3 * draw(2, 4, 6, 8) + 5, draw(4, 6, 8, seed=1)
    held = hold_statistics(frames, portrait, 1.0, where)
    torch.testing.assert_close(moments(held, where), moments(portrait[None], where))


def test_frames_that_have_them_already_are_left_alone():
    portrait = draw(4, 6, 8)
    frames = torch.stack([portrait, portrait.flip(-1)])
    torch.testing.assert_close(hold_statistics(frames, portrait, 1.0), frames)


def test_a_gain_and_an_offset_are_undone_and_by_half_at_half_strength():
    portrait = draw(4, 6, 8)
    drifted = portrait[None] * 1.2 + 0.3
    torch.testing.assert_close(hold_statistics(drifted, portrait, 1.0), portrait[None])
    torch.testing.assert_close(hold_statistics(drifted, portrait, 0.5), (portrait[None] + drifted) / 2)
    assert torch.equal(hold_statistics(drifted, portrait, 0.0), drifted)


def test_places_without_weight_do_not_count():
    """A mouth that opens is no drift."""
    portrait, where = draw(4, 6, 8), torch.ones(3, 4)
    where[2:] = 0  # of half the size, as masks of another level
    frames = portrait[None].clone()
    frames[:, :, 4:] -= 3
    torch.testing.assert_close(hold_statistics(frames, portrait, 1.0, where), frames)


def test_a_constant_channel_does_not_divide_by_zero():
    held = hold_statistics(torch.ones(2, 3, 4, 4), draw(3, 4, 4), 1.0)
    assert held.isfinite().all()


def test_the_voice_rests_where_all_frames_around_are_silent():
    activity = torch.zeros(40)
    activity[20:24] = torch.tensor([0.25, 1.0, 1.0, 0.5])
    assert rest_before(activity, 8) == 1
    assert rest_before(activity, 16) == 1
    assert rest_before(activity, 17) == 0.75
    assert rest_before(activity, 22) == 0
    assert rest_before(activity, 27) == 0.5
    assert rest_before(activity, 28) == 1
    assert rest_before(activity, 99) == 1
    assert rest_before(None, 8) == 0


def test_carried_frames_lead_to_the_portrait():
    frames, portrait = torch.zeros(4, 3, 2, 2), torch.ones(3, 2, 2)
    assert towards_portrait(frames, portrait, 1.0)[:, 0, 0, 0].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert towards_portrait(frames, portrait, 0.5)[:, 0, 0, 0].tolist() == [0.125, 0.25, 0.375, 0.5]
    assert torch.equal(towards_portrait(frames, portrait, 0.0), frames)


def test_frames_depart_by_their_colours_in_deviations_and_by_halves_of_sharpness():
    portrait, where = draw(4, 8, 8), torch.ones(8, 8)
    deviation = moments(portrait[None])[1].norm()
    assert departure(portrait.expand(2, -1, -1, -1), portrait) < 1e-5
    cast = torch.tensor([0.6, 0, -0.8, 0]).view(4, 1, 1) * deviation
    assert departure((portrait + 0.7 * cast)[None], portrait) == pytest.approx(0.7, rel=1e-4)
    assert departure(portrait[None] / 4, portrait) == pytest.approx(2, abs=0.01)
    assert departure(portrait[None] * 2, portrait) == pytest.approx(1, abs=0.01)
    where[5:] = 0
    open_mouth = portrait[None].clone()
    open_mouth[:, :, 6:] = 9
    assert departure(open_mouth, portrait, where) < 1e-5 < departure(open_mouth, portrait)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda shown: shown + 0.2,
        lambda shown: shown * 0.8,
        lambda shown: shown + 0.4 * draw(4, 8, 8, seed=2),
    ],
    ids=["cast", "blur", "noise"],
)
def test_a_network_that_takes_its_mistakes_for_the_truth_is_led_back_to_the_portrait(spoil, caplog):
    """It makes what it is shown a little worse, clip by clip, until one ends beyond the bound."""
    portrait, options = draw(4, 8, 8), OFFICIAL.but(clip_frames=4)

    def sample(_clip, carried):
        return spoil(portrait if carried is None else carried[-1]).expand(4, -1, -1, -1)

    def ends(beyond):
        clips = render_song(
            range(80), options, sample, lambda last, rest: steadied(last, portrait, 0, rest, beyond)
        )
        return [departure(done.latents[-1:], portrait) for done in clips]

    free = ends(0.0)
    assert free[-1] > 2 and not caplog.records
    held = ends(0.5)
    first_beyond = next(end for end in free if end > 0.5)
    assert max(held) == first_beyond and max(held[-4:]) >= 0.5
    assert all(after == free[0] for before, after in itertools.pairwise(held) if before > 0.5)
    assert caplog.messages[0].startswith(f"A clip ended {first_beyond:.2f} from the portrait")
