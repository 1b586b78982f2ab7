"""What a metric is: its words, its unit, which way is better, and what measures it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")
Numbers = tuple[float | None, ...]

RANGES = ("", "0 to 1", "-1 to 1", "correlation")  # units that only say what values there are


class NotComputedError(Exception):
    """Why a metric has no value. `lacking`: a file or a package would help; else it does not apply."""

    def __init__(self, reason: str, lacking: bool = False) -> None:
        super().__init__(reason)
        self.lacking = lacking


def needed(value: Value | None, reason: str) -> Value:
    """The value; NotComputedError where there is none."""
    if value is None:
        raise NotComputedError(reason)
    return value


def needed_package(module: str, name: str) -> Any:
    """A module of a package that users may install; NotComputedError where it is missing or broken."""
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision for another torch
        raise NotComputedError(f"pip install {name} ({error})", lacking=True) from error


def needed_file(folder: Path, name: str, source: str) -> Path:
    """A file of the user's networks; NotComputedError where it is missing."""
    if not (folder / name).is_file():
        raise NotComputedError(f"put {name} ({source}) in {folder}", lacking=True)
    return folder / name


@dataclass(frozen=True)
class Metric:
    """One row of the report.

    group      heading of the report under which it stands
    measure    what finds it, given a `measures.Case`: a number for each of the neighbours that share it
    better     "higher", "lower", "near 0", "near 1", or "" where no direction is better
    published  the authors' figure, with what it is comparable to; "" for none
    """

    group: str
    measure: Callable[[Any], Numbers]
    key: str
    title: str
    unit: str
    better: str
    decimals: int = 2
    published: str = ""

    def shown(self, value: float) -> str:
        """A value as the report prints it, with its unit unless that is only a range."""
        return self.numeral(value) if self.unit in RANGES else f"{self.numeral(value)} {self.unit}"

    def numeral(self, value: float) -> str:
        """A value with its decimals, without a unit; never -0."""
        return f"{round(value, self.decimals) + 0.0:.{self.decimals}f}"

    @property
    def heading(self) -> str:
        """The title of a column or row of bare numbers: with the unit."""
        return self.title if self.unit in RANGES else f"{self.title}, {self.unit}"

    def line(self, value: float, more: str) -> str:
        """A row of a table for a terminal."""
        return f"{self.title:<42} {self.shown(value):>24}  {more}".rstrip()
