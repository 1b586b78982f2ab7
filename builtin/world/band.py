"""The accompaniment: chords, bass and drums that stand exactly on the score's beats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .articulation import Floats
from .phonetics import STYLES
from .score import Chord, Score

REVERB_SECONDS = 0.7


def accompany(score: Score, length: int, rate: int, rng: np.random.Generator) -> Floats:
    """Backing track (length,) of the instruments that the style names, peak about 0.35."""
    track = np.zeros(length)
    players: dict[str, Callable[[Floats, Score, int, np.random.Generator], None]] = {
        "keys": _keys,
        "bass": _bass,
        "drums": _drums,
        "strings": _strings,
        "guitar": _guitar,
    }
    for name in STYLES[score.style].band:
        players[name](track, score, rate, rng)
    return 0.35 * track / max(float(np.abs(track).max()), 1e-6)


def reverberate(sound: Floats, rate: int, rng: np.random.Generator) -> Floats:
    """The sound's echo in a small hall, same length, without the direct sound."""
    from scipy.signal import fftconvolve

    times = np.arange(int(REVERB_SECONDS * rate)) / rate
    tail = rng.standard_normal(len(times)) * np.exp(-times * 6.9 / REVERB_SECONDS)
    tail[: int(0.012 * rate)] = 0.0
    return fftconvolve(sound, tail / np.sqrt((tail**2).sum()))[: len(sound)]


def _add(track: Floats, sound: Floats, start: float, rate: int, gain: float) -> None:
    begin = round(start * rate)
    sound = sound[: max(len(track) - begin, 0)]
    track[begin : begin + len(sound)] += gain * sound


def _hertz(pitch: float) -> float:
    return 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)


def _pluck(pitch: float, seconds: float, rate: int, partials: int, decay: float) -> Floats:
    """A struck string: partials that die the faster the higher they are."""
    times = np.arange(int(seconds * rate)) / rate
    base = _hertz(pitch)
    sound = np.zeros(len(times))
    for k in range(1, partials + 1):
        if k * base < 0.45 * rate:
            sound += np.sin(2 * np.pi * k * base * times) * np.exp(-times * decay * (0.6 + 0.4 * k)) / k
    fade = np.minimum(1.0, (seconds - times) / 0.02) * np.minimum(1.0, times / 0.003)
    return sound * fade


def _bow(pitch: float, seconds: float, rate: int, detune: float) -> Floats:
    """A bowed section: two detuned, softened saws with slow attack and release."""
    times = np.arange(int(seconds * rate)) / rate
    sound = np.zeros(len(times))
    for cents in (-detune, detune):
        base = _hertz(pitch + cents / 100.0)
        for k in range(1, 11):
            if k * base < 0.45 * rate:
                sound += np.sin(2 * np.pi * k * base * times + k * cents) / k**1.5
    return sound * np.minimum(1.0, times / 0.25) * np.minimum(1.0, (seconds - times) / 0.2)


def _inside(score: Score, chord: Chord) -> list[float]:
    """The beats of a chord."""
    return [beat for beat in score.beats if chord.start - 1e-6 <= beat < chord.end - 1e-6]


def _keys(track: Floats, score: Score, rate: int, rng: np.random.Generator) -> None:
    beat = 60.0 / score.tempo
    pattern = rng.integers(2)
    for chord in score.chords:
        for index, start in enumerate(_inside(score, chord)):
            for voice, pitch in enumerate(chord.pitches):
                shift = 0.5 * beat * voice / 2 if pattern else 0.0  # arpeggio or block
                if pattern or index % 2 == 0:
                    sound = _pluck(pitch + 12, 1.8 * beat, rate, 5, 2.2)
                    _add(track, sound, start + shift, rate, 0.22)


def _bass(track: Floats, score: Score, rate: int, rng: np.random.Generator) -> None:
    beat = 60.0 / score.tempo
    for chord in score.chords:
        for index, start in enumerate(_inside(score, chord)):
            if index in (0, 2) or rng.uniform() < 0.3:
                pitch = chord.pitches[0] - 12 if chord.pitches[0] > 45 else chord.pitches[0]
                _add(track, _pluck(pitch, 1.2 * beat, rate, 4, 2.5), start, rate, 0.5)


def _strings(track: Floats, score: Score, rate: int, rng: np.random.Generator) -> None:
    detune = rng.uniform(4.0, 8.0)
    for chord in score.chords:
        for pitch in chord.pitches:
            sound = _bow(pitch + 12, chord.end - chord.start + 0.15, rate, detune)
            _add(track, sound, chord.start, rate, 0.16)


def _guitar(track: Floats, score: Score, rate: int, rng: np.random.Generator) -> None:
    beat = 60.0 / score.tempo
    dirt = rng.uniform(4.0, 7.0)
    for chord in score.chords:
        for start in _inside(score, chord):
            for half in (0.0, 0.5):
                power = _pluck(chord.pitches[0], 0.5 * beat, rate, 8, 1.0)
                power = power + _pluck(chord.pitches[0] + 7, 0.5 * beat, rate, 8, 1.0)
                _add(track, np.tanh(dirt * power), start + half * beat, rate, 0.25)


def _drums(track: Floats, score: Score, rate: int, rng: np.random.Generator) -> None:
    """Kick on the first and third beat, snare on the others, hi-hat on every half beat."""
    times = np.arange(int(0.22 * rate)) / rate
    kick = np.sin(2 * np.pi * (45.0 * times + 75.0 * 0.03 * (1 - np.exp(-times / 0.03)))) * np.exp(
        -times / 0.07
    )
    hiss = rng.standard_normal(len(times))
    snare = 0.6 * hiss * np.exp(-times / 0.06) + 0.5 * np.sin(2 * np.pi * 185 * times) * np.exp(-times / 0.05)
    hat = np.diff(hiss, prepend=0.0) * np.exp(-times / 0.018)
    beat = 60.0 / score.tempo
    first = (score.downbeats or score.beats or (0.0,))[0]
    for start in score.beats:
        strong = round((start - first) / beat) % 2 == 0
        _add(track, kick if strong else snare, start, rate, 0.9 if strong else 0.55)
        for half in (0.0, 0.5):
            _add(track, hat, start + half * beat, rate, 0.12)
