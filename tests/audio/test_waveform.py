"""Reading sound: every container, rate and channel count; clear errors for what is not sound."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from singer_core.audio import scratch, waveform
from singer_core.audio.scratch import scratch_array
from singer_core.audio.waveform import Waveform, check_waveform, probe_audio, read_audio, resample, to_mono
from singer_core.ffmpeg import ffmpeg_program
from singer_core.files import scratch_in


def test_pcm_wav_is_read_bit_exactly(tmp_path):
    values = np.random.default_rng(0).integers(-32767, 32767, (5000, 2), dtype=np.int16)
    wavfile.write(tmp_path / "a.wav", 22050, values)
    read = read_audio(tmp_path / "a.wav")
    assert read.rate == 22050
    torch.testing.assert_close(
        read.samples, torch.from_numpy(values.T.astype(np.float32) / 32768), rtol=0, atol=0
    )


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.m4a", "a.ogg", "a.mkv", "a.aiff", "Ä ö -a.wav"])
def test_containers_keep_rate_length_and_sound(encode, name, sine):
    tone = sine(44100, 1.0)
    read = read_audio(encode(np.stack([tone, -tone]), 44100, name))
    assert (read.rate, read.channels) == (44100, 2)
    assert abs(read.length - 44100) <= 2048  # AAC pads to its frame
    inner = slice(4096, 40000)
    lag = 0 if name.endswith((".flac", ".wav", ".aiff")) else None
    spectrum = np.abs(np.fft.rfft(read.samples[0, :44100].numpy()))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    if lag == 0:
        np.testing.assert_allclose(read.samples[0, inner], tone[inner], atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 96000, 192000])
@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_rates_and_channels_reach_16_khz_mono(encode, rate, channels, sine):
    gains = np.linspace(0.2, 1.0, channels, dtype=np.float32)[:, None]
    path = encode(gains * sine(rate, 0.5, 300), rate, "a.wav", "-c:a", "pcm_f32le")
    read = read_audio(path, rate=16000, mono=True)
    assert read.samples.shape == (1, 8000)
    inner = slice(400, 7600)
    expected = torch.from_numpy(gains.mean() * sine(16000, 0.5, 300))
    torch.testing.assert_close(read.samples[0, inner], expected[inner], atol=2e-3, rtol=0)
    info = probe_audio(path)
    assert (info.rate, info.channels) == (rate, channels)
    assert info.seconds == pytest.approx(0.5, abs=0.011)  # ffmpeg states hundredths


@pytest.mark.parametrize("length", [44099, 44100, 44101, 12345])
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_resampled_length_is_the_rounded_up_ratio(encode, length, rate, noise):
    samples = noise(1, length).samples.numpy()
    path = encode(samples, 44100, "a.wav", "-c:a", "pcm_f32le")
    expected = -(-length * rate // 44100)
    assert read_audio(path, rate=rate).length == expected
    assert resample(Waveform(torch.from_numpy(samples), 44100), rate).length == expected


def test_resampling_a_tensor_and_a_file_agree_with_the_closed_form(encode, sine):
    path = encode(sine(44100, 1.0), 44100, "a.wav", "-c:a", "pcm_f32le")
    tensor = resample(Waveform(torch.from_numpy(sine(44100, 1.0))[None], 44100), 16000)
    for read in (read_audio(path, rate=16000), tensor):
        expected = torch.from_numpy(sine(16000, 1.0))
        torch.testing.assert_close(read.samples[0, 500:-500], expected[500:-500], atol=1e-3, rtol=0)


def test_mono_is_the_mean_over_channels(noise):
    sound = noise(6, 1000)
    torch.testing.assert_close(to_mono(sound).samples[0], sound.samples.mean(dim=0))


def test_sound_of_a_video_is_read(tmp_path):
    path = tmp_path / "v.mp4"
    make = [
        "-f",
        "lavfi",
        "-i",
        "color=c=red:s=64x64:d=1",
        "-f",
        "lavfi",
        "-i",
        "sine=d=1:r=48000",
        str(path),
    ]
    subprocess.run([ffmpeg_program(), "-v", "error", *make], check=True)
    assert read_audio(path).rate == 48000


def test_long_sounds_are_mapped_and_equal_short_ones(encode, monkeypatch, noise):
    path = encode(noise(2, 50_000).samples.numpy(), 44100, "a.flac")
    in_memory = read_audio(path)
    monkeypatch.setattr(waveform, "IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 1000)
    mapped = read_audio(path)
    assert in_memory.mapped is None and mapped.mapped is not None
    torch.testing.assert_close(mapped.samples, in_memory.samples, rtol=0, atol=0)
    torch.testing.assert_close(mapped.block(49_000, 51_000)[:, :1000], in_memory.samples[:, 49_000:])


def test_blocks_are_zero_outside_the_sound(noise):
    sound = noise(2, 100)
    block = sound.block(-5, 110)
    assert block.shape == (2, 115)
    torch.testing.assert_close(block[:, 5:105], sound.samples, rtol=0, atol=0)
    assert block[:, :5].abs().max() == 0 and block[:, 105:].abs().max() == 0
    assert sound.block(200, 210).abs().max() == 0


def test_floats_above_full_scale_are_scaled_not_clipped(encode, sine):
    tone = sine(16000, 0.2, amplitude=3.0)
    read = read_audio(encode(tone, 16000, "a.wav", "-c:a", "pcm_f32le"))
    torch.testing.assert_close(read.samples[0], torch.from_numpy(tone / np.abs(tone).max()))


def test_floats_above_full_scale_are_scaled_in_tensors_too(sine):
    loud = torch.from_numpy(2.8 * sine(16000, 0.5))[None]
    scaled = check_waveform(Waveform(loud, 16000))
    torch.testing.assert_close(scaled.samples, loud / loud.abs().max())


def test_temporary_files_lie_where_they_are_told(encode, monkeypatch, tmp_path, noise):
    path = encode(noise(1, 9000).samples.numpy(), 16000, "long.wav")
    monkeypatch.setattr(waveform, "IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "of nobody"))
    with pytest.raises(FileNotFoundError):
        read_audio(path)
    with scratch_in(tmp_path / "of ours"):
        assert read_audio(path).mapped is not None
        scratch_array((9000,))[:] = 1
    assert not list((tmp_path / "of ours").iterdir())


def test_clipped_sound_is_read_with_a_warning(encode, caplog, sine):
    clipped = np.clip(sine(16000, 0.5, amplitude=3.0), -1, 1)
    read_audio(encode(clipped, 16000, "loud.wav", "-c:a", "pcm_f32le"))
    assert "loud.wav is clipped" in caplog.text


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*gone\.mp3"):
        read_audio(tmp_path / "gone.mp3")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be decoded as sound"),
        (b"not a sound file at all" * 50, "cannot be decoded as sound"),
        (
            bytes(np.random.default_rng(0).integers(0, 256, 4000, dtype=np.uint8)),
            "cannot be decoded as sound",
        ),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", "cannot be decoded as sound"),
    ],
)
def test_what_is_not_sound_is_refused(tmp_path, content, message):
    (tmp_path / "bad.mp3").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_audio(tmp_path / "bad.mp3")
    with pytest.raises(ValueError, match=message):
        probe_audio(tmp_path / "bad.mp3")


def test_truncated_header_is_refused_and_truncated_data_is_read_to_its_end(encode, tmp_path, noise):
    whole = encode(noise(1, 16000).samples.numpy(), 16000, "a.flac").read_bytes()
    (tmp_path / "head.flac").write_bytes(whole[:30])
    with pytest.raises(ValueError, match=r"head\.flac"):
        read_audio(tmp_path / "head.flac")
    (tmp_path / "half.flac").write_bytes(whole[: len(whole) // 2])
    assert 4000 < read_audio(tmp_path / "half.flac").length < 16000


def test_picture_is_refused(tmp_path):
    make = ["-f", "lavfi", "-i", "color=c=red:s=64x64", "-frames:v", "1", str(tmp_path / "p.png")]
    subprocess.run([ffmpeg_program(), "-v", "error", *make], check=True)
    with pytest.raises(ValueError, match="no sound stream"):
        read_audio(tmp_path / "p.png")


BAD = {
    "nan": (np.where(np.arange(4000) == 1600, np.nan, 0.1)[None], r"NaN or infinity at 0\.100 s"),
    "inf": (np.where(np.arange(4000) == 1600, -np.inf, 0.1)[None], r"NaN or infinity at 0\.100 s"),
    "one sample": (np.ones((1, 1), np.float32), r"1 samples .* at least 0\.05 s"),
    "nine channels": (np.ones((9, 4000), np.float32), r"9 channels; 1 to 8"),
}


@pytest.mark.parametrize("kind", BAD)
def test_unusable_samples_are_refused_in_files_and_tensors(encode, kind):
    samples, message = BAD[kind]
    samples = samples.astype(np.float32)
    with pytest.raises(ValueError, match=message):
        check_waveform(Waveform(torch.from_numpy(samples), 16000))
    with pytest.raises(ValueError, match=message):
        read_audio(encode(samples, 16000, "bad.wav", "-c:a", "pcm_f32le"))


def test_zero_samples_and_odd_rates_are_refused(tmp_path, noise):
    wavfile.write(tmp_path / "empty.wav", 16000, np.zeros((0,), np.int16))
    with pytest.raises(ValueError, match=r"empty\.wav holds no sound|zero samples"):
        read_audio(tmp_path / "empty.wav")
    with pytest.raises(ValueError, match="zero samples"):
        check_waveform(Waveform(torch.zeros(1, 0), 16000))
    with pytest.raises(ValueError, match="4000 Hz; 8000 to 192000"):
        check_waveform(noise(1, 4000, rate=4000))
    with pytest.raises(ValueError, match=r"shape \(4000,\)"):
        check_waveform(Waveform(torch.ones(4000), 16000))


def test_the_shortest_sound_is_accepted(encode, sine):
    assert read_audio(encode(sine(16000, 0.05), 16000, "a.wav")).length == 800


def test_the_library_imports_without_its_optional_parts():
    blocked = [
        "torchaudio",
        "onnxruntime",
        "matplotlib",
        "librosa",
        "transformers",
        "imageio_ffmpeg",
        "bs_roformer",
    ]
    modules = [
        "activity",
        "features",
        "hdemucs",
        "mdx_net",
        "mel_band",
        "motion",
        "separation",
        "wav2vec2",
        "waveform",
    ]
    script = f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
    script += "".join(f"import singer_core.audio.{name}\n" for name in modules)
    subprocess.run([sys.executable, "-c", script], check=True)


def test_missing_ffmpeg_names_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ModuleNotFoundError, match="pip install imageio-ffmpeg"):
        ffmpeg_program()
