"""The verdict on the order of ways to sing follows from the numbers of each person."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("skia")
sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import evaluation as order


def rows(**levels: float) -> dict[str, list[dict[str, float]]]:
    """Six people with small differences; a way's level is the mean of all its measures."""
    spread = (-0.02, 0.0, 0.02, -0.01, 0.01, 0.0)
    return {
        way: [dict.fromkeys(order.ORDERED, level + part) for part in spread] for way, level in levels.items()
    }


def test_a_clear_order_is_confirmed_and_a_reversed_one_is_named():
    found = order.verdict(rows(true=0.9, full=0.8, flat=0.8, bare=0.4, shuffled=0.5))
    lines = {line.split(" | ")[0].strip("| "): line for line in found.splitlines()[2:]}
    assert "yes: +0.100 [+0.100, +0.100], 6 of 6" in lines["true > full"]
    assert "not told apart: +0.000" in lines["full > flat"]
    assert "**no**: -0.100" in lines["bare > shuffled"]


def test_differences_that_change_their_sign_from_person_to_person_are_not_told_apart():
    found = rows(true=0.9, full=0.8, flat=0.8, bare=0.5, shuffled=0.1)
    for person, step in zip(found["full"], (0.3, -0.3, 0.3, -0.3, 0.3, -0.3), strict=True):
        person["singing_sync"] = found["flat"][0]["singing_sync"] + step
    line = next(line for line in order.verdict(found).splitlines() if line.startswith("| full > flat"))
    assert line.split(" | ")[1].startswith("not told apart")


def test_the_table_has_a_column_for_every_way_and_marks_what_was_not_measured():
    found = order.table(rows(true=0.9, full=0.8))
    head, _, sync, *_, last = found.splitlines()
    assert head == "| measure | true | full |"
    assert sync.startswith("| mouth against vocal level, best lag | 0.900 [0.8")
    assert last == "| SSIM | - | - |"
