"""Wavelet analysis and synthesis: reference tensors, PyWavelets, the filter bank's definition, and laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pywt
import torch
from verification.fixtures import load_fixture

from singer_core.network.wavelet import Bands, analysis, synthesis

GOLDEN = Path(__file__).parents[1] / "golden"
ALL = pywt.wavelist(kind="discrete")
SOME = [
    "haar",
    "db1",
    "db2",
    "db7",
    "db38",
    "sym5",
    "coif3",
    "coif17",
    "bior1.3",
    "bior3.1",
    "rbio4.4",
    "dmey",
]
SIZES = [(2, 2), (4, 2), (6, 16), (8, 8), (18, 32)]


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(dtype)


def filter_bank(name: str, n: int) -> np.ndarray:
    """(n, n) periodised analysis by its definition: y[k] = sum_j filter[j] x[2k + L/2 - j mod n]."""
    basis = pywt.Wavelet(name)
    matrix = np.zeros((n, n))
    for first_row, taps in ((0, basis.dec_lo), (n // 2, basis.dec_hi)):
        for k in range(n // 2):
            for j, tap in enumerate(taps):
                matrix[first_row + k, (2 * k + len(taps) // 2 - j) % n] += tap
    return matrix


@pytest.mark.parametrize("case", load_fixture(GOLDEN / "a_dwt.json").cases, ids=lambda case: case.name)
def test_haar_gives_the_reference_tensors(case):
    bands = analysis(case.inputs["x"])
    for ours, name in zip(bands, ("LL", "LH", "HL", "HH"), strict=True):
        torch.testing.assert_close(ours, case.expected[name], atol=2e-5, rtol=1e-4)
    back = synthesis(Bands(*(case.inputs[f"s{i}"] for i in range(4))))
    torch.testing.assert_close(back, case.expected["idwt"], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [*SIZES, (5, 8), (3, 7), (1, 1)], ids=str)
@pytest.mark.parametrize("name", SOME)
def test_bands_are_those_of_pywavelets(name, size):
    x = noise(2, *size)
    ca, (ch, cv, cd) = pywt.dwt2(x.numpy(), name, mode="periodization")
    for ours, theirs in zip(analysis(x, name), (ca, cv, ch, cd), strict=True):
        torch.testing.assert_close(ours, torch.from_numpy(theirs), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", ["haar", "db4", "bior2.4", "rbio3.1", "dmey"])
@pytest.mark.parametrize("n", [2, 6, 16])
def test_bands_are_those_of_the_periodised_filter_bank(name, n):
    x, matrix = noise(n, n), filter_bank(name, n)
    bands = analysis(x, name)
    ours = torch.cat((torch.cat(bands[:2], -1), torch.cat(bands[2:], -1)), -2)
    torch.testing.assert_close(ours, torch.from_numpy(matrix @ x.numpy() @ matrix.T), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in SOME if name != "dmey"])
def test_synthesis_is_that_of_pywavelets_where_its_filters_are_exact(name):
    bands = analysis(noise(10, 14), name)
    theirs = pywt.idwt2((bands.ll, (bands.hl, bands.lh, bands.hh)), name, mode="periodization")
    torch.testing.assert_close(synthesis(bands, name), torch.from_numpy(theirs), atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", ALL)
def test_synthesis_undoes_analysis_for_every_basis(name):
    for size in (*SIZES, (64, 64), (7, 5), (1, 4)):
        for dtype, limit in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
            x = noise(3, *size, dtype=dtype)
            back = synthesis(analysis(x, name), name, size)
            assert back.shape == x.shape
            assert (back - x).abs().max() <= limit * x.abs().max()


@pytest.mark.parametrize("name", [n for n in ALL if pywt.Wavelet(n).orthogonal and n != "dmey"])
def test_orthogonal_bases_keep_energy(name):
    x = noise(2, 12, 16)
    energy = sum(band.square().sum() for band in analysis(x, name))
    torch.testing.assert_close(energy, x.square().sum(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", [n for n in ALL if n != "dmey"])
def test_a_constant_has_no_detail(name):
    ll, *detail = analysis(torch.full((6, 8), 3.0, dtype=torch.float64), name)
    torch.testing.assert_close(ll, torch.full_like(ll, 6.0), atol=1e-9, rtol=0)
    assert all(band.abs().max() < 1e-9 for band in detail)


@pytest.mark.parametrize("name", SOME)
def test_a_shift_by_two_samples_shifts_the_bands_by_one(name):
    x = noise(8, 12)
    for shifted, band in zip(analysis(x.roll((2, -4), (0, 1)), name), analysis(x, name), strict=True):
        torch.testing.assert_close(shifted, band.roll((1, -2), (0, 1)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["haar", "db2", "bior2.2"])
def test_alternating_columns_are_lh_and_alternating_rows_are_hl(name):
    stripes = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(8).expand(16, 16)
    for x, own in ((stripes, "lh"), (stripes.mT, "hl")):
        energy = {k: float(v.square().sum()) for k, v in analysis(x, name)._asdict().items()}
        assert energy[own] > 100
        assert sum(energy.values()) - energy[own] < 1e-9


@pytest.mark.parametrize("name", ["haar", "db3", "rbio2.2"])
def test_both_directions_are_differentiable(name):
    x = noise(2, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: analysis(v, name), (x,))
    bands = [band.detach().requires_grad_() for band in analysis(x, name)]
    assert torch.autograd.gradcheck(lambda *v: synthesis(Bands(*v), name, (4, 5)), bands)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["haar", "db4"])
def test_half_precision_stays_half_precision(name, dtype):
    x = noise(2, 18, 32, dtype=dtype)
    bands = analysis(x, name)
    back = synthesis(bands, name)
    assert {band.dtype for band in bands} == {back.dtype} == {dtype}
    assert (back - x).abs().max() <= 8 * torch.finfo(dtype).eps * x.abs().max()


@pytest.mark.parametrize("name", ["haar", "db4"])
def test_bands_stay_on_the_device_of_the_input(name):
    assert synthesis(analysis(torch.empty(4, 6, device="meta"), name), name).device.type == "meta"


@pytest.mark.parametrize(
    ("name", "said"),
    [("db39", "unknown.*db3"), ("morl", "a continuous wavelet"), ("Haar", "unknown.*haar"), ("", "unknown")],
)
def test_a_basis_that_is_not_discrete_is_refused_with_near_names(name, said):
    with pytest.raises(ValueError, match=said):
        analysis(noise(4, 4), name)
    with pytest.raises(ValueError, match=said):
        synthesis(analysis(noise(4, 4)), name)


def test_bad_tensors_and_sizes_are_refused():
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        analysis(noise(4))
    with pytest.raises(ValueError, match=r"int64"):
        analysis(torch.ones(4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"shape \(0, 4\)"):
        analysis(noise(0, 4))
    with pytest.raises(ValueError, match=r"\(4, 6\) or one row or column less"):
        synthesis(analysis(noise(4, 6)), size=(4, 4))
