"""The built-in model's VAE: an `AutoencoderTiny` in TAESD's layout, trained on drawings and photographs."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from singer_core import constants
from singer_core.portrait.image import from_tensor
from singer_core.weights import load_state, save_weights

from .learning import resume, save_state, set_rate
from .pictures import PicturePool, sources

WEIGHTS, STATE = "vae.safetensors", "vae-state.pt"
BLOCK = 8  # pixels; mean colours of such blocks have a loss of their own
# Light, red against blue, red and blue against green; the last varies least and is forgotten first.
AXES = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
AXES = AXES / AXES.norm(dim=1, keepdim=True)
AXES_WEIGHTS = (1.0, 2.0, 4.0)


@dataclass(frozen=True)
class VaeRecipe:
    """How the VAE is trained.

    width         channels of encoder and decoder; TAESD has 64
    latents       channels of the latents: 4 as SD1.5's, or more where small pictures are to stay sharp
    size          side of the pictures in pixels
    crop, batch   side of the training crops in pixels, a multiple of 8; crops a step
    latent_noise  deviation of the noise on the latents before they are decoded, so that small errors of the
                  diffusion model cost little
    statistics    weight of the pull of every latent channel to mean 0 and deviation 1
    edges, colours   weights of the error of the pictures' differences between neighbours, and of mean colours
    linear        weight of what no linear map of the latents says of mean colours; without it, four channels
                  keep detail and forget green and pink
    pool, fresh   pictures that crops are taken from, and how many are drawn anew each step
    """

    width: int = 32
    latents: int = 16
    size: int = 128
    crop: int = 96
    batch: int = 4
    steps: int = 3000
    rate: float = 1e-3
    latent_noise: float = 0.15
    statistics: float = 0.02
    edges: float = 0.5
    colours: float = 2.0
    linear: float = 2.0
    pool: int = 600
    fresh: int = 2
    seed: int = 0


def build_vae(width: int, latents: int = constants.LATENT_CHANNELS) -> AutoencoderTiny:
    """A TAESD of `width` channels with PyTorch's initial weights."""
    widths = (width,) * 4
    return AutoencoderTiny(
        encoder_block_out_channels=widths, decoder_block_out_channels=widths, latent_channels=latents
    )


def grow(vae: AutoencoderTiny, smaller: dict[str, Tensor]) -> None:
    """Give a VAE the function of a narrower one: its weights, and new channels that nothing reads yet."""
    state = vae.state_dict()
    for name, value in smaller.items():
        grown = state[name]
        if value.ndim > 1:
            grown[: value.shape[0], value.shape[1] :] = 0
        grown[tuple(slice(n) for n in value.shape)] = value
    vae.load_state_dict(state)


def reconstruction_loss(vae: Any, pixels: Tensor, recipe: VaeRecipe, generator: torch.Generator) -> Tensor:
    """Error of pixels, of their differences and of mean colours, plus the pull on the latents' statistics."""
    latents = vae.encode(pixels).latents
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    error = vae.decode(latents + recipe.latent_noise * noise).sample - pixels
    pixel = error.abs().mean() + 4.0 * error.square().mean()
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    weights = error.new_tensor(AXES_WEIGHTS)[:, None, None]
    colours = (opponent(F.avg_pool2d(error, BLOCK)).abs() * weights).mean()
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    statistics = mean.square().mean() + (deviation.clamp_min(1e-4).log()).square().mean()
    hidden = unexplained(latents, F.avg_pool2d(pixels, BLOCK))
    weighted = recipe.edges * edges + recipe.colours * colours + recipe.linear * hidden
    return pixel + weighted + recipe.statistics * statistics


def opponent(colours: Tensor) -> Tensor:
    """RGB (b, 3, h, w) along `AXES`."""
    return torch.einsum("bchw,ac->bahw", colours, AXES.to(colours))


def unexplained(latents: Tensor, colours: Tensor) -> Tensor:
    """Share of the variance of colours (b, 3, h, w) that no affine map of latents (b, c, h, w) gives, each of
    the three axes counting the same."""
    known = torch.cat([latents, torch.ones_like(latents[:, :1])], 1).movedim(1, 3).flatten(0, 2)
    wanted = opponent(colours).movedim(1, 3).flatten(0, 2)
    normal = known.T @ known + 1e-3 * torch.eye(known.shape[1], device=known.device)
    best = torch.linalg.solve(normal, known.T @ wanted).detach()  # at the best map its own slope is zero
    left = (wanted - known @ best).square().mean(0)
    return (left / (wanted.var(0) + 1e-4)).mean()


def train_vae(
    recipe: VaeRecipe,
    folder: Path,
    faces: Path | None = None,
    on_step: Callable[[int, float], None] | None = None,
    device: torch.device | str = "cpu",
    start: dict[str, Tensor] | None = None,
    save_every: int = 100,
) -> AutoencoderTiny:
    """Train, or go on from `folder`'s last state; writes `vae.safetensors` and `vae-state.pt` there.

    faces  folder of photographs, beside drawn people
    start  weights of a VAE as wide or narrower to begin with

    After a restart pictures are drawn anew from another seed, so a continued run is not bit-equal to an
    unbroken one. In float32: bfloat16 is several times slower on CPUs that lack it.
    """
    torch.manual_seed(recipe.seed)
    vae = build_vae(recipe.width, recipe.latents)
    if start is not None:
        grow(vae, start)
    vae.to(device, memory_format=torch.channels_last)  # faster on CPUs
    optimizer = torch.optim.AdamW(vae.parameters(), lr=recipe.rate, weight_decay=1e-4, betas=(0.9, 0.99))
    folder.mkdir(parents=True, exist_ok=True)
    first = resume(folder / STATE, vae, optimizer)
    seed = recipe.seed * 1_000 + first
    pool = PicturePool(list(sources(recipe.size, faces, seed=seed).values()), recipe.pool, seed)
    for step in range(first, recipe.steps):
        set_rate(optimizer, recipe.rate, step, recipe.steps)
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        crops = pool.crops(recipe.batch, recipe.crop, recipe.fresh)
        pixels = crops.to(device, memory_format=torch.channels_last)
        loss = reconstruction_loss(vae, pixels, recipe, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if on_step is not None:
            on_step(step, float(loss.detach()))
        if (step + 1) % save_every == 0 or step + 1 == recipe.steps:
            save_vae(folder / WEIGHTS, vae)
            save_state(folder / STATE, vae, optimizer, step + 1)
    return vae


def make_vae(folder: Path, faces: Path | None, recipe: VaeRecipe, start: Path | None = None) -> None:
    """Train into `folder` with a log (step, loss, seconds), then judge."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with (folder / "log.csv").open("a", newline="") as stream:
        log = csv.writer(stream)

        def report(step: int, loss: float) -> None:
            if step % 20 == 0:
                log.writerow([step, f"{loss:.5f}", f"{time.monotonic() - began:.1f}"])
                stream.flush()

        train_vae(recipe, folder, faces, report, start=read_vae(start) if start else None)
    judge(folder, faces, recipe.size)


def judge(folder: Path, faces: Path | None, size: int, count: int = 24) -> None:
    """Print what the VAE loses of people never trained on; write `KIND.png`, the truth above the redrawn."""
    state = read_vae(folder / WEIGHTS)
    vae = build_vae(*state["decoder.layers.0.weight"].shape[:2]).eval()
    vae.load_state_dict(state)
    for kind, true in held_out_pictures(count, size, faces).items():
        made = redrawn(vae, true)
        psnr, colour = psnr_of(made, true), colour_error(made, true)
        mean, deviation = latent_statistics(vae, true)
        print(
            f"{kind}: PSNR {psnr.mean():.2f} dB (worst {psnr.min():.2f}), colours {colour.mean():.2%} (worst "
            f"{colour.max():.2%}); latents {mean.tolist()} +- {deviation.tolist()}"
        )
        rows = [torch.cat(list(pictures[: count // 2]), dim=2) for pictures in (true, made)]
        from_tensor(torch.cat(rows, dim=1)).save(folder / f"{kind}.png")


def save_vae(path: Path, vae: AutoencoderTiny, dtype: torch.dtype = torch.float32) -> None:
    """Write diffusers' names, whole or not at all."""
    save_weights(path, ((k, v.to(dtype)) for k, v in vae.state_dict().items()), {"singer.vae": "taesd"})


def read_vae(path: Path) -> dict[str, Tensor]:
    """Tensors of a file that `save_vae` wrote, in float32."""
    return {key: value.float() for key, value in load_state(path).items()}


def held_out_pictures(count: int, size: int, faces: Path | None) -> dict[str, Tensor]:
    """Pictures (count, 3, size, size) in [0, 1] of people never trained on, by kind."""
    rng = np.random.default_rng(977)
    return {
        kind: torch.from_numpy(np.stack([draw(rng) for _ in range(count)])).permute(0, 3, 1, 2) / 255
        for kind, draw in sources(size, faces, held_out=True).items()
    }


@torch.no_grad()
def redrawn(vae: AutoencoderTiny, pictures: Tensor) -> Tensor:
    """Pictures (b, 3, H, W) in [0, 1] after encoding and decoding."""
    back = [vae.decode(vae.encode(part * 2 - 1).latents).sample for part in pictures.split(4)]
    return (torch.cat(back) / 2 + 0.5).clamp(0, 1)


def psnr_of(made: Tensor, true: Tensor) -> Tensor:
    """PSNR in dB of every picture (b, 3, H, W) in [0, 1], peak 1, (b,)."""
    return -10 * (made - true).square().mean((1, 2, 3)).log10()


def colour_error(made: Tensor, true: Tensor, side: int = 32) -> Tensor:
    """Mean absolute difference of the mean colours of `side`-pixel squares, a share of full scale, (b,)."""
    return F.avg_pool2d(made - true, side).abs().mean((1, 2, 3))


@torch.no_grad()
def latent_statistics(vae: AutoencoderTiny, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every latent channel over pictures in [0, 1], (c,) each."""
    latents = vae.encode(pictures * 2 - 1).latents
    return latents.mean((0, 2, 3)), latents.std((0, 2, 3))
