"""Finished clips on disk, found again by whoever needs the same ones. Knows tensors, not networks.

A clip is a file named by its key, which hashes everything that determines its latents (`chained`):

    key of clip k = fingerprint(shared, key of clip k - 1, own part of clip k)

The shared part (networks, portrait, options) names the folder. What changes in a song changes the keys of the
clips that hear it and of those behind, and no others. Files are written under a hidden name, synchronised and
renamed, with the hash of their content in their metadata; one that disagrees with it is rendered again.

    with ClipStore(work_folder(), shared, chained(shared, parts)) as store:
        for clip in plan:
            latents = store.load(clip.index)
            if latents is None:
                latents = ...
                store.save(clip.index, latents)

Two renders at once may share a folder: files of one key have the same bytes, so whichever is renamed last
changes nothing. `clean` deletes what was not used for long.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import errno
import hashlib
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..files import renamed_on_success, scratch_folder, space
from . import locks

log = logging.getLogger(__name__)

FORMAT = "2"  # of the files; part of every key
NOTES = "takes.txt"  # of a folder, beside its clips
KEEP_DAYS = 7.0
KEEP_GIGABYTES = 8.0

_KEY_LENGTH = 32  # hex digits in the names of folders and files
_FOLDER = re.compile(rf"[0-9a-f]{{{_KEY_LENGTH}}}")
_CLIP = re.compile(r"\.?clip-[0-9a-f]+(-[0-9a-f]{12})?\.safetensors")
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # disk, quota
_BLOCK = 1 << 22  # values hashed at a time


class ClipStore:
    """Context manager: the finished clips of one render, latents (f, 4, h, w) each.

    root    the folder of all renders, made where missing (see `work_folder`)
    shared  hex digits, `fingerprint` of what all clips have in common
    keys    of the clips, see `chained`

    A folder without any clip is deleted at the end. Raises PermissionError where it cannot be written to.
    """

    def __init__(self, root: Path, shared: str, keys: Sequence[str]) -> None:
        self.folder = Path(root) / shared[:_KEY_LENGTH]
        self.shared = shared
        self.keys = keys
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> ClipStore:
        try:
            self._lock = _open_lock(self.folder)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise _no_space(self.folder, str(error.strerror)) from error
            raise PermissionError(
                f"Finished clips cannot be kept in {self.folder.parent} ({error.strerror}). "
                "Choose a folder you may write to."
            ) from error
        if locks.take(self._lock):  # nobody else is here: what is half-written is of the dead
            for path in self.folder.glob(".clip-*"):
                path.unlink(missing_ok=True)
        locks.share(self._lock)
        self._want()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is None:
            return
        with contextlib.suppress(OSError):
            if not any(self.folder.glob("clip-*")):
                self.remove()
        self._lock.close()  # gives the lock back
        self._lock = None

    def of(self, keys: Sequence[str]) -> ClipStore:
        """Other clips in the same folder; they are wanted now, so that `clean` lets them be."""
        other = copy.copy(self)
        other.keys = keys
        other._want()
        return other

    def notes(self) -> list[str]:
        """The lines that were noted in the folder, the first one first."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.folder / NOTES).read_text(encoding="utf-8").splitlines()
            return list(dict.fromkeys(lines))
        return []

    def note(self, lines: Iterable[str]) -> None:
        """Add lines that the folder's notes do not have; all at once, so that two renders may do it."""
        missing = [line for line in lines if line not in self.notes()]
        if missing:
            with (self.folder / NOTES).open("a", encoding="utf-8") as stream:
                stream.write("".join(f"{line}\n" for line in missing))

    def path(self, index: int) -> Path:
        """The file of a clip, there or not."""
        return self.folder / f"clip-{self.keys[index][:_KEY_LENGTH]}.safetensors"

    def load(self, index: int) -> Tensor | None:
        """Latents (f, 4, h, w) of a finished clip, on the CPU as they were saved; None where there are none.

        A damaged file is removed, with a warning.
        """
        path = self.path(index)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                metadata, latents = file.metadata() or {}, file.get_tensor("latents").clone()
        except (SafetensorError, OSError) as error:
            log.debug("%s: %s", path, error)
            metadata, latents = {}, None
        if latents is not None and metadata.get("singer.sha256") == self._digest(index, latents):
            return latents
        log.warning("Clip %d of the earlier run is damaged and is rendered again.", index + 1)
        path.unlink(missing_ok=True)
        return None

    def save(self, index: int, latents: Tensor) -> None:
        """Keep a finished clip: whole under its name, or not at all.

        Raises OSError (ENOSPC), naming the space that is needed, where the disk is full.
        """
        latents = latents.detach().cpu().contiguous()
        # One entry: safetensors writes several in an order of its own, and equal clips are to be equal files.
        metadata = {"singer.sha256": self._digest(index, latents)}
        content = save({"latents": latents}, metadata)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # it may have been deleted meanwhile
            with renamed_on_success(self.path(index)) as temporary, temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            if error.errno not in _FULL:
                raise
            left = len(self.keys) - index
            raise _no_space(
                self.folder,
                f"clip {index + 1} of {len(self.keys)} takes {space(len(content))}, "
                f"all that are left {space(left * len(content))}; {index} finished clips stay",
            ) from error

    def finished(self) -> int:
        """How many clips are whole from the first one on, without a gap."""
        count = len(self.keys)
        return next((i for i in range(count) if self.load(i) is None), count)

    def remove(self) -> None:
        """Delete the folder's clips, unless another process is at them too: then that one does."""
        if self._lock is not None:
            _deleted(self.folder, self._lock)

    def _want(self) -> None:
        for index in range(len(self.keys)):
            with contextlib.suppress(FileNotFoundError):
                os.utime(self.path(index))

    def _digest(self, index: int, latents: Tensor) -> str:
        return fingerprint(self.keys[index], latents)


def work_folder(chosen: Path | None = None) -> Path:
    """Where renders are kept: the folder chosen, or one of this user in the system's temporary folder.

    The latter honours TMPDIR; where nothing can be written there, it is `scratch_folder`'s. Nothing is
    created.
    """
    if chosen is not None:
        return chosen
    try:
        base = tempfile.gettempdir()
    except FileNotFoundError:
        base = scratch_folder() or "."
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(base) / f"singer-{user}"


def clean(root: Path, days: float = KEEP_DAYS, gigabytes: float = KEEP_GIGABYTES) -> list[Path]:
    """Delete clips that nobody wanted for `days`, then the longest unwanted where more than `gigabytes` lie.

    The latter only in folders where nobody works; folders that are empty then go too. Touches nothing but
    folders and files of a `ClipStore`. Returns the folders deleted.
    """
    wanted = sorted((state.st_mtime, state.st_size, path) for path, state in _clips(root))
    total, oldest = sum(size for _, size, _ in wanted), time.time() - days * 86_400
    with contextlib.ExitStack() as locked:
        free = {folder: lock for folder in _folders(root) if (lock := _locked_alone(folder, locked))}
        for touched, size, path in wanted:
            if touched < oldest or (total > gigabytes * 1e9 and path.parent in free):
                path.unlink(missing_ok=True)
                total -= size
        empty = [folder for folder in free if not any(folder.glob("clip-*"))]
        return [folder for folder in empty if _deleted(folder, free[folder])]


def chained(shared: str, parts: Iterable[object], before: str | None = None) -> list[str]:
    """Keys of clips that follow each other.

    shared  of all clips: the folder's
    parts   what each clip has of its own, as `fingerprint` takes it
    before  what the first clip follows
    """
    keys = []
    for part in parts:
        before = fingerprint(shared, before, part)
        keys.append(before)
    return keys


def fingerprint(*values: object) -> str:
    """SHA-256 of values, 64 hex digits: equal where and only where types, shapes and contents are.

    Accepted: None, bool, int, float, str, bytes, Fraction, Path, torch's dtypes and devices, tensors,
    modules (their class and state), dataclasses, mappings, lists and tuples of all these. Raises TypeError
    for others. Tensors are read in blocks, so that mapped ones stay on disk.
    """
    digest = hashlib.sha256()
    _feed(digest, values)
    return digest.hexdigest()


def _feed(digest: Any, value: object) -> None:
    digest.update(f"{type(value).__name__}:".encode())
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        for part in value.detach().reshape(-1).split(_BLOCK):
            digest.update(part.cpu().contiguous().view(torch.uint8).numpy())
    elif isinstance(value, nn.Module):
        _feed(digest, dict(value.state_dict()))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _feed(digest, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    elif isinstance(value, Mapping):
        _feed(digest, [item for key in sorted(value, key=str) for item in (key, value[key])])
    elif isinstance(value, (list, tuple)):
        digest.update(f"{len(value)}".encode())
        for item in value:
            _feed(digest, item)
    elif isinstance(
        value, (type(None), bool, int, float, str, bytes, Fraction, Path, torch.dtype, torch.device)
    ):
        text = repr(value).encode()
        digest.update(f"{len(text)}:".encode() + text)
    else:
        raise TypeError(
            f"{type(value).__name__} has no fingerprint. Give tensors, numbers, texts or lists of them."
        )


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return [folder for folder in root.iterdir() if _FOLDER.fullmatch(folder.name) and folder.is_dir()]


def _clips(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every clip in `root`, half-written ones too."""
    for folder in _folders(root):
        with contextlib.suppress(FileNotFoundError):  # its owner may be deleting it
            yield from ((path, path.stat()) for path in folder.iterdir() if _CLIP.fullmatch(path.name))


def _locked_alone(folder: Path, locked: contextlib.ExitStack) -> IO[bytes] | None:
    """The folder's lock, held alone until `locked` closes; None where others work there."""
    with contextlib.suppress(OSError):
        lock = locked.enter_context(_open_lock(folder))
        if locks.take(lock) or not locks.AVAILABLE:
            return lock
    return None


def _deleted(folder: Path, lock: IO[bytes]) -> bool:
    """Delete a render's own files, and the folder if nothing else is in it; False where others use it."""
    if not locks.take(lock):
        if locks.AVAILABLE:
            return False
        lock.close()  # Windows deletes no open file, which protects those of others
    for path in folder.iterdir():
        if path.name in ("lock", NOTES) or _CLIP.fullmatch(path.name):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
    return True


def _open_lock(folder: Path) -> IO[bytes]:
    """The folder's lock file, made where missing, locked with others."""
    while True:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            stream = (folder / "lock").open("ab")
        except FileNotFoundError:  # deleted just now by the process that ended last
            continue
        locks.share(stream)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), (folder / "lock").stat()):
                return stream
        stream.close()


def _no_space(folder: Path, what: str) -> OSError:
    where = next(path for path in (folder, *folder.parents) if path.exists())
    error = OSError(
        f"The disk that holds {folder} is full ({space(shutil.disk_usage(where).free)} free): {what}. "
        "Free some space and run the same again, or choose a folder on another disk."
    )
    error.errno = errno.ENOSPC
    return error
