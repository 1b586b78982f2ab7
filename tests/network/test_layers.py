"""Audio transformer, motion module and attention: closed forms, and laws of numerics sections 8 to 11."""

from __future__ import annotations

import dataclasses
import math

import pytest
import tiny
import torch

from singer_core.network.conditions import CONDITIONAL, UNCONDITIONAL, AudioTokens
from singer_core.network.layers import (
    Attention,
    AudioBlock,
    AudioTransformer,
    MotionModule,
    Toolkit,
    attend,
    attend_with_reference,
    sinusoidal_positions,
)

WIDTH, HEADS, CELLS = 32, 4, 16  # level 1 of an 8 x 8 latent
LEVEL = 1


def randomised(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    for i, (name, tensor) in enumerate(module.state_dict().items()):
        value = tiny.noise(*tensor.shape, seed=seed + i)
        if name.endswith(".pe"):
            value = sinusoidal_positions(tensor.shape[-1])
        elif tensor.ndim > 1:
            value = value / tensor[0].numel() ** 0.5
        else:
            value = 0.3 * value + (0.0 if name.endswith("bias") else 1.0)
        tensor.copy_(value)
    return module.eval().requires_grad_(False)


def by_hand(q, k, v, heads):
    """softmax(q k / sqrt(d)) v, head by head."""
    parts = []
    for i in range(heads):
        d = q.shape[-1] // heads
        mine = slice(i * d, (i + 1) * d)
        scores = torch.einsum("bnd,bmd->bnm", q[..., mine], k[..., mine]) / math.sqrt(d)
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        parts.append(torch.einsum("bnm,bmd->bnd", weights, v[..., mine]))
    return torch.cat(parts, -1)


def close(a, b, atol=2e-5):
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)


# Attention


def test_attention_is_the_softmax_of_scaled_products():
    q, k, v = tiny.noise(2, 5, 24), tiny.noise(2, 7, 24, seed=1), tiny.noise(2, 7, 24, seed=2)
    close(attend(q, k, v, 3), by_hand(q, k, v, 3))


def test_attention_over_zero_tokens_is_its_output_bias():
    attention = randomised(Attention(WIDTH, 24, HEADS, Toolkit()))
    x = tiny.noise(2, 5, WIDTH)
    close(attention(x, torch.zeros(2, 8, 24)), attention.of_zeros(x).expand(2, 5, -1))
    close(attention.of_zeros(x)[0, 0], attention.to_out[0].bias)


def test_branches_attend_together_as_they_do_apart():
    q, k, v = (tiny.noise(6, 5, 24, seed=i) for i in range(3))
    portrait = tiny.noise(2, 9, 24, seed=3), tiny.noise(2, 9, 24, seed=4)
    together = attend_with_reference(q, (k, v), [None, portrait, None], 3)
    close(together[:2], by_hand(q[:2], k[:2], v[:2], 3))
    seen = torch.cat([k[2:4], portrait[0]], 1), torch.cat([v[2:4], portrait[1]], 1)
    close(together[2:4], by_hand(q[2:4], *seen, 3))
    close(together[4:], by_hand(q[4:], k[4:], v[4:], 3))


def test_attention_gets_the_hosts_options():
    seen = []

    def spy(q, k, v, heads, transformer_options=None):
        seen.append(transformer_options)
        return attend(q, k, v, heads)

    attention = randomised(Attention(WIDTH, WIDTH, HEADS, Toolkit(attention=spy)))
    attention(tiny.noise(1, 4, WIDTH), options={"patches": 1})
    assert seen == [{"patches": 1}]


# Audio transformer


@pytest.fixture(scope="module")
def block():
    return randomised(AudioBlock(WIDTH, tiny.TINY.audio_width, HEADS, Toolkit()))


def clip_with(clip, masks=None, **changes):
    if masks is not None:
        levels = list(clip.masks)
        levels[LEVEL] = masks
        changes["masks"] = tuple(levels)
    return dataclasses.replace(clip, **changes)


@pytest.fixture
def clip():
    return tiny.clip_of(CONDITIONAL)


def update_of(block, clip, q):
    return block.hear(q, clip, LEVEL, clip.audio, None)


def test_each_region_is_its_attention_times_mask_through_its_convolution_times_weight(block, clip):
    q, total = tiny.noise(4, CELLS, WIDTH), 0.0
    for i, name in enumerate(("full", "face", "lip")):
        attention, convolution = getattr(block, f"attn2_{i}"), getattr(block, f"zero_conv_{name}")
        k, v = attention.to_k(clip.audio.tokens), attention.to_v(clip.audio.tokens)
        heard = attention.to_out[0](by_hand(attention.to_q(q), k, v, HEADS)) * clip.masks[LEVEL][i][..., None]
        weight = convolution.weight[:, :, 0, 0]
        update = torch.einsum("oi,fni->fno", weight, heard) + convolution.bias
        total = total + clip.weights[:, i, None, None] * update
    close(update_of(block, clip, q), total)


@pytest.mark.parametrize(("region", "name"), list(enumerate(("full", "face", "lip"))))
def test_a_zero_mask_leaves_only_the_bias_of_its_region(block, clip, region, name):
    q = tiny.noise(4, CELLS, WIDTH)
    masked = clip.masks[LEVEL].clone()
    masked[region] = 0
    silent = clip.weights.clone()
    silent[:, region] = 0
    bias = clip.weights[:, region, None, None] * getattr(block, f"zero_conv_{name}").bias
    without = update_of(block, clip_with(clip, weights=silent), q)
    close(update_of(block, clip_with(clip, masks=masked), q), without + bias)
    assert (update_of(block, clip, q) - without - bias).abs().max() > 0.1


def test_outside_every_mask_the_sound_does_not_matter(block, clip):
    q = tiny.noise(4, CELLS, WIDTH)
    masks = clip.masks[LEVEL].clone()
    masks[..., :5] = 0
    other = AudioTokens(clip.audio.tokens.flip(0) * 3)
    first = update_of(block, clip_with(clip, masks=masks), q)
    second = update_of(block, clip_with(clip, masks=masks, audio=other), q)
    close(first[:, :5], second[:, :5])
    assert (first[:, 5:] - second[:, 5:]).abs().max() > 0.1


def test_zero_weights_leave_the_picture_as_it_is(block, clip):
    q = tiny.noise(4, CELLS, WIDTH)
    silent = clip_with(clip, weights=torch.zeros(4, 3))
    assert update_of(block, silent, q).abs().max() == 0


def test_the_update_is_linear_in_the_weights(block, clip):
    q, basis = tiny.noise(4, CELLS, WIDTH), torch.eye(3)
    parts = [update_of(block, clip_with(clip, weights=row[None]), q) for row in basis]
    whole = update_of(block, clip_with(clip, weights=torch.tensor([[0.3, -1.0, 2.0]])), q)
    close(whole, 0.3 * parts[0] - parts[1] + 2 * parts[2])


def test_without_audio_the_update_is_that_of_zero_tokens(block, clip):
    q = tiny.noise(4, CELLS, WIDTH)
    zeros = AudioTokens(torch.zeros_like(clip.audio.tokens))
    close(block.hear(q, clip, LEVEL, None, None), block.hear(q, clip, LEVEL, zeros, None))


def test_a_frame_hears_its_own_tokens_only(block, clip):
    q, tokens = tiny.noise(4, CELLS, WIDTH), clip.audio.tokens.clone()
    tokens[2] += 1
    moved = update_of(block, clip_with(clip, audio=AudioTokens(tokens)), q) - update_of(block, clip, q)
    assert [bool(frame.abs().max() > 1e-3) for frame in moved] == [False, False, True, False]


def test_one_row_of_masks_and_weights_serves_every_frame(block, clip):
    q = tiny.noise(4, CELLS, WIDTH)
    one = clip_with(clip, masks=clip.masks[LEVEL][:, :1], weights=clip.weights[:1])
    rows = clip_with(clip, masks=one.masks[LEVEL].expand(3, 4, -1), weights=one.weights.expand(4, 3))
    close(update_of(block, one, q), update_of(block, rows, q))


def test_the_audio_transformer_runs_branches_and_clips_together_as_apart():
    module = randomised(AudioTransformer(64, WIDTH, tiny.TINY.audio_width, HEADS, Toolkit()))
    clip, x = tiny.clip_of(UNCONDITIONAL, CONDITIONAL, batch=2), tiny.noise(16, 64, 4, 4)
    together = module(x, clip, LEVEL)
    apart = [
        module(part, dataclasses.replace(clip, branches=(branch,)), LEVEL)
        for part, branch in zip(x.chunk(2), clip.branches, strict=True)
    ]
    close(together, torch.cat(apart))


def test_attention_maps_need_not_be_square():
    module = randomised(AudioTransformer(64, WIDTH, tiny.TINY.audio_width, HEADS, Toolkit()))
    clip = tiny.clip_of(CONDITIONAL, size=(4, 8))
    x = tiny.noise(4, 64, 2, 4)
    close(
        module(x, clip, LEVEL),
        module(x.reshape(4, 64, 4, 2), clip, LEVEL).reshape(4, 64, 2, 4),
    )


# Motion module


@pytest.fixture(scope="module")
def motion():
    return randomised(MotionModule(32, 8, Toolkit()))


def tables(module):
    return [
        attention.pos_encoder.pe
        for attention in module.temporal_transformer.transformer_blocks[0].attention_blocks
    ]


def test_frame_order_matters_only_through_the_positions(motion):
    x, carried = tiny.noise(6, 32, 3, 5), tiny.noise(1, 2, 32, 3, 5, seed=1)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    expected = motion(x, 6, carried)[order]
    assert (motion(x[order], 6, carried) - expected).abs().max() > 1e-2
    moved = MotionModule(32, 8, Toolkit()).requires_grad_(False)
    moved.load_state_dict(motion.state_dict())
    for table in tables(moved):
        table[:, 2:8] = table[:, 2 + order]
    close(moved(x[order], 6, carried), expected)


def test_without_positions_frames_and_carried_frames_are_a_set(motion):
    blind = MotionModule(32, 8, Toolkit()).requires_grad_(False)
    blind.load_state_dict(motion.state_dict())
    for table in tables(blind):
        table.zero_()
    x, carried, order = tiny.noise(6, 32, 3, 5), tiny.noise(1, 2, 32, 3, 5, seed=1), torch.randperm(6)
    close(blind(x[order], 6, carried.flip(1)), blind(x, 6, carried)[order])


def test_the_carried_frames_stand_at_the_first_positions(motion):
    """Two carried frames and four of a clip are six of a clip, of which the last four are kept."""
    whole = tiny.noise(6, 32, 3, 5)
    close(motion(whole[2:], 4, whole[None, :2]), motion(whole, 6, whole[None, :0])[2:])


def test_pixels_do_not_see_each_other_but_through_the_norm(motion):
    inner = motion.temporal_transformer.transformer_blocks[0]
    tokens = tiny.noise(7, 6, 32)
    close(inner(tokens, 2), torch.cat([inner(pixel[None], 2) for pixel in tokens]))


def test_clips_of_a_batch_do_not_see_each_other(motion):
    x, carried = tiny.noise(8, 32, 3, 5), tiny.noise(2, 2, 32, 3, 5, seed=1)
    apart = [motion(x[4 * i : 4 * i + 4], 4, carried[i : i + 1]) for i in range(2)]
    close(motion(x, 4, carried), torch.cat(apart))


def test_every_frame_sees_every_other_and_the_carried_ones(motion):
    x, carried = tiny.noise(4, 32, 2, 2), tiny.noise(1, 2, 32, 2, 2, seed=1)
    before = motion(x, 4, carried)
    for frame in range(4):
        changed = x.clone()
        changed[frame] = tiny.noise(32, 2, 2, seed=9)
        moved = (motion(changed, 4, carried) - before).abs().amax((1, 2, 3))
        assert (moved > 1e-4).all()
    assert ((motion(x, 4, carried.flip(1)) - before).abs().amax((1, 2, 3)) > 1e-4).all()


@pytest.mark.parametrize("width", [32, 64, 320])
def test_positions_are_sines_and_cosines(width):
    table = sinusoidal_positions(width)
    assert table.shape == (1, 32, width)
    for position, channel in ((0, 0), (0, 1), (1, 0), (7, 12), (31, width - 2), (31, width - 1)):
        angle = position * 10_000 ** (-(channel // 2 * 2) / width)
        expected = math.cos(angle) if channel % 2 else math.sin(angle)
        assert table[0, position, channel].item() == pytest.approx(expected, abs=3e-6)
