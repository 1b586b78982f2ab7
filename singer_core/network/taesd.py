"""A narrow TAESD in the form of loaders that know its published width only, such as ComfyUI's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import constants

TAESD_WIDTH = 64


def widened(state: dict[str, Tensor], width: int = TAESD_WIDTH) -> dict[str, Tensor]:
    """The same VAE with `width` channels, the new ones zero: bit-equal sums, hence equal pictures.

    Raises ValueError where the VAE is wider already.
    """
    own = state["encoder.layers.0.weight"].shape[0]
    if own > width:
        raise ValueError(f"The VAE is {own} channels wide, more than {width}. Choose a larger `width`.")
    outer = {3, state["decoder.layers.0.weight"].shape[1]}

    def pad(tensor: Tensor) -> Tensor:
        channels = tensor.shape[: 1 if tensor.ndim == 1 else 2]
        missing = [0 if size in outer else width - size for size in channels]
        sides = [0, 0] * (tensor.ndim - len(missing)) + [
            side for more in reversed(missing) for side in (0, more)
        ]
        return F.pad(tensor, sides)

    return {key: pad(value) for key, value in state.items()}


def comfyui_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The VAE as ComfyUI composes a TAESD: 64 channels wide, its names, and the scale of SD1.5's latents."""
    named: dict[str, Tensor] = {
        "vae_scale": torch.tensor(constants.VAE_SCALE),
        "vae_shift": torch.tensor(0.0),
    }
    for key, value in widened(state).items():
        half, _, layer, rest = key.split(".", 3)
        shifted = int(layer) + (half == "decoder")  # there a clamp comes first
        named[f"taesd_{half}.{shifted}.{rest}"] = value
    return named
