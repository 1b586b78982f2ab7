"""`singer sing PORTRAIT SONG` alone: models are found by content, else the built-in one sings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from singer_core import downloads
from singer_core.audio import separation
from singer_core.audio.activity import is_mix
from singer_core.audio.chunks import ChunkedSeparator, Framing, linear_fades
from singer_core.audio.waveform import Waveform, write_wave
from singer_core.cli import main
from singer_core.cli.inputs import read_song
from singer_core.cli.sing import find_models
from singer_core.demo import files as built_in
from singer_core.downloads import FILES, find_fetched, model_folders
from singer_core.network.architecture import Architecture
from singer_core.network.checkpoint import expected_shapes
from singer_core.render.video import probe_video
from singer_core.settings import ModelFiles, SongSettings

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_around(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SINGER_MODELS", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


def sparse_network(path: Path) -> Path:
    """A published network without values: a file with a hole of 2.4 GB."""
    header, at = {}, 0
    for name, shape in expected_shapes(Architecture()).items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, path.stat().st_size + at)
    return path


def known(monkeypatch, name: str, path: Path, content: bytes) -> Path:
    """A file that holds what `FILES` calls by that name, under another name of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(FILES, name, dataclasses.replace(FILES[name], megabytes=0, sha256=sha256))
    return path


def test_networks_are_told_by_content_wherever_they_lie(tmp_path, monkeypatch, capsys):
    network = sparse_network(tmp_path / "renamed.safetensors")
    vae = known(monkeypatch, "sd-vae-ft-mse", tmp_path / "deep" / "down" / "model.safetensors", b"vae")
    hearing = known(monkeypatch, "wav2vec2-base-960h", tmp_path / "model(1).safetensors", b"wav2vec2")
    (tmp_path / "net.pth").write_bytes(b"no network")

    def found(**named: Path) -> tuple[Path, Path, Path | None]:
        checkpoint, *others = find_models(ModelFiles(**named), [tmp_path])
        return checkpoint.file.path, *others

    assert found() == (network, vae, hearing)
    assert found(vae=Path("other")) == (network, Path("other"), hearing)
    assert capsys.readouterr().err == ""
    vae.unlink()
    assert found() == (built_in.CHECKPOINT, built_in.VAE, None)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "`singer download sd-vae-ft-mse`" in said
    with pytest.raises(ValueError, match=r"renamed\.safetensors needs its VAE.*--vae"):
        find_models(ModelFiles(checkpoint=network), [tmp_path])


def test_models_are_looked_for_where_they_are_put(tmp_path, monkeypatch):
    pack = tmp_path / "ComfyUI" / "custom_nodes" / "singer"
    places = [
        tmp_path / name for name in ("given", "named", "named too", "ComfyUI/models", "home/.cache/singer")
    ]
    for place in (*places, pack / "singer_core"):
        place.mkdir(parents=True)
    monkeypatch.setenv("SINGER_MODELS", os.pathsep.join(map(str, places[1:3])))
    monkeypatch.setattr(downloads, "__file__", str(pack / "singer_core" / "downloads.py"))
    assert model_folders([places[0], tmp_path / "absent"]) == places


def test_another_file_of_the_same_size_is_none(tmp_path, monkeypatch):
    known(monkeypatch, "kim-vocal-2", tmp_path / "a.onnx", b"kim").write_bytes(b"mik")
    assert find_fetched("kim-vocal-2", [tmp_path]) is None


def test_portrait_and_song_are_enough(tmp_path, capsys):
    tiny.write_portrait(tmp_path, (200, 160), face=(40, 40, 120, 160), lip=(60, 120, 100, 140))
    samples = 0.3 * torch.sin(2 * torch.pi * 220 * torch.arange(2560) / 16_000)
    song = write_wave(tmp_path / "song.wav", Waveform(samples[None], 16_000))
    masks = ["--face-mask", str(tmp_path / "face.png"), "--lip-mask", str(tmp_path / "lip.png")]
    given = [str(tmp_path / "portrait.png"), str(song), *masks, "--out", str(tmp_path / "film.mp4")]
    assert main(["sing", *given, "--quiet", "--device", "cpu", "--no-keep-clips"]) == 0
    assert probe_video(tmp_path / "film.mp4").frames == 4
    assert "singer download singer sd-vae-ft-mse wav2vec2-base-960h" in capsys.readouterr().err


def separator(share: float) -> ChunkedSeparator:
    """Takes so much of everything for the voice."""
    framing = Framing(chunk=44_100, step=22_050, weights=linear_fades(2000))
    return ChunkedSeparator(lambda chunk: chunk * share, framing)


@pytest.mark.parametrize(("share", "mixed"), [(0.5, True), (0.99, False)])
def test_a_separator_that_is_there_is_used_where_the_song_is_a_mix(
    tmp_path, monkeypatch, capsys, share, mixed
):
    rng = torch.Generator().manual_seed(0)
    song = write_wave(tmp_path / "s.wav", Waveform(0.1 * torch.randn(1, 44_100, generator=rng), 44_100))
    known(monkeypatch, "kim-vocal-2", tmp_path / "models" / "any.onnx", b"kim")
    kim = dataclasses.replace(
        separation.SEPARATORS["kim_vocal_2"],
        file=FILES["kim-vocal-2"],
        package="torch",
        load=lambda path, device: separator(share),
    )
    monkeypatch.setitem(separation.SEPARATORS, "kim_vocal_2", kim)
    sound = SongSettings(models=(tmp_path / "models",))
    found = read_song(song, sound, CPU)
    assert torch.allclose(found.vocals.samples, found.mix.samples * (0.5 if mixed else 1), atol=1e-4)
    said = capsys.readouterr().err.splitlines()[-1]
    assert ("a mix" if mixed else "a voice alone") in said and "--separator none" in said
    alone = read_song(song, dataclasses.replace(sound, separator="none"), CPU)
    assert alone.rest is None and capsys.readouterr().err == ""


@pytest.mark.parametrize(("music_db", "mixed"), [(0, True), (-10, True), (-30, False)])
def test_music_decides_what_is_a_mix(music_db, mixed):
    rng = np.random.default_rng(0)
    sung = np.repeat([0.0, 1.0, 0.0, 1.0], 16_000)
    voice, music = (
        Waveform(torch.from_numpy(0.1 * rng.standard_normal((1, 64_000))).float(), 16_000) for _ in "vm"
    )
    voice = Waveform(voice.samples * torch.from_numpy(sung).float(), 16_000)
    rest = Waveform(music.samples * 10 ** (music_db / 20), 16_000)
    assert is_mix(voice, rest) == mixed
    assert is_mix(Waveform(torch.zeros(1, 64_000), 16_000), rest)
