"""What a run writes while it trains, and which optimizer it takes."""

from __future__ import annotations

import csv
import dataclasses
import logging
import sys
import types
from pathlib import Path

import pytest
import torch
from clips import config

from singer_core.training.config import from_mapping
from singer_core.training.runlog import EVENTS, LOG, Report, RunLog
from singer_core.training.trainer import build_optimizer

COLUMNS = tuple(field.name for field in dataclasses.fields(Report))


def steps_of(folder: Path) -> list[int]:
    with (folder / LOG).open(newline="") as stream:
        return [int(row["step"]) for row in csv.DictReader(stream)]


def report(step: int) -> Report:
    return Report(step, 1 / step, 1e-4, 0.5, float(step))


def test_rows_behind_the_checkpoint_are_written_anew(tmp_path):
    log = RunLog(tmp_path, 0, tensorboard=False)
    for step in (10, 20, 30):
        log.add(report(step))
    with (tmp_path / LOG).open("a") as stream:
        stream.write("40,0.1")  # cut short by a kill
    again = RunLog(tmp_path, 20, tensorboard=False)
    assert steps_of(tmp_path) == [10, 20]
    again.add(report(30))
    assert steps_of(tmp_path) == [10, 20, 30]
    assert (tmp_path / LOG).read_text().splitlines()[0] == ",".join(COLUMNS)
    assert not (tmp_path / EVENTS).exists()


def test_tensorboard_reads_the_same_values(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path, 0, tensorboard=True)
    for step in (10, 20):
        log.add(report(step))
    log.close()
    events = EventAccumulator(str(tmp_path / EVENTS)).Reload()
    losses = events.Scalars("loss")
    assert [event.step for event in losses] == [10, 20]
    assert [event.value for event in losses] == pytest.approx([0.1, 0.05])
    assert set(events.Tags()["scalars"]) == set(COLUMNS[1:])
    assert steps_of(tmp_path) == [10, 20]


def test_tensorboard_that_is_missing_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RuntimeError, match=r"`tensorboard` needs tensorboard .*pip install tensorboard"):
        RunLog(tmp_path, 0, tensorboard=True)


def test_tensorboard_is_a_key_of_the_configuration():
    given = {"data": "d", "output": "o", "start": "net.safetensors"}
    assert not from_mapping(given).tensorboard
    assert from_mapping({**given, "tensorboard": True}).tensorboard


class EightBit(torch.optim.AdamW):
    """Stands in for bitsandbytes' optimizer, which needs a GPU."""


@pytest.fixture
def weights() -> dict[str, torch.nn.Parameter]:
    return {"w": torch.nn.Parameter(torch.zeros(2, 2)), "b": torch.nn.Parameter(torch.zeros(2))}


def test_eight_bit_adam_gets_the_runs_settings(tmp_path, weights, monkeypatch):
    package = types.ModuleType("bitsandbytes")
    package.optim = types.ModuleType("bitsandbytes.optim")  # type: ignore[attr-defined]
    package.optim.AdamW8bit = EightBit  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", package.optim)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    run = config(tmp_path, eight_bit_adam=True, rate=0.3, betas=(0.5, 0.6), epsilon=1e-3, weight_decay=0.25)
    built = build_optimizer(run, weights)
    assert isinstance(built, EightBit)
    decays = [(group["weight_decay"], len(group["params"])) for group in built.param_groups]
    assert decays == [(0.25, 1), (0.0, 1)]  # matrices, then vectors
    assert all(g["lr"] == 0.3 and g["betas"] == (0.5, 0.6) and g["eps"] == 1e-3 for g in built.param_groups)
    weights["w"].grad = torch.ones(2, 2)
    built.step()
    assert weights["w"].detach().abs().min() > 0
    assert type(build_optimizer(run.but(eight_bit_adam=False), weights)) is torch.optim.AdamW


@pytest.mark.parametrize(("gpu", "words"), [(True, "pip install bitsandbytes"), (False, "needs a GPU")])
def test_without_it_ordinary_adam_and_a_warning(tmp_path, weights, monkeypatch, caplog, gpu, words):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    with caplog.at_level(logging.WARNING):
        built = build_optimizer(config(tmp_path, eight_bit_adam=True), weights)
    assert type(built) is torch.optim.AdamW
    assert words in caplog.text and "ordinary AdamW" in caplog.text
