"""Counted operations are those of the closed forms, also where torch's counter has none."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import stages

from singer_core.network.layers import attend
from singer_core.network.linear import CpuLinear


def test_linears_count_alike_in_either_way():
    x, layer = torch.randn(3, 5, 24), nn.Linear(24, 40)
    expected = 2 * 3 * 5 * 24 * 40
    with torch.no_grad():
        assert stages.operations_of(lambda: layer(x)) == expected
        layer.__class__ = CpuLinear
        assert stages.operations_of(lambda: layer(x)) == expected


def test_attention_counts_its_two_products():
    q, k = torch.randn(2, 9, 64), torch.randn(2, 70, 64)
    with torch.no_grad():
        assert stages.operations_of(lambda: attend(q, k, k, 4)) == 2 * (2 * 2 * 9 * 70 * 64)
