"""An identity embedding without a network: what colours the picture, the face and the lips have."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from .portrait import Portrait

logger = logging.getLogger(__name__)

COLOUR_IDENTITY_WIDTH = 9  # mean RGB of three regions


def identity_for(portrait: Portrait, width: int) -> torch.Tensor:
    """The identity that a checkpoint reading `width` values is told of a portrait, (width,).

    Small models read nine colours, taken from the picture where the portrait has no identity of its own;
    others an embedding, zeros where it has none. Raises ValueError for an embedding of another width.
    """
    identity = portrait.identity
    if identity is None:
        if width == COLOUR_IDENTITY_WIDTH:
            return colour_identity(portrait.image, portrait.masks[0])
        logger.warning("No identity embedding: the network gets zeros, which costs likeness.")
        return torch.zeros(width)
    if identity.shape != (width,):
        raise ValueError(
            f"The identity embedding has {tuple(identity.shape)} values; this checkpoint reads {width}. "
            "Use the embedding of ArcFace `glintr100`, or none."
        )
    return identity


def colour_identity(image: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Mean colour of the three regions of a portrait, for small models trained with it.

    image    (3, H, W) in [0, 1]
    masks    (3, h w): full, face, lip in [0, 1] at a latent size, level 0 of `Portrait.masks`; H / h a whole
             number
    returns  (9,) in [-1, 1]: RGB of the picture around the face, of the face around the lips, of the lips
    """
    side = round(masks.shape[1] / (image.shape[2] / image.shape[1])) ** 0.5
    stride = round(image.shape[1] / side)
    return mean_colours(F.avg_pool2d(image[None], stride)[0], masks)


def mean_colours(small: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The same of a picture (3, h, w) at the masks' size."""
    weights = masks / masks.sum(1, keepdim=True).clamp_min(1e-6)
    return (weights @ small.flatten(1).T * 2 - 1).flatten()
