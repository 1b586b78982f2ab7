"""Noise schedules of the checkpoints, the authors' sampler DDIM, and two of higher order.

Numerics sections 12 and 17.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor

from .. import constants
from ..settings import NoiseSchedule, Solver

Scheduler: TypeAlias = DDIMScheduler | DPMSolverMultistepScheduler | UniPCMultistepScheduler


def ddim(noise_schedule: NoiseSchedule, steps: int) -> DDIMScheduler:
    """DDIM with `steps` trailing time steps, zero terminal signal-to-noise ratio and v-prediction."""
    scheduler = DDIMScheduler(**_noise(noise_schedule), clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    return scheduler


def solver_for(solver: Solver, noise_schedule: NoiseSchedule, steps: int) -> Scheduler:
    """The sampler of that name with the same time steps as `ddim`; one object serves one clip.

    "dpmpp_2m" (Lu et al. 2022, DPM-Solver++) and "unipc" (Zhao et al. 2023, bh2) are of second order in the
    log of the signal-to-noise ratio, which is minus infinity at the first step: diffusers starts them at a
    ratio of 2^-24 instead. The last step ends at no noise and is of first order.
    """
    if solver == "ddim":
        return ddim(noise_schedule, steps)
    common = {**_noise(noise_schedule), "solver_order": 2, "final_sigmas_type": "zero"}
    if solver == "unipc":
        scheduler = UniPCMultistepScheduler(**common, solver_type="bh2")
    else:
        scheduler = DPMSolverMultistepScheduler(**common, algorithm_type="dpmsolver++")
    scheduler.set_timesteps(steps)
    return scheduler


def noised(scheduler: Scheduler, timestep: Tensor, noise: Tensor, latents: Tensor) -> Tensor:
    """`scheduler.add_noise` at one time step, for latents on any device.

    It looks the step up where its arguments are, for which an accelerator would be waited for: so it is asked
    for the shares of signal and noise on the host.
    """
    one, none = torch.ones(1), torch.zeros(1)
    signal, share = (scheduler.add_noise(*given, timestep[None])[0] for given in ((one, none), (none, one)))
    return signal * latents + share * noise


def _noise(noise_schedule: NoiseSchedule) -> dict[str, Any]:
    return {
        "num_train_timesteps": constants.TRAIN_TIMESTEPS,
        "beta_start": constants.BETA_START,
        "beta_end": constants.BETA_END,
        "beta_schedule": noise_schedule,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": True,
    }


def signal_to_noise(scheduler: DDIMScheduler, timesteps: Tensor) -> Tensor:
    """Signal-to-noise ratio of the noisy latents at training time steps (b,) -> (b,); 0 at the last one."""
    alphas = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    return alphas / (1 - alphas)


def min_snr_weight(snr: Tensor, gamma: float = constants.MIN_SNR_GAMMA) -> Tensor:
    """Loss weight of v-prediction at a signal-to-noise ratio (Hang et al. 2023, min-SNR), (b,) -> (b,)."""
    return torch.clamp(snr + 1, max=gamma) / (snr + 1)
