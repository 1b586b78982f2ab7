"""`--preset` and `--low-memory`: how fast and how small a render is, from the command line."""

from __future__ import annotations

import random
import subprocess
import sys
import wave

import pytest
import torch

from singer_core.cli import main
from singer_core.cli.arguments import parse
from singer_core.network.backbone import SingerNetwork
from singer_core.network.memory import OutOfMemory
from singer_core.render.video import VideoWriter, read_frames
from singer_core.settings import MODES, PRESETS, Job, SamplingSettings, distilled_warning

GUIDED = ("--audio-cfg", "1.25")  # the built-in model is not, by itself


def options_of(*arguments: str):
    words = ["p.png", "s.wav", "--checkpoint", "c", "--vae", "v", *arguments]
    return parse(Job, words, "singer sing").how.sampling.options()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_changes_its_options_alone_in_any_mode(mode, preset):
    assert options_of("--mode", mode, "--preset", preset) == MODES[mode].but(**PRESETS[preset])


def test_what_is_said_of_single_options_goes_before_the_preset():
    options = options_of(
        "--preset", "fast", "--steps", "7", "--set", "solver=unipc", "--set", "guidance_interval=0,1"
    )
    assert (options.steps, options.solver, options.guidance_interval) == (7, "unipc", (0.0, 1.0))


def test_a_distilled_network_is_run_as_it_was_made_unless_told_otherwise():
    def run(**given):
        options = SamplingSettings(**given).options(MODES["paper"], distilled_steps=4)
        return options.steps, options.guided, distilled_warning(4, options.steps, options.guided)

    for given in ({}, {"preset": "turbo"}, {"mode": "enhanced"}, {"mode": "official", "preset": "turbo"}):
        assert run(**given) == (4, False, None)
    assert run(preset="quality")[:2] == (40, False)
    assert "made for 4 steps without guidance and gets 40 without" in run(steps=40)[2]
    assert "gets 4 with, which makes pictures worse. Take 4 and a guidance of 1" in run(cfg=3.5)[2]
    assert distilled_warning(0, 40, True) is None


def test_low_memory_guides_one_branch_after_another():
    assert options_of("--low-memory").sequential_guidance
    assert not options_of().sequential_guidance


def test_an_unknown_preset_is_refused_in_one_line_that_names_the_known(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--preset", "fastest"])
    assert stopped.value.code == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert "--preset" in said and "fastest" in said
    assert all(name in said for name in PRESETS)


@pytest.fixture
def film_of(tmp_path):
    """`film_of(options...)` -> exit status of the built-in singer with 0.16 s of noise, and its pictures."""
    song, out = tmp_path / "song.wav", tmp_path / "film.mp4"
    with wave.open(str(song), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(random.Random(0).randbytes(2 * 2560))

    def run(*options: str) -> tuple[int, list[torch.Tensor]]:
        out.unlink(missing_ok=True)
        given = ["--audio", str(song), "--out", str(out), "--device", "cpu", "--quiet", "--no-keep-clips"]
        status = main(["demo", *given, "--set", "clip_frames=4", *options])
        return status, list(read_frames(out)) if out.exists() else []

    return run


@pytest.fixture
def watched(monkeypatch):
    """Rows of the batch at each run of a network, and which networks were told to wait in main memory."""
    rows: list[int] = []
    aside: list[SingerNetwork] = []
    forward, keep = SingerNetwork.forward, SingerNetwork.keep_reference_aside

    def noted(self, latents, timestep, tokens, clip):
        rows.append(len(latents) * len(clip.branches))
        return forward(self, latents, timestep, tokens, clip)

    monkeypatch.setattr(SingerNetwork, "forward", noted)
    monkeypatch.setattr(SingerNetwork, "keep_reference_aside", lambda self: (aside.append(self), keep(self)))
    return rows, aside


def test_a_fast_render_guides_seven_of_its_ten_steps(film_of, watched):
    status, pictures = film_of("--preset", "fast", *GUIDED)
    assert (status, len(pictures)) == (0, 4)
    assert watched[0] == [8] * 7 + [4] * 3
    assert not watched[1]


def test_a_low_memory_render_gives_the_same_pictures_from_half_the_batch(film_of, watched):
    rows, aside = watched
    status, plain = film_of("--steps", "2", *GUIDED)
    assert (status, rows) == (0, [8, 8])
    rows.clear()
    status, small = film_of("--steps", "2", *GUIDED, "--low-memory")
    assert (status, rows) == (0, [4] * 4)
    assert len(aside) == 1
    assert len(small) == len(plain) == 4
    difference = torch.stack(small).int() - torch.stack(plain).int()
    assert difference.abs().max() <= 3  # rounding, and what the video's coder makes of it


@pytest.mark.slow
def test_a_compiled_render_is_the_same(film_of, monkeypatch):
    """Traced as for a GPU and run as it is: generated code is another machine's business."""
    asked, written, compiler, write = [], [], torch.compile, VideoWriter.write

    def traced(forward, **given):
        asked.append(given)
        return compiler(forward, backend="eager", fullgraph=True, **given)

    def noted(writer, pictures):
        written.append(pictures)
        write(writer, pictures)

    monkeypatch.setattr(torch, "compile", traced)
    monkeypatch.setattr(VideoWriter, "write", noted)
    film_of("--steps", "2")
    assert not asked
    status, _ = film_of("--steps", "2", "--compile")
    assert status == 0 and asked == [{"dynamic": False}]
    plain, compiled = torch.cat(written).chunk(2)
    torch.testing.assert_close(compiled, plain, atol=1e-3, rtol=0)  # the encoder makes levels of last bits


def test_a_render_that_does_not_fit_the_device_says_in_one_line_what_to_lower(film_of, monkeypatch, capsys):
    def full(self, *_args, **_named):
        raise OutOfMemory("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(SingerNetwork, "forward", full)
    assert film_of("--steps", "1") == (2, [])
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("singer: error: ")]
    assert "Sampling needs more memory than the device has left" in said
    assert all(setting in said for setting in ("--size", "--low-memory", "--dtype float16"))


def test_clips_finished_before_memory_ran_out_are_used_again(film_of, monkeypatch, capsys, tmp_path):
    """Two clips; the second one does not fit, then it does."""
    forward, clips = SingerNetwork.forward, []

    def run(room: int) -> int:
        def cramped(self, *args, **named):
            clips.append(1)
            if len(clips) > room:
                raise OutOfMemory("CUDA out of memory.")
            return forward(self, *args, **named)

        clips.clear()
        monkeypatch.setattr(SingerNetwork, "forward", cramped)
        song, out, work = (tmp_path / name for name in ("song.wav", "film.mp4", "work"))
        given = ["--audio", str(song), "--out", str(out), "--work-dir", str(work), "--device", "cpu"]
        small = ["--steps", "1", "--set", "clip_frames=4", "--set", "overlap=2"]
        return main(["demo", *given, "--quiet", *small, "--fps", "30"])

    assert run(room=1) == 2
    assert "needs more memory" in capsys.readouterr().err
    assert run(room=1) == 0


EVERY_HELP = """
import contextlib, io, sys
from singer_core.cli import COMMANDS, main
for command in ["", *COMMANDS]:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as page:
        main([*command.split(), "--help"])
    assert "usage: singer" in page.getvalue()
print(*sys.modules)
"""


def test_help_of_any_command_comes_without_the_libraries_that_take_seconds_to_load():
    done = subprocess.run([sys.executable, "-c", EVERY_HELP], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "diffusers", "transformers", "PIL"} & set(done.stdout.split())
