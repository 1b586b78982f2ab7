"""`singer convert`: published files -> safetensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..files import file_hash
from ..settings import required, setting

if TYPE_CHECKING:  # help comes without torch
    import torch
    from torch import Tensor

DESCRIPTION = """
Convert IN to OUT.safetensors. IN is a checkpoint (`net.pth` of SINGER or Hallo, or a folder with the four
stage-1 files), or the ArcFace network `glintr100.onnx` (needs the extra `onnx`). Tensors keep their published
names; the variant and the SHA-256 of the source are written into the file's metadata. A checkpoint is copied
tensor by tensor from the memory-mapped source.
"""


@dataclass(frozen=True)
class Arguments:
    source: Path = required("File or folder to convert.", positional=True, metavar="IN")
    target: Path = required("File to write.", positional=True, metavar="OUT.safetensors")
    dtype: Literal["keep", "float32", "float16", "bfloat16"] = setting(
        "keep", "Storage type of a checkpoint's floating tensors."
    )


def run(args: Arguments) -> int:
    _check_target(args.source, args.target)
    if args.source.suffix.lower() == ".onnx":
        from ..portrait.iresnet import convert_onnx

        convert_onnx(args.source, args.target)
        print(f"Wrote {args.target}: identity network.")
        return 0
    import torch

    from ..network.checkpoint import VARIANTS, open_checkpoint
    from ..weights import save_weights

    checkpoint = open_checkpoint(args.source)
    dtype = None if args.dtype == "keep" else getattr(torch, args.dtype)
    tensors = ((key, _stored(checkpoint.file.tensor(key), dtype)) for key in checkpoint.file.shapes)
    metadata = {
        **checkpoint.file.metadata,
        "singer.variant": checkpoint.variant,
        "singer.source_sha256": file_hash(args.source),
    }
    save_weights(args.target, tensors, metadata)
    size = args.target.stat().st_size / 1e9
    what = f"{VARIANTS[checkpoint.variant]}, {len(checkpoint.file.shapes)} tensors"
    print(f"Wrote {args.target}: {what}, {size:.2f} GB.")
    return 0


def _stored(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    return value.to(dtype) if dtype is not None and value.is_floating_point() else value


def _check_target(source: Path, target: Path) -> None:
    if target.suffix != ".safetensors":
        raise ValueError(f"{target.name} must end in .safetensors: nothing else is written.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {target.parent} to write {target.name} into. Create it.")
    if not source.exists():
        raise FileNotFoundError(f"There is no file {source}. Check the path.")
    if target.exists() and target.samefile(source):
        raise ValueError(f"{target} is the source itself. Choose another name for the converted file.")
