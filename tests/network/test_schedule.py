"""Noise schedules and DDIM: the closed forms of docs/numerics.md sections 12 and 17."""

from __future__ import annotations

import pytest
import tiny
import torch

from singer_core.network.schedule import ddim, min_snr_weight, signal_to_noise

SCHEDULES = ["linear", "scaled_linear"]


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_last_time_step_is_pure_noise_and_the_first_as_before_the_rescaling(name):
    alphas = ddim(name, 1).alphas_cumprod
    assert alphas[999] == 0
    assert alphas[0].item() == pytest.approx(1 - 0.00085, abs=1e-6)
    assert (alphas.diff() < 0).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_square_roots_are_rescaled_linearly(name):
    if name == "linear":
        betas = torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64)
    else:
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    roots = (1 - betas).cumprod(0).sqrt()
    expected = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
    torch.testing.assert_close(ddim(name, 1).alphas_cumprod.double(), expected, atol=2e-6, rtol=1e-3)


@pytest.mark.parametrize("steps", [1, 3, 10, 25, 40, 1000])
def test_time_steps_trail_from_the_last(steps):
    expected = [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]
    assert ddim("linear", steps).timesteps.tolist() == expected


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 4, 10, 40])
def test_a_perfect_prediction_leads_from_noise_to_the_clean_latents(name, steps):
    clean, noise = tiny.noise(2, 4, 3, 3), tiny.noise(2, 4, 3, 3, seed=1)
    scheduler, latents = ddim(name, steps), noise
    for t in scheduler.timesteps:
        a = scheduler.alphas_cumprod[t]
        torch.testing.assert_close(latents, a.sqrt() * clean + (1 - a).sqrt() * noise, atol=1e-5, rtol=0)
        v = a.sqrt() * noise - (1 - a).sqrt() * clean
        latents = scheduler.step(v, t, latents).prev_sample
    torch.testing.assert_close(latents, clean, atol=1e-5, rtol=0)


def test_large_predictions_are_not_clipped():
    scheduler = ddim("linear", 1)
    result = scheduler.step(torch.full((1, 4, 2, 2), -30.0), 999, torch.zeros(1, 4, 2, 2))
    assert result.prev_sample.max() == pytest.approx(30)


def test_signal_to_noise_is_zero_at_the_last_step_and_the_loss_weight_one():
    snr = signal_to_noise(ddim("scaled_linear", 1), torch.tensor([0, 400, 999]))
    assert snr[2] == 0
    assert snr[0] > snr[1] > 0
    torch.testing.assert_close(
        min_snr_weight(torch.tensor([0.0, 3.0, 4.0, 99.0])), torch.tensor([1, 1, 1, 0.05])
    )
