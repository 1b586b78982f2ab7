"""One clip: from noise to latents, under guidance (paper section 4; numerics sections 4, 12 and 13)."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import constants
from ..network.adapter import SingerAdapter
from ..network.conditions import (
    CONDITIONAL,
    PORTRAIT_ONLY,
    UNCONDITIONAL,
    AudioTokens,
    Branch,
    ClipConditions,
)
from ..network.memory import OutOfMemory, too_large
from ..network.spectral import MultiScaleSpectralModule, weigh_bands
from ..settings import SingerOptions
from .seams import Held

if TYPE_CHECKING:  # diffusers, which ComfyUI's nodes do without
    from ..network.backbone import SingerNetwork

log = logging.getLogger(__name__)


class NotFiniteError(RuntimeError):
    """A step gave NaN or infinity."""


def branches_for(options: SingerOptions) -> tuple[Branch, ...]:
    """The guidance branches that a step needs: one without guidance, two with one scale, three with two.

    Where the reference scale is 1, the unconditional branch cancels out: two.
    """
    if not options.guided:
        return (CONDITIONAL,)
    if options.reference_scale == 1:
        return (PORTRAIT_ONLY, CONDITIONAL)
    if options.reference_scale == options.audio_scale:
        return (UNCONDITIONAL, CONDITIONAL)
    return (UNCONDITIONAL, PORTRAIT_ONLY, CONDITIONAL)


def guide(prediction: Tensor, options: SingerOptions) -> Tensor:
    """Predictions of `branches_for(options)`, ((branch f), 4, h, w) float32 -> guided, (f, 4, h, w)."""
    parts = prediction.chunk(len(branches_for(options)))
    conditional = parts[-1]
    if len(parts) == 1:
        return conditional
    guided = parts[0] + options.audio_scale * (conditional - parts[-2])
    if len(parts) == 3:
        guided = guided + options.reference_scale * (parts[1] - parts[0])
    return rescaled(guided, conditional, options.guidance_rescale) if options.guidance_rescale else guided


def rescaled(guided: Tensor, conditional: Tensor, strength: float) -> Tensor:
    """The guided prediction (f, 4, h, w), its deviation per frame brought towards the conditional one's.

    Lin et al. 2024, "Common diffusion noise schedules and sample steps are flawed", section 3.4.
    """
    deviations = [x.std(dim=(1, 2, 3), keepdim=True) for x in (conditional, guided)]
    return guided + strength * (guided * (deviations[0] / deviations[1]) - guided)


@dataclass(frozen=True)
class SpectralWeighting:
    """How audio tokens are weighed: by the MSM under `options`, or by gains that an earlier clip locked."""

    adapter: SingerAdapter
    options: SingerOptions
    locked: Tensor | None = None

    def gains(self, latents: Tensor) -> Tensor | None:
        """Gain of each band for latents (f, 4, h, w), (4,); None where all are 1."""
        module, options = self.adapter.multi_scale_spectral, self.options
        frames = len(latents)
        gains = latents.new_ones(constants.SPECTRAL_BANDS)
        if module is not None and options.msm_input != "off":
            gains = self._of_module(module, latents)
            if options.msm_scale == "trained_length":
                gains = gains * (constants.TRAINED_CLIP_FRAMES / frames)
        elif options.band_gains.neutral:
            return None
        return torch.stack([gain * factor for gain, factor in zip(gains, options.band_gains, strict=True)])

    def kept(self, noise: Tensor) -> Tensor | None:
        """The module's gains for all clips after one that began with `noise`; None where each has its own."""
        module = self.adapter.multi_scale_spectral
        if module is None or self.options.msm_input not in ("locked", "expected"):
            return None
        return self._of_module(module, noise)

    def _of_module(self, module: MultiScaleSpectralModule, latents: Tensor) -> Tensor:
        if self.locked is not None:
            return self.locked
        if self.options.msm_input == "expected":
            return module.expected_gains(len(latents)).to(latents.device)
        return module.gains(latents)

    def __call__(self, tokens: Tensor, latents: Tensor) -> Tensor:
        """Audio tokens (f, m, d) weighed by the latents (f, 4, h, w)."""
        gains = self.gains(latents)
        return tokens if gains is None else weigh_bands(tokens, gains, self.options.wavelet)


@torch.no_grad()
def sample_clip(
    network: SingerNetwork,
    options: SingerOptions,
    noise: Tensor,
    image_tokens: Tensor,
    clip: ClipConditions,
    weighting: SpectralWeighting,
    report: Callable[[int, Tensor], None] | None = None,
    held: Held | None = None,
) -> Tensor:
    """Latents of one clip, (f, 4, h, w) float32.

    noise         (f, 4, h, w) float32
    image_tokens  (2, 1, n, d) [unconditional, conditional]
    clip          its conditions, with the audio tokens before the MSM
    report        (index of the step, latents after it); may raise to stop
    held          frames that are known, before every step at its level of noise

    Raises NotFiniteError where a step gave NaN or infinity. That is read one step later, so that an
    accelerator has the next step before it when the host asks.
    """
    from ..network.schedule import noised, solver_for  # diffusers too

    scheduler = solver_for(options.solver, options.noise_schedule, options.steps)
    latents, finite, one_by_one = noise, torch.tensor(True), options.sequential_guidance
    dtype, heard = network.dtype, clip.audio.tokens
    times = scheduler.timesteps.to(noise.device)  # the network's; the scheduler's stay on the host
    for step, timestep in enumerate(scheduler.timesteps):
        if step == 0 or options.msm_input == "every_step":
            clip = dataclasses.replace(clip, audio=AudioTokens(weighting(heard, latents.to(dtype))))
        if held is not None:
            latents = held.joined(latents, functools.partial(noised, scheduler, timestep, noise))
        now = options.at_step(step)
        clip = dataclasses.replace(clip, branches=branches_for(now))
        run = functools.partial(network, latents.to(dtype), times[step], image_tokens)
        prediction, one_by_one = _of_branches(run, clip, one_by_one)
        latents = scheduler.step(guide(prediction.float(), now), timestep, latents).prev_sample
        _check(finite, step, options.steps, dtype)
        finite = latents.isfinite().all()
        if report is not None:
            report(step, latents)
    _check(finite, options.steps, options.steps, dtype)
    return latents if held is None else held.joined(latents)


def _check(finite: Tensor, step: int, steps: int, dtype: torch.dtype) -> None:
    if not finite:
        raise NotFiniteError(f"step {step} of {steps} gave NaN or infinity in {dtype}")


def _of_branches(
    run: Callable[[ClipConditions], Tensor], clip: ClipConditions, one_by_one: bool
) -> tuple[Tensor, bool]:
    """The prediction for all branches of the clip, and whether they go one by one from here on.

    Raises RuntimeError that says what to lower where a single branch does not fit the device's memory.
    """
    if not one_by_one:
        try:
            return run(clip), False
        except OutOfMemory as error:
            if len(clip.branches) == 1:
                raise RuntimeError(too_large("Sampling")) from error
        log.warning("All branches at once need more memory than there is; going on with one at a time.")
    parts = [dataclasses.replace(clip, branches=(branch,)) for branch in clip.branches]
    try:
        return torch.cat([run(part) for part in parts]), True
    except OutOfMemory as error:
        raise RuntimeError(too_large("Sampling")) from error
