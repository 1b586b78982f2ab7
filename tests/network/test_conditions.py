"""Which row of a batch sees which condition (docs/numerics.md section 8)."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch

from singer_core import constants
from singer_core.network.conditions import (
    CONDITIONAL,
    PORTRAIT_ONLY,
    UNCONDITIONAL,
    AudioTokens,
    ReferenceFeatures,
)
from singer_core.network.schedule import ddim


def labelled(passes: int, batch: int = 1) -> ReferenceFeatures:
    """Features that say where they come from: 100 * pass + 10 * batch + image (0 = portrait)."""
    label = 100 * torch.arange(passes)[:, None, None] + 10 * torch.arange(batch)[:, None] + torch.arange(3)
    return ReferenceFeatures({"site": label[..., None, None].expand(-1, -1, -1, 4, 2).float()})


def rows_read(reference: ReferenceFeatures, half: int, frames: int) -> list[int]:
    keys, values = reference.keys("site", lambda x: (x, 2 * x), half, frames)
    assert torch.equal(values, 2 * keys)
    return keys[:, 0, 0].int().tolist()


@pytest.mark.parametrize(
    ("half", "frames", "expected"),
    [
        (1, 4, [0, 100, 0, 100]),
        (1, 3, [100, 0, 100]),
        (0, 4, [0, 100, 0, 100]),
        (0, 3, [0, 100, 0]),
    ],
)
def test_frames_alternate_between_the_two_passes_in_the_flat_order_of_the_authors(half, frames, expected):
    """Row r = half * f + k of [unconditional, conditional] reads pass r mod 2."""
    assert rows_read(labelled(2), half, frames) == expected


def test_one_pass_serves_every_frame():
    assert rows_read(labelled(1), 1, 4) == [0, 0, 0, 0]
    assert rows_read(labelled(1, batch=2), 1, 3) == [0, 0, 0, 10, 10, 10]


def test_clips_of_a_batch_read_their_own_portrait():
    assert rows_read(labelled(2, batch=2), 1, 2) == [0, 100, 10, 110]


def test_each_branch_carries_the_frames_of_its_half():
    carried = labelled(2, batch=2).carried("site", (UNCONDITIONAL, CONDITIONAL), torch.Size((2, 2)))
    assert carried.shape == (4, 2, 2, 2, 2)
    assert carried[:, :, 0, 0, 0].int().tolist() == [[1, 2], [11, 12], [101, 102], [111, 112]]


def test_carried_features_keep_their_place_in_the_picture():
    tokens = torch.arange(6).view(1, 1, 1, 6, 1).expand(1, 1, 2, -1, -1)
    carried = ReferenceFeatures({"site": tokens}).carried("site", (CONDITIONAL,), torch.Size((2, 3)))
    assert carried[0, 0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_dropped_reference_gives_four_zero_frames_and_no_keys():
    clip = dataclasses.replace(tiny.clip_of(), reference=None)
    carried = clip.carried("site", tiny.noise(8, 5, 2, 3))
    assert carried.shape == (2, 4, 5, 2, 3)
    assert carried.abs().max() == 0
    assert clip.reference_keys("site", lambda x: (x, x)) == [None, None]


def test_keys_are_made_once_per_clip_and_site_and_anew_without_a_memory():
    calls = []

    def make(x):
        calls.append(x)
        return x, x

    reference = labelled(2)
    for half in (0, 1, 1):
        reference.keys("site", make, half, 2)
    assert len(calls) == 1
    forgetful = dataclasses.replace(reference, made=None)
    for half in (0, 1):
        forgetful.keys("site", make, half, 2)
    assert len(calls) == 3


def test_tokens_of_two_layers_are_not_confused():
    audio = AudioTokens(torch.ones(1, 2, 3))
    first, second = object(), object()
    assert audio.keys(first, lambda x: (x, x))[0].sum() == 6
    assert audio.keys(second, lambda x: (2 * x, x))[0].sum() == 12
    assert audio.keys(first, lambda x: (3 * x, x))[0].sum() == 6


def test_two_clips_have_their_own_memory():
    one, other = AudioTokens(torch.ones(1, 2, 3)), AudioTokens(torch.zeros(1, 2, 3))
    layer = object()
    one.keys(layer, lambda x: (x, x))
    assert other.keys(layer, lambda x: (x, x))[0].sum() == 0


def test_runs_join_neighbouring_branches_that_hear_the_same():
    clip = tiny.clip_of(UNCONDITIONAL, PORTRAIT_ONLY, CONDITIONAL)
    x = torch.arange(12.0)
    assert [(rows.tolist(), hears) for rows, hears in clip.runs(x, "audio")] == [
        (list(range(8)), False),
        (list(range(8, 12)), True),
    ]
    assert [flag for _, flag in clip.runs(x, "portrait")] == [False, True]


def test_the_face_box_is_shown_to_branches_that_see_the_portrait():
    clip = tiny.clip_of(UNCONDITIONAL, PORTRAIT_ONLY, CONDITIONAL)
    nothing, first, second = clip.face_rows().chunk(3)
    assert nothing.abs().max() == 0
    assert torch.equal(first, clip.face)
    assert torch.equal(second, clip.face)


def test_one_face_map_serves_every_frame():
    clip = tiny.clip_of(CONDITIONAL)
    one = dataclasses.replace(clip, face=clip.face[:1])
    assert torch.equal(one.face_rows(), clip.face[:1].expand(4, -1, -1, -1))


def test_v_is_of_what_becomes_of_the_portrait():
    def warp(portrait: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        return portrait.repeat_interleave(4, 0) + output

    latents, output = tiny.noise(2, 3, 4, 2, 2, seed=1), tiny.noise(16, 4, 2, 2, seed=2)
    noise = tiny.noise(8, 4, 2, 2, seed=3)
    moving = dataclasses.replace(tiny.TINY, predicts="motion")
    clip = tiny.clip_of(UNCONDITIONAL, CONDITIONAL, batch=2)
    clip = dataclasses.replace(clip, reference=clip.reference.read_by(moving, latents))
    portrait = latents[:, 0].repeat_interleave(4, 0)
    scheduler = ddim("scaled_linear", constants.TRAIN_TIMESTEPS)
    for step in (999, 499, 20):
        signal = scheduler.alphas_cumprod[step].sqrt()
        share = (1 - signal.square()).sqrt()
        for frames, part in zip((output[:8], portrait + output[8:]), (slice(8), slice(8, None)), strict=True):
            noisy = signal * frames + share * noise
            found = clip.velocity(warp, output, noisy, step)[part]
            torch.testing.assert_close(found, signal * noise - share * frames, rtol=1e-3, atol=1e-3)
    each = clip.velocity(warp, output, noise, torch.arange(16) * 60)
    torch.testing.assert_close(each[15:], clip.velocity(warp, output, noise, 900)[15:])
    assert not torch.equal(each[14], clip.velocity(warp, output, noise, 900)[14])
