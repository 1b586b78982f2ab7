"""`singer batch`: jobs of a file, failures among them, done again only where something changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from singer_core.cli import main
from singer_core.cli.batch import find_processes, read_jobs
from singer_core.render.video import probe_video

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two portraits with masks, two songs of 0.3 and 0.9 s; the longer rests in the middle."""
    folder = tmp_path_factory.mktemp("inputs")
    for number in (1, 2):
        picture = (tiny.noise(128, 128, 3, seed=number).clamp(-2, 2) * 40 + 128).byte().numpy()
        Image.fromarray(picture).save(folder / f"portrait{number}.png")
    for name, box in (("face", (30, 30, 100, 110)), ("lip", (50, 80, 80, 100))):
        mask = np.zeros((128, 128), np.uint8)
        mask[box[1] : box[3], box[0] : box[2]] = 255
        Image.fromarray(mask).save(folder / f"{name}.png")
    for name, seconds in (("short", 0.3), ("long", 1.2)):
        samples = 0.4 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * RATE)) / RATE)
        if seconds > 1:
            samples[round(0.4 * RATE) : round(0.85 * RATE)] = 0
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes((samples * 32767).astype("<i2").tobytes())
    return folder


@pytest.fixture
def defaults(folder, tiny_checkpoint, tiny_vae_folder, tmp_path) -> dict:
    (tmp_path / "out").mkdir()
    return {
        "checkpoint": str(tiny_checkpoint),
        "vae": str(tiny_vae_folder),
        "face_mask": str(folder / "face.png"),
        "lip_mask": str(folder / "lip.png"),
        "portrait": str(folder / "portrait1.png"),
        "device": "cpu",
        "crop": "squash",
        "steps": 1,
        "set": {"clip_frames": 4},
        "work-dir": str(tmp_path / "work"),
    }


@pytest.fixture
def jobs(folder, defaults, tmp_path):
    """Writes tmp_path/jobs.jsonl; returns it."""

    def write(*lines: dict) -> Path:
        path = tmp_path / "jobs.jsonl"
        path.write_text("\n".join(json.dumps(line) for line in ({"defaults": defaults}, *lines)) + "\n\n")
        return path

    def job(out: str, song: str = "short", **more) -> dict:
        return {"song": str(folder / f"{song}.wav"), "out": str(tmp_path / "out" / out), **more}

    write.job = job
    return write


def report_of(path: Path) -> dict:
    return json.loads(path.with_suffix(".report.json").read_text())


def test_jobs_give_the_videos_that_sing_gives_and_a_failure_stops_nobody(
    jobs, folder, defaults, tmp_path, capsys
):
    path = jobs(
        jobs.job("one.mp4"),
        jobs.job("none.mp4", portrait="nobody.png"),
        jobs.job("two.mp4", portrait=str(folder / "portrait2.png"), seed=7),
    )
    assert main(["batch", str(path)]) == 1
    report = report_of(path)
    assert (report["done"], report["failed"]) == (2, 1)
    assert [job["status"] for job in report["jobs"]] == ["done", "failed", "done"]
    assert [job["line"] for job in report["jobs"]] == [2, 3, 4]
    assert "nobody.png" in report["jobs"][1]["error"]
    assert "line 3: " in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["jobs.jsonl", "jobs.report.json"]
    alone = tmp_path / "alone.mp4"
    line = ["sing", folder / "portrait2.png", folder / "short.wav", "--seed", "7", "--out", alone]
    line += ["--checkpoint", defaults["checkpoint"], "--vae", defaults["vae"], "--crop", "squash"]
    line += ["--face-mask", defaults["face_mask"], "--lip-mask", defaults["lip_mask"], "--quiet"]
    line += ["--device", "cpu", "--steps", "1", "--set", "clip_frames=4"]
    assert main([str(word) for word in line]) == 0
    assert alone.read_bytes() == (tmp_path / "out" / "two.mp4").read_bytes()


def test_what_is_done_is_left_out_unless_it_changed(jobs, tmp_path, folder):
    lines = [jobs.job("one.mp4"), jobs.job("two.mp4"), jobs.job("three.mp4")]
    path = jobs(*lines)
    assert main(["batch", str(path)]) == 0
    films = [tmp_path / "out" / f"{name}.mp4" for name in ("one", "two", "three")]
    times = [film.stat().st_mtime_ns for film in films]
    films[1].unlink()  # lost
    path = jobs(*lines[:2], {**lines[2], "seed": 3})  # changed
    assert main(["batch", str(path)]) == 0
    kept = [film.stat().st_mtime_ns == time for film, time in zip(films, times, strict=True)]
    assert kept == [True, False, False]
    assert report_of(path)["done"] == 3
    assert main(["batch", str(jobs(lines[0])), "--again"]) == 0
    assert films[0].stat().st_mtime_ns != times[0]


WHOLE = '{"portrait": "a", "song": "b", "vae": "c", "checkpoint": "d", '


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no jobs"),
        ("{", r"jobs\.jsonl, line 1: Expecting property name"),
        ("[1]", r"line 1: \[1\] is no JSON object"),
        ('\n{"song": "a.wav"}', 'line 2: there is no "portrait"'),
        ("{}", 'line 1: there is no "portrait" and no "song"'),
        (
            WHOLE + '"tempo": 3}',
            "line 1: unrecognized.*--tempo=3",
        ),
        (
            WHOLE + '"steps": "x"}',
            "line 1: argument --steps",
        ),
        ('{"defaults": 3}', "line 1: "),
    ],
)
def test_a_wrong_line_is_named_before_any_work(tmp_path, text, said):
    path = tmp_path / "jobs.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_jobs(path)


def test_values_become_arguments_by_their_kind(tmp_path):
    path = tmp_path / "jobs.jsonl"
    values = {"portrait": "-a.png", "song": "b.wav", "vae": "c", "checkpoint": "d", "paste_back": True}
    values |= {"sections": False, "cfg": -3, "identity": None, "models": ["x", "y"], "lip-height": 0.9}
    values["set"] = {"overlap": 4, "band_gains": [1, 1.2, 1, 1], "round_reference": False}
    path.write_text(json.dumps(values))
    [line] = read_jobs(path)
    how, sampling = line.job.how, line.job.how.sampling
    assert (line.job.portrait, how.paste_back, how.work.sections) == (Path("-a.png"), True, False)
    assert how.sound.models == (Path("x"), Path("y")) and sampling.cfg == -3
    assert sampling.set == ("overlap=4", "band_gains=1,1.2,1,1", "round_reference=False")
    assert (how.look.identity, how.look.lip_height, how.quiet) == (None, 0.9, True)


def test_what_is_on_by_default_can_be_turned_off(tmp_path):
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"portrait": "a", "song": "b", "keep_clips": false}\n{"portrait": "a", "song": "c"}')
    assert [line.job.how.work.keep_clips for line in read_jobs(path)] == [False, True]


def test_two_jobs_with_one_video_are_refused(jobs):
    with pytest.raises(ValueError, match=r"line 3: .*one\.mp4 is that of line 2"):
        read_jobs(jobs(jobs.job("one.mp4"), jobs.job("one.mp4")))


def test_a_missing_file_and_a_missing_report_folder_are_named_at_once(jobs, tmp_path, capsys):
    assert main(["batch", str(tmp_path / "none.jsonl")]) == 2
    path = jobs(jobs.job("one.mp4"))
    assert main(["batch", str(path), "--report", str(tmp_path / "nowhere" / "report.json")]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_a_launcher_that_starts_one_process_of_many_is_reported(monkeypatch, caplog):
    """What accelerate's environment is on a CPU without --multi_gpu."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in (("ACCELERATE_MIXED_PRECISION", "no"), ("MASTER_ADDR", "127.0.0.1")):
        assert "--multi_gpu" not in caplog.text
        monkeypatch.setenv(name, value)
        assert find_processes().count == 1
    assert "asked for several processes and started one" in caplog.text


# `singer batch` with sections so short that a song of a second has some.
PROGRAM = """
import torch
from singer_core.cli import batch
from singer_core.render import sections

torch.set_num_threads(1)
sections.SECTION_SECONDS = 0.4
batch.main()
"""


@pytest.mark.slow
def test_accelerate_shares_jobs_and_sections_out_and_gives_the_bytes_of_one_process(jobs, tmp_path):
    """Through `accelerate launch` itself, as the help says."""
    pytest.importorskip("accelerate", reason="accelerate is not installed: pip install accelerate")
    song = {"set": {"clip_frames": 4, "overlap": 2}, "mode": "enhanced"}
    anew = {"keep_clips": False}
    lines = [jobs.job(f"{number}.mp4", seed=number, **anew) for number in range(3)]
    path = jobs(*lines, jobs.job("sections.mp4", "long", sections=True, **song, **anew))
    script = tmp_path / "program" / "batch.py"
    script.parent.mkdir()
    script.write_text(PROGRAM)
    alone = dict(os.environ, OMP_NUM_THREADS="1")
    subprocess.run([sys.executable, script, path], check=True, env=alone, capture_output=True)
    films = sorted((tmp_path / "out").iterdir())
    expected = [film.read_bytes() for film in films]
    launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu"]
    launch += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    launch += ["--dynamo_backend", "no", "--main_process_port", "0", "--num_cpu_threads_per_process", "1"]
    done = subprocess.run(
        [*launch, script, path, "--again"],
        env=alone,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [film.read_bytes() for film in films] == expected
    report = report_of(path)
    assert [job["process"] for job in report["jobs"]] == [0, 0, 1, 1]
    assert report["done"] == 4
    assert probe_video(tmp_path / "out" / "sections.mp4").frames == 30
    assert not (tmp_path / "work").exists()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["jobs.jsonl", "jobs.report.json"]
