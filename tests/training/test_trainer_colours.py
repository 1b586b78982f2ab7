"""The identity of small models: what colours regions have."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch

from singer_core.portrait.identity import COLOUR_IDENTITY_WIDTH, colour_identity, identity_for, mean_colours


def test_regions_of_one_colour_each_are_named_exactly():
    image = torch.zeros(3, 32, 32)
    image[0, :16] = 1.0  # red above
    image[2, 16:] = 0.5  # dark blue below
    masks = torch.zeros(3, 4, 4)
    masks[0, :2] = 1
    masks[1, 2:] = 0.3  # only relative weights count
    masks[2] = 1
    found = colour_identity(image, masks.flatten(1)).unflatten(0, (3, 3))
    assert found.numel() == COLOUR_IDENTITY_WIDTH
    torch.testing.assert_close(found[0], torch.tensor([1.0, -1.0, -1.0]))
    torch.testing.assert_close(found[1], torch.tensor([-1.0, -1.0, 0.0]))
    torch.testing.assert_close(found[2], torch.tensor([0.0, -1.0, -0.5]))


def test_pictures_that_are_not_square_and_empty_masks():
    image = torch.full((3, 64, 128), 0.75)
    masks = torch.stack([torch.ones(8 * 16), torch.rand(8 * 16), torch.zeros(8 * 16)])
    found = colour_identity(image, masks)
    torch.testing.assert_close(found[:6], torch.full((6,), 0.5))
    assert torch.equal(mean_colours(image[:, ::8, ::8], masks), found)
    assert torch.isfinite(found).all()


def test_a_checkpoint_of_colours_reads_them_off_a_portrait_without_identity():
    portrait = tiny.portrait_of()
    plain = dataclasses.replace(portrait, identity=None)
    found = identity_for(plain, COLOUR_IDENTITY_WIDTH)
    assert torch.equal(found, colour_identity(plain.image, plain.masks[0]))
    assert torch.equal(identity_for(plain, 12), torch.zeros(12))


def test_an_identity_of_another_width_is_refused():
    portrait = dataclasses.replace(tiny.portrait_of(), identity=torch.ones(5))
    assert torch.equal(identity_for(portrait, 5), torch.ones(5))
    with pytest.raises(ValueError, match=r"has \(5,\) values; this checkpoint reads 9"):
        identity_for(portrait, 9)
