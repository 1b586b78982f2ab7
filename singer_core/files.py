"""Files of users: found, read as text, written whole or not at all, and told apart."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

_SCRATCH: ContextVar[str | None] = ContextVar("scratch", default=None)


@contextlib.contextmanager
def scratch_in(folder: Path) -> Iterator[None]:
    """Temporary files of what runs inside lie in this folder, made where missing."""
    folder.mkdir(parents=True, exist_ok=True)
    before = _SCRATCH.set(str(folder))
    try:
        yield
    finally:
        _SCRATCH.reset(before)


def scratch_folder() -> str | None:
    """Where temporary files go: the folder of `scratch_in`; None = the system's, or what TMPDIR names."""
    return _SCRATCH.get()


@contextlib.contextmanager
def renamed_on_success(path: Path) -> Iterator[Path]:
    """A hidden name beside `path` to write to: renamed to it at the end, removed on any error."""
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(6)}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def existing(path: str | Path) -> Path:
    """The path of a file that is there. Raises FileNotFoundError where it is not."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}. Check its name.")
    return Path(path)


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text; returns the path."""
    with renamed_on_success(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def space(size: float) -> str:
    """So many bytes in words: 87 KB, 1.2 MB, 4.8 GB."""
    if size < 1e6:
        return f"{size / 1e3:.0f} KB"
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def read_text(path: Path) -> str:
    """The text of a file. Raises ValueError where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name} is no UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}. Save it "
            "as UTF-8."
        ) from error


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises ValueError where it is none."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path.name} is not JSON ({error}). Write it again.") from error


def files_below(root: Path, pattern: str = "*") -> Iterator[Path]:
    """Files in `root` and its folders, however deep, in a stable order; links are followed, once each."""
    seen: set[str] = set()
    for folder, subfolders, _ in os.walk(root, followlinks=True):
        seen.add(os.path.realpath(folder))
        subfolders[:] = sorted(
            name for name in subfolders if os.path.realpath(os.path.join(folder, name)) not in seen
        )
        yield from sorted(path for path in Path(folder).glob(pattern) if path.is_file())


def file_hash(path: Path) -> str:
    """SHA-256 of a file, or of the files of a folder in name order."""
    digest = hashlib.sha256()
    for part in sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]:
        with part.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
