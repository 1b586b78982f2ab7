"""What a long job tells of itself."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float], None]  # called with the finished part, from 0 to 1; what it raises stops the job


def unwatched(done: float) -> None:
    """For a job that nobody watches."""
