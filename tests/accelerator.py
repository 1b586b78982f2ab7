"""An accelerator that no machine needs: PyTorch's `meta` device, held to what a real one refuses.

Tensors there know shape, type and device and compute nothing. Raised is what ends a run on a card: an operand
left in main memory, a product of two types, numbers of 64 bits where there are none (Apple's, Intel's Arc).
Counted is what a card waits for: values that the host reads, and tensors that come and go.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from singer_core.network.architecture import Architecture
from singer_core.network.checkpoint import Checkpoint, expected_shapes
from singer_core.weights import WeightFile

DEVICE = torch.device("meta")
OURS = ("singer_core", "nodes")  # folders of the functions that are named

aten = torch.ops.aten
MOVES = (aten._to_copy.default, aten.copy_.default)
COMPARING = aten._has_compatible_shallow_copy_type.default  # asks for a module that moves, reads no values
INDEXING = (aten.index.Tensor, aten.index_put_.default)  # take the host's indices
OF_ONE_TYPE = (
    *(aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, aten.convolution.default),
    *(aten.native_layer_norm.default, aten.native_group_norm.default),
)
OF_NUMBERS = (torch.tensor, torch.as_tensor, Tensor.new_tensor)  # whose result the host writes

Seen = Counter[str]  # "what function" -> how often, as in "reads song._sound"


@contextlib.contextmanager
def accelerator() -> Iterator[Seen]:
    """Tensors on DEVICE are a card's in here; yields what passes between it and the host."""
    seen = Seen()
    with _Operations(seen), _Numbers(seen), mock.patch.object(nn.Module, "to", _moved):
        yield seen


def checkpoint_of(arch: Architecture) -> Checkpoint:
    """A checkpoint in float16, of zeros."""
    shapes = expected_shapes(arch)
    stored = dict.fromkeys(shapes, torch.float16)
    file = WeightFile(Path("none"), shapes, stored, {}, lambda name: torch.zeros(shapes[name]).half())
    return Checkpoint(file, "singer", arch)


def _moved(module: nn.Module, device: torch.device | str) -> nn.Module:
    """`module.to(device)`, which PyTorch refuses for modules on `meta`."""
    return module.to_empty(device=device)


class _Operations(TorchDispatchMode):
    """All that PyTorch carries out."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        there = any(x.device == DEVICE for x in given)
        if there and func is aten._local_scalar_dense.default:
            note(self.seen, "reads")
            return given[0].dtype.is_floating_point or given[0].dtype == torch.bool or 1  # finite; yes; one
        if there and func not in (*MOVES, COMPARING):
            self._check(func, given)
        out = self._carried_out(func, args, kwargs or {})
        _refuse_wide(func, out)
        return out

    def _check(self, func: Any, given: list[Tensor]) -> None:
        left = [
            x for x in given if x.device != DEVICE and x.ndim
        ]  # a number alone is handed over in the call
        if left and func not in INDEXING:
            raise RuntimeError(f"{func} has an operand left in main memory, of shape {tuple(left[0].shape)}")
        if left:
            note(self.seen, "copies to it")
        if func in OF_ONE_TYPE and len({x.dtype for x in given}) > 1:
            raise RuntimeError(f"{func} is of {', '.join(str(x.dtype) for x in given)}")

    def _carried_out(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func not in MOVES:
            return func(*args, **kwargs)
        source = args[1] if func is aten.copy_.default else args[0]
        target = args[0].device if func is aten.copy_.default else kwargs.get("device") or source.device
        if source.device == torch.device(target):
            return func(*args, **kwargs)
        note(self.seen, "copies to it" if source.device != DEVICE else "copies from it")
        if source.device != DEVICE:
            return func(*args, **kwargs)
        return torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype)


class _Numbers(TorchFunctionMode):
    """Calls that make a tensor of Python's numbers, which PyTorch sends over out of sight."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.device == DEVICE and _sends_numbers(func, args):
            note(self.seen, "copies to it")
        return out


def _sends_numbers(func: Any, args: tuple[Any, ...]) -> bool:
    if func is Tensor.__getitem__:
        indices = args[1] if isinstance(args[1], tuple) else args[1:]
        return any(isinstance(index, list) for index in indices)
    return func in OF_NUMBERS and not isinstance(args[-1], Tensor)


def _refuse_wide(func: Any, out: Any) -> None:
    if any(
        isinstance(x, Tensor) and x.dtype == torch.float64 and x.device == DEVICE for x in tree_leaves(out)
    ):
        raise TypeError(f"{func}: there are no numbers of 64 bits here")


def note(seen: Seen, what: str) -> None:
    """Count it under the innermost function of ours that is running."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if not set(OURS).isdisjoint(path.parts[-3:-1]):
            seen[f"{what} {path.stem}.{frame.f_code.co_name}"] += 1
            return
        frame = frame.f_back
    seen[what] += 1
