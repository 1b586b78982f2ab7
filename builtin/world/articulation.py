"""From a score to curves over time: pitch, formants, source levels, and the mouth that goes with them.

Every curve is a piecewise constant target smoothed by a raised cosine of finite length, so a mouth that rests
is closed exactly, and the sound follows the same curves as the drawing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .phonetics import BANDWIDTHS, PHONEMES, REST, STYLES, VOWELS, Style
from .score import Note, Score

Floats = NDArray[np.float64]

CONTROL_RATE = 500  # Hz
LIP_CLOSING = 0.040  # seconds the lips take to part after m, b, p
VOICE_EDGE = 0.024  # seconds the voice takes to start and stop
TONGUE = 0.056  # seconds the formants take to move
RADIATION_FLOOR = 0.12  # part of the tone that leaves a closed mouth


@dataclass(frozen=True)
class Curves:
    """Control curves, T samples at CONTROL_RATE; all arrays are (T,) unless stated.

    pitch      Hz, defined in rests too
    formants   (5, T) Hz
    tone       level of the sung tone, 0..about 1
    breath     level of noise shaped by the formants; hiss: level of band noise around hiss_centre Hz
    opening    drawn and sung mouth opening, 0..1; exactly 0 where `sung` is False
    rounding   0..1; spread: 0..1
    vowel      index into VOWELS, REST (-1) outside vowels
    sung       True from a phrase's first consonant to its end
    phrase     place in the phrase, 0 at its start to 1 at its end, 0 in rests
    effort     the singer's loudness wish, 0..1
    """

    pitch: Floats
    formants: Floats
    tone: Floats
    breath: Floats
    hiss: Floats
    hiss_centre: Floats
    opening: Floats
    rounding: Floats
    spread: Floats
    vowel: NDArray[np.int8]
    sung: NDArray[np.bool_]
    phrase: Floats
    effort: Floats

    @property
    def times(self) -> Floats:
        """(T,) seconds."""
        return np.arange(len(self.pitch)) / CONTROL_RATE

    def at(self, name: str, seconds: Floats) -> Floats:
        """The curve `name` at some times: labels of the nearest sample, everything else interpolated."""
        curve = getattr(self, name)
        if curve.dtype in (np.int8, np.bool_):
            index = np.clip(np.rint(seconds * CONTROL_RATE).astype(int), 0, len(curve) - 1)
            return curve[index]
        return np.interp(seconds, self.times, curve)


def articulate(score: Score, seconds: float, rng: np.random.Generator) -> Curves:
    """Let the singer of the score pronounce it; `rng` gives the small irregularities of a human voice."""
    style = STYLES[score.style]
    draft = _Draft(int(np.ceil(seconds * CONTROL_RATE)) + 1, style)
    for index, note in enumerate(score.notes):
        draft.add(note, None if note.last else score.notes[index + 1])
    return draft.curves(score, rng)


def smooth(curve: Floats, seconds: float) -> Floats:
    """Convolve the last axis with a raised cosine of that length; the ends are continued."""
    half = max(round(0.5 * seconds * CONTROL_RATE), 1)
    kernel = np.hanning(2 * half + 1)[1:-1]
    kernel /= kernel.sum()
    pad = [(0, 0)] * (curve.ndim - 1) + [(half - 1, half - 1)]
    padded = np.pad(curve, pad, mode="edge")
    return np.apply_along_axis(lambda row: np.convolve(row, kernel, mode="valid"), -1, padded)


@dataclass
class _Draft:
    """Piecewise constant targets while the score is read."""

    length: int
    style: Style
    targets: dict[str, Floats] = field(default_factory=dict)
    intervals: list[list[float]] = field(default_factory=list)  # [start, end] of each phrase, seconds
    closures: list[tuple[float, float]] = field(default_factory=list)
    formants: Floats = field(init=False)
    vowel: NDArray[np.int8] = field(init=False)

    def __post_init__(self) -> None:
        names = ("opening", "rounding", "spread", "vowelness", "voicing", "breath", "hiss", "effort", "midi")
        self.targets = {name: np.zeros(self.length) for name in names}
        self.targets["hiss_centre"] = np.full(self.length, 4000.0)
        self.targets["spread"] += PHONEMES[""].spread
        self.formants = np.repeat(np.array(PHONEMES[""].formants)[:, None], self.length, axis=1)
        self.vowel = np.full(self.length, REST, dtype=np.int8)

    def add(self, note: Note, following: Note | None) -> None:
        """Write one note; its vowel lasts until the next consonant of the phrase begins."""
        begin = note.start - note.onset_seconds(self.style)
        end = note.end if following is None else following.start - following.onset_seconds(self.style)
        if not self.intervals or self.intervals[-1][2] != note.phrase:
            self.intervals.append([begin, end, note.phrase])
            self._fill("midi", begin - 0.25, note.start, note.pitch - 1.2)  # scoop into the phrase
        self.intervals[-1][1] = end
        self._fill("midi", note.start - 0.5 * self.style.glide, self.length / CONTROL_RATE, note.pitch)
        self._fill("effort", begin, end, note.effort)
        if note.onset:
            self._consonant(note.onset, begin, note.start)
        self._vowel(note, note.start, end)

    def _vowel(self, note: Note, begin: float, end: float) -> None:
        sound = PHONEMES[note.vowel]
        opening = sound.opening * self.style.jaw * (0.70 + 0.30 * note.effort)
        self._mouth(begin, end, min(opening, 1.0), sound.rounding, sound.spread)
        self._fill("vowelness", begin, end, 1.0)
        self.formants[:, self._span(begin, end)] = np.array(sound.formants)[:, None]
        self.vowel[self._span(begin, end)] = VOWELS.index(note.vowel)

    def _consonant(self, name: str, begin: float, end: float) -> None:
        sound = PHONEMES[name]
        self._mouth(begin, end, sound.opening * self.style.jaw, sound.rounding, sound.spread)
        self._fill("voicing", begin, end, sound.voicing)
        self._fill("breath", begin, end, sound.breath)
        noise_from = end - 0.35 * (end - begin) if sound.stop else begin
        self._fill("hiss", noise_from, end, sound.hiss)
        self._fill("hiss_centre", begin - 0.02, end + 0.02, sound.hiss_centre)
        self.formants[:, self._span(begin, end)] = np.array(sound.formants)[:, None]
        if sound.closed:
            self.closures.append((begin, end))

    def _mouth(self, begin: float, end: float, opening: float, rounding: float, spread: float) -> None:
        self._fill("opening", begin, end, opening)
        self._fill("rounding", begin, end, rounding)
        self._fill("spread", begin, end, spread)

    def _fill(self, name: str, begin: float, end: float, value: float) -> None:
        self.targets[name][self._span(begin, end)] = value

    def _span(self, begin: float, end: float) -> slice:
        return slice(max(round(begin * CONTROL_RATE), 0), max(round(end * CONTROL_RATE), 0))

    def curves(self, score: Score, rng: np.random.Generator) -> Curves:
        opening, sung, phrase = self._opening()
        target = self.targets
        effort = smooth(target["effort"], 0.16)
        inside = self._eroded(VOICE_EDGE)
        vowelness = smooth(target["vowelness"] * inside, VOICE_EDGE)
        radiation = RADIATION_FLOOR + (1.0 - RADIATION_FLOOR) * opening
        consonant = smooth(target["voicing"] * inside, VOICE_EDGE)
        formants = smooth(self.formants, TONGUE) * score.singer.tract
        pitch = _pitch_curve(score, target["midi"], self.style, rng)
        formants[0] = np.maximum(formants[0], 1.02 * pitch)  # singers tune the first formant above the pitch
        formants[1] = np.maximum(formants[1], formants[0] + 150.0)
        return Curves(
            pitch=pitch,
            formants=formants,
            tone=(vowelness * radiation + 0.5 * consonant * (1.0 - vowelness)) * effort,
            breath=smooth(target["breath"], 0.03),
            hiss=smooth(target["hiss"], 0.012),
            hiss_centre=target["hiss_centre"],
            opening=opening,
            rounding=smooth(target["rounding"], self.style.articulation),
            spread=smooth(target["spread"], self.style.articulation),
            vowel=self.vowel,
            sung=sung,
            phrase=phrase,
            effort=effort,
        )

    def _opening(self) -> tuple[Floats, NDArray[np.bool_], Floats]:
        """Opening, sung mask and place in the phrase; the mouth starts and ends each phrase closed."""
        sung = np.zeros(self.length, dtype=bool)
        phrase = np.zeros(self.length)
        for begin, end, _ in self.intervals:
            span = self._span(begin, end)
            sung[span] = True
            phrase[span] = np.linspace(0.0, 1.0, len(phrase[span]))
        opening = smooth(
            self.targets["opening"] * self._eroded(self.style.articulation), self.style.articulation
        )
        times = np.arange(self.length) / CONTROL_RATE
        for begin, end in self.closures:
            away = np.clip(np.maximum(begin - times, times - end) / LIP_CLOSING, 0.0, 1.0)
            opening *= away * away * (3.0 - 2.0 * away)
        return np.where(sung, np.clip(opening, 0.0, 1.0), 0.0), sung, phrase

    def _eroded(self, seconds: float) -> Floats:
        """1 inside the phrases shortened by half of `seconds` at both ends, else 0."""
        inside = np.zeros(self.length)
        for begin, end, _ in self.intervals:
            inside[self._span(begin + 0.5 * seconds, end - 0.5 * seconds)] = 1.0
        return inside


def _pitch_curve(score: Score, midi: Floats, style: Style, rng: np.random.Generator) -> Floats:
    """Hz: the notes with portamento, delayed vibrato and a slow drift of a few cents."""
    first = np.flatnonzero(midi)
    midi = midi.copy()
    if len(first):
        midi[: first[0]] = midi[first[0]]
    else:
        midi[:] = score.tonic
    times = np.arange(len(midi)) / CONTROL_RATE
    depth = np.zeros(len(midi))
    for note in score.notes:
        span = slice(round(note.start * CONTROL_RATE), round(note.end * CONTROL_RATE))
        depth[span] = np.clip((times[span] - note.start - style.vibrato_delay) / 0.25, 0.0, 1.0)
    drift = smooth(rng.standard_normal(len(midi)), 0.4)
    wobble = smooth(rng.standard_normal(len(midi)), 0.8)
    phase = 2 * np.pi * np.cumsum(style.vibrato_rate * (1.0 + 0.8 * wobble)) / CONTROL_RATE
    cents = style.vibrato * smooth(depth, 0.1) * np.sin(phase) + 60.0 * drift
    return 440.0 * 2.0 ** ((smooth(midi, style.glide) + cents / 100.0 - 69.0) / 12.0)


def bandwidths(tract: float) -> Floats:
    """(5,) Hz, widths of the singer's formants."""
    return np.array(BANDWIDTHS) * (0.6 + 0.4 * tract)
