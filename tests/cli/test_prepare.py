"""What the commands read of portraits and songs, and what `singer prepare` writes down."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from singer_core.audio.features import frame_count
from singer_core.audio.waveform import Waveform, read_audio, write_wave
from singer_core.cli import inputs, main
from singer_core.cli.arguments import parse
from singer_core.demo import files
from singer_core.portrait.landmarks import LIPS, SILHOUETTE, FaceLandmarks, write_landmarks
from singer_core.settings import PortraitSettings

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """portrait.png with face.json, and song.wav: 2.2 s, every other half second silent."""
    folder = tmp_path_factory.mktemp("prepare")
    Image.effect_noise((160, 200), 60).convert("RGB").save(folder / "portrait.png")
    points = np.full((478, 2), 80.0, np.float32)
    turn = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    points[list(SILHOUETTE)] = np.c_[80 + 40 * np.sin(turn), 100 - 50 * np.cos(turn)]
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    points[list(LIPS)] = np.c_[80 + 15 * np.cos(turn), 130 + 6 * np.sin(turn)]
    write_landmarks(folder / "face.json", [FaceLandmarks(torch.from_numpy(points))], (160, 200))
    time = np.arange(round(2.2 * RATE)) / RATE
    samples = 0.5 * np.sin(2 * np.pi * 220 * time) * (np.floor(2 * time) % 2 == 0)
    write_wave(folder / "song.wav", Waveform(torch.from_numpy(samples).float()[None], RATE))
    return folder


def portrait_settings(folder: Path, *options: object) -> PortraitSettings:
    words = ["--landmarks", str(folder / "face.json"), *map(str, options)]
    return parse(PortraitSettings, words, "singer prepare")


def prepare(folder: Path, out: Path, *options: object) -> int:
    given = ["prepare", folder / "portrait.png", folder / "song.wav", "--out", out, *options]
    return main([str(argument) for argument in given])


def test_of_several_faces_a_picture_of_their_numbers_is_written_and_one_is_asked_for(
    folder, tmp_path, capsys
):
    singer, two = Image.open(files.PORTRAIT), tmp_path / "two.png"
    both = Image.new("RGB", (2 * singer.width, singer.height))
    for left in (0, singer.width):
        both.paste(singer, (left, 0))
    both.save(two)
    given = ["prepare", str(two), str(folder / "song.wav"), "--size", "128", "--out", str(tmp_path / "look")]
    assert main(given) == 2
    message = capsys.readouterr().err
    assert "Found 2 faces" in message and "`face_index` (0 to 1;" in message
    assert str(tmp_path / "look" / "faces.png") in message
    assert Image.open(tmp_path / "look" / "faces.png").size == both.size
    left, _, right, _ = inputs.read_portrait(two, PortraitSettings(face_index=1), (128, 128)).crop.box
    assert (left + right) / 2 > singer.width


def test_prepare_writes_what_singing_would_use(folder, tmp_path, capsys):
    out = tmp_path / "look"
    assert prepare(folder, out, "--landmarks", folder / "face.json", "--size", "128") == 0
    written = {path.name for path in out.iterdir()}
    assert {"portrait.json", "crop.png", "masks.png", "overlay.png", "vocals.wav", "song.json"} <= written
    assert set(capsys.readouterr().out.split()) == {str(out / name) for name in written}
    assert Image.open(out / "crop.png").size == (128, 128)
    song = json.loads((out / "song.json").read_text())
    assert song["frames"] == frame_count(round(2.2 * RATE), RATE, 25) == 55
    vocals, whole = read_audio(out / "vocals.wav"), read_audio(folder / "song.wav")
    torch.testing.assert_close(vocals.samples, whole.samples, atol=2 / 32767, rtol=0)


def test_the_plot_of_a_song_is_a_picture_with_something_on_it(folder, tmp_path):
    pytest.importorskip("matplotlib")
    assert prepare(folder, tmp_path, "--landmarks", folder / "face.json") == 0
    plot = np.asarray(Image.open(tmp_path / "song.png").convert("L"))
    assert min(plot.shape) > 500
    assert plot.std() > 20


def test_a_plot_without_its_library_is_left_out_with_the_remedy(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert prepare(folder, tmp_path, "--landmarks", folder / "face.json") == 0
    assert "left out song.png" in (said := capsys.readouterr().err)
    assert "pip install matplotlib" in said
    assert not (tmp_path / "song.png").exists()


@pytest.mark.parametrize("ending", [".npy", ".json"])
def test_an_embedding_is_read_from_a_file(folder, tmp_path, ending):
    values = np.linspace(-1, 1, 512).astype(np.float32)
    path = tmp_path / f"identity{ending}"
    if ending == ".npy":
        np.save(path, values)
    else:
        path.write_text(json.dumps(values.tolist()))
    args = portrait_settings(folder, "--identity", path)
    portrait = inputs.read_portrait(folder / "portrait.png", args, (128, 128), 512)
    torch.testing.assert_close(portrait.identity, torch.from_numpy(values))
    with pytest.raises(ValueError, match="identity has 512 values; this checkpoint reads 16"):
        inputs.read_portrait(folder / "portrait.png", args, (128, 128), 16)


def test_a_folder_without_an_identity_network_says_where_it_looked(folder, tmp_path):
    args = portrait_settings(folder, "--identity", tmp_path)
    with pytest.raises(FileNotFoundError, match="Found no identity network in"):
        inputs.read_portrait(folder / "portrait.png", args, (128, 128))


def test_the_detector_names_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "insightface.app", None)
    args = portrait_settings(folder, "--detector", "insightface")
    args = dataclasses.replace(args, landmarks=None)
    with pytest.raises(RuntimeError, match="pip install insightface"):
        inputs.read_portrait(folder / "portrait.png", args, (128, 128))


@pytest.mark.parametrize("ending", [".mp3", ".flac", ".m4a"])
def test_a_song_of_any_container_has_its_frames(folder, tmp_path, ending):
    song = tmp_path / f"song{ending}"
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([ffmpeg, "-v", "error", "-i", folder / "song.wav", song], check=True)
    out = tmp_path / "look"
    given = ["prepare", folder / "portrait.png", song, "--out", out, "--landmarks", folder / "face.json"]
    assert main([str(argument) for argument in given]) == 0
    assert json.loads((out / "song.json").read_text())["frames"] == pytest.approx(55, abs=2)  # codecs pad


def test_levelled_vocals_are_louder_where_they_were_quiet(folder, tmp_path):
    quiet = read_audio(folder / "song.wav")
    samples = quiet.samples.clone()
    samples[:, RATE:] *= 0.1
    song = write_wave(tmp_path / "uneven.wav", Waveform(samples, RATE))
    given = ["prepare", folder / "portrait.png", song, "--landmarks", folder / "face.json"]
    for name, level in (("as_it_is", "0"), ("levelled", "1")):
        assert main([*map(str, given), "--out", str(tmp_path / name), "--levelling", level]) == 0
    before, after = (
        read_audio(tmp_path / name / "vocals.wav").samples[:, RATE:].square().mean()
        for name in ("as_it_is", "levelled")
    )
    assert after > 1.2 * before
