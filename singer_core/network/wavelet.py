"""One-level 2-D wavelet analysis and synthesis, periodised borders (SINGER 3.3, 3.4; numerics section 3).

Haar, the basis of the published weights, is a handful of strided adds. Every other discrete basis of
PyWavelets is one small matrix per axis. What is done to the bands is in `spectral.py`.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Bands(NamedTuple):
    """The four sub-bands `(..., h/2, w/2)` of a tensor `(..., h, w)`, in the order of the checkpoints.

    (ll, lh, hl, hh) = (cA, cV, cH, cD) of `pywt.dwt2(x, wavelet) = (cA, (cH, cV, cD))`, same scale and sign.
    """

    ll: Tensor  # low along both axes
    lh: Tensor  # low along axis -2, high along axis -1: vertical detail, cV
    hl: Tensor  # high along axis -2, low along axis -1: horizontal detail, cH
    hh: Tensor  # high along both axes


def analysis(x: Tensor, wavelet: str = "haar") -> Bands:
    """The sub-bands of `x` over its last two axes; agrees with `pywt.dwt2(x, wavelet, mode="periodization")`.

    x        (..., h, w)  floating, any device; an odd h or w is padded by repeating its last row or column
    wavelet  a name of `pywt.wavelist(kind="discrete")`
    returns  four times (..., ceil(h/2), ceil(w/2)), dtype and device of x

    The filters wrap around as often as they must, so h and w may be shorter than them.
    Raises ValueError on an unknown basis and on an x without two non-empty axes of floating numbers.
    """
    _check_name(wavelet)
    if not x.is_floating_point() or x.ndim < 2 or 0 in x.shape[-2:]:
        raise ValueError(
            f"`x` is {x.dtype} of shape {tuple(x.shape)}; analysis needs floating numbers (..., h, w), "
            "h and w at least 1. Add the missing axis or convert to float."
        )
    x = _pad_to_even(_pad_to_even(x, -2), -1)
    if wavelet == "haar":
        return _haar_analysis(x)
    rows, columns = (_analysis_matrix(wavelet, n).to(x) for n in x.shape[-2:])
    low, high = (rows @ x).chunk(2, -2)
    return Bands(*(low @ columns.mT).chunk(2, -1), *(high @ columns.mT).chunk(2, -1))


def synthesis(bands: Bands, wavelet: str = "haar", size: tuple[int, int] | None = None) -> Tensor:
    """The exact inverse of `analysis`.

    bands    four times (..., h', w')
    size     (h, w) of the tensor that was analysed, where it was odd; by default (2 h', 2 w')
    returns  (..., h, w)

    A basis other than Haar is inverted as the matrix it is: PyWavelets rounds some of its filters (sym20 to
    1e-11, dmey to 1e-3), so its dual filters undo the analysis only that far. Elsewhere both are the same.
    Raises ValueError on an unknown basis and on a size that does not belong to the bands.
    """
    _check_name(wavelet)
    full = (2 * bands.ll.shape[-2], 2 * bands.ll.shape[-1])
    h, w = full if size is None else size
    if h not in (full[0] - 1, full[0]) or w not in (full[1] - 1, full[1]):
        raise ValueError(
            f"`size` {(h, w)} does not belong to bands of {tuple(bands.ll.shape[-2:])}; "
            f"they come from {full} or one row or column less. Pass the size that was analysed."
        )
    if wavelet == "haar":
        return _haar_synthesis(bands)[..., :h, :w]
    rows, columns = (torch.linalg.inv(_analysis_matrix(wavelet, n)).to(bands.ll) for n in full)
    low = torch.cat((bands.ll, bands.lh), -1) @ columns.mT
    high = torch.cat((bands.hl, bands.hh), -1) @ columns.mT
    return (rows @ torch.cat((low, high), -2))[..., :h, :w]


def _haar_analysis(x: Tensor) -> Bands:
    top, bottom = x[..., 0::2, :], x[..., 1::2, :]
    low, high = (top + bottom) * 0.5, (top - bottom) * 0.5  # both axes' factors 1/sqrt(2) at once
    return Bands(
        low[..., 0::2] + low[..., 1::2],
        low[..., 0::2] - low[..., 1::2],
        high[..., 0::2] + high[..., 1::2],
        high[..., 0::2] - high[..., 1::2],
    )


def _haar_synthesis(bands: Bands) -> Tensor:
    ll, lh, hl, hh = bands
    low = torch.stack((ll + lh, ll - lh), -1).flatten(-2)
    high = torch.stack((hl + hh, hl - hh), -1).flatten(-2)
    return torch.stack((low + high, low - high), -2).flatten(-3, -2) * 0.5


def _analysis_matrix(wavelet: str, n: int) -> Tensor:
    """(n, n) float64: the periodised transform of n samples (even), low-pass rows above high-pass rows."""
    import pywt  # which haar does without

    return torch.from_numpy(np.concatenate(pywt.dwt(np.eye(n), wavelet, mode="periodization", axis=0)))


def _pad_to_even(x: Tensor, axis: int) -> Tensor:
    n = x.shape[axis]
    return torch.cat((x, x.narrow(axis, n - 1, 1)), axis) if n % 2 else x


def _check_name(wavelet: str) -> None:
    if wavelet == "haar":
        return
    import pywt

    known = pywt.wavelist(kind="discrete")
    if wavelet in known:
        return
    kind = "a continuous wavelet" if wavelet in pywt.wavelist(kind="continuous") else "unknown"
    near = ", ".join(difflib.get_close_matches(wavelet, known, n=3, cutoff=0.0))
    raise ValueError(
        f"`wavelet` {wavelet!r} is {kind}; accepted are the discrete wavelets of PyWavelets, "
        f'nearest {near}. See pywt.wavelist(kind="discrete").'
    )
