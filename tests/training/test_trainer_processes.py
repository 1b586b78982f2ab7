"""Two processes of accelerate, against one at twice the batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

sys.path.append(str(Path(__file__).parent))

from clips import config, write_clips

from singer_core.training.checkpoints import NETWORK
from singer_core.training.trainer import Trainer

PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
import torch
from clips import config
from singer_core.training.trainer import Trainer
torch.set_num_threads(1)
folder = Path({folder!r})
Trainer(config(folder, output=folder / "two", batch=1, steps=2, clip_gradient=1.0)).run()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_two_processes_equal_one_at_twice_the_batch(tmp_path):
    write_clips(tmp_path / "data")
    Trainer(config(tmp_path, output=tmp_path / "one", batch=2, steps=2, clip_gradient=1.0)).run()
    here = Path(__file__).parent
    program = PROGRAM.format(paths=[str(here), str(here.parent)], folder=str(tmp_path))
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "ACCELERATE_USE_CPU": "true",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [rank.communicate(timeout=1800)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    one, two = (load_file(tmp_path / run / "step-000002" / NETWORK) for run in ("one", "two"))
    worst = max(float((one[key] - two[key]).abs().max()) for key in one)
    assert worst < 1e-4
    assert len((tmp_path / "two" / "log.csv").read_text().splitlines()) == 3  # the main process alone writes
