"""What a device lacks: memory (one retry with less at once, then words that help), or wide numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

log = logging.getLogger(__name__)

OutOfMemory: type[RuntimeError] = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


def widest_float(device: torch.device) -> torch.dtype:
    """float64, or float32 where the device has no wider numbers (Apple's, Intel's Arc)."""
    try:
        torch.zeros((), dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return torch.float32
    return torch.float64


def in_batches(function: Callable[[Tensor], Tensor], x: Tensor, batch: int, what: str) -> Tensor:
    """function(x), `batch` rows at a time; half as many once memory runs out.

    what  names the work in messages, as in "Decoding"
    Raises RuntimeError that says what to lower where half is too much, too.
    """
    try:
        return torch.cat([function(part) for part in x.split(batch)])
    except OutOfMemory as error:
        if batch == 1:
            raise RuntimeError(too_large(what)) from error
    half = batch // 2
    log.warning("%s %d at once needs more memory than there is; going on with %d.", what, batch, half)
    try:
        return torch.cat([function(part) for part in x.split(half)])
    except OutOfMemory as error:
        raise RuntimeError(too_large(what)) from error


def too_large(what: str) -> str:
    """The message of an error for work that does not fit the device."""
    return (
        f"{what} needs more memory than the device has left. Lower the picture's size (--size), use "
        "--low-memory or --dtype float16, or close what else uses the device."
    )
