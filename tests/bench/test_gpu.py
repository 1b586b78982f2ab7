"""The benchmark for accelerators: what it says of parts that did not run, and of what was wanted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import gpu


@pytest.fixture
def report(tmp_path):
    return gpu.Report(tmp_path, limit=100.0)


def test_a_part_that_fails_is_a_row_and_the_next_one_runs(report, tmp_path):
    with report.part("authors"):
        raise RuntimeError("no module named xformers\nand more")
    report.add("step, ms", 12.5)
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written == {"authors": "failed: no module named xformers", "step, ms": 12.5}
    assert "| step, ms | 12.5 |" in (tmp_path / "gpu.md").read_text()


def test_a_mistake_of_the_benchmark_itself_is_not_hidden(report):
    with pytest.raises(KeyError), report.part("authors"):
        raise KeyError("typo")


def test_a_part_for_which_time_is_short_says_so(report):
    assert report.has_time("clip", 50)
    assert "clip" not in report.values
    assert not report.has_time("clip", 150)
    assert report.values["clip"] == "left out: about 150 s, of which 100 s were left"


@pytest.mark.parametrize(
    ("row", "found", "verdict"),
    [
        ("clip: ours, times as fast", 3.5, ">= 3: 3.5: met"),
        ("clip: ours, times as fast", 2.5, ">= 3: 2.5: not met"),
        ("float16: peak memory, GB", 6.5, "<= 7: 6.5: met"),
        ("float16: peak memory, GB", 7.5, "<= 7: 7.5: not met"),
        ("float16: fast, compiled, frames/s", "failed: no compiler", ">= 12: not measured"),
    ],
)
def test_what_was_wanted_stands_beside_what_was_found(report, row, found, verdict):
    report.add(row, found)
    gpu.add_verdicts(report, "float16")
    lines = [f"{name}: {value}" for name, value in report.values.items() if name.startswith("wanted: ")]
    assert len(lines) == 6
    assert f"wanted: {row} {verdict}" in lines


def test_without_an_accelerator_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(gpu.torch.accelerator, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="--dry-run"):
        gpu.setting(False, None)
