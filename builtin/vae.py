"""The built-in model's VAE: an `AutoencoderTiny` in TAESD's layout, trained to redraw the synthetic world.

A narrower TAESD: same depth, `width` instead of 64 channels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from singer_core.files import renamed_on_success
from singer_core.weights import open_weights, save_weights

from .world import Identity, Performance, Song

logger = logging.getLogger(__name__)

FACE_SHARE = 0.5  # of the crops lie around the face's features, which are small and matter most


@dataclass(frozen=True)
class VaeRecipe:
    """How the VAE is trained.

    width         channels of encoder and decoder
    crop          side of the training crops in pixels, a multiple of 8
    batch         crops a step
    latent_noise  deviation of the noise on the latents before they are decoded, so that small errors of the
                  diffusion model cost little
    statistics    weight of the pull of every latent channel to mean 0 and deviation 1
    decoder_only  leave the encoder, so that clips encoded with it stay valid
    pool, songs   drawn pictures that crops are taken from (one is drawn anew each step), songs that they sing
    edges         weight of the error of the pictures' differences between neighbours
    """

    width: int = 32
    size: int = 128
    crop: int = 64
    batch: int = 16
    steps: int = 6000
    rate: float = 2e-3
    latent_noise: float = 0.05
    statistics: float = 0.02
    edges: float = 0.5
    decoder_only: bool = False
    pool: int = 192
    songs: int = 12
    seed: int = 0


def build_vae(width: int) -> AutoencoderTiny:
    """A TAESD of `width` channels with PyTorch's initial weights."""
    widths = (width,) * 4
    return AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths)


class PicturePool:
    """Drawn frames of many people, a few replaced every time it is asked. Deterministic by seed."""

    def __init__(self, seed: int, size: int, capacity: int, songs: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.songs = [Song.random(seed * 1000 + i, 6.0, "pop", accompaniment=False) for i in range(songs)]
        self.size, self.first = size, seed * 1_000_000
        self.people = 0
        self.pictures = torch.stack([self._draw() for _ in range(capacity)])

    def _draw(self) -> Tensor:
        song = self.songs[self._random(len(self.songs))]
        show = Performance(Identity.random(self.first + self.people), song, size=self.size)
        self.people += 1
        picture = show.frame(self._random(len(show)))
        return torch.from_numpy(picture).permute(2, 0, 1)

    def _random(self, limit: int) -> int:
        return int(torch.randint(limit, (1,), generator=self.generator))

    def crops(self, count: int, side: int, fresh: int = 1) -> Tensor:
        """(count, 3, side, side) in [-1, 1], after `fresh` new drawings."""
        for _ in range(fresh):
            self.pictures[self._random(len(self.pictures))] = self._draw()
        parts = []
        for index in range(count):
            picture = self.pictures[self._random(len(self.pictures))]
            span = self.size - side
            top, left = self._random(span + 1), self._random(span + 1)
            if index < FACE_SHARE * count:  # the face lies in the middle, its mouth below
                top, left = span // 2 + top // 4, span // 4 + left // 2
            parts.append(picture[:, top : top + side, left : left + side])
        return torch.stack(parts).float() / 127.5 - 1


def reconstruction_loss(vae: Any, pixels: Tensor, recipe: VaeRecipe, generator: torch.Generator) -> Tensor:
    """Error of pixels and of their differences, plus the pull on the latents' statistics."""
    latents = vae.encode(pixels).latents.float()
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    error = vae.decode(latents + recipe.latent_noise * noise).sample.float() - pixels
    loss = error.abs().mean() + 2.0 * error.square().mean()
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    statistics = mean.square().mean() + (deviation.clamp_min(1e-4).log()).square().mean()
    return loss + recipe.edges * edges + recipe.statistics * statistics


def train_vae(
    recipe: VaeRecipe,
    folder: Path,
    on_step: Callable[[int, float], None] | None = None,
    device: torch.device | str = "cpu",
    save_every: int = 200,
) -> AutoencoderTiny:
    """Train, or go on from `folder`'s last state; writes `vae.safetensors` and `vae-state.pt` there.

    After a restart pictures are drawn anew from another seed, so a continued run is not bit-equal to an
    unbroken one.
    """
    vae = build_vae(recipe.width).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=recipe.rate, weight_decay=1e-4, betas=(0.9, 0.99))
    start = _resume(folder, vae, optimizer)
    vae.encoder.requires_grad_(not recipe.decoder_only)
    pool = PicturePool(recipe.seed + start, recipe.size, recipe.pool, recipe.songs)
    for step in range(start, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(recipe, step)
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        pixels = pool.crops(recipe.batch, recipe.crop).to(device, memory_format=torch.channels_last)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            loss = reconstruction_loss(vae, pixels, recipe, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if on_step is not None:
            on_step(step, float(loss.detach()))
        if (step + 1) % save_every == 0 or step + 1 == recipe.steps:
            _save(folder, vae, optimizer, step + 1)
    return vae


def _rate(recipe: VaeRecipe, step: int) -> float:
    warm = min((step + 1) / 100, 1.0)
    return recipe.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps)))


def save_vae(path: Path, vae: AutoencoderTiny, dtype: torch.dtype = torch.float32) -> None:
    """Write diffusers' names, whole or not at all."""
    save_weights(path, ((k, v.to(dtype)) for k, v in vae.state_dict().items()), {"singer.vae": "taesd"})


def _save(folder: Path, vae: AutoencoderTiny, optimizer: torch.optim.Optimizer, step: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_vae(folder / "vae.safetensors", vae)
    with renamed_on_success(folder / "vae-state.pt") as temporary:
        torch.save(
            {"weights": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, temporary
        )


def _resume(folder: Path, vae: AutoencoderTiny, optimizer: torch.optim.Optimizer) -> int:
    path = folder / "vae-state.pt"
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    vae.load_state_dict(state["weights"])
    optimizer.load_state_dict(state["optimizer"])
    logger.info("going on from step %d of %s", state["step"], path)
    return int(state["step"])


def held_out_pictures(count: int, size: int, seed: int = 977) -> Iterator[Tensor]:
    """Frames (3, size, size) in [0, 1] of people no `PicturePool` of a small seed draws."""
    pool = PicturePool(seed, size, capacity=count, songs=3)
    return iter(pool.pictures.float() / 255)


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderTiny, pictures: Tensor) -> Tensor:
    """PSNR in dB of pictures (b, 3, H, W) in [0, 1] after encoding and decoding, peak 1, (b,)."""
    pixels = pictures * 2 - 1
    back = vae.decode(vae.encode(pixels).latents).sample / 2 + 0.5
    return -10 * (back.clamp(0, 1) - pictures).square().mean((1, 2, 3)).log10()


@torch.no_grad()
def latent_statistics(vae: AutoencoderTiny, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every latent channel over pictures in [0, 1], (4,) each."""
    latents = vae.encode(pictures * 2 - 1).latents
    return latents.mean((0, 2, 3)), latents.std((0, 2, 3))


def load_tiny_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a file that `save_vae` wrote."""
    file = open_weights(path)
    return {key: file.tensor(key) for key in file.shapes}
