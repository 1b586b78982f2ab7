"""The singing voice: harmonics and noise, both coloured by the same five moving formants.

Source-filter synthesis in the frequency domain (Fant, 1960): the tone is a sum of harmonics whose complex
amplitudes are glottal slope x formant response at the harmonic's frequency, so nothing aliases and a formant
may move at any speed; noise (breath, hiss, growl) is shaped frame by frame in a short-time spectrum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .articulation import CONTROL_RATE, Curves, Floats, bandwidths
from .phonetics import STYLES, UPPER_FORMANTS, Style
from .score import Singer

Complexes = NDArray[np.complex128]

HARMONIC_HOP = 2  # control samples between harmonic amplitudes: 4 ms
TOP_HARMONIC = 9000.0  # Hz
LEVELLING = 0.85  # how far resonance peaks between harmonics and formants are evened out, 0..1
NOISE_HOP = 0.004  # seconds
SINGERS_FORMANT = 2900.0  # Hz, where an opera voice clusters formants 3 to 5 (Sundberg, 2001)


def sing(curves: Curves, singer: Singer, style_name: str, rate: int, rng: np.random.Generator) -> Floats:
    """Vocals (n,), n = duration x rate, peak below about 1, from control curves."""
    style = STYLES[style_name]
    length = round((len(curves.pitch) - 1) / CONTROL_RATE * rate)
    times = np.arange(length) / rate
    rough = smooth_noise(rng, len(curves.pitch), 6) * (0.004 + 0.05 * style.roughness)
    pitch = np.interp(times, curves.times, curves.pitch * (1.0 + rough))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    tone = _tone(curves, singer, style, phase, times, rate)
    tone *= 1.0 + style.roughness * np.sin(0.5 * phase)
    noise = _noise(curves, singer, style, length, rate, rng)
    noise *= 1.0 + 0.5 * np.sin(phase) * (1.0 - style.noise) + style.roughness * np.sin(0.25 * phase)
    return 0.20 * (tone + noise)


def smooth_noise(rng: np.random.Generator, length: int, width: int) -> Floats:
    """(length,) unit-variance noise averaged over `width` samples."""
    white = rng.standard_normal(length + width - 1)
    return np.convolve(white, np.ones(width) / np.sqrt(width), mode="valid")


def response(frequency: Floats, formants: Floats, widths: Floats) -> Complexes:
    """Cascade of resonators at some frequencies, with two fixed ones above the five that move.

    frequency (..., T) Hz, formants (5, T) Hz, widths (5,) Hz; returns (..., T), 1 at 0 Hz.
    """
    gain = np.ones(np.broadcast_shapes(frequency.shape, formants.shape[1:]), dtype=np.complex128)
    resonators = [*zip(formants, widths, strict=True), *UPPER_FORMANTS]
    for centre, width in resonators:
        square = centre**2 + 0.25 * width**2
        gain *= square / (square - frequency**2 + 1j * width * frequency)
    return gain


def _tone(curves: Curves, singer: Singer, style: Style, phase: Floats, times: Floats, rate: int) -> Floats:
    """Sum of harmonics (n,), levelled to the tone curve."""
    thin = slice(None, None, HARMONIC_HOP)
    pitch = curves.pitch[thin]
    count = max(int(min(TOP_HARMONIC, 0.47 * rate) / pitch.min()), 1)
    frequency = np.arange(1, count + 1)[:, None] * pitch
    gain = response(frequency, curves.formants[:, thin], bandwidths(singer.tract))
    gain *= _glottal_slope(frequency, singer, curves.effort[thin])
    gain *= 1.0 + 3.0 * style.ring * np.exp(-(((frequency - SINGERS_FORMANT) / 450.0) ** 2))
    gain[frequency > 0.48 * rate] = 0.0
    power = np.sqrt(0.5 * (np.abs(gain) ** 2).sum(axis=0))
    level = curves.tone[thin] * np.sqrt(1.0 - style.noise)
    gain *= level * power.mean() ** (LEVELLING - 1.0) / power**LEVELLING
    knots = curves.times[thin]
    turn = np.exp(1j * phase)
    partial = np.ones_like(turn)
    total = np.zeros(len(times))
    for row in gain:
        partial *= turn
        total += np.interp(times, knots, row.real) * partial.imag
        total += np.interp(times, knots, row.imag) * partial.real
    return total


def _glottal_slope(frequency: Floats, singer: Singer, effort: Floats) -> Floats:
    """Amplitude of source and lip radiation: -6 dB an octave, then -12 above a corner that effort lifts."""
    corner = (900.0 + 1800.0 * singer.brightness) * (0.6 + 0.6 * effort)
    return (100.0 / frequency) / np.sqrt(1.0 + (frequency / corner) ** 2)


def _noise(
    curves: Curves, singer: Singer, style: Style, length: int, rate: int, rng: np.random.Generator
) -> Floats:
    """Breath through the formants plus hiss in its band, (n,)."""
    hop = max(int(NOISE_HOP * rate), 1)
    frames = length // hop + 5
    window = np.sin(np.pi * (np.arange(4 * hop) + 0.5) / (4 * hop))
    white = rng.standard_normal((frames + 3) * hop)
    pieces = np.lib.stride_tricks.sliding_window_view(white, 4 * hop)[::hop] * window
    spectrum = np.fft.rfft(pieces, axis=1)
    spectrum *= _noise_envelope(curves, singer, style, np.arange(len(pieces)) * hop / rate, 4 * hop, rate)
    shaped = np.fft.irfft(spectrum, n=4 * hop, axis=1) * window * 0.5
    total = np.zeros((len(pieces) + 3) * hop)
    for quarter in range(4):
        block = shaped[:, quarter * hop : (quarter + 1) * hop]
        total[quarter * hop : quarter * hop + block.size] += block.reshape(-1)
    return total[2 * hop : 2 * hop + length]


def _noise_envelope(
    curves: Curves, singer: Singer, style: Style, times: Floats, size: int, rate: int
) -> Floats:
    """(frames, size/2 + 1) gain of unit white noise at the frame centres."""
    frequency = np.fft.rfftfreq(size, 1.0 / rate).astype(np.float64)
    formants = np.stack([np.interp(times, curves.times, row) for row in curves.formants])
    widths = bandwidths(singer.tract) * 1.6
    breath = np.abs(response(frequency[:, None], formants, widths)).T * (frequency / (frequency + 500.0))
    breath /= np.sqrt((breath**2).mean(axis=1, keepdims=True)) + 1e-9
    share = np.sqrt(min(style.noise * (singer.breath if style.noise < 0.5 else 1.0), 0.95))
    level = curves.at("tone", times) * share + curves.at("breath", times)
    centre = curves.at("hiss_centre", times)[:, None]
    band = np.exp(-(((frequency - np.minimum(centre, 0.42 * rate)) / (0.28 * centre + 500.0)) ** 2))
    band /= np.sqrt((band**2).mean(axis=1, keepdims=True))
    return breath * level[:, None] + band * curves.at("hiss", times)[:, None]
