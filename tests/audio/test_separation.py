"""Separation: identity networks give the song back, stems sum to it, the framing is the originals'."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file

from singer_core.audio import hdemucs, mdx_net, mel_band
from singer_core.audio.activity import vocal_activity
from singer_core.audio.chunks import ChunkedSeparator, Framing, linear_fades, overlap_add
from singer_core.audio.hdemucs import hdemucs_module, hdemucs_separator
from singer_core.audio.mdx_net import MdxSpec, from_spectrogram, mdx_separator, onnx_run, to_spectrogram
from singer_core.audio.separation import (
    SEPARATORS,
    PassThrough,
    find_separator_file,
    load_separator,
)
from singer_core.audio.waveform import Waveform
from singer_core.weights import load_state

FRAMINGS = {"hdemucs": hdemucs.FRAMING, "mdx": MdxSpec().framing(), "mel_band": mel_band.FRAMING}
SMALL = Framing(chunk=1000, step=700, weights=linear_fades(300))
TINY = MdxSpec(n_fft=256, hop=64, dim_f=129, dim_t=32, silent_bins=0, compensation=1.0)


def identity(block: torch.Tensor) -> torch.Tensor:
    return block


def joined(waveform: Waveform, network, framing: Framing) -> torch.Tensor:
    """All pieces of overlap_add, after checking that they partition the sound."""
    out, end = torch.zeros_like(waveform.samples), 0
    for start, piece in overlap_add(waveform, network, framing):
        assert start == end
        end = start + piece.shape[1]
        out[:, start:end] = piece
    assert end == waveform.length
    return out


@pytest.mark.parametrize("name", FRAMINGS)
@pytest.mark.parametrize("length", [1, 2205, 261_121, 440_999, 900_001])
def test_identity_through_every_framing_is_the_song(name, length, noise):
    song = noise(2, length, rate=44100)
    torch.testing.assert_close(joined(song, identity, FRAMINGS[name]), song.samples, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [1, 699, 700, 701, 1000, 2101, 5000])
def test_identity_at_every_seam(length, noise):
    song = noise(2, length, rate=44100)
    torch.testing.assert_close(joined(song, identity, SMALL), song.samples, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [500, 1984, 5000, 7777])
def test_mdx_framing_is_the_originals(length, noise):
    """python-audio-separator's rule written down plainly, with a network that is not linear."""
    spec = MdxSpec(n_fft=256, hop=64, dim_f=129, dim_t=32)
    song, chunk, trim = noise(2, length, rate=44100).samples.numpy(), 64 * 31, 128
    inner = chunk - 2 * trim
    mixture = np.pad(song, ((0, 0), (trim, inner + trim - length % inner)))
    result, divider = np.zeros_like(mixture), np.zeros(mixture.shape[1])
    for start in range(0, mixture.shape[1], int(0.75 * chunk)):
        part = mixture[:, start : start + chunk]
        window = np.hanning(part.shape[1])
        padded = np.pad(part, ((0, 0), (0, chunk - part.shape[1])))
        result[:, start : start + chunk] += (padded * np.abs(padded))[:, : part.shape[1]] * window
        divider[start : start + chunk] += window
    expected = (result / np.where(divider == 0, 1, divider))[:, trim : trim + length]
    found = joined(Waveform(torch.from_numpy(song), 44100), lambda x: x * x.abs(), spec.framing())
    torch.testing.assert_close(found, torch.from_numpy(expected).float(), atol=1e-6, rtol=1e-4)


def test_spectrograms_go_there_and_back_and_hold_both_channels(noise):
    chunk = noise(2, TINY.chunk).samples
    spectrogram = to_spectrogram(chunk, TINY)
    assert spectrogram.shape == (1, 4, TINY.dim_f, TINY.dim_t)
    torch.testing.assert_close(from_spectrogram(spectrogram, TINY), chunk, atol=1e-5, rtol=0)
    left = torch.stft(chunk[0], 256, 64, window=torch.hann_window(256), return_complex=True)
    torch.testing.assert_close(spectrogram[0, 0], left.real)
    torch.testing.assert_close(spectrogram[0, 1], left.imag)


def test_kim_vocal_2_sizes_and_identity_spectrogram():
    spec = MdxSpec()
    assert (spec.chunk, spec.framing().step, spec.framing().lead) == (261_120, 195_840, 3840)
    t = torch.arange(100_000) / 44100
    song = Waveform(0.3 * torch.stack([torch.sin(6.2832 * 500 * t), torch.sin(6.2832 * 700 * t)]), 44100)
    vocals, rest = mdx_separator(identity, spec).separate(song)  # all tones lie between bin 3 and bin 3072
    inner = slice(4000, 96_000)
    torch.testing.assert_close(vocals.samples[:, inner], 1.009 * song.samples[:, inner], atol=1e-4, rtol=0)
    torch.testing.assert_close(vocals.samples + rest.samples, song.samples, atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_stems_have_the_songs_form_and_sum_to_it(channels, rate, noise):
    song = noise(channels, 9001, rate=rate)
    vocals, rest = ChunkedSeparator(lambda x: 0.4 * x, SMALL).separate(song)
    assert vocals.rate == rest.rate == rate
    assert vocals.samples.shape == rest.samples.shape == song.samples.shape
    torch.testing.assert_close(vocals.samples + rest.samples, song.samples, atol=1e-6, rtol=0)
    if rate == 44100:
        torch.testing.assert_close(vocals.samples, 0.4 * song.samples, atol=1e-6, rtol=0)


def test_channels_are_separated_in_their_own_pair(noise):
    song = noise(4, 3000, rate=44100)
    swap = ChunkedSeparator(lambda x: x.flip(0), SMALL).separate(song)[0]
    torch.testing.assert_close(swap.samples, song.samples[[1, 0, 3, 2]], atol=1e-6, rtol=0)


def test_scaling_is_undone(noise):
    song = noise(2, 3000, rate=44100)
    seen = []

    def network(block):
        seen.append(float(block.abs().max()))
        return block

    loud = Waveform(song.samples / song.samples.abs().max(), 44100)
    vocals, _ = mdx_separator(identity, TINY).separate(loud)
    torch.testing.assert_close(vocals.samples, loud.samples, atol=1e-5, rtol=0)
    ChunkedSeparator(network, SMALL, mdx_net._peak_gain).separate(loud)
    assert max(seen) == pytest.approx(0.9, abs=1e-6)
    mean, gain = hdemucs._mean_and_deviation(Waveform(2 * song.samples + 0.5, 44100))
    mono = (2 * song.samples + 0.5).mean(dim=0)
    assert (mean, gain) == pytest.approx((float(mono.mean()), 1 / float(mono.std())), rel=1e-3)


def test_pass_through_is_all_vocals(noise):
    song = noise(2, 3000)
    vocals, rest = PassThrough().separate(song)
    assert vocals is song and rest.samples.shape == song.samples.shape and rest.samples.abs().max() == 0


def test_progress_rises_and_what_it_raises_stops_the_work(noise):
    seen: list[float] = []
    song = noise(4, 9001, rate=44100)
    ChunkedSeparator(identity, SMALL).separate(song, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == 1.0

    def cancel(done: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        ChunkedSeparator(identity, SMALL).separate(song, progress=cancel)


def onnx_identity(path: Path, spec: MdxSpec) -> Path:
    shape = ["batch", 4, spec.dim_f, spec.dim_t]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Identity", ["input"], ["output"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_onnx_network_runs_in_onnxruntime(tmp_path, noise):
    run = onnx_run(onnx_identity(tmp_path / "a.onnx", TINY), TINY)
    song = noise(2, 5001, rate=44100)
    vocals, _ = mdx_separator(run, TINY).separate(song)
    torch.testing.assert_close(vocals.samples, song.samples, atol=1e-5, rtol=0)


def test_other_onnx_networks_are_refused(tmp_path):
    onnx_identity(tmp_path / "Kim_Vocal_2.onnx", TINY)
    with pytest.raises(
        RuntimeError, match=r"takes \['batch', 4, 129, 32\]; Kim_Vocal_2 takes \(1, 4, 3072, 256\)"
    ):
        load_separator("kim_vocal_2", [tmp_path])
    (tmp_path / "Kim_Vocal_2.onnx").write_bytes(b"junk")
    with pytest.raises(RuntimeError, match="is not an ONNX network"):
        load_separator("kim_vocal_2", [tmp_path])


@pytest.mark.parametrize(
    ("module", "package"), [("onnxruntime", "onnxruntime"), ("bs_roformer", "bs-roformer")]
)
def test_missing_packages_name_their_remedy(tmp_path, monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    name = "kim_vocal_2" if module == "onnxruntime" else "mel_band_roformer"
    (tmp_path / SEPARATORS[name].file.target).write_bytes(b"")
    with pytest.raises(RuntimeError, match=f"pip install {package}"):
        load_separator(name, [tmp_path])


def test_missing_torchaudio_names_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    monkeypatch.setitem(sys.modules, "torchaudio.models", None)
    monkeypatch.setattr(hdemucs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="pip install torchaudio"):
        hdemucs_module()


def test_torchaudio_that_cannot_be_imported_still_gives_its_model_class(tmp_path, monkeypatch):
    """As PyPI's torchaudio beside a torch that it was not built for."""
    (tmp_path / "torchaudio" / "models").mkdir(parents=True)
    (tmp_path / "torchaudio" / "__init__.py").write_text("raise OSError('Could not load this library')")
    (tmp_path / "torchaudio" / "models" / "_hdemucs.py").write_text("hdemucs_high = 'the builder'")
    for name in ("torchaudio", "torchaudio.models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "singer_core_torchaudio_hdemucs", None)
    monkeypatch.delitem(sys.modules, "singer_core_torchaudio_hdemucs")
    assert hdemucs_module().hdemucs_high == "the builder"
    sys.modules.pop("singer_core_torchaudio_hdemucs")


@pytest.mark.parametrize("name", [name for name, kind in SEPARATORS.items() if kind])
def test_missing_files_are_named_with_folder_and_link(tmp_path, name):
    file = SEPARATORS[name].file
    with pytest.raises(FileNotFoundError) as error:
        load_separator(name, [tmp_path / "models"])
    for part in (file.target, str(tmp_path / "models"), "models/audio_separation", file.page):
        assert part in str(error.value)


def test_files_are_found_in_subfolders_and_none_needs_no_file(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "Kim_Vocal_2.onnx").write_bytes(b"")
    assert find_separator_file("kim_vocal_2", [tmp_path]).parent.name == "b"
    assert isinstance(load_separator("none", []), PassThrough)
    with pytest.raises(ValueError, match="no separator 'spleeter'; none, hdemucs"):
        find_separator_file("spleeter", [tmp_path])


def test_files_are_found_behind_links_to_folders_even_in_a_circle(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "Kim_Vocal_2.onnx").write_bytes(b"")
    models = tmp_path / "audio_separation"
    models.mkdir()
    (models / "x").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (models / "again").symlink_to(models, target_is_directory=True)
    assert find_separator_file("kim_vocal_2", [models]) == models / "x" / "Kim_Vocal_2.onnx"


def test_weights_in_torchaudios_own_cache_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "torchaudio" / "models").mkdir(parents=True)
    weights = tmp_path / "torchaudio" / "models" / "hdemucs_high_trained.pt"
    weights.write_bytes(b"")
    assert find_separator_file("hdemucs", []) == weights


def test_checkpoints_that_need_code_are_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "hdemucs_high_trained.pt")
    with pytest.raises(RuntimeError, match="no file of plain tensors"):
        load_state(tmp_path / "hdemucs_high_trained.pt")
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "b.ckpt")
    assert list(load_state(tmp_path / "b.ckpt")) == ["a"]


def test_hybrid_demucs_of_torchaudio(tmp_path, noise):
    if importlib.util.find_spec("torchaudio") is None:
        pytest.skip("torchaudio is not installed")
    module = hdemucs_module()
    torch.manual_seed(0)
    model = module.HDemucs(list(hdemucs.SOURCES), channels=4).eval()
    song = noise(2, 30_001, rate=44100)
    vocals, rest = hdemucs_separator(model).separate(song)
    torch.testing.assert_close(vocals.samples + rest.samples, song.samples, atol=1e-6, rtol=0)
    mean, gain = hdemucs._mean_and_deviation(song)
    padded = torch.nn.functional.pad(
        song.samples - mean, (0, hdemucs.FRAMING.chunk - song.length), value=-mean
    )
    with torch.no_grad():
        expected = model(padded[None] * gain)[0, 3, :, : song.length] / gain
    torch.testing.assert_close(vocals.samples, expected, atol=1e-5, rtol=1e-4)
    save_file({"a": torch.ones(2)}, tmp_path / "hdemucs_high_trained.safetensors")
    with pytest.raises(RuntimeError, match="not the weights of Hybrid Demucs"):
        load_separator("hdemucs", [tmp_path])


def published_names(state):
    """Undo `package_keys`: the names in which MelBand-RoFormer checkpoints are published."""
    renamed = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "layers":
            parts[2] = str(int(parts[2]) - 1)
            parts = [part for part in parts if part != "branch"]
        renamed[".".join(parts)] = value
    return renamed


def test_mel_band_roformer_of_the_package(tmp_path, noise):
    package = pytest.importorskip("bs_roformer")
    sizes = {"dim": 16, "depth": 2, "dim_head": 8, "heads": 2, "num_bands": 60, "mask_estimator_depth": 2}
    depths = {"time_transformer_depth": 1, "freq_transformer_depth": 1, "linear_transformer_depth": 0}
    plain = {"zero_dc": True, "add_value_residual": False, "num_residual_streams": 1, "attn_dropout": 0.0}
    torch.manual_seed(0)
    model = package.MelBandRoformer(stereo=True, **sizes, **depths, **plain, **mel_band.STFT, ff_dropout=0.0)
    torch.save(published_names(model.state_dict()), tmp_path / "MelBandRoformer.ckpt")
    separator = load_separator("mel_band_roformer", [tmp_path])
    chunk = noise(2, 44_100).samples
    with torch.no_grad():
        torch.testing.assert_close(separator.network(chunk), model.eval()(chunk[None])[0])
    torch.save({"unet.weight": torch.ones(2)}, tmp_path / "MelBandRoformer.ckpt")
    with pytest.raises(RuntimeError, match="does not hold MelBand-RoFormer weights"):
        load_separator("mel_band_roformer", [tmp_path])


def test_activity_of_a_separated_stem(voice_and_drums):
    """A synthetic singer with drums, separated by median filters in place of a network, as chunks."""
    librosa = pytest.importorskip("librosa")
    voice, drums, sung = voice_and_drums(12, 44100, seed=3)
    framing = Framing(chunk=4 * 44100, step=3 * 44100, weights=linear_fades(44100))

    def harmonic(block: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(
            np.stack([librosa.effects.harmonic(row, margin=3.0) for row in block.numpy()])
        )

    song = Waveform(torch.from_numpy(voice + drums)[None], 44100)
    vocals, _ = ChunkedSeparator(harmonic, framing).separate(song)
    truth = torch.from_numpy(sung.reshape(-1, 1764).mean(axis=1) > 0.5)
    right = ((vocal_activity(vocals, 25) > 0.5) == truth).float().mean()
    mixed = ((vocal_activity(song, 25) > 0.5) == truth).float().mean()
    assert right >= 0.95 > mixed
