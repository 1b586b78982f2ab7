"""How near pictures are to their reference: PSNR, SSIM, LPIPS where installed, Frechet's distance of sets.

Levels are turned into floats before anything is subtracted: the difference of two uint8 pictures wraps around
at 256, which once made 19.9 dB read as 31.7.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..weights import load_state
from .footage import Floats
from .metric import needed_file, needed_package

WINDOW = 7  # pixels: side of the window of SSIM
K1, K2 = 0.01, 0.03  # Wang et al. 2004, "Image quality assessment", section III
ALEXNET = "alexnet-owt-7be5be79.pth"


def psnr(picture: Tensor, reference: Tensor, data_range: float = 255.0) -> float:
    """10 log10(range^2 / mean squared error) in dB; infinite for equal pictures.

    picture, reference   the same shape, any type; levels from 0 to `data_range`
    """
    _check(picture, reference)
    error = (picture.double() - reference.double()).square().mean()
    return float(10 * torch.log10(data_range**2 / error))


def ssim(picture: Tensor, reference: Tensor, data_range: float = 255.0) -> float:
    """Structural similarity: mean over channels and windows of 7 x 7 pixels, with sample covariances.

    picture, reference   (c, H, W), sides of at least 7, any type; levels from 0 to `data_range`
    The same numbers as `skimage.metrics.structural_similarity` with its defaults.
    """
    _check(picture, reference)
    if min(picture.shape[-2:]) < WINDOW:
        raise ValueError(f"A picture of {tuple(picture.shape)} is too small for SSIM; sides of 7 are needed.")
    x, y = picture.double(), reference.double()
    mean_x, mean_y, xx, yy, xy = F.avg_pool2d(torch.stack([x, y, x * x, y * y, x * y]), WINDOW, stride=1)
    sample = WINDOW**2 / (WINDOW**2 - 1)
    var_x, var_y = sample * (xx - mean_x**2), sample * (yy - mean_y**2)
    covariance = sample * (xy - mean_x * mean_y)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float((above / below).mean())


def frechet_distance(features: Floats, reference: Floats) -> float:
    """Frechet distance of the Gaussians that fit two sets of features (n, d) and (m, d), n, m >= 2.

    |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), Heusel et al. 2017, eq. 6. The trace of the root is the sum
    of the roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric. Raises ValueError on others.
    """
    x, y = np.asarray(features, np.float64), np.asarray(reference, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"Features have shapes {x.shape} and {y.shape}; (n, d) and (m, d) with n and m of 2 or more are "
            "accepted. Use more videos or longer ones."
        )
    S1, S2 = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y))
    values, vectors = np.linalg.eigh(S1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ S2 @ root).clip(0)).sum()
    distance = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(S1) + np.trace(S2) - 2 * cross
    return max(float(distance), 0.0)


def load_lpips(folder: Path) -> Callable[[Tensor, Tensor], float]:
    """LPIPS (AlexNet) of two pictures (3, H, W) uint8, from the package `lpips` and AlexNet's weights.

    The package would fetch AlexNet itself; here the file must lie in `folder`. Raises NotComputedError.
    """
    lpips = needed_package("lpips", "lpips torchvision")
    state = load_state(needed_file(folder, ALEXNET, "torchvision"))
    network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    for part in network.net.children():
        for index, layer in part.named_children():
            own = {k: state[f"features.{index}.{k}"] for k in layer.state_dict()}
            layer.load_state_dict(own)

    @torch.no_grad()
    def distance(picture: Tensor, reference: Tensor) -> float:
        pair: list[Any] = [x[None].float() / 127.5 - 1 for x in (picture, reference)]
        return float(network(*pair))

    return distance


def _check(picture: Tensor, reference: Tensor) -> None:
    if picture.shape != reference.shape:
        raise ValueError(
            f"Pictures of {tuple(picture.shape)} and {tuple(reference.shape)} cannot be compared. "
            "Bring them to one size."
        )
