"""PSNR and SSIM against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from singer_core.evaluation.fidelity import load_lpips, psnr, ssim
from singer_core.evaluation.metric import NotComputedError

metrics = pytest.importorskip("skimage.metrics")


def pictures(high: int, wide: int, noise: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Two noisy uint8 pictures (3, H, W) whose difference has both signs."""
    rng = np.random.default_rng(high)
    first = rng.integers(0, 256, (3, high, wide))
    second = np.clip(first + rng.integers(-noise, noise + 1, first.shape), 0, 255)
    return torch.from_numpy(first.astype(np.uint8)), torch.from_numpy(second.astype(np.uint8))


@pytest.mark.parametrize("size", [(7, 7), (32, 48), (33, 64)])
def test_psnr_and_ssim_are_those_of_scikit_image(size):
    first, second = pictures(*size)
    a, b = first.numpy(), second.numpy()
    assert psnr(first, second) == pytest.approx(metrics.peak_signal_noise_ratio(b, a, data_range=255))
    theirs = metrics.structural_similarity(a, b, channel_axis=0, data_range=255)
    assert ssim(first, second) == pytest.approx(theirs, abs=1e-9)


def test_floats_with_their_range_give_the_same_numbers():
    first, second = pictures(24, 24)
    assert psnr(first / 255, second / 255, data_range=1.0) == pytest.approx(psnr(first, second), abs=1e-5)
    assert ssim(first / 255, second / 255, data_range=1.0) == pytest.approx(ssim(first, second), abs=1e-5)


def test_equal_pictures_are_perfect():
    first, _ = pictures(16, 16)
    assert psnr(first, first) == float("inf")
    assert ssim(first, first) == pytest.approx(1.0)


def test_uint8_pictures_do_not_wrap_around():
    """The published 30.7 dB: in uint8, 10 - 29 is 237 and the square of that 105, not 361."""
    first, second = (torch.full((3, 8, 8), level, dtype=torch.uint8) for level in (10, 29))
    wrapped = (first - second).square().float().mean()
    assert psnr(first, second) == pytest.approx(10 * np.log10(255**2 / 19**2))
    assert psnr(first, second) == psnr(second, first)
    assert 10 * np.log10(255**2 / float(wrapped)) > psnr(first, second) + 5


def test_pictures_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 8, 8\) and \(3, 8, 9\)"):
        psnr(torch.zeros(3, 8, 8), torch.zeros(3, 8, 9))
    with pytest.raises(ValueError, match="too small for SSIM"):
        ssim(torch.zeros(3, 6, 8), torch.zeros(3, 6, 8))


def test_lpips_says_what_it_lacks(tmp_path):
    with pytest.raises(NotComputedError, match=r"pip install lpips|put alexnet-owt-7be5be79\.pth") as caught:
        load_lpips(tmp_path)
    assert caught.value.lacking
