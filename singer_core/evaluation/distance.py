"""Frechet's distance between features (FID, FVD)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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
