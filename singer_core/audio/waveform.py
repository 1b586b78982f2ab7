"""Sound as a float waveform: read from any container, checked, mixed to mono, resampled, written as WAV."""

from __future__ import annotations

import logging
import tempfile
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import torch

from ..files import existing, renamed_on_success, scratch_folder
from .decoding import BLOCK_FRAMES, AudioInfo, decode_blocks, probe, resample_blocks
from .scratch import IN_MEMORY_BYTES, release_pages

MIN_SECONDS = 0.05
RATES = (8_000, 192_000)  # Hz, accepted
MAX_CHANNELS = 8  # 7.1
FULL_SCALE = 32767  # of 16 bits
CLIPPED_PART = 0.01  # a song with more full-scale samples than this is worth a warning

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Waveform:
    """Sound in memory or, when long, in a memory-mapped temporary file.

    samples  (channels, n) float32 in [-1, 1]; may be a strided view
    rate     Hz
    """

    samples: torch.Tensor
    rate: int
    mapped: np.ndarray | None = field(default=None, repr=False, compare=False)  # the array behind `samples`

    @property
    def channels(self) -> int:
        return self.samples.shape[0]

    @property
    def length(self) -> int:
        """Samples per channel."""
        return self.samples.shape[1]

    @property
    def seconds(self) -> float:
        return self.length / self.rate

    def block(self, start: int, stop: int) -> torch.Tensor:
        """A copy (channels, stop - start) of a stretch, with zeros outside the sound."""
        inner = self.samples[:, max(start, 0) : max(min(stop, self.length), 0)]
        inner = inner.clone(memory_format=torch.contiguous_format)
        release_pages(self.mapped)
        if inner.shape[1] == stop - start:
            return inner
        out = inner.new_zeros(self.channels, stop - start)
        offset = max(-start, 0)
        out[:, offset : offset + inner.shape[1]] = inner
        return out

    def blocks(self, size: int = BLOCK_FRAMES) -> Iterator[torch.Tensor]:
        """Copies (channels, <= size) of the whole sound, in order."""
        for start in range(0, self.length, size):
            yield self.block(start, min(start + size, self.length))


def probe_audio(path: str | Path) -> AudioInfo:
    """Rate, channels and length of a sound file as it states them.

    Raises FileNotFoundError for a missing file, ValueError where it is not sound.
    """
    return probe(existing(path))


def read_audio(path: str | Path, rate: int | None = None, mono: bool = False) -> Waveform:
    """Read the first sound stream of any file ffmpeg can open (8-192 kHz, mono to 7.1, up to hours).

    rate     Hz to resample to (swresample); None keeps the file's own
    mono     mix down by the mean over channels, librosa's rule, before resampling
    returns  samples scaled by 1 / peak where a decoder overshoots 1. Long sounds lie in a temporary file.

    Raises FileNotFoundError for a missing file; ValueError for a file that is not sound, a rate or channel
    count out of range, zero samples, NaN or infinity, or less than 0.05 s.
    """
    path = existing(path)
    own_rate, channels, blocks = decode_blocks(path)
    _check_format(own_rate, channels, path.name)
    counted = _Counted(blocks, path.name, own_rate)
    stream: Iterator[np.ndarray] = iter(counted)
    if mono and channels > 1:
        stream, channels = (block.mean(axis=1, keepdims=True) for block in stream), 1
    if rate is None or rate == own_rate:
        waveform = collect(stream, channels, own_rate, lambda: counted.frames)
    else:
        resampled = resample_blocks(stream, channels, own_rate, rate)
        waveform = collect(
            resampled, channels, rate, lambda: _resampled_length(counted.frames, own_rate, rate)
        )
    counted.report()
    return waveform


def write_wave(path: Path, sound: Waveform) -> Path:
    """Write `sound` as 16-bit WAV at its own rate, values beyond [-1, 1] clipped; returns the path."""
    with renamed_on_success(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(sound.channels)
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        for block in sound.blocks():
            levels = (block.clamp(-1, 1) * FULL_SCALE).round().to(torch.int16)
            file.writeframes(levels.T.contiguous().numpy().astype("<i2").tobytes())
    return path


def to_mono(waveform: Waveform) -> Waveform:
    """Mean over channels (librosa's rule), (1, n)."""
    if waveform.channels == 1:
        return waveform
    blocks = (block.mean(dim=0).numpy()[:, None] for block in waveform.blocks())
    return collect(blocks, 1, waveform.rate, lambda: waveform.length)


def resample(waveform: Waveform, rate: int) -> Waveform:
    """The waveform at `rate` Hz, ceil(n * rate / own rate) samples long.

    By torchaudio where it can be imported and the sound is in memory, else by ffmpeg's swresample: both are
    band-limited, and differ by their filters only above about 0.9 of the lower Nyquist frequency.
    """
    if rate == waveform.rate:
        return waveform
    length = _resampled_length(waveform.length, waveform.rate, rate)
    functional = _torchaudio_functional() if waveform.mapped is None else None
    if functional is not None:
        samples = functional.resample(waveform.samples.contiguous(), waveform.rate, rate)
        return Waveform(samples[:, :length], rate)
    blocks = (block.numpy().T for block in waveform.blocks())
    return collect(
        resample_blocks(blocks, waveform.channels, waveform.rate, rate),
        waveform.channels,
        rate,
        lambda: length,
    )


def check_waveform(waveform: Waveform, name: str = "the sound") -> Waveform:
    """A waveform from elsewhere under the rules of `read_audio`: scaled by 1 / peak where it overshoots 1.

    Raises ValueError where it breaks them.
    """
    if waveform.samples.dim() != 2:
        shape = tuple(waveform.samples.shape)
        raise ValueError(f"{name} has shape {shape}; (channels, samples) is accepted. Reshape it.")
    _check_format(waveform.rate, waveform.channels, name)
    checked = _Counted((block.numpy().T for block in waveform.blocks()), name, waveform.rate)
    for _ in checked:
        continue
    checked.report()
    return waveform if checked.peak <= 1 else Waveform(waveform.samples / checked.peak, waveform.rate)


class _Counted:
    """Passes blocks through, refuses NaN and infinity, and keeps count and peak."""

    def __init__(self, blocks: Iterator[np.ndarray], name: str, rate: int) -> None:
        self.frames, self.peak, self.full_scale, self.values = 0, 0.0, 0, 0
        self._blocks, self._name, self._rate = blocks, name, rate

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            if block.size == 0:
                continue
            size = np.abs(block)
            peak = float(size.max())
            if not np.isfinite(peak):
                first = self.frames + int(np.argmin(np.isfinite(size).all(axis=1)))
                where = f"at {first / self._rate:.3f} s"
                raise ValueError(f"{self._name} holds NaN or infinity {where}. Re-export the sound.")
            self.frames += len(block)
            self.peak = max(self.peak, peak)
            self.full_scale += int((size >= 1.0 - 2.0**-15).sum())
            self.values += block.size
            yield block

    def report(self) -> None:
        """Raise ValueError for a sound with nothing in it; warn of a clipped one."""
        if self.frames == 0:
            raise ValueError(f"{self._name} has zero samples. Give a file with sound in it.")
        if self.frames < MIN_SECONDS * self._rate:
            length = f"{self.frames} samples ({self.frames / self._rate:.5f} s)"
            raise ValueError(
                f"{self._name} is {length} long; at least {MIN_SECONDS} s is needed. Give a longer sound."
            )
        if self.full_scale > CLIPPED_PART * self.values:
            part = 100 * self.full_scale / self.values
            _log.warning(
                "%s is clipped: %.1f %% of it is at full scale. Use a cleaner copy.", self._name, part
            )


def collect(blocks: Iterator[np.ndarray], channels: int, rate: int, length: Callable[[], int]) -> Waveform:
    """Gather blocks into a waveform of exactly `length()` frames (asked after the last block), peak <= 1."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, prefix="singer-", dir=scratch_folder()) as file:
        written, peak = 0, 0.0
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=np.float32).tobytes())
            written += len(block)
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
        for missing in range(written, length(), BLOCK_FRAMES):  # resamplers may end a sample early
            file.write(bytes(4 * channels * min(BLOCK_FRAMES, length() - missing)))
        interleaved, mapped = _open_samples(file, (length(), channels))
    if peak > 1.0:
        for start in range(0, len(interleaved), BLOCK_FRAMES):
            interleaved[start : start + BLOCK_FRAMES] /= peak
            release_pages(mapped)
    return Waveform(torch.from_numpy(interleaved).T, rate, mapped)


def _open_samples(file: IO[bytes], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None]:
    """The array in a spooled file: in RAM, or mapped where the file has gone to disk."""
    count = shape[0] * shape[1]
    file.seek(0, 2)
    if file.tell() > IN_MEMORY_BYTES:
        file.flush()
        mapped = np.memmap(file, dtype=np.float32, mode="r+", shape=shape)  # type: ignore[call-overload]
        return mapped.view(np.ndarray), mapped
    file.seek(0)
    return np.frombuffer(bytearray(file.read(4 * count)), dtype=np.float32).reshape(shape), None


def _resampled_length(frames: int, rate: int, new_rate: int) -> int:
    """ceil(frames * new_rate / rate) in integers, librosa's rule."""
    return -(-frames * new_rate // rate)


def _check_format(rate: int, channels: int, name: str) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise ValueError(
            f"{name} has a sample rate of {rate} Hz; {RATES[0]} to {RATES[1]} is accepted. Resample it."
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(
            f"{name} has {channels} channels; 1 to {MAX_CHANNELS} (7.1) are accepted. Mix it down."
        )


def _torchaudio_functional():
    """torchaudio.functional, or None where torchaudio is missing or was built for another torch."""
    try:
        import torchaudio.functional
    except (ImportError, OSError):
        return None
    return torchaudio.functional
