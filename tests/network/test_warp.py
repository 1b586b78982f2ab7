"""Frames as the moved portrait and a change."""

from __future__ import annotations

import pytest
import tiny
import torch
import torch.nn.functional as F

from singer_core.network.warp import (
    BARE,
    CELLS,
    COVER,
    COVERED,
    FIELD,
    MOTION,
    REACH,
    STILL,
    PortraitWarp,
    moved,
)

PATCH = 3 * 8 * 8


@pytest.fixture
def lossless() -> PortraitWarp:
    """Latents are the values of the patches themselves."""
    warp = PortraitWarp(PATCH).requires_grad_(False)
    for layer in (warp.patches.encoder, warp.patches.decoder):
        layer.weight.copy_(torch.eye(PATCH).reshape(PATCH, 3, 8, 8))
        layer.bias.zero_()
    return warp


def fields(x: float, y: float) -> torch.Tensor:
    """(1, FIELD, 4, 4): everything is fetched from x pixels to the right and y below."""
    cells = CELLS**2
    return torch.tensor([x] * cells + [y] * cells).view(1, FIELD, 1, 1).expand(1, FIELD, 4, 4) / REACH


def test_what_hardly_moves_and_is_not_covered_is_the_portrait(lossless):
    portrait, paint = tiny.noise(2, PATCH, 4, 4), tiny.noise(2, PATCH, 4, 4, seed=1)
    field, nothing = tiny.noise(2, FIELD, 4, 4).clamp(-STILL, STILL), -torch.rand(2, COVER, 4, 4)
    found = lossless(portrait, torch.cat([paint, field, nothing], dim=1))
    torch.testing.assert_close(found, portrait, atol=1e-4, rtol=1e-4)


def test_a_field_moves_the_picture_by_pixels(lossless):
    picture = tiny.noise(1, 3, 32, 32)
    found = moved(picture, fields(2, -1))
    torch.testing.assert_close(found[..., 1:, :-2], picture[..., :-1, 2:], atol=1e-4, rtol=1e-4)
    latents = F.pixel_unshuffle(picture, 8)
    further = fields(2 + STILL * REACH, -1 - STILL * REACH)
    output = torch.cat([torch.zeros_like(latents), further, torch.zeros(1, COVER, 4, 4)], dim=1)
    torch.testing.assert_close(lossless(latents, output), F.pixel_unshuffle(found, 8), atol=1e-4, rtol=1e-4)


def test_cells_of_a_patch_move_by_themselves():
    picture = torch.arange(32.0).expand(1, 3, 32, 32)
    field = fields(0, 0).clone()
    field[0, 1, 1, 1] = 1.0  # x of the upper right cell of the second patch in the second row
    change = (moved(picture, field) - picture)[0, 0]
    assert change[8:12, 12:16].min() > 0.1 * REACH
    assert change.max() == change[8:12, 12:16].max()
    assert not change[16:, :].any() and not change[:, :8].any()


def test_paint_covers_the_picture_cell_by_cell(lossless):
    cover, paint = torch.zeros(1, COVER, 4, 4), tiny.noise(1, 3, 32, 32)
    cover += BARE
    cover[0, :, 1, 2] = COVERED
    output = torch.cat([F.pixel_unshuffle(paint, 8), fields(0, 0), cover], dim=1)
    found = F.pixel_shuffle(lossless(torch.zeros(1, PATCH, 4, 4), output), 8)
    torch.testing.assert_close(found[..., 9:15, 17:23], paint[..., 9:15, 17:23])
    found[..., 7:17, 15:25] = 0
    assert not found.any()


def test_a_portrait_is_of_the_frames_that_follow_one_another(lossless):
    portraits, output = tiny.noise(2, PATCH, 4, 4), 0.3 * tiny.noise(6, PATCH + MOTION, 4, 4, seed=1)
    each = [lossless(portraits[[row // 3]], output[[row]]) for row in range(6)]
    torch.testing.assert_close(lossless(portraits, output), torch.cat(each))
