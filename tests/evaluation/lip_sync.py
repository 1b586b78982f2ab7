"""LSE-C and LSE-D by their definition: an oracle for the package that computes them."""

from __future__ import annotations

import numpy as np

from singer_core.evaluation.footage import Floats


def pair_distances(lips: Floats, sounds: Floats, reach: int = 15) -> Floats:
    """(n, 2 reach + 1) Euclidean distances of lip embeddings (n, d) to sound embeddings at offsets +-reach.

    Column `reach + o` compares lips[i] with sounds[i + o]; beyond the ends the sound counts as zeros, as in
    SyncNet.
    """
    padded = np.pad(np.asarray(sounds, np.float64), ((reach, reach), (0, 0)))
    windows = np.stack([padded[i : i + len(lips)] for i in range(2 * reach + 1)], axis=1)
    return np.linalg.norm(windows - np.asarray(lips, np.float64)[:, None], axis=-1)


def lip_sync_error(distances: Floats) -> tuple[float, float, int]:
    """(LSE-C, LSE-D, offset in frames) of distances (windows, offsets), offsets odd in number, 0 the middle.

    Means over the windows give a distance for each offset; LSE-D is the least of them, LSE-C their median
    minus the least (Prajwal et al. 2020; Chung and Zisserman 2016).
    """
    means = np.asarray(distances, np.float64).mean(axis=0)
    best = int(means.argmin())
    return float(np.median(means) - means[best]), float(means[best]), best - len(means) // 2
