"""Counting on tensors without values: what a pass takes at most, and what the full network needs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import counted

WEIGHT = torch.empty(100, 100, device="meta")  # 40,000 bytes


def test_the_peak_is_what_is_alive_at_once():
    def work():
        first = WEIGHT + 1
        second = first * 2
        del first
        return second - 1

    assert counted.peak(work) == 2 * 40_000


def test_views_and_what_was_there_before_take_nothing():
    assert counted.peak(lambda: WEIGHT.t().reshape(50, 200)[3:]) == 40_000  # the transposed copy
    assert counted.peak(lambda: WEIGHT.view(50, 200)[3:].unsqueeze(0)) == 0


def test_attention_counts_its_products_and_keeps_its_result():
    q, k = torch.empty(2, 4, 9, 16, device="meta"), torch.empty(2, 4, 70, 16, device="meta")

    def work():
        return F.scaled_dot_product_attention(q, k, k)

    assert counted.operations(work) == 2 * (2 * 2 * 4 * 9 * 70 * 16)
    assert counted.peak(work) == q.numel() * 4


@pytest.mark.slow
def test_the_full_graph_fits_seven_gigabytes_and_the_low_memory_path_five(capsys):
    counted.main([])
    whole, low = re.search(
        r"In all ([\d.]+) GB; with --low-memory ([\d.]+) GB", capsys.readouterr().out
    ).groups()
    assert float(whole) <= 7
    assert float(low) <= 5
