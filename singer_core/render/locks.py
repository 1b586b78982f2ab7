"""Locks that end with the process that holds them, however it ends: they tell the living from the dead.

Where there are none (`AVAILABLE`, or a file system without them), nobody is known to be alone.
"""

from __future__ import annotations

import contextlib
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

AVAILABLE = fcntl is not None


def share(stream: IO[bytes]) -> None:
    """Hold the lock on an open file with others, until the stream is closed or the process ends."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_SH)


def take(stream: IO[bytes]) -> bool:
    """Hold the lock alone. False where others hold it; then it is not held at all any more."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
