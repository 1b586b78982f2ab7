"""The authors' noise and sampler in ComfyUI's forms (numerics sections 12 and 13)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from singer_core import constants


@dataclass(frozen=True)
class ClipNoise:
    """Core's NOISE, drawn clip by clip in the order channel, frame, row, column."""

    seed: int
    clip_frames: int

    def generate_noise(self, input_latent: dict[str, Any]) -> Tensor:
        """(frames, 4, h, w) float32 on the CPU."""
        frames, channels, h, w = input_latent["samples"].shape
        generator = torch.Generator().manual_seed(self.seed)
        shape = (channels, self.clip_frames, h, w)
        clips = -(-frames // self.clip_frames)
        drawn = [torch.randn(shape, generator=generator).transpose(0, 1) for _ in range(clips)]
        return torch.cat(drawn)[:frames].contiguous()


def ddim_sampler() -> comfy.samplers.KSAMPLER:
    return comfy.samplers.KSAMPLER(sample_ddim)


@torch.no_grad()
def sample_ddim(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
) -> Tensor:
    """DDIM (Song et al. 2021, eq. 12 with eta 0), on latents of unit variance instead of core's x = z / a.

    Core keeps the share of signal at the last time step above zero, which costs 1e-3; here it is zero, as in
    the schedule that the authors sample with.
    """
    scaled = x / (1 + sigmas[0].square()).sqrt()
    row = x.new_ones(len(x))
    for step, (sigma, alpha, following) in enumerate(_levels(model.inner_model.inner_model, sigmas)):
        root = (1 + sigma.square()).sqrt()
        denoised = model((scaled.double() * root).float(), sigma.float() * row, **(extra_args or {}))
        v = (scaled.double() / root - denoised.double()) * root / sigma
        clean = alpha.sqrt() * scaled - (1 - alpha).sqrt() * v
        noise = alpha.sqrt() * v + (1 - alpha).sqrt() * scaled
        scaled = (following.sqrt() * clean + (1 - following).sqrt() * noise).float()
        if callback is not None:
            values = {"x": (scaled * root).float(), "i": step, "sigma": sigma, "sigma_hat": sigma}
            callback({**values, "denoised": clean.float()})
    return scaled


def _levels(model: Any, sigmas: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(sigma, share of signal, share after the step) of each step, float64; `sigmas` may end anywhere.

    On the authors' own time steps, where the number of steps does not divide 1000, a step ends where their
    scheduler lets it end: not quite where the next begins.
    """
    sampling, sigmas = model.model_sampling, sigmas.double()
    steps = len(sigmas) - 1
    alphas = 1 / (1 + sigmas.square())
    zero_snr = getattr(sampling, "zsnr", False) and float(sigmas[0]) >= float(sampling.sigma_max) * (1 - 1e-5)
    ends = _authors_ends(sampling, sigmas)
    for step in range(steps):
        alpha = torch.zeros_like(alphas[0]) if step == 0 and zero_snr else alphas[step]
        yield sigmas[step], alpha, alphas[step + 1] if ends is None else ends[step]


def _authors_ends(sampling: Any, sigmas: Tensor) -> list[Tensor] | None:
    """Share of signal after each step on the authors' trailing time steps; None for other steps."""
    steps, total = len(sigmas) - 1, constants.TRAIN_TIMESTEPS
    trailing = [round(total - step * total / steps) - 1 for step in range(steps)]
    found = sampling.timestep(sigmas[:-1].float()).tolist()
    if found != trailing or float(sigmas[-1]) != 0:
        return None
    table = 1 / (1 + sampling.sigmas.double().square())
    one = torch.ones_like(table[0])
    ends = [time - total // steps for time in trailing]
    return [table[end].to(sigmas) if end >= 0 else one.to(sigmas) for end in ends]
