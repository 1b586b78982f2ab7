"""Noise schedules of the checkpoints and the authors' sampler, diffusers' DDIM (numerics section 12)."""

from __future__ import annotations

from typing import Literal

from diffusers import DDIMScheduler

from singer_core import constants

# "linear" is what the authors sample with, "scaled_linear" what the weights were trained with.
NoiseSchedule = Literal["linear", "scaled_linear"]


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
