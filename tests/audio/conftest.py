"""Sounds for the tests: closed forms, files that ffmpeg writes, a synthetic singer with drums."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from singer_core.audio.waveform import Waveform
from singer_core.ffmpeg import ffmpeg_program

Encode = Callable[..., Path]


@pytest.fixture
def encode(tmp_path: Path) -> Encode:
    """Write samples (channels, n) float32 into a container: encode(samples, rate, name, *ffmpeg options)."""

    def write(samples: np.ndarray, rate: int, name: str, *options: str) -> Path:
        samples = np.atleast_2d(np.asarray(samples, dtype=np.float32))
        source = ["-f", "f32le", "-ar", str(rate), "-ac", str(len(samples)), "-i", "pipe:0"]
        command = [ffmpeg_program(), "-v", "error", "-y", *source, *options, str(tmp_path / name)]
        subprocess.run(command, input=samples.T.tobytes(), check=True)
        return tmp_path / name

    return write


def _sine(rate: int, seconds: float, hertz: float = 440.0, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def _noise(channels: int, samples: int, rate: int = 16000, seed: int = 0, gain: float = 0.1) -> Waveform:
    generator = torch.Generator().manual_seed(seed)
    return Waveform(gain * torch.randn(channels, samples, generator=generator), rate)


def _voice_and_drums(seconds: float, rate: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(voice, drums, where the voice sings): vibrato tones over 14 dB, noise bursts at 120 a minute."""
    random, n = np.random.default_rng(seed), int(seconds * rate)
    voice, drums, sung = np.zeros(n), np.zeros(n), np.zeros(n, bool)
    at = 0.7
    while at < seconds - 0.5:
        length, pitch, gain = random.uniform(0.8, 2.5), random.uniform(150, 500), random.uniform(-14, 0)
        first, last = int(at * rate), min(int((at + length) * rate), n)
        t = np.arange(last - first) / rate
        phase = 2 * np.pi * pitch * (t + 0.01 * np.sin(2 * np.pi * 5.5 * t) / 5.5)
        envelope = np.minimum(1, np.minimum(t / 0.03, (length - t) / 0.05)).clip(0)
        tone = sum(np.sin(k * phase) / k for k in range(1, 12))
        voice[first:last] += 0.25 * 10 ** (gain / 20) * tone * envelope
        sung[first:last] = True
        at += length + random.uniform(0.4, 1.6)
    for beat in np.arange(0, seconds, 0.5):
        first = int(beat * rate)
        t = np.arange(min(int(0.15 * rate), n - first)) / rate
        drums[first : first + len(t)] += 0.5 * random.standard_normal(len(t)) * np.exp(-t / 0.04)
    return voice.astype(np.float32), drums.astype(np.float32), sung


@pytest.fixture
def sine() -> Callable[..., np.ndarray]:
    """sine(rate, seconds, hertz, amplitude) -> (n,)"""
    return _sine


@pytest.fixture
def noise() -> Callable[..., Waveform]:
    """noise(channels, samples, rate, seed, gain) -> Waveform"""
    return _noise


@pytest.fixture
def voice_and_drums() -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """voice_and_drums(seconds, rate, seed) -> voice, drums, where the voice sings"""
    return _voice_and_drums
