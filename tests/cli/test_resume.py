"""`singer sing` stopped and run again: the same file as if nothing had happened, and nothing else."""

from __future__ import annotations

import functools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from singer_core.cli import main
from singer_core.render import video
from singer_core.render.pipeline import SingerPipeline
from singer_core.render.video import probe_video, read_frames

pytestmark = pytest.mark.slow
RATE = 16_000
RETAKES = ("--retake", "0.2-0.6:7", "--retake", "1-1.2:8 lip 1.2")
RUN = "import sys; from singer_core.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_checkpoint, tiny_vae_folder) -> Path:
    """Portrait, masks and a song that sings, rests and sings: 1.6 s."""
    folder = tmp_path_factory.mktemp("inputs")
    tiny.write_portrait(folder, (128, 128), face=(30, 30, 100, 110), lip=(50, 80, 80, 100))
    samples = 0.4 * np.sin(2 * np.pi * 220 * np.arange(round(1.6 * RATE)) / RATE)
    samples[round(0.6 * RATE) : round(1.1 * RATE)] = 0
    with wave.open(str(folder / "song.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return folder


@pytest.fixture
def arguments(folder, tiny_checkpoint, tiny_vae_folder, tmp_path):
    """A command line; the video goes to tmp_path/out, clips to tmp_path/work."""
    (tmp_path / "out").mkdir()

    def line(*options: str) -> list[str]:
        given = ["sing", folder / "portrait.png", folder / "song.wav", "--checkpoint", tiny_checkpoint]
        given += ["--vae", tiny_vae_folder, "--face-mask", folder / "face.png", "--lip-mask"]
        given += [folder / "lip.png", "--crop", "squash", "--device", "cpu", "--quiet", "--steps", "1"]
        given += ["--set", "clip_frames=4", "--out", tmp_path / "out" / "film.mp4"]
        given += ["--work-dir", tmp_path / "work"]
        return [str(value) for value in [*given, *options]]

    return line


def contents(tmp_path: Path) -> list[str]:
    """All files but whole clips."""
    kept = {*clips_in(tmp_path), *tmp_path.glob("work/*/lock"), *tmp_path.glob("work/*/takes.txt")}
    found = {path for path in tmp_path.rglob("*") if path.is_file()}
    return sorted(str(path.relative_to(tmp_path)) for path in found - kept)


def clips_in(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob("work/*/clip-*.safetensors"))


def stop_after(monkeypatch, clips: int, error: type[BaseException] = KeyboardInterrupt) -> None:
    """Interrupt the next run while it samples one clip more."""
    sample = SingerPipeline._sample
    made = []

    def stopping(self, *given):
        if len(made) == clips:
            raise error
        made.append(1)
        return sample(self, *given)

    monkeypatch.setattr(SingerPipeline, "_sample", stopping)


def interrupted(monkeypatch, arguments, clips: int, *options: str) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, clips)
        assert main(arguments(*options)) == 130


@pytest.mark.parametrize("options", [(), ("--sections", "--mode", "enhanced", "--set", "overlap=2")], ids=len)
def test_after_ctrl_c_the_same_command_gives_the_same_file(arguments, tmp_path, monkeypatch, capsys, options):
    monkeypatch.setattr("singer_core.render.sections.SECTION_SECONDS", 0.2)
    film = tmp_path / "out" / "film.mp4"
    assert main(arguments("--no-keep-clips", *options)) == 0
    unbroken = film.read_bytes()
    assert contents(tmp_path) == ["out/film.mp4"]
    film.unlink()
    interrupted(monkeypatch, arguments, 3, *options)
    assert re.search(r"3 of \d+ clips are finished and stay in .*work", capsys.readouterr().err)
    assert len(clips_in(tmp_path)) == 3
    assert not list((tmp_path / "out").iterdir())
    interrupted(monkeypatch, arguments, 4, *options)
    assert len(clips_in(tmp_path)) == 7
    assert main(arguments(*options)) == 0
    assert film.read_bytes() == unbroken
    assert contents(tmp_path) == ["out/film.mp4"]


def test_another_input_begins_anew_and_does_not_disturb_the_first(arguments, tmp_path, monkeypatch):
    interrupted(monkeypatch, arguments, 3)
    before = {path: path.stat().st_mtime_ns for path in clips_in(tmp_path)}
    assert main(arguments("--seed", "7")) == 0
    after = {path: path.stat().st_mtime_ns for path in clips_in(tmp_path)}
    assert len(after) == 3 + 10 and before.items() <= after.items()


def test_a_damaged_clip_and_a_deleted_folder_are_made_up_for(arguments, tmp_path, monkeypatch, caplog):
    film = tmp_path / "out" / "film.mp4"
    assert main(arguments("--no-keep-clips")) == 0
    unbroken = film.read_bytes()
    interrupted(monkeypatch, arguments, 3)
    middle = clips_in(tmp_path)[1]
    middle.write_bytes(middle.read_bytes()[:-4] + b"oops")
    assert main(arguments()) == 0
    assert re.search(r"Clip [123] of the earlier run is damaged", caplog.text)
    assert film.read_bytes() == unbroken
    for path in sorted((tmp_path / "work").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert main(arguments()) == 0
    assert film.read_bytes() == unbroken


@pytest.mark.parametrize("options", [(), ("--sections",)], ids=len)
def test_a_partial_song_can_be_saved_and_finished_later(arguments, tmp_path, monkeypatch, capsys, options):
    monkeypatch.setattr("singer_core.render.sections.SECTION_SECONDS", 0.2)
    monkeypatch.setattr(video, "VideoWriter", functools.partial(video.VideoWriter, crf=4))  # nearly lossless
    film = tmp_path / "out" / "film.mp4"
    interrupted(monkeypatch, arguments, 3, *options)
    assert main(arguments("--partial", *options)) == 0
    assert probe_video(film).frames == 12
    assert probe_video(film).has_audio
    partial = [picture.float() for picture in read_frames(film)]
    assert len(clips_in(tmp_path)) == 3
    interrupted(monkeypatch, arguments, 4, *options)
    assert main(arguments("--partial", *options)) == 0
    assert 12 < probe_video(film).frames < 40
    assert main(arguments(*options)) == 0
    whole = [picture.float() for picture in read_frames(film)]
    assert len(whole) == 40
    worst = max(float((a - b).abs().mean()) for a, b in zip(partial, whole, strict=False))
    assert worst < 2  # compressed anew
    capsys.readouterr()
    assert main(arguments("--partial", "--seed", "7", *options)) == 2
    assert "no clip of this render is finished" in capsys.readouterr().err


def test_seconds_are_sung_again_and_any_take_can_be_shown(arguments, tmp_path, capsys):
    film = tmp_path / "out" / "film.mp4"
    assert main(arguments()) == 0
    song, clips = film.read_bytes(), {path: path.read_bytes() for path in clips_in(tmp_path)}
    assert main(arguments("--retake", "0.2-0.4:7")) == 0
    assert "Takes of 0.2-0.4 s: 1 the song's, 2* 0.2-0.4:7." in capsys.readouterr().err
    assert film.read_bytes() != song and all(path.read_bytes() == old for path, old in clips.items())
    assert main(arguments("--take", "0.2-0.4=1")) == 0
    assert "Takes of 0.2-0.4 s: 1* the song's, 2 0.2-0.4:7." in capsys.readouterr().err
    assert film.read_bytes() == song
    assert contents(tmp_path) == ["out/film.mp4"]
    assert main(arguments("--retake", "0.2-0.4:7", "--retake", "0.3-0.5:8")) == 2
    assert "`retake`: '0.3-0.5:8' overlaps 0.2-0.4:7. Give" in capsys.readouterr().err


def test_partial_and_no_kept_clips_exclude_each_other(arguments, capsys):
    assert main(arguments("--partial", "--no-keep-clips")) == 2
    assert "--no-keep-clips ignores" in capsys.readouterr().err


def test_clips_lie_in_the_temporary_folder_where_none_is_named(arguments, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    line = arguments()
    at = line.index("--work-dir")
    del line[at : at + 2]
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert main(line) == 130
    assert len(list((tmp_path / "tmp").glob("singer-*/*/clip-*"))) == 2
    assert main(line) == 0
    assert len(list((tmp_path / "tmp").glob("singer-*/*/clip-*"))) == 10
    assert all(path.name.startswith("singer-") for path in (tmp_path / "tmp").iterdir())


def test_a_full_disk_ends_with_one_line_and_keeps_what_is_there(arguments, tmp_path, monkeypatch, capsys):
    fsync, written = os.fsync, []

    def filling(descriptor):
        written.append(1)
        if len(written) > 2:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", filling)
        assert main(arguments()) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("singer: error:")]
    assert len(errors) == 1
    assert re.search(r"is full \(.*clip 3 of 10 takes .* 2 finished clips stay", errors[0])
    assert len(clips_in(tmp_path)) == 2
    assert not list((tmp_path / "out").iterdir())
    assert main(arguments()) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_three_kills_at_random_moments_leave_no_trace_in_the_file_or_the_folders(arguments, tmp_path):
    command = [sys.executable, "-c", RUN, *arguments(*RETAKES)]
    film, environment = tmp_path / "out" / "film.mp4", {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--no-keep-clips"], check=True, env=environment, capture_output=True)
    unbroken = film.read_bytes()
    film.unlink()
    moments, kills = random.Random(5), 0
    while kills < 3:
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        before = len(clips_in(tmp_path))
        while process.poll() is None and len(clips_in(tmp_path)) < before + 2:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        if process.poll() is None:
            kills += 1
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert not film.exists() or film.read_bytes() == unbroken
        else:  # a busy machine let it finish first
            assert process.returncode == 0 and film.read_bytes() == unbroken
            shutil.rmtree(tmp_path / "work")
        film.unlink(missing_ok=True)
    subprocess.run(command, check=True, env=environment, capture_output=True)
    assert film.read_bytes() == unbroken
    assert contents(tmp_path) == ["out/film.mp4"]


def test_two_runs_of_one_song_at_once_both_give_the_whole_file(arguments, tmp_path):
    film, other = tmp_path / "out" / "film.mp4", tmp_path / "out" / "other.mp4"
    assert main(arguments("--no-keep-clips", *RETAKES)) == 0
    unbroken = film.read_bytes()
    film.unlink()
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, *arguments("--out", str(out), *RETAKES)],
            env=environment,
            stderr=subprocess.PIPE,
        )
        for out in (film, film, other)
    ]
    errors = [process.communicate(timeout=1800)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert film.read_bytes() == other.read_bytes() == unbroken
    assert contents(tmp_path) == ["out/film.mp4", "out/other.mp4"]


def test_an_interrupt_within_a_clip_costs_no_more_than_the_step(arguments, tmp_path, monkeypatch):
    """Python's signal reaches the run between two operations; here after the second of many steps."""
    from diffusers import DDIMScheduler

    steps, plain = [], DDIMScheduler.step

    def step(*given, **named):
        steps.append(1)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(*given, **named)

    monkeypatch.setattr(DDIMScheduler, "step", step)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    try:
        assert main(arguments("--steps", "500")) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(steps) == 2


def test_a_render_goes_on_after_weeks_and_older_ones_are_cleared(arguments, tmp_path, monkeypatch):
    interrupted(monkeypatch, arguments, 2, "--seed", "7")
    interrupted(monkeypatch, arguments, 3)
    for path in (tmp_path / "work").rglob("*"):
        os.utime(path, (time.time() - 30 * 86_400,) * 2)
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        assert main(arguments()) == 130
    assert len(clips_in(tmp_path)) == 3
