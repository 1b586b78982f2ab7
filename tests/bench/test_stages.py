"""Counted operations are those of the closed forms, also where torch's counter has none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import stages

from singer_core.network.layers import attend
from singer_core.network.linear import CpuLinear, gated_linear


def test_linears_count_alike_in_either_way():
    x, layer = torch.randn(3, 5, 24), nn.Linear(24, 40)
    expected = 2 * 3 * 5 * 24 * 40
    with torch.no_grad():
        assert stages.operations_of(lambda: layer(x)) == expected
        layer.__class__ = CpuLinear
        assert stages.operations_of(lambda: layer(x)) == expected


def test_gated_linears_count_alike_in_either_way():
    x, layer = torch.randn(15, 24), nn.Linear(24, 80)
    with torch.no_grad():
        for kind in (nn.Linear, CpuLinear):
            layer.__class__ = kind
            assert stages.operations_of(lambda: gated_linear(layer, x)) == 2 * 15 * 24 * 80


def test_attention_counts_its_two_products():
    q, k = torch.randn(2, 9, 64), torch.randn(2, 70, 64)
    with torch.no_grad():
        assert stages.operations_of(lambda: attend(q, k, k, 4)) == 2 * (2 * 2 * 9 * 70 * 64)


@pytest.mark.slow
def test_every_stage_and_every_start_is_measured(capsys):
    stages.main(["--width", "tiny", "--frames", "2", "--runs", "1", "--device", "cpu"])
    printed = capsys.readouterr().out
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in printed.splitlines() if "|" in line}
    for name in (stages.REFERENCE, stages.AUDIO, stages.STEP, stages.DECODE, stages.ENCODE):
        assert float(rows[name][0]) > 0
    assert float(rows["checkpoint to the end of the first step"][0]) > 0
    assert "A second of video" in printed


def test_a_second_of_video_is_its_clips():
    names = (stages.REFERENCE, stages.AUDIO, stages.STEP, stages.DECODE, stages.ENCODE)
    found = [stages.Stage(name, 1.0, 0.0, 1.0) for name in names]
    assert stages.per_video_second(found, 16) == (4 + 40) * 25 / 16
