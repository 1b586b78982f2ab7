"""Large arrays outside resident memory: small ones in RAM, large ones in a memory-mapped file."""

from __future__ import annotations

import math
import mmap
import tempfile

import numpy as np

from ..files import scratch_folder

IN_MEMORY_BYTES = 32 * 2**20  # up to here an array stays in RAM: a minute of 44.1 kHz stereo is 21 MB


def scratch_array(shape: tuple[int, ...]) -> np.ndarray:
    """A writable float32 array of zeros.

    It lies in RAM or, above `IN_MEMORY_BYTES`, in a temporary file (see `scratch_folder`) that vanishes with
    the array.
    """
    if 4 * math.prod(shape) <= IN_MEMORY_BYTES:
        return np.zeros(shape, np.float32)
    with tempfile.TemporaryFile(prefix="singer-", dir=scratch_folder()) as file:
        return np.memmap(file, dtype=np.float32, mode="w+", shape=shape)


def release_pages(array: np.ndarray | None) -> None:
    """Let the system take back the resident pages of a mapped array; its contents stay. RAM arrays: no-op."""
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)
