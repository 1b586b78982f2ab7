"""Noise schedules of the checkpoints, the authors' sampler DDIM, and two of higher order.

Numerics sections 12 and 17.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor

from .. import constants
from ..settings import NoiseSchedule, Solver


def ddim(noise_schedule: NoiseSchedule, steps: int) -> DDIMScheduler:
    """DDIM with `steps` trailing time steps, zero terminal signal-to-noise ratio and v-prediction."""
    scheduler = DDIMScheduler(**_noise(noise_schedule), clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    return scheduler


def solver_for(
    solver: Solver, noise_schedule: NoiseSchedule, steps: int
) -> DDIMScheduler | DPMSolverMultistepScheduler | UniPCMultistepScheduler:
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
