"""One progress bar on stderr, with the time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bar:
    """A bar of tqdm, moved to absolute positions."""

    bar: Any

    def set(self, done: float) -> None:
        self.bar.update(done - self.bar.n)

    def set_part(self, part: float) -> None:
        """`part` from 0 to 1."""
        self.set(round(part * self.bar.total))


@contextmanager
def progress_bar(what: str, total: int, unit: str, quiet: bool = False) -> Iterator[Bar]:
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit=unit, disable=quiet, dynamic_ncols=True) as bar:
        yield Bar(bar)
