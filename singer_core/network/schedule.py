"""Noise schedules of the checkpoints and the authors' sampler, DDIM (numerics sections 12 and 17)."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from singer_core import constants
from singer_core.options import NoiseSchedule


def ddim(noise_schedule: NoiseSchedule, steps: int) -> DDIMScheduler:
    """DDIM with `steps` trailing time steps, zero terminal signal-to-noise ratio and v-prediction."""
    scheduler = DDIMScheduler(
        num_train_timesteps=constants.TRAIN_TIMESTEPS,
        beta_start=constants.BETA_START,
        beta_end=constants.BETA_END,
        beta_schedule=noise_schedule,
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )
    scheduler.set_timesteps(steps)
    return scheduler


def signal_to_noise(scheduler: DDIMScheduler, timesteps: Tensor) -> Tensor:
    """Signal-to-noise ratio of the noisy latents at training time steps (b,) -> (b,); 0 at the last one."""
    alphas = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    return alphas / (1 - alphas)


def min_snr_weight(snr: Tensor, gamma: float = constants.MIN_SNR_GAMMA) -> Tensor:
    """Loss weight of v-prediction at a signal-to-noise ratio (Hang et al. 2023, min-SNR), (b,) -> (b,)."""
    return torch.clamp(snr + 1, max=gamma) / (snr + 1)
