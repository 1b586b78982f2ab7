"""What a long computation reports and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float], None]  # called with the finished part, from 0 to 1
Cancel = Callable[[], bool]  # asked between blocks; True stops the work. It may also raise by itself.


class Cancelled(Exception):  # noqa: N818 (the user's wish, not an error)
    """The caller's `cancel` answered True."""


def step(done: float, progress: Progress | None, cancel: Cancel | None) -> None:
    """Report that the part `done` (0 to 1) is finished and stop with `Cancelled` if the caller wants that."""
    if progress is not None:
        progress(min(max(done, 0.0), 1.0))
    if cancel is not None and cancel():
        raise Cancelled(f"Cancelled at {100 * done:.0f} %.")
