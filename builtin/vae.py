"""The built-in model's VAE, computed: the axes along which patches of pictures of people differ most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from singer_core.network.autoencoder import load_autoencoder
from singer_core.network.patches import COLOURS, SIDE, PatchAutoencoder
from singer_core.portrait.image import from_tensor
from singer_core.weights import save_weights

from .pictures import Draw, sources

WEIGHTS = "vae.safetensors"
AT_ONCE = 32  # pictures


@dataclass(frozen=True)
class VaeRecipe:
    """How the VAE is computed.

    channels   of the latents, of 192 coordinates of a patch
    size       side of the pictures in pixels
    pictures   of each kind
    whitening  the deviation of a coordinate is brought to this power of itself: 1 leaves errors of the
               latents as errors of the pixels, 0 counts the faintest detail like light and dark
    """

    channels: int = 48
    size: int = 128
    pictures: int = 480
    whitening: float = 0.5
    seed: int = 0


def make_vae(folder: Path, faces: Path | None, recipe: VaeRecipe) -> None:
    """Compute from drawn people and photographs, and judge."""
    vae = principal_axes(drawn_pictures(recipe, faces), recipe)
    folder.mkdir(parents=True, exist_ok=True)
    save_vae(folder / WEIGHTS, vae)
    judge(folder, faces, recipe.size)


def drawn_pictures(recipe: VaeRecipe, faces: Path | None) -> Iterator[Tensor]:
    """Pictures (b, 3, H, W) in [-1, 1] of people to train on, all kinds in turn."""
    rng = np.random.default_rng(recipe.seed)
    kinds = sources(recipe.size, faces, seed=recipe.seed).values()
    for _ in range(0, recipe.pictures, AT_ONCE):
        for draw in kinds:
            yield _pictures(draw, rng, AT_ONCE) * 2 - 1


def principal_axes(pictures: Iterator[Tensor], recipe: VaeRecipe) -> PatchAutoencoder:
    """The VAE whose coordinates explain the most of the pictures' patches about their mean colour."""
    count = 0
    total = torch.zeros(COLOURS * SIDE**2, dtype=torch.float64)
    squares = torch.zeros(len(total), len(total), dtype=torch.float64)
    for some in pictures:
        patches = F.pixel_unshuffle(some, SIDE).movedim(1, 3).flatten(0, 2).double()
        count, total, squares = count + len(patches), total + patches.sum(0), squares + patches.T @ patches
    mean = (total / count).unflatten(0, (COLOURS, -1)).mean(1)
    middle = mean.repeat_interleave(SIDE**2)
    spread = squares / count - torch.outer(total / count, middle) - torch.outer(middle, total / count)
    variances, axes = torch.linalg.eigh(spread + torch.outer(middle, middle))
    variances, axes = variances.flip(0)[: recipe.channels], axes.flip(1)[:, : recipe.channels]
    scale = variances.sqrt() ** (recipe.whitening - 1)
    scale = scale / (variances * scale.square()).mean().sqrt()
    return _as_network(axes, scale, mean)


def _as_network(axes: Tensor, scale: Tensor, mean: Tensor) -> PatchAutoencoder:
    """Orthonormal axes (192, c), a scale for each coordinate (c,), the mean colour (3,)."""
    filters = axes.T.unflatten(1, (COLOURS, SIDE, SIDE))
    encoder = filters * scale[:, None, None, None]
    state = {
        "encoder.weight": encoder,
        "encoder.bias": -(encoder.sum((2, 3)) @ mean),
        "decoder.weight": filters / scale[:, None, None, None],
        "decoder.bias": mean,
    }
    return PatchAutoencoder.of({name: value.float().contiguous() for name, value in state.items()})


def judge(folder: Path, faces: Path | None, size: int, count: int = 24) -> None:
    """Print what the VAE loses of people never trained on; write `KIND.png`, the truth above the redrawn."""
    vae = load_autoencoder(folder / WEIGHTS)
    for kind, true in held_out_pictures(count, size, faces).items():
        made = vae.decode(vae.encode(true * 2 - 1))
        psnr, colour = psnr_of(made, true), colour_error(made, true)
        print(
            f"{kind}: PSNR {psnr.mean():.2f} dB (worst {psnr.min():.2f}), colours {colour.mean():.2%} (worst "
            f"{colour.max():.2%})"
        )
        rows = [torch.cat(list(pictures[: count // 2]), dim=2) for pictures in (true, made)]
        from_tensor(torch.cat(rows, dim=1)).save(folder / f"{kind}.png")


def save_vae(path: Path, vae: PatchAutoencoder, dtype: torch.dtype = torch.float32) -> None:
    """Write it, whole or not at all."""
    save_weights(path, ((k, v.to(dtype)) for k, v in vae.state_dict().items()), {"singer.vae": "patches"})


def held_out_pictures(count: int, size: int, faces: Path | None) -> dict[str, Tensor]:
    """Pictures (count, 3, size, size) in [0, 1] of people never trained on, by kind."""
    rng = np.random.default_rng(977)
    return {kind: _pictures(draw, rng, count) for kind, draw in sources(size, faces, held_out=True).items()}


def _pictures(draw: Draw, rng: np.random.Generator, count: int) -> Tensor:
    """(count, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack([draw(rng) for _ in range(count)])).permute(0, 3, 1, 2) / 255


def psnr_of(made: Tensor, true: Tensor) -> Tensor:
    """PSNR in dB of every picture (b, 3, H, W) in [0, 1], peak 1, (b,)."""
    return -10 * (made - true).square().mean((1, 2, 3)).log10()


def colour_error(made: Tensor, true: Tensor, side: int = 32) -> Tensor:
    """Mean absolute difference of the mean colours of `side`-pixel squares, a share of full scale, (b,)."""
    return F.avg_pool2d(made - true, side).abs().mean((1, 2, 3))
