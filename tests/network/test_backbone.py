"""The whole network, at a width that runs in a tenth of a second: which input reaches which output."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import tiny
import torch

from singer_core.network.backbone import SingerNetwork
from singer_core.network.checkpoint import load_network, open_checkpoint
from singer_core.network.conditions import (
    CONDITIONAL,
    PORTRAIT_ONLY,
    UNCONDITIONAL,
    AudioTokens,
    ReferenceFeatures,
)

F = tiny.FRAMES
BOTH = (UNCONDITIONAL, CONDITIONAL)
TIME = torch.tensor(500)


@pytest.fixture(scope="module")
def latents():
    return tiny.noise(F, 4, tiny.LATENT, tiny.LATENT, seed=20)


@pytest.fixture(scope="module")
def tokens():
    return tiny.noise(2, 1, tiny.TINY.image_tokens, tiny.TINY.image_width, seed=21)


@torch.no_grad()
def predict(network, latents, tokens, clip, timestep=TIME):
    """Fresh keys at every call: the memory of a clip is left out unless a test is about it."""
    return network(latents, timestep, tokens, forgetful(clip))


def forgetful(clip):
    reference = clip.reference and dataclasses.replace(clip.reference, made=None)
    return dataclasses.replace(clip, audio=AudioTokens(clip.audio.tokens, None), reference=reference)


def close(a, b):
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def apart(a, b) -> float:
    return (a - b).abs().max().item()


def other_portrait(clip):
    features = {site: x.clone() for site, x in clip.reference.features.items()}
    for site, x in clip.reference.features.items():
        features[site][:, :, 0] = x[:, :, 0].flip(-1)
    return dataclasses.replace(clip, reference=ReferenceFeatures(features))


def other_carried(clip):
    features = {site: x.clone() for site, x in clip.reference.features.items()}
    for site, x in clip.reference.features.items():
        features[site][:, :, 1:] = x[:, :, 1:].flip(-2)
    return dataclasses.replace(clip, reference=ReferenceFeatures(features))


CHANGES = {
    "portrait": other_portrait,
    "audio": lambda clip: dataclasses.replace(clip, audio=AudioTokens(clip.audio.tokens.flip(-1))),
    "face": lambda clip: dataclasses.replace(clip, face=clip.face.flip(-1)),
    "carried": other_carried,
    "masks": lambda clip: dataclasses.replace(clip, masks=tuple(1 - mask for mask in clip.masks)),
    "weights": lambda clip: dataclasses.replace(clip, weights=clip.weights * 2),
    "sfm": lambda clip: dataclasses.replace(clip, sfm_strength=0.0),
}
# What a branch without portrait and song still depends on: carried frames belong to both halves, and the
# biases behind masks and weights act everywhere.
REACHES = {
    UNCONDITIONAL: {"carried", "masks", "weights", "sfm"},
    PORTRAIT_ONLY: {"carried", "masks", "weights", "sfm", "portrait", "face"},
    CONDITIONAL: set(CHANGES),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_branch_depends_on_what_it_sees_and_hears_and_on_nothing_else(
    tiny_network, latents, tokens, change
):
    clip = tiny.clip_of(*REACHES)
    before = predict(tiny_network, latents, tokens, clip).chunk(3)
    after = predict(tiny_network, latents, tokens, CHANGES[change](clip)).chunk(3)
    for branch, x, y in zip(REACHES, before, after, strict=True):
        if change in REACHES[branch]:
            assert apart(x, y) > 1e-3
        else:
            close(x, y)


def test_image_tokens_are_the_unconditional_ones_for_the_branch_without_portrait(
    tiny_network, latents, tokens
):
    clip, changed = tiny.clip_of(*BOTH), tokens.clone()
    changed[1] += 1
    before, after = (predict(tiny_network, latents, t, clip).chunk(2) for t in (tokens, changed))
    close(before[0], after[0])
    assert apart(before[1], after[1]) > 1e-3


def test_branches_computed_together_are_those_computed_apart(tiny_network, latents, tokens):
    clip = tiny.clip_of(UNCONDITIONAL, PORTRAIT_ONLY, CONDITIONAL, passes=2)
    together = predict(tiny_network, latents, tokens, clip)
    alone = [
        predict(tiny_network, latents, tokens, dataclasses.replace(clip, branches=(branch,)))
        for branch in clip.branches
    ]
    close(together, torch.cat(alone))


def test_branches_may_come_in_any_order(tiny_network, latents, tokens):
    clip = tiny.clip_of(*BOTH, passes=2)
    swapped = predict(tiny_network, latents, tokens, dataclasses.replace(clip, branches=BOTH[::-1]))
    close(predict(tiny_network, latents, tokens, clip), torch.cat(swapped.chunk(2)[::-1]))


def test_keys_kept_for_the_clip_give_what_recomputed_ones_give(tiny_network, latents, tokens):
    clip = tiny.clip_of(*BOTH, passes=2)
    with torch.no_grad():
        first = tiny_network(latents, TIME, tokens, clip)
        again = tiny_network(latents, TIME, tokens, clip)
    assert torch.equal(first, again)
    close(first, predict(tiny_network, latents, tokens, clip))


def test_what_does_not_change_over_the_steps_is_computed_once(tiny_network, latents, tokens):
    calls = []
    watched = {
        "portrait": tiny_network.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_k,
        "audio": tiny_network.adapter.site("mid_block.attentions.0").audio.transformer_blocks[0].attn2_1.to_k,
    }
    handles = [
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
        for name, module in watched.items()
    ]
    clip = tiny.clip_of(*BOTH)
    with torch.no_grad():
        tiny_network(latents, TIME, tokens, clip)
        assert sorted(calls) == ["audio", "portrait", "portrait"]  # its own keys, and the portrait's
        tiny_network(latents, TIME, tokens, clip)
    assert sorted(calls) == ["audio", "portrait", "portrait", "portrait"]
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("passes", [1, 2])
def test_a_batch_of_two_clips_is_two_batches_of_one(tiny_network, passes):
    clip, x = tiny.clip_of(*BOTH, batch=2, passes=passes), tiny.noise(2 * F, 4, tiny.LATENT, tiny.LATENT)
    tokens = tiny.noise(2, 2, tiny.TINY.image_tokens, tiny.TINY.image_width)
    together = predict(tiny_network, x, tokens, clip).unflatten(0, (2, 2, F))
    for i in range(2):
        rows = slice(i * F, (i + 1) * F)
        one = dataclasses.replace(
            clip,
            audio=AudioTokens(clip.audio.tokens[rows]),
            masks=tuple(mask[:, rows] for mask in clip.masks),
            weights=clip.weights[rows],
            face=clip.face[rows],
            reference=ReferenceFeatures({s: v[:, i : i + 1] for s, v in clip.reference.features.items()}),
        )
        close(together[:, i].flatten(0, 1), predict(tiny_network, x[rows], tokens[:, i : i + 1], one))


def test_one_row_of_masks_weights_and_face_serves_a_batch_of_two_clips(tiny_network):
    clip, x = tiny.clip_of(*BOTH, batch=2), tiny.noise(2 * F, 4, tiny.LATENT, tiny.LATENT)
    tokens = tiny.noise(2, 2, tiny.TINY.image_tokens, tiny.TINY.image_width)
    one = dataclasses.replace(
        clip,
        masks=tuple(mask[:, :1] for mask in clip.masks),
        weights=clip.weights[:1],
        face=clip.face[:1],
    )
    rows = dataclasses.replace(
        clip,
        masks=tuple(mask.expand(-1, 2 * F, -1) for mask in one.masks),
        weights=one.weights.expand(2 * F, -1),
        face=one.face.expand(2 * F, -1, -1, -1),
    )
    close(predict(tiny_network, x, tokens, one), predict(tiny_network, x, tokens, rows))


def test_frame_order_matters_only_through_the_positions(tiny_checkpoint, tiny_network, latents, tokens):
    order = torch.tensor([2, 0, 3, 1])
    clip = tiny.clip_of(*BOTH)
    shuffled = dataclasses.replace(
        clip,
        audio=AudioTokens(clip.audio.tokens[order]),
        masks=tuple(mask[:, order] for mask in clip.masks),
        weights=clip.weights[order],
        face=clip.face[order],
    )
    expected = predict(tiny_network, latents, tokens, clip).unflatten(0, (2, F))[:, order].flatten(0, 1)
    assert apart(predict(tiny_network, latents[order], tokens, shuffled), expected) > 1e-3
    moved = load_network(open_checkpoint(tiny_checkpoint))
    for name, table in moved.named_buffers():
        if name.endswith(".pe"):
            table.data = table.clone()
            table.data[:, 2 : 2 + F] = table[:, 2 + order]
    close(predict(moved, latents[order], tokens, shuffled), expected)


def test_sizes_other_than_the_trained_and_odd_middles_run(tiny_network, tokens):
    for size in ((16, 24), (8, 8), (24, 8)):
        clip = tiny.clip_of(*BOTH, size=size)
        prediction = predict(tiny_network, tiny.noise(F, 4, *size), tokens, clip)
        assert prediction.shape == (2 * F, 4, *size)
        assert prediction.isfinite().all()


def test_a_dropped_reference_runs_as_in_training(tiny_network, latents, tokens):
    clip = dataclasses.replace(tiny.clip_of(CONDITIONAL), reference=None)
    prediction = predict(tiny_network, latents, tokens, clip)
    assert prediction.isfinite().all()
    assert apart(prediction, predict(tiny_network, latents, tokens, tiny.clip_of(CONDITIONAL))) > 1e-3


def test_the_same_call_twice_gives_the_same_bits(tiny_network, latents, tokens):
    clip = tiny.clip_of(*BOTH)
    first = predict(tiny_network, latents, tokens, clip)
    predict(tiny_network, latents, tokens + 1, tiny.clip_of(*BOTH, seed=5), torch.tensor(3))
    assert torch.equal(predict(tiny_network, latents, tokens, clip), first)


def test_gradients_reach_every_weight_of_the_denoiser(tiny_checkpoint, latents, tokens):
    network = load_network(open_checkpoint(tiny_checkpoint)).requires_grad_(True)
    clip = tiny.clip_of(CONDITIONAL)
    network(latents, TIME, tokens, clip).square().mean().backward()
    untouched = {name for name, p in network.named_parameters() if p.grad is None}
    before_the_clip = ("face_locator", "image_projection", "audio_projection", "multi_scale_spectral")
    outside = ("reference_unet.", *(f"adapter.{part}." for part in before_the_clip))
    assert not [name for name in untouched if not name.startswith(outside)]


# Reference pass


@torch.no_grad()
def features(network, latents, tokens, **options):
    return network.reference_features(latents, tokens, **options).features


def test_the_two_token_passes_are_dealt_out_to_the_images_in_turn(tiny_network):
    """Rows [r m1 m2 r m1 m2] read the tokens u c u c u c (numerics section 8)."""
    x, tokens = tiny.noise(1, 3, 4, tiny.LATENT, tiny.LATENT), tiny.noise(2, 1, 3, 24)
    mixed = features(tiny_network, x, tokens)
    u, c = (features(tiny_network, x, tokens[i : i + 1]) for i in range(2))
    for site, both in mixed.items():
        expected = (
            torch.stack([u[site][0, 0, 0], c[site][0, 0, 1], u[site][0, 0, 2]]),
            torch.stack([c[site][0, 0, 0], u[site][0, 0, 1], c[site][0, 0, 2]]),
        )
        close(both[:, 0], torch.stack(expected))
    last = list(mixed)[-1]
    assert apart(u[last], c[last]) > 1e-3


def test_reference_features_of_two_portraits_are_those_of_each(tiny_network):
    x, tokens = tiny.noise(2, 3, 4, tiny.LATENT, tiny.LATENT), tiny.noise(2, 2, 3, 24)
    both = features(tiny_network, x, tokens)
    for i in range(2):
        for site, alone in features(tiny_network, x[i : i + 1], tokens[:, i : i + 1]).items():
            close(both[site][:, i : i + 1], alone)


def test_rounding_moves_the_features_by_half_a_unit_of_float16_at_most(tiny_network):
    x, tokens = tiny.noise(1, 3, 4, tiny.LATENT, tiny.LATENT), tiny.noise(1, 1, 3, 24)
    exact = features(tiny_network, x, tokens)
    rounded = features(tiny_network, x, tokens, rounded_to=torch.float16)
    for site in exact:
        assert rounded[site].dtype == torch.float32
        assert torch.equal(rounded[site], exact[site].half().float())
        assert not torch.equal(rounded[site], exact[site])


def test_every_site_has_features_of_its_own_size(tiny_network):
    found = features(tiny_network, tiny.noise(1, 3, 4, 16, 24), tiny.noise(1, 1, 3, 24))
    assert set(found) == {site.name for site in tiny.TINY.sites()}
    for site in tiny.TINY.sites():
        cells = (16 >> site.level) * (24 >> site.level)
        assert found[site.name].shape == (1, 1, 3, cells, site.channels)


def test_a_copied_network_is_independent(tiny_network, latents, tokens):
    clip = tiny.clip_of(CONDITIONAL)
    twin = copy.deepcopy(tiny_network)
    close(predict(twin, latents, tokens, clip), predict(tiny_network, latents, tokens, clip))
    for parameter in twin.adapter.sites.parameters():
        parameter.data.zero_()
    assert apart(predict(twin, latents, tokens, clip), predict(tiny_network, latents, tokens, clip)) > 1e-3


def test_the_published_network_has_the_size_of_the_paper():
    with torch.device("meta"):
        network = SingerNetwork(tiny.Architecture())
    count = sum(p.numel() for p in network.unet.parameters())
    assert count == 859_520_964  # Stable Diffusion 1.5
