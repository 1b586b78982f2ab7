"""Files that appear whole or not at all, and what tells them apart."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def renamed_on_success(path: Path) -> Iterator[Path]:
    """A hidden name beside `path` to write to: renamed to it at the end, removed on any error."""
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(6)}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text; returns the path."""
    with renamed_on_success(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def file_hash(path: Path) -> str:
    """SHA-256 of a file, or of the files of a folder in name order."""
    digest = hashlib.sha256()
    for part in sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]:
        with part.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
