"""wav2vec2 at the video rate: reference tensors, transformers' own pass, laws of blocks and windows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import Wav2Vec2Config, Wav2Vec2Model
from verification.fixtures import load_fixture
from verification.hearing import run_w2v

from singer_core.audio import wav2vec2
from singer_core.audio.features import normalised_song
from singer_core.audio.wav2vec2 import (
    ConvStack,
    Wav2Vec2FrontEnd,
    Windows,
    hidden_states,
    infer_config,
    interpolate,
    padding_samples,
    window_spans,
)
from singer_core.audio.waveform import Waveform

GOLDEN = Path(__file__).parents[1] / "golden" / "n_wav2vec.json"
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "intermediate_size": 96,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 32,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def model_of(**changes) -> Wav2Vec2Model:
    torch.manual_seed(0)
    model = Wav2Vec2Model(Wav2Vec2Config(**{**SIZES, **changes})).eval()
    with torch.no_grad():  # gains of 1 and biases of 0 would hide a lost norm
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def model() -> Wav2Vec2Model:
    return model_of()


def cases():
    fixture = load_fixture(GOLDEN)
    weights = fixture.cases[0].weights
    return [(dataclasses.replace(case, weights=weights), fixture.tolerance) for case in fixture.cases]


@pytest.mark.parametrize(("case", "tolerance"), cases(), ids=lambda value: getattr(value, "name", ""))
def test_every_reference_output(case, tolerance):
    outputs = run_w2v(case)
    assert outputs.keys() >= case.expected.keys()
    for name, expected in case.expected.items():
        torch.testing.assert_close(
            outputs[name],
            expected,
            atol=tolerance["atol"],
            rtol=tolerance["rtol"],
            msg=lambda m, n=name: f"{n}: {m}",
        )


@pytest.mark.parametrize("changes", [{}, LARGE], ids=["base", "large"])
def test_hidden_states_are_those_of_transformers(changes, noise):
    model = model_of(**changes)
    samples = noise(1, 8000).samples
    with torch.no_grad():
        outputs = model(samples, output_hidden_states=True)
        expected = [
            *outputs.hidden_states[:-1],
            outputs.last_hidden_state,
        ]  # transformers 5 leaves a norm out
        features = model.feature_extractor(samples).transpose(1, 2)
        found = list(hidden_states(model, features))
    assert len(found) == len(expected) == 3
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("changes", [{}, LARGE], ids=["base", "large"])
def test_conv_stack_in_blocks_is_the_stack_in_one_pass(changes, monkeypatch, noise):
    model = model_of(**changes)
    monkeypatch.setattr(wav2vec2, "CONV_BLOCK", 7)
    song = normalised_song(noise(1, 30_000), padding=1920)
    with torch.no_grad():
        expected = model.feature_extractor(song.block(0, song.length)[None]).transpose(1, 2)
        stack = ConvStack(model, song)
        found = stack.outputs(0, stack.length)
        part = stack.outputs(20, 31)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(part, expected[:, 20:31], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(("letters", "warned"), [(None, True), (21_128, True), (32, False)])
def test_others_of_the_published_shape_are_warned_of(tmp_path, monkeypatch, caplog, model, letters, warned):
    config = model.config
    monkeypatch.setattr(wav2vec2, "PUBLISHED", (config.num_hidden_layers, config.hidden_size))
    head = {} if letters is None else {"lm_head.weight": torch.zeros(letters, config.hidden_size)}
    state = {f"wav2vec2.{key}": value.contiguous() for key, value in model.state_dict().items()}
    save_file({**state, **head}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config.to_json_string())
    wav2vec2.load_wav2vec2(tmp_path)
    assert ("is another" in caplog.text) == warned


def test_a_device_without_float64_gives_the_same_features(model, monkeypatch, noise):
    expected = Wav2Vec2FrontEnd(model).encode(noise(1, 30_000), 25).features
    double, width = torch.Tensor.double, model.config.conv_dim[0]

    def refused(self):
        if self.ndim == 2 and width in self.shape:  # what the convolution gave, on the device
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return double(self)

    monkeypatch.setattr(torch.Tensor, "double", refused)
    monkeypatch.setattr(wav2vec2, "widest_float", lambda device: torch.float32)
    features = Wav2Vec2FrontEnd(model).encode(noise(1, 30_000), 25).features
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


def test_interpolation_of_a_stretch_is_a_part_of_the_whole(model, noise):
    song = normalised_song(noise(1, 30_000))
    with torch.no_grad():
        stack = ConvStack(model, song)
        whole = stack.at_frames(0, 48, 48)
        parts = torch.cat([stack.at_frames(0, 17, 48), stack.at_frames(17, 48, 48)], dim=1)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)


def test_interpolation_keeps_both_ends():
    features = torch.arange(10.0)[None, :, None]
    torch.testing.assert_close(interpolate(features, 19)[0, :, 0], torch.arange(19.0) / 2)


@pytest.mark.parametrize("frames", [1, 8, 9, 40, 41])
def test_windows_partition_the_song_and_read_their_context(frames):
    spans = list(window_spans(frames, Windows(whole=8, size=6, context=4)))
    kept = [index for keep, _ in spans for index in range(*keep)]
    assert kept == list(range(frames))
    for (first, last), (low, high) in spans:
        assert (low, high) == ((max(first - 4, 0), min(last + 4, frames)) if frames > 8 else (0, frames))


def test_windows_with_the_whole_song_as_context_are_the_single_pass(model, noise):
    sound = noise(1, 40_000)
    single = Wav2Vec2FrontEnd(model).encode(sound, 25).features
    windows = (
        Wav2Vec2FrontEnd(model, windows=Windows(whole=8, size=20, context=100)).encode(sound, 25).features
    )
    torch.testing.assert_close(windows, single, atol=1e-5, rtol=1e-4)


def test_padding_is_silence_after_the_normalisation(model, noise):
    """Zeros behind the sound, normalised without them: not the same as encoding the padded sound."""
    sound = noise(1, 20_800)
    song = normalised_song(sound, padding_samples(15, 25))
    values = song.block(0, song.length)
    assert song.length == 20_800 + 15 * 640
    assert values[20_800:].abs().max() == 0
    assert values[:20_800].mean().abs() < 1e-5 and values[:20_800].std() == pytest.approx(1, abs=1e-3)


def test_volume_and_offset_do_not_matter(model, noise):
    sound = noise(1, 16_000)
    shifted = Waveform(0.3 * sound.samples + 0.2, 16_000)
    one, other = (Wav2Vec2FrontEnd(model).encode(w, 25).features for w in (sound, shifted))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("fps", [25, 30, 12.5])
def test_frames_at_other_rates_and_stereo(model, fps, noise):
    encoded = Wav2Vec2FrontEnd(model).encode(noise(2, 44_100, rate=44_100), fps, clip_length=4)
    assert encoded.frames == -(-fps // 1)
    assert encoded.features.shape == (-(-encoded.frames // 4) * 4, 2, 64)
    assert torch.isfinite(encoded.features).all()


def test_a_report_that_raises_stops_the_work(model, noise):
    def cancel(done: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Wav2Vec2FrontEnd(model).encode(noise(1, 16_000), 25, progress=cancel)


def test_sounds_shorter_than_one_output_are_refused(model, noise):
    with pytest.raises(ValueError, match="399 samples at 16 kHz; the encoder needs 400"):
        ConvStack(model, normalised_song(noise(1, 399)))


def old_names(state):
    return {
        "wav2vec2."
        + k.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): v
        for k, v in state.items()
    }


@pytest.mark.parametrize("form", ["folder", "file", "old names", "old bin"])
@pytest.mark.parametrize("changes", [{}, LARGE], ids=["base", "large"])
def test_weights_load_from_every_form(tmp_path, form, changes, noise):
    model = model_of(**changes)
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    path = tmp_path / "encoder.safetensors"
    if form == "folder":
        model.save_pretrained(tmp_path)
        path = tmp_path
    elif form == "file":
        save_file(state, path)
    elif form == "old names":
        save_file({**old_names(state), "lm_head.weight": torch.zeros(2, 2)}, path)
    else:
        path = tmp_path / "pytorch_model.bin"
        torch.save(old_names(state), path)
    loaded = Wav2Vec2FrontEnd.load(path)
    assert (loaded.layers, loaded.width) == (2, 64)
    sound = noise(1, 16_000)
    expected = Wav2Vec2FrontEnd(model).encode(sound, 25).features
    torch.testing.assert_close(loaded.encode(sound, 25).features, expected, atol=1e-6, rtol=1e-5)


def test_the_folder_says_whether_sound_is_normalised(tmp_path, model):
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": false}')
    assert not Wav2Vec2FrontEnd.load(tmp_path).normalise


def test_inferred_sizes_are_the_configured_ones(model):
    found = infer_config(dict(model.state_dict()))
    for key, value in SIZES.items():
        if key != "vocab_size":
            assert found[key] == value


def test_wrong_weights_are_named(tmp_path, model):
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file({"unet.conv.weight": torch.zeros(2)}, tmp_path / "unet.safetensors")
    with pytest.raises(RuntimeError, match="does not hold wav2vec2 weights"):
        Wav2Vec2FrontEnd.load(tmp_path / "unet.safetensors")
    del state["encoder.layers.1.attention.k_proj.weight"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(RuntimeError, match=r"1 of \d+ tensors are .*encoder\.layers\.1\.attention\.k_proj"):
        Wav2Vec2FrontEnd.load(tmp_path / "part.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(RuntimeError, match=r"torn\.safetensors .*is damaged"):
        Wav2Vec2FrontEnd.load(tmp_path / "torn.safetensors")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pickled.pt")
    with pytest.raises(RuntimeError, match="no file of plain tensors"):
        Wav2Vec2FrontEnd.load(tmp_path / "pickled.pt")
    with pytest.raises(ValueError, match=r"\.onnx is not a weights file"):
        (tmp_path / "a.onnx").write_bytes(b"")
        Wav2Vec2FrontEnd.load(tmp_path / "a.onnx")
    with pytest.raises(FileNotFoundError, match=r"tried .*model\.safetensors.*wav2vec2-base-960h"):
        Wav2Vec2FrontEnd.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone"):
        Wav2Vec2FrontEnd.load(tmp_path / "gone")
