"""The command `singer`, from arguments to files, exit statuses and messages."""

from __future__ import annotations

import json
import shutil
import wave
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import tiny
import torch
from safetensors import safe_open

from singer_core.audio.waveform import read_audio
from singer_core.cli import COMMANDS, main
from singer_core.cli.arguments import changed, parse
from singer_core.files import file_hash
from singer_core.settings import Job, SingerSettings

RATE = 16_000


def write_wave(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def tone(seconds: float) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * RATE)) / RATE)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, tiny_checkpoint, tiny_vae_folder) -> dict[str, Path]:
    """Everything `singer sing` wants: a picture with painted masks, a sound, weights."""
    folder = tmp_path_factory.mktemp("inputs")
    tiny.write_portrait(folder, (200, 160), face=(40, 40, 120, 160), lip=(60, 120, 100, 140))
    write_wave(folder / "song.wav", tone(0.5))
    return {
        "folder": folder,
        "portrait": folder / "portrait.png",
        "song": folder / "song.wav",
        "face": folder / "face.png",
        "lip": folder / "lip.png",
        "checkpoint": tiny_checkpoint,
        "vae": tiny_vae_folder,
    }


def sing(inputs, out: Path, *options: str, **replaced: Path) -> int:
    given = {**inputs, **replaced}
    arguments = ["sing", given["portrait"], given["song"], "--checkpoint", given["checkpoint"]]
    arguments += ["--vae", given["vae"], "--face-mask", given["face"], "--lip-mask", given["lip"]]
    arguments += ["--out", out, "--device", "cpu", "--quiet", "--steps", "1", "--set", "clip_frames=4"]
    return main([str(argument) for argument in [*arguments, *options]])


def refused(capsys, status: int) -> str:
    """The one line that a refused command prints."""
    assert status == 2
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if line.startswith("singer: error: ")]
    assert len(errors) == 1, lines
    return errors[0]


# sing


def test_a_song_becomes_a_video_of_its_length_with_its_sound(inputs, tmp_path):
    out = tmp_path / "film.mp4"
    assert sing(inputs, out) == 0
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(out))
    assert frames == 13  # ceil(0.5 * 25)
    assert seconds == pytest.approx(13 / 25, abs=0.05)
    sound = read_audio(out, RATE, mono=True)
    assert sound.length == pytest.approx(0.5 * RATE, abs=0.1 * RATE)
    meta = next(imageio_ffmpeg.read_frames(str(out)))
    assert tuple(meta["size"]) == (tiny.SIDE, tiny.SIDE)
    assert meta["fps"] == 25
    assert meta["codec"] == "h264"
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_size_rate_and_mode_are_as_asked_for_in_the_preview_too(inputs, tmp_path):
    out, preview = tmp_path / "film.mp4", tmp_path / "preview.mkv"
    options = ["--size", "128x64", "--fps", "12.5", "--mode", "enhanced", "--set", "overlap=2"]
    assert sing(inputs, out, *options, "--preview", str(preview)) == 0
    for path in (out, preview):
        meta = next(imageio_ffmpeg.read_frames(str(path)))
        assert tuple(meta["size"]) == (128, 64)
        assert imageio_ffmpeg.count_frames_and_secs(str(path))[0] == 7


def test_the_same_seed_gives_the_same_film_and_another_one_another(inputs, tmp_path):
    films, song = [], write_wave(tmp_path / "short.wav", tone(0.1))
    for name, seed in (("one", "7"), ("two", "7"), ("three", "8")):
        assert sing(inputs, tmp_path / f"{name}.mp4", "--seed", seed, song=song) == 0
        reader = imageio_ffmpeg.read_frames(str(tmp_path / f"{name}.mp4"))
        next(reader)
        films.append(b"".join(reader))
    assert films[0] == films[1] != films[2]


def test_paste_back_gives_the_whole_picture(inputs, tmp_path):
    out = tmp_path / "film.mp4"
    song = write_wave(tmp_path / "short.wav", tone(0.1))
    assert sing(inputs, out, "--paste-back", song=song) == 0
    assert tuple(next(imageio_ffmpeg.read_frames(str(out)))["size"]) == (160, 200)


def broken(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--steps", "0"), "`steps` is 0"),
        (("--cfg", "-1"), "`reference_scale` is -1"),
        (("--set", "clip_frames=3"), "`clip_frames` is 3; accepted: an even number"),
        (("--set", "colour=red"), "no such option"),
        (("--set", "msm_input=sometimes"), "`msm_input` is sometimes"),
        (("--set", "band_gains=1,2,x,4"), "a value like"),
        (("--set", "round_reference=maybe"), "a value like"),
        (("--set", "wavelet=morl"), "`wavelet` is morl"),
        (("--fps", "0"), "fps"),
        (("--fps", "nan"), "fps"),
        (("--device", "toaster"), "--device toaster"),
        (("--pose", "nan"), "pose"),
        (("--out", "/nonexistent/folder/film.mp4"), "/nonexistent/folder"),
        (("--out", "film.txt"), "film.txt"),
    ],
    ids=" ".join,
)
def test_a_bad_option_is_refused_and_leaves_nothing(inputs, tmp_path, capsys, options, said):
    status = sing(inputs, tmp_path / "film.mp4", *options)
    assert said in refused(capsys, status)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["portrait", "song", "checkpoint", "vae", "face", "lip"])
def test_a_missing_file_is_named(inputs, tmp_path, capsys, what):
    status = sing(inputs, tmp_path / "film.mp4", **{what: tmp_path / "nothing.there"})
    assert "nothing.there" in refused(capsys, status)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["portrait", "song", "checkpoint", "vae", "face", "lip"])
def test_a_file_of_another_kind_is_named(inputs, tmp_path, tmp_path_factory, capsys, what):
    path = broken(tmp_path_factory.mktemp("bad"), "letter.txt", b"Dear Sir or Madam,\n" * 50)
    status = sing(inputs, tmp_path / "film.mp4", **{what: path})
    assert "letter.txt" in refused(capsys, status)
    assert not list(tmp_path.iterdir())


def test_a_song_of_no_samples_is_refused(inputs, tmp_path, tmp_path_factory, capsys):
    path = write_wave(tmp_path_factory.mktemp("bad") / "empty.wav", np.zeros(0))
    assert "zero samples" in refused(capsys, sing(inputs, tmp_path / "film.mp4", song=path))
    assert not list(tmp_path.iterdir())


def test_a_silent_song_is_sung_with_a_warning(inputs, tmp_path, capsys, caplog):
    """A duet partner's empty stem: the mouth stays as it is heard, closed."""
    path = write_wave(tmp_path / "silent.wav", np.zeros(RATE // 2))
    assert sing(inputs, tmp_path / "film.mp4", song=path) == 0
    assert (tmp_path / "film.mp4").stat().st_size > 0
    assert "silent" in capsys.readouterr().err + caplog.text


def test_an_existing_film_survives_a_failed_run(inputs, tmp_path, capsys):
    out = tmp_path / "film.mp4"
    out.write_bytes(b"an older film")
    refused(capsys, sing(inputs, out, "--steps", "0"))
    assert out.read_bytes() == b"an older film"


def test_a_song_that_is_a_video_is_not_replaced_by_its_own_film(inputs, tmp_path, capsys, monkeypatch):
    """Without --out the film has the song's name, in this folder."""
    song = tmp_path / "song.mp4"
    shutil.copy(inputs["song"], song)
    monkeypatch.chdir(tmp_path)
    status = main(["sing", str(inputs["portrait"]), str(song), "--checkpoint", str(inputs["checkpoint"])])
    assert "is the song itself" in refused(capsys, status)
    assert song.read_bytes() == inputs["song"].read_bytes()


def test_a_video_is_not_its_own_preview(inputs, tmp_path, capsys):
    out = tmp_path / "film.mp4"
    assert "Give another --preview" in refused(capsys, sing(inputs, out, "--preview", str(out)))
    assert not list(tmp_path.iterdir())


def test_options_may_be_written_as_errors_and_nodes_name_them():
    words = ["--face_index", "1", "--set=band_gains=1,1,1,1", "--", "--a_b.png", "c_d.wav"]
    job = parse(Job, words, "singer sing")
    assert job.how.look.face_index == 1 and job.how.sampling.set == ("band_gains=1,1,1,1",)
    assert (job.portrait, job.song) == (Path("--a_b.png"), Path("c_d.wav"))
    assert changed(job.how, SingerSettings, ["--face_index=2"], "").look.face_index == 2


def test_a_seed_that_no_generator_takes_is_refused_at_once(inputs, tmp_path, capsys):
    with pytest.raises(SystemExit):
        sing(inputs, tmp_path / "film.mp4", "--seed", str(2**64))
    assert f"'{2**64}' is no seed; whole numbers from 0 to {2**64 - 1}" in capsys.readouterr().err


def test_a_portrait_without_landmarks_or_masks_says_what_to_give(inputs, tmp_path, capsys):
    arguments = ["sing", inputs["portrait"], inputs["song"], "--checkpoint", inputs["checkpoint"]]
    arguments += ["--vae", inputs["vae"], "--out", tmp_path / "film.mp4"]
    message = refused(capsys, main([str(argument) for argument in arguments]))
    assert "landmarks" in message
    assert "lip_mask" in message or "--lip-mask" in message


# info


def info(capsys, *arguments: str) -> str:
    assert main(["info", *arguments]) == 0
    return capsys.readouterr().out


def test_info_says_variant_parts_type_and_gains(capsys, tiny_checkpoint, tiny_state):
    report = json.loads(info(capsys, str(tiny_checkpoint), "--json"))
    assert report["variant"] == "singer"
    assert report["dtype"] == ["float32"]
    assert report["tensors"] == len(tiny_state)
    assert report["parameters"] == sum(value.numel() for value in tiny_state.values())
    assert sum(report["parts"].values()) == report["parameters"]
    assert set(report["msm_expected_gains"]) == {"LL", "LH", "HL", "HH"}
    assert report["architecture"]["channels"] == list(tiny.TINY.channels)
    text = info(capsys, str(tiny_checkpoint))
    assert "SINGER network, float32" in text
    assert "SFM looks trained" in text


def test_info_prints_the_expected_keys_as_json(capsys, golden):
    printed = json.loads(info(capsys, "--expected-keys"))
    assert printed == json.loads((golden / "net_keys_full_flat.json").read_text())


def test_info_without_a_file_says_what_to_give(capsys):
    assert "--expected-keys" in refused(capsys, main(["info"]))


def test_info_of_a_wrong_file_is_an_error(capsys, tiny_vae_folder):
    message = refused(capsys, main(["info", str(tiny_vae_folder / "diffusion_pytorch_model.safetensors")]))
    assert "looks like a VAE" in message
    assert "2662 of 2662 tensors are missing" in message


# convert


@pytest.mark.parametrize("dtype", ["keep", "float16"])
def test_a_conversion_keeps_names_and_values_and_says_where_it_came_from(tmp_path, capsys, tiny_state, dtype):
    source = tiny.save_checkpoint(tmp_path / "net.pth", tiny_state)
    target = tmp_path / "net.safetensors"
    assert main(["convert", str(source), str(target), "--dtype", dtype]) == 0
    wanted = torch.float32 if dtype == "keep" else torch.float16
    with safe_open(target, "pt") as file:
        assert set(file.keys()) == set(tiny_state)
        assert all(torch.equal(file.get_tensor(key), v.to(wanted)) for key, v in tiny_state.items())
        metadata = file.metadata()
    assert metadata["singer.variant"] == "singer"
    assert metadata["singer.source_sha256"] == file_hash(source)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("net.pth", "source itself|must end in .safetensors"),
        ("out.pth", "must end in .safetensors"),
        ("nowhere/out.safetensors", "no folder"),
    ],
)
def test_a_bad_target_is_refused(tmp_path, capsys, tiny_state, target, said):
    source = tiny.save_checkpoint(tmp_path / "net.pth", {"a": torch.ones(1)})
    message = refused(capsys, main(["convert", str(source), str(tmp_path / target)]))
    assert any(words in message for words in said.split("|"))


def test_a_wrong_source_leaves_no_target(tmp_path, capsys):
    source = tiny.save_checkpoint(tmp_path / "net.pth", {"a": torch.ones(1)})
    message = refused(capsys, main(["convert", str(source), str(tmp_path / "out.safetensors")]))
    assert "looks like an unknown model" in message
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]


# the command itself


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_describes_itself(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert f"usage: singer {command}" in printed
    assert len(printed) > 300


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["dance"])
    assert stop.value.code == 2
    assert "sing" in capsys.readouterr().err
