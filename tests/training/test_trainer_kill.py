"""A run killed at any moment goes on with the weights of an unbroken one."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from clips import config, distillation, write_clips
from safetensors.torch import load_file

from singer_core.training.checkpoints import AVERAGE, NETWORK, all_steps
from singer_core.training.runlog import LOG
from singer_core.training.trainer import Trainer

PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
import torch
from clips import {make}
from singer_core.training.trainer import Trainer
torch.set_num_threads(1)
folder = Path({folder!r})
Trainer({make}(folder, output=folder / "broken", steps=10_000, save_every=1, ema=0.9, keep=3)).run()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is Unix's")
@pytest.mark.parametrize("make", [config, distillation])
def test_killed_run_resumes_with_the_weights_of_an_unbroken_one(make, tmp_path):
    write_clips(tmp_path / "data")
    here = Path(__file__).parent
    paths = [str(here), str(here.parent)]
    program = PROGRAM.format(make=make.__name__, paths=paths, folder=str(tmp_path))
    victim = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    broken = tmp_path / "broken"
    end = time.monotonic() + 1800
    while not all_steps(broken) and victim.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 1))  # anywhere in a step or a save
    victim.send_signal(signal.SIGKILL)
    _, errors = victim.communicate()
    assert victim.returncode == -signal.SIGKILL, errors
    reached = int(all_steps(broken)[-1].name.removeprefix("step-"))
    last = reached + 2

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        same = {"steps": 10_000, "ema": 0.9, "keep": 3}
        Trainer(make(tmp_path, output=broken, save_every=1, **same)).run(until=last)
        Trainer(make(tmp_path, output=tmp_path / "whole", save_every=10_000, **same)).run(until=last)
    finally:
        torch.set_num_threads(threads)
    for name in (NETWORK, AVERAGE):
        expected, found = (
            load_file(tmp_path / run / f"step-{last:06d}" / name) for run in ("whole", "broken")
        )
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    curves = [
        [row.split(",")[:4] for row in (tmp_path / run / LOG).read_text().splitlines()]
        for run in ("whole", "broken")
    ]
    assert curves[0] == curves[1]  # the same losses, each step once
