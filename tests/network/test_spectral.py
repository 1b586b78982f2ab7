"""MSM and SFM: the formulas of docs/numerics.md sections 4 and 5 as oracles, and the laws they imply."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from singer_core.network.layers import Toolkit
from singer_core.network.spectral import (
    MultiScaleSpectralModule,
    SelfAdaptiveFilterModule,
    weigh_bands,
)
from singer_core.network.wavelet import analysis


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def msm(*kernel: int, seed: int = 0, scale: float = 0.1) -> MultiScaleSpectralModule:
    module = MultiScaleSpectralModule(kernel, Toolkit()).requires_grad_(False)
    module.kernel.weight.copy_(scale * noise(*kernel, seed=seed))
    module.gate[0].weight.copy_(noise(2, 4, seed=seed + 1))
    module.gate[2].weight.copy_(noise(1, 2, seed=seed + 2))
    return module


def sfm(channels: int, width: int, seed: int = 0) -> SelfAdaptiveFilterModule:
    module = SelfAdaptiveFilterModule(channels, width, Toolkit()).requires_grad_(False)
    for i, parameter in enumerate(module.parameters()):
        parameter.copy_(noise(*parameter.shape, seed=seed + i))
    return module


def one_hot(band: int, value: float = 1.0) -> torch.Tensor:
    return F.one_hot(torch.tensor(band), 4) * value


# Weighing of the audio plane


@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior2.2"])
def test_equal_gains_act_as_one_factor(wavelet):
    audio = noise(6, 8, 5)
    torch.testing.assert_close(
        weigh_bands(audio, torch.full((4,), 2.5), wavelet), 2.5 * audio, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_four_zero_gains_silence_the_audio(wavelet):
    assert weigh_bands(noise(6, 8, 5), torch.zeros(4), wavelet).abs().max() == 0


def test_weighing_scales_each_band_of_the_result_by_its_own_gain():
    audio, gains = noise(6, 8, 5), torch.tensor([0.5, 2.0, -1.0, 3.0])
    before, after = (analysis(x.permute(2, 1, 0)) for x in (audio, weigh_bands(audio, gains)))
    for band, (x, y) in enumerate(zip(before, after, strict=True)):
        torch.testing.assert_close(y, gains[band] * x, atol=1e-5, rtol=1e-5)


def test_features_are_weighed_apart():
    audio, gains = noise(6, 8, 5), torch.tensor([0.5, 2.0, -1.0, 3.0])
    for d in range(5):
        apart = weigh_bands(audio[..., d : d + 1], gains)
        torch.testing.assert_close(weigh_bands(audio, gains)[..., d : d + 1], apart)


@pytest.mark.parametrize(("cycles", "band_along_frames", "band_along_tokens"), [(1, 0, 0), (7, 1, 2)])
def test_a_slow_sine_is_low_and_a_fast_one_high_along_frames_and_along_tokens(
    cycles, band_along_frames, band_along_tokens
):
    """LL and LH along the frames, LL and HL along the tokens; the share is |H|^2 / 2 of the Haar filter."""
    n = 16
    omega = 2 * math.pi * cycles / n
    wave = torch.sin(omega * torch.arange(n) + 0.4)
    share = max(math.cos(omega / 2) ** 2, math.sin(omega / 2) ** 2)
    assert share > 0.96
    along_frames = wave[:, None, None].expand(n, n, 3)
    for audio, band in (
        (along_frames, band_along_frames),
        (along_frames.transpose(0, 1), band_along_tokens),
    ):
        energy = [weigh_bands(audio, one_hot(i)).square().sum() / audio.square().sum() for i in range(4)]
        assert energy[band] == pytest.approx(share, abs=1e-5)
        assert sum(energy) == pytest.approx(1, abs=1e-5)


# MSM


@pytest.mark.parametrize("kernel", [(1, 4, 14, 16, 16), (6, 4, 3, 8, 12), (2, 4, 1, 12, 8)])
def test_gains_follow_the_formula_of_the_authors(kernel):
    module, (h, w) = msm(*kernel), kernel[-2:]
    latents = noise(5, 4, h, w, seed=9)
    summed = torch.einsum("dceyx->cyx", module.kernel.weight.double())
    for band in range(4):
        total = 0.0
        for frame in latents.double():
            strip = slice(band * h // 4, (band + 1) * h // 4)
            response = torch.einsum("cyx,cyx->c", frame[:, strip], summed[:, strip])
            hidden = (module.gate[0].weight.double() @ response).clamp_min(0)
            total += 1 / (1 + math.exp(-float(module.gate[2].weight.double() @ hidden)))
        assert module.gains(latents)[band] == pytest.approx(total, rel=1e-4)


def test_only_the_sum_over_the_kernels_batch_and_frame_axes_acts():
    module, latents = msm(3, 4, 5, 16, 16), noise(4, 4, 16, 16, seed=5)
    summed = msm(1, 4, 1, 16, 16)
    summed.load_state_dict({**module.state_dict(), "kernel.weight": module.kernel.total()[None, :, None]})
    torch.testing.assert_close(module.gains(latents), summed.gains(latents))


def test_gains_add_up_over_frames_and_lie_between_zero_and_their_count():
    module, latents = msm(1, 4, 2, 16, 16), noise(6, 4, 16, 16)
    gains = module.gains(latents)
    torch.testing.assert_close(gains, module.gains(latents[:2]) + module.gains(latents[2:]))
    assert ((gains > 0) & (gains < 6)).all()


def test_the_strip_of_a_band_decides_on_it_alone():
    module, latents = msm(1, 4, 2, 16, 16), noise(2, 4, 16, 16)
    for band in range(4):
        changed = latents.clone()
        changed[..., 4 * band : 4 * band + 4, :] += 1
        moved = (module.gains(changed) - module.gains(latents)).abs() > 1e-6
        assert moved.tolist() == [i == band for i in range(4)]


def test_the_module_is_its_gains_on_the_bands():
    module, latents, audio = msm(1, 4, 2, 16, 16), noise(4, 4, 16, 16), noise(4, 6, 5)
    torch.testing.assert_close(module(audio, latents), weigh_bands(audio, module.gains(latents)))


def test_an_untrained_gate_gives_half_the_frame_count():
    module = msm(1, 4, 2, 16, 16)
    module.gate[2].weight.zero_()
    torch.testing.assert_close(module.gains(noise(6, 4, 16, 16)), torch.full((4,), 3.0))
    torch.testing.assert_close(module.expected_gains(6), torch.full((4,), 3.0))


@pytest.mark.parametrize("scale", [0.05, 0.5])
def test_expected_gains_are_the_mean_over_many_noise_draws(scale):
    module = msm(1, 4, 2, 8, 8, scale=scale)
    draws = noise(20_000, 4, 8, 8, seed=77)
    per_frame = module.open_gate(module.responses(draws))  # (band, draws)
    error = (per_frame.std(-1) / 4096**0.5 + per_frame.std(-1) / 20_000**0.5) * 16
    assert ((module.expected_gains(16) - 16 * per_frame.mean(-1)).abs() < 4 * error).all()
    assert per_frame.std() > 0.01  # the gate moves, so the mean says something


def test_expected_gains_do_not_depend_on_global_random_state():
    module = msm(1, 4, 2, 8, 8)
    torch.manual_seed(1)
    first = module.expected_gains(16)
    state = torch.random.get_rng_state()
    torch.testing.assert_close(module.expected_gains(16), first, atol=0, rtol=0)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("size", [(16, 16), (32, 16), (12, 20), (4, 8), (24, 24)], ids=str)
def test_a_resampled_kernel_answers_white_noise_as_the_trained_one(size):
    module = msm(2, 4, 3, 16, 16)
    kernel = module.kernel_for(size)
    assert kernel.shape == (4, *size)
    trained = module.kernel.total().square().unflatten(1, (4, -1)).sum((2, 3))
    resampled = kernel.square().unflatten(1, (4, -1)).sum((2, 3))
    torch.testing.assert_close(resampled, trained, rtol=1e-4, atol=0)
    measured = module.responses(noise(4000, 4, *size, seed=3)).var(-1)  # (strip, channel)
    torch.testing.assert_close(measured, trained.T, rtol=0.15, atol=0)


def test_strips_of_zeros_stay_zeros_at_any_size():
    module = msm(2, 4, 3, 16, 16)
    module.kernel.weight[:, 1, :, 4:8] = 0
    kernel = module.kernel_for((32, 32))
    assert kernel.isfinite().all() and kernel[1, 8:16].eq(0).all() and kernel[0, 8:16].ne(0).any()
    module.kernel.weight.zero_()
    assert torch.equal(module.kernel_for((24, 24)), torch.zeros(4, 24, 24))


def test_at_its_own_size_the_kernel_is_the_stored_one():
    module = msm(2, 4, 3, 16, 8)
    assert torch.equal(module.kernel_for((16, 8)), module.kernel.weight.sum((0, 2)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gains_in_half_precision_stay_near_those_in_full(dtype):
    module, latents = msm(1, 4, 14, 64, 64, scale=0.02), noise(16, 4, 64, 64).to(dtype)
    full = module.gains(latents.float())
    gains = module.to(dtype).gains(latents)
    assert gains.dtype == torch.float32
    assert ((gains - full).abs() / full).max() < 2e-2


# SFM


@pytest.mark.parametrize(("channels", "height", "width"), [(5, 8, 8), (3, 4, 8), (2, 6, 4)])
def test_the_filter_follows_the_formula_of_the_authors(channels, height, width):
    module, x = sfm(channels, width), noise(3, channels, height, width, seed=8)
    v = torch.einsum("nzcst->nc", module.bands.weight)
    a, b, c, d = x[..., 0::2, 0::2], x[..., 0::2, 1::2], x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    raw = (a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d)
    ll, lh, hl, hh = (v[n][:, None, None] * band / 4 for n, band in enumerate(raw))
    y = torch.empty_like(x)
    y[..., 0::2, 0::2], y[..., 0::2, 1::2] = ll + lh + hl + hh, ll - lh + hl - hh
    y[..., 1::2, 0::2], y[..., 1::2, 1::2] = ll + lh - hl - hh, ll - lh - hl + hh
    hidden = torch.einsum("vw,bchw->bchv", module.gate[0].weight, x).clamp_min(0)
    gate = 1 / (1 + torch.exp(-torch.einsum("wv,bchv->bchw", module.gate[2].weight, hidden)))
    torch.testing.assert_close(module(x), gate * y, atol=1e-5, rtol=1e-4)


def test_unit_gains_and_an_untrained_gate_halve_the_features():
    module, x = sfm(5, 8), noise(2, 5, 8, 8)
    module.bands.weight.fill_(1 / 16)
    module.gate[2].weight.zero_()
    torch.testing.assert_close(module(x), x / 2)


def test_the_gate_keeps_the_regions_it_opens_for_and_damps_the_others():
    """A map with features on the left only opens the left half and closes the right, row by row."""
    module = sfm(1, 8)
    module.bands.weight.fill_(1 / 16)
    module.gate[0].weight.copy_(torch.cat([torch.eye(4), torch.zeros(4, 4)], 1))  # looks at the left half
    module.gate[2].weight.copy_(torch.cat([torch.full((4, 4), 5.0), torch.full((4, 4), -5.0)]))
    x = torch.ones(1, 1, 8, 8)
    x[:, :, 4:, :4] = -1.0  # below, nothing the gate looks for: it stays half open
    y = module(x)
    opened = 1 / (1 + math.exp(-20))
    expected = torch.tensor([[opened] * 4 + [1 - opened] * 4] * 4 + [[-0.5] * 4 + [0.5] * 4] * 4)
    torch.testing.assert_close(y[0, 0], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("width", [2, 6, 8, 10, 16])
def test_the_gate_lies_between_zero_and_one_at_any_width(width):
    gate = sfm(5, 8).gate_for(noise(2, 5, 4, width))
    assert gate.shape == (2, 5, 4, width)
    assert ((gate > 0) & (gate < 1)).all()
    assert gate.std() > 0.05


@pytest.mark.parametrize("width", [4, 10, 16, 24])
def test_at_other_widths_features_constant_along_the_width_meet_the_trained_gate(width):
    module = sfm(5, 8)
    module.gate[2].weight.copy_(module.gate[2].weight[:1].expand(8, -1))  # one value for the whole row
    column = noise(2, 5, 4, 1)
    trained = module.gate_for(column.expand(-1, -1, -1, 8))
    torch.testing.assert_close(
        module.gate_for(column.expand(-1, -1, -1, width)), trained[..., :1].expand(-1, -1, -1, width)
    )


def test_at_twice_the_width_the_gate_is_the_trained_one_of_the_halved_features():
    module, x = sfm(5, 8), noise(2, 5, 4, 8).repeat_interleave(2, -1)
    gate = module.gate_for(x)
    halved = F.interpolate(x, size=(4, 8), mode="bilinear", antialias=True)
    trained = module.gate_for(halved)
    pairs = gate.unflatten(-1, (8, 2)).mean(-1)  # bilinear: 3/4 of a column and 1/8 of each neighbour
    torch.testing.assert_close(
        pairs[..., 1:-1], (trained.unfold(-1, 3, 1) * torch.tensor([1, 6, 1]) / 8).sum(-1)
    )


def test_strength_goes_from_the_features_to_the_filtered_ones():
    module, x = sfm(5, 8), noise(2, 5, 8, 8)
    assert module(x, strength=0) is x
    torch.testing.assert_close(module(x, strength=0.25), 0.75 * x + 0.25 * module(x))


def test_band_gains_multiply_the_trained_ones():
    module, x = sfm(5, 8), noise(2, 5, 8, 8)
    factors = (0.5, 2.0, 0.0, -1.0)
    scaled = sfm(5, 8)
    scaled.bands.weight.mul_(torch.tensor(factors).view(4, 1, 1, 1, 1))
    torch.testing.assert_close(module(x, 1.0, factors), scaled(x))
    assert module(x, 1.0, (0.0,) * 4).abs().max() == 0


def test_only_the_sum_over_the_gains_spatial_axes_acts():
    module, x = sfm(5, 8), noise(2, 5, 8, 8)
    moved = sfm(5, 8)
    moved.bands.weight.zero_()
    moved.bands.weight[..., 0, 3] = module.bands.weight.sum((-2, -1))
    torch.testing.assert_close(moved(x), module(x), atol=1e-5, rtol=1e-4)


def test_frames_and_rows_are_filtered_apart():
    module, x = sfm(5, 8), noise(4, 5, 8, 8)
    torch.testing.assert_close(module(x), torch.cat([module(frame[None]) for frame in x]))
    changed = x.clone()
    changed[:, :, 6:] += 1
    assert torch.equal(module(changed)[:, :, :6], module(x)[:, :, :6])


@pytest.mark.parametrize("size", [(1, 1), (3, 8), (5, 7), (8, 12)], ids=str)
def test_maps_of_any_size_keep_it(size):
    x = noise(2, 5, *size)
    y = sfm(5, 8)(x)
    assert y.shape == x.shape
    assert y.isfinite().all()


def test_both_modules_pass_gradients_to_their_gates_and_inputs():
    spectral, adaptive = msm(1, 4, 2, 16, 16).requires_grad_(True), sfm(5, 8).requires_grad_(True)
    audio, x = noise(4, 6, 5).requires_grad_(), noise(2, 5, 8, 8).requires_grad_()
    (spectral(audio, noise(4, 4, 16, 16)).square().sum() + adaptive(x).square().sum()).backward()
    for tensor in (*spectral.parameters(), *adaptive.parameters(), audio, x):
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 0
