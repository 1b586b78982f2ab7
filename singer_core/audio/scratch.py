"""Large arrays outside resident memory: small ones in RAM, large ones in a memory-mapped file."""

from __future__ import annotations

import mmap
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from ..files import renamed_on_success

IN_MEMORY_BYTES = 32 * 2**20  # up to here an array stays in RAM: a minute of 44.1 kHz stereo is 21 MB


def scratch_array(shape: tuple[int, ...], dtype: str = "float32", path: Path | None = None) -> np.ndarray:
    """A writable array of zeros.

    shape, dtype   as of `numpy.zeros`
    path           a `.npy` file to create and map, which `numpy.load(path, mmap_mode="r")` opens again;
                   without it the array lies in RAM or, above `IN_MEMORY_BYTES`, in a temporary file (in the
                   folder that the variable TMPDIR names) that vanishes with the array
    """
    if path is not None:
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize <= IN_MEMORY_BYTES:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(prefix="singer-") as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


def part_file(path: Path | None) -> AbstractContextManager[Path | None]:
    """The name to write `path` under until all went well; None for None."""
    return nullcontext() if path is None else renamed_on_success(path)


def finished(array: np.ndarray, path: Path | None) -> np.ndarray:
    """The array as filled or, where it went to `path`, that file mapped again (changes stay in memory)."""
    return array.view(np.ndarray) if path is None else np.load(path, mmap_mode="c").view(np.ndarray)


def release_pages(array: np.ndarray | None) -> None:
    """Let the system take back the resident pages of a mapped array; its contents stay. RAM arrays: no-op."""
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)
