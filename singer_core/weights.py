"""Weight files: shapes at once, tensors when asked for, memory-mapped; safetensors and PyTorch's own format.

A PyTorch file is read with `weights_only=True` alone; a file that needs more is refused.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .files import renamed_on_success

State = dict[str, Tensor]

_SAFETENSORS_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip

PIECE_BYTES = 2**27  # read from a file before its pages are given back

_TORCH_MAGIC = (b"PK\x03\x04", b"\x80")  # a zip file, or a pickle as before PyTorch 1.6
# What PyTorch's unpickler raises on bytes that mean nothing.
_DAMAGED = (
    *(RuntimeError, EOFError, ValueError, OSError, LookupError, TypeError, AttributeError),
    *(struct.error, zipfile.BadZipFile),
)


@dataclass(frozen=True)
class WeightFile:
    """An opened file. `tensor(name)` reads one tensor.

    anew    opens it again, where tensors are pages of it: what was read stays in memory until it is closed
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]
    metadata: dict[str, str]
    tensor: Callable[[str], Tensor] = field(repr=False)
    anew: Callable[[], WeightFile] | None = field(default=None, repr=False)

    def state(self) -> State:
        """All tensors."""
        return {name: self.tensor(name) for name in self.shapes}

    def moved(
        self, names: Iterable[str], dtype: torch.dtype | None, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[str, Tensor]]:
        """Tensors in another type or place; those already there stay pages of the file.

        The file is opened anew for every piece, so that little of it is in memory beside what it gave.
        """
        file, read = self, 0
        for name in names:
            stored = file.tensor(name)
            value = stored.to(device=device, dtype=dtype)
            yield name, value
            read += 0 if value is stored else stored.nbytes
            if self.anew is not None and read > PIECE_BYTES:
                file, read = self.anew(), 0

    @staticmethod
    def joined(path: Path, parts: Mapping[str, WeightFile]) -> WeightFile:
        """Several files as one, each part's names behind its prefix."""
        where = {prefix + key: (file, key) for prefix, file in parts.items() for key in file.shapes}
        return WeightFile(
            path,
            {name: file.shapes[key] for name, (file, key) in where.items()},
            {name: file.dtypes[key] for name, (file, key) in where.items()},
            {},
            lambda name: where[name][0].tensor(where[name][1]),
        )


def load_state(path: Path) -> State:
    """The tensors of a weight file, also of a training checkpoint. Raises as `open_weights`."""
    return open_weights(path, within=("state_dict", "state")).state()


def match_state(model: torch.nn.Module, state: State, title: str, link: str) -> None:
    """Load `state` into `model`. Raises RuntimeError naming three missing keys where it does not fit."""
    wanted = model.state_dict()
    bad = [key for key, value in wanted.items() if key not in state or state[key].shape != value.shape]
    if bad:
        counts = f"{len(bad)} of {len(wanted)} tensors are missing or of another shape"
        raise RuntimeError(
            f"These are not the weights of {title}: {counts} ({', '.join(bad[:3])}). Get them from {link}"
        )
    model.load_state_dict({key: state[key].float() for key in wanted})


def open_weights(path: Path, within: Sequence[str] = ()) -> WeightFile:
    """Open a .safetensors, .pth, .pt, .ckpt or .bin file; the content decides, not the name.

    within: names under which a training checkpoint may hold its weights; what is no tensor is left out then.
    Raises FileNotFoundError, and RuntimeError for a file that is damaged, is no weight file, or needs unsafe
    unpickling.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}. Check the path; `net.pth` is 4.85 GB.")
    with path.open("rb") as stream:
        head = stream.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise RuntimeError(f"{path.name} is a Git LFS pointer. Download the file that it points to.")
    if head.lstrip()[:1] == b"<":
        raise RuntimeError(f"{path.name} is a web page, not a checkpoint. Download the file itself.")
    if head[8:9] == b"{":
        return _open_safetensors(path)
    if not head.startswith(_TORCH_MAGIC):
        raise RuntimeError(
            f"{path.name} ({path.stat().st_size:,} bytes) is damaged, or no checkpoint: it begins with "
            f"{head[:8]!r}. A .safetensors or PyTorch file is accepted."
        )
    return _open_torch(path, within)


def _open_safetensors(path: Path) -> WeightFile:
    try:
        handle = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise RuntimeError(f"{path.name} is damaged or incomplete ({error}). Download it again.") from error
    shapes, dtypes = {}, {}
    for key in handle.keys():  # noqa: SIM118 - safe_open is no mapping
        piece = handle.get_slice(key)
        shapes[key] = tuple(piece.get_shape())
        dtypes[key] = _SAFETENSORS_DTYPES[piece.get_dtype()]
    metadata, anew = dict(handle.metadata() or {}), partial(_open_safetensors, path)
    return WeightFile(path, shapes, dtypes, metadata, handle.get_tensor, anew)


def _open_torch(path: Path, within: Sequence[str]) -> WeightFile:
    state = load_plain(path, mapped=True)
    for name in within:
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if within and isinstance(state, dict):
        state = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise RuntimeError(f"{path.name} is no state dict: it holds {_contents(state)}, not tensors by name.")
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    dtypes = {key: value.dtype for key, value in state.items()}
    anew = partial(_open_torch, path, within) if _can_be_mapped(path) else None
    return WeightFile(path, shapes, dtypes, {}, state.__getitem__, anew)


def _can_be_mapped(path: Path) -> bool:
    """PyTorch maps zip files by name alone, and takes some names for another format."""
    return zipfile.is_zipfile(path) and path.suffix != ".safetensors"


def load_plain(path: Path, mapped: bool = False) -> Any:
    """What a PyTorch file holds, tensors and plain values; RuntimeError for a damaged or unsafe one.

    mapped: where PyTorch can.
    """
    try:
        if mapped and _can_be_mapped(path):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        with path.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RuntimeError(
            f"{path.name} is no file of plain tensors: {_first_sentence(error)} "
            "Unpickling anything else could run code and is refused; use a safetensors version of the file."
        ) from error
    except _DAMAGED as error:
        raise RuntimeError(
            f"{path.name} ({path.stat().st_size:,} bytes) is damaged or incomplete: {_first_sentence(error)} "
            "Download it again."
        ) from error


def _contents(state: object) -> str:
    if isinstance(state, dict):
        odd = next(key for key, value in state.items() if not isinstance(value, Tensor))
        return f"{odd!r}: {type(state[odd]).__name__}"
    return type(state).__name__


def _first_sentence(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.split(". ")[0][:160].rstrip(".") + "."


def save_weights(path: Path, tensors: Iterable[tuple[str, Tensor]], metadata: dict[str, str]) -> None:
    """Write a safetensors file whole or not at all, with the rights that any new file has here."""
    with renamed_on_success(path) as temporary:
        temporary.touch()
        rights = temporary.stat().st_mode
        save_file(
            {key: value.contiguous() for key, value in tensors}, temporary, {"format": "pt", **metadata}
        )
        temporary.chmod(rights)  # safetensors lets the owner alone read it
