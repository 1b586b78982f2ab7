"""A data set of three pairs: which count, what is computed again, how they are put together."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from made_up import singer

from singer_core.cli import main
from singer_core.evaluation import networks
from singer_core.evaluation.protocol import (
    PROTOCOLS,
    Pair,
    aggregate,
    bootstrap_interval,
    find_pairs,
    measure_pair,
    summary_text,
)
from singer_core.evaluation.settings import Files

NAMES = ("anna_01", "ben_02", "cleo_03")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Truth at 30 fps; generated at 25, darker by 2, 4 and 8 grey levels."""
    folder = tmp_path_factory.mktemp("set")
    for part in ("generated", "truth"):
        (folder / part).mkdir()
    for seed, (name, levels) in enumerate(zip(NAMES, (2, 4, 8), strict=True)):
        one = singer(seed, frames=50)
        slow = torch.linspace(0, 49, 60).round().long()  # the same seconds at 30 fps
        one.write(folder / "truth" / f"{name}.mp4", fps=30.0, pictures=one.pictures[slow])
        one.write(folder / "generated" / f"{name}.mp4", pictures=one.pictures - levels / 255)
    for sound in folder.glob("*/*.wav"):
        sound.unlink()
    return folder


@pytest.fixture
def copied(dataset, tmp_path):
    """The data set in a folder of its own, without results."""
    for part in ("generated", "truth"):
        (tmp_path / part).mkdir()
        for path in (dataset / part).iterdir():
            os.link(path, tmp_path / part / path.name)
    return tmp_path


def test_one_command_fills_the_table_and_a_second_run_measures_nothing(copied, capsys):
    table_file = copied / "table.json"
    command = ["evaluate", "--protocol", "singinghead", str(copied), "--json", str(table_file)]
    assert main([*command, "--weights", str(copied / "none"), "--html", str(copied / "table.html")]) == 0
    said = capsys.readouterr().out
    assert "singinghead: 3 pairs at 25 fps" in said and "fvd: put i3d_torchscript.pt" in said
    table = json.loads(table_file.read_text())
    psnr = table["metrics"]["psnr"]
    each = [
        json.loads((copied / "results" / f"{name}.json").read_text())["metrics"]["psnr"]["value"]
        for name in NAMES
    ]
    assert psnr["mean"] == pytest.approx(np.mean(each)) and psnr["pairs"] == 3
    assert psnr["low"] <= psnr["mean"] <= psnr["high"]
    assert table["lacking"] == ["fid", "fvd", "lpips", "lse_c", "lse_d"]
    assert "PSNR" in (copied / "table.html").read_text()
    times = {path: path.stat().st_mtime_ns for path in (copied / "results").iterdir()}
    assert main([*command, "--weights", str(copied / "none")]) == 0
    assert times == {path: path.stat().st_mtime_ns for path in (copied / "results").iterdir()}
    os.utime(copied / "generated" / "ben_02.mp4")
    assert main([*command, "--weights", str(copied / "none"), "--strict"]) == 3
    changed = [path.stem for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert changed == ["ben_02"]


def test_set_distances_come_from_the_features_of_all_pairs(copied):
    from test_networks import MeanOverTime

    from singer_core.evaluation.fidelity import frechet_distance

    weights = copied / "weights"
    weights.mkdir()
    torch.jit.script(MeanOverTime()).save(weights / networks.I3D)
    protocol, pairs = PROTOCOLS["shv"], find_pairs(copied)
    for pair in pairs:
        measure_pair(protocol, pair, Files(weights=weights))
    table = aggregate(protocol, pairs)
    assert table["metrics"]["fvd"]["samples"] == [9, 9]  # 50 frames are three windows
    sets = [
        np.concatenate([np.load(copied / "results" / f"{name}.fvd.{part}.npy") for name in NAMES])
        for part in ("generated", "truth")
    ]
    assert table["metrics"]["fvd"]["mean"] == pytest.approx(frechet_distance(*sets))
    assert "fvd" not in table["not_computed"] and "fid" in table["not_computed"]


def test_what_is_best_near_zero_has_a_size_that_does_not_cancel(tmp_path):
    for name, drift in (("a", 3.0), ("b", -3.0)):
        row = {"metrics": {"colour_drift": {"value": drift}}, "not_computed": {}, "lacking": []}
        (tmp_path / f"{name}.json").write_text(json.dumps(row))
    table = aggregate(PROTOCOLS["shv"], [Pair(name, tmp_path, tmp_path, tmp_path) for name in "ab"])
    drift = table["metrics"]["colour_drift"]
    assert (drift["mean"], drift["size"]) == (0, 3)
    assert "[-3.000, 3.000] of 2, mean size 3.000" in summary_text(table)


def test_a_list_says_which_pairs_count(copied):
    (copied / "test.txt").write_text("cleo_03\nanna_01\n")
    assert [pair.name for pair in find_pairs(copied)] == ["anna_01", "cleo_03"]
    (copied / "test.txt").write_text("cleo_03\ndora_04\n")
    with pytest.raises(ValueError, match="1 pairs that are not in generated/ and truth/, such as dora_04"):
        find_pairs(copied)


def test_a_portrait_asks_for_the_identity_of_its_pair_alone(copied):
    from PIL import Image

    (copied / "portraits").mkdir()
    Image.new("RGB", (96, 96)).save(copied / "portraits" / "ben_02.png")
    anna, ben, _ = find_pairs(copied)
    assert (anna.portrait, ben.portrait) == (None, copied / "portraits" / "ben_02.png")
    said = []
    for pair in (anna, ben):
        found = measure_pair(PROTOCOLS["shv"], pair, Files())
        said.append(found["not_computed"]["identity"])
    assert said[0].startswith("there is no portrait") and said[1].startswith("put an identity network")


def test_a_folder_without_pairs_says_how_to_name_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="generated/ holds 0 videos"):
        find_pairs(tmp_path)


def test_the_interval_is_that_of_a_mean():
    values = np.random.default_rng(0).normal(10, 2, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)
    assert bootstrap_interval(np.array([3.0])) == (3.0, 3.0)
    assert bootstrap_interval(values) == (low, high)


@pytest.mark.slow
def test_two_processes_of_accelerate_share_the_pairs(copied):
    program = copied / "program.py"
    program.write_text(
        "import os, sys, torch\nfrom singer_core.cli import main\ntorch.set_num_threads(1)\n"
        "assert os.environ['WORLD_SIZE'] == '2'\nsys.exit(main(sys.argv[1:]))\n"
    )
    launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu"]
    launch += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    launch += ["--dynamo_backend", "no", "--main_process_port", "0"]
    command = [*launch, program, "evaluate", "--protocol", "shv", copied, "--device", "cpu"]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("shv: 3 pairs") == 1  # the main process alone writes the table
    assert sorted(path.stem for path in (copied / "results").glob("*.json")) == list(NAMES)
