"""`singer train`: what it prints, writes and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import write_clips
from tiny import random_state, save_checkpoint

from singer_core.cli import train
from singer_core.cli.arguments import parse


def run(*words: str) -> int:
    return train.run(parse(train.Arguments, words, "singer train"))


@pytest.fixture
def config(tmp_path) -> Path:
    write_clips(tmp_path / "data")
    save_checkpoint(tmp_path / "net.safetensors", random_state())
    path = tmp_path / "run.toml"
    path.write_text(
        'data = "data"\noutput = "run"\nstart = "net.safetensors"\n'
        "frames = 2\nsteps = 2\nlog_every = 1\nema = 0\n"
    )
    return path


def test_training_writes_a_checkpoint_and_goes_on(config, capsys):
    assert run(str(config), "--until", "1") == 0
    assert run(str(config)) == 0
    assert (config.parent / "run" / "step-000002" / "network.safetensors").is_file()
    lines = (config.parent / "run" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "1", "2"]
    assert "step 2/2  loss" in capsys.readouterr().err


def test_dry_run_counts_and_trains_nothing(config, capsys):
    assert run(str(config), "--dry-run") == 0
    words = capsys.readouterr().out
    assert "parameters, of which" in words and "memory, estimated" in words and "adapter.sites" in words
    assert not (config.parent / "run").exists()


def test_unknown_keys_reach_the_user(config):
    config.write_text(config.read_text() + "step = 3\n")
    with pytest.raises(ValueError, match=r"unknown key `step`\. The nearest known key is `steps`"):
        run(str(config))
