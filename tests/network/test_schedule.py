"""Noise schedules and DDIM: the closed forms of docs/numerics.md sections 12 and 17."""

from __future__ import annotations

import pytest
import tiny
import torch

from singer_core.network.conditions import noise_shares
from singer_core.network.schedule import ddim, min_snr_weight, noised, signal_to_noise, solver_for

SCHEDULES = ["linear", "scaled_linear"]


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_last_time_step_is_pure_noise_and_the_first_as_before_the_rescaling(name):
    alphas = ddim(name, 1).alphas_cumprod
    assert alphas[999] == 0
    assert alphas[0].item() == pytest.approx(1 - 0.00085, abs=1e-6)
    assert (alphas.diff() < 0).all()


def test_shares_of_noise_are_those_of_the_scheduler():
    expected = (1 - ddim("scaled_linear", 1).alphas_cumprod).sqrt()
    torch.testing.assert_close(noise_shares(), expected, atol=2e-6, rtol=1e-4)


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


# Solvers of higher order. Data of one number with mean `MEAN` and deviation `SPREAD`: the perfect prediction
# is known, and so is where noise ends up, `MEAN + SPREAD * noise`.

MEAN, SPREAD = 0.7, 0.3
SOLVERS = ["ddim", "dpmpp_2m", "unipc"]


def distance_from_the_truth(solver: str, schedule: str, steps: int) -> float:
    noise = torch.linspace(-2, 2, 9).view(9, 1, 1, 1)
    scheduler, latents = solver_for(solver, schedule, steps), noise
    for t in scheduler.timesteps:
        alpha = ddim(schedule, 1).alphas_cumprod[t]
        clean = MEAN + (alpha.sqrt() * SPREAD**2 * (latents - alpha.sqrt() * MEAN)) / (
            alpha * SPREAD**2 + 1 - alpha
        )
        share = (1 - alpha).sqrt()
        v = (
            alpha.sqrt() * latents - clean
        ) / share  # x = sqrt(a) x0 + sqrt(1-a) e, v = sqrt(a) e - sqrt(1-a) x0
        latents = scheduler.step(v, t, latents).prev_sample
    return (latents - (MEAN + SPREAD * noise)).abs().max().item()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 10, 20, 40])
def test_solvers_take_the_time_steps_of_ddim_and_stay_finite(schedule, solver, steps):
    assert solver_for(solver, schedule, steps).timesteps.tolist() == ddim(schedule, steps).timesteps.tolist()
    assert distance_from_the_truth(solver, schedule, steps) < 1.0


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("solver", ["dpmpp_2m", "unipc"])
@pytest.mark.parametrize("steps", [10, 20, 40])
def test_steps_of_higher_order_come_nearer_than_as_many_of_ddim(schedule, solver, steps):
    found, of_ddim = (distance_from_the_truth(name, schedule, steps) for name in (solver, "ddim"))
    assert found < 0.96 * of_ddim


@pytest.mark.parametrize("solver", SOLVERS)
def test_more_steps_come_nearer(solver):
    distances = [distance_from_the_truth(solver, "scaled_linear", steps) for steps in (10, 20, 40, 100)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.25 * distances[0]


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "unipc"])
def test_noise_is_added_as_the_scheduler_adds_it(solver):
    scheduler, latents, noise = (
        solver_for(solver, "linear", 7),
        tiny.noise(3, 4, 8, 8),
        tiny.noise(3, 4, 8, 8, seed=1),
    )
    for timestep in scheduler.timesteps:
        expected = scheduler.add_noise(latents, noise, timestep[None])
        assert torch.equal(noised(scheduler, timestep, noise, latents), expected)
