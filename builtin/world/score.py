"""What is sung when: a singer, a key, chords, phrases of notes with syllables, and the beats below them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .phonetics import PHONEMES, STYLES, Style

MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
PROGRESSIONS = (
    (0, 4, 5, 3),
    (5, 3, 0, 4),
    (0, 5, 3, 4),
    (0, 3, 4, 0),
    (0, 3, 5, 4),
)  # scale steps of the roots
BEATS_PER_BAR = 4


@dataclass(frozen=True)
class Singer:
    """A voice: vocal-tract scale, middle pitch (MIDI number), source brightness 0..1, breathiness factor."""

    tract: float
    pitch: int
    brightness: float
    breath: float

    @staticmethod
    def random(rng: np.random.Generator) -> Singer:
        """A low or a high voice; a shorter vocal tract goes with a higher pitch."""
        height = rng.uniform(0.0, 1.0)
        low = rng.uniform() < 0.5
        tract = 0.92 + 0.10 * height if low else 1.08 + 0.12 * height
        pitch = 48 + 6 * height if low else 57 + 6 * height
        return Singer(
            tract=float(tract),
            pitch=round(float(pitch)),
            brightness=float(rng.uniform(0.2, 1.0)),
            breath=float(rng.uniform(0.5, 2.0)),
        )


@dataclass(frozen=True)
class Note:
    """One syllable on one pitch.

    start, end     seconds; the vowel begins at `start`, the consonant stands before it
    pitch          MIDI number
    onset, vowel   names in PHONEMES; onset "" = none
    effort         loudness wish of the singer, 0..1
    phrase         index of the phrase; last: the note ends it
    """

    start: float
    end: float
    pitch: float
    onset: str
    vowel: str
    effort: float
    phrase: int
    last: bool

    def onset_seconds(self, style: Style) -> float:
        """Length of the consonant, at most 45 % of the note."""
        return min(PHONEMES[self.onset].seconds * style.consonant, 0.45 * (self.end - self.start))


@dataclass(frozen=True)
class Chord:
    """Pitches (MIDI numbers, root first) that sound from `start` to `end`, in seconds."""

    start: float
    end: float
    pitches: tuple[int, ...]


@dataclass(frozen=True)
class Score:
    """Everything that is decided before a sound is made; times in seconds."""

    style: str
    singer: Singer
    tempo: float
    tonic: int
    minor: bool
    notes: tuple[Note, ...]
    chords: tuple[Chord, ...]
    beats: tuple[float, ...]
    downbeats: tuple[float, ...]

    @staticmethod
    def random(rng: np.random.Generator, seconds: float, style: str) -> Score:
        """Compose `seconds` of a song; notes past the end are dropped and the last one is cut there."""
        manner = STYLES[style]
        singer = Singer.random(rng)
        tempo = float(rng.uniform(*manner.tempo))
        beat = 60.0 / tempo
        first = float(rng.uniform(0.30, 0.55))  # seconds to the first downbeat
        minor = bool(rng.uniform() < (0.8 if style == "growl" else 0.4))
        tonic = singer.pitch + manner.transpose
        roots = PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
        bars = int(np.ceil((seconds - first) / (BEATS_PER_BAR * beat))) + 2
        scale = MINOR if minor else MAJOR
        melody = _Melody(rng, manner, tonic, scale, roots)
        notes = _cut(melody.phrases(bars, first, beat), seconds)
        starts = [first + i * BEATS_PER_BAR * beat for i in range(-1, bars)]
        chords = [
            Chord(max(s, 0.0), min(s + BEATS_PER_BAR * beat, seconds), _triad(tonic, scale, roots[i % 4]))
            for i, s in enumerate(starts, start=-1)
        ]
        count = int(np.floor((seconds - first % beat) / beat)) + 1
        beats = tuple(first % beat + i * beat for i in range(count) if first % beat + i * beat < seconds)
        return Score(
            style=style,
            singer=singer,
            tempo=tempo,
            tonic=tonic,
            minor=minor,
            notes=tuple(notes),
            chords=tuple(c for c in chords if c.end > c.start),
            beats=beats,
            downbeats=tuple(s for s in starts if 0 <= s < seconds),
        )


def _triad(tonic: int, scale: tuple[int, ...], step: int) -> tuple[int, ...]:
    return tuple(tonic - 12 + _pitch(scale, step + third) for third in (0, 2, 4))


def _pitch(scale: tuple[int, ...], step: int) -> int:
    """Semitones above the tonic of a scale step; steps outside 0..6 are in other octaves."""
    return scale[step % 7] + 12 * (step // 7)


def _cut(notes: list[Note], seconds: float) -> list[Note]:
    """The notes that have at least 60 ms before the end of the song, the last one shortened to fit."""
    kept = [note for note in notes if note.start < seconds - 0.06]
    if kept:
        end = kept[-1]
        kept[-1] = replace(end, end=min(end.end, seconds), last=True)
    return kept


@dataclass
class _Melody:
    """Writes phrases of two bars; every other phrase takes up the first one's rhythm and contour again."""

    rng: np.random.Generator
    style: Style
    tonic: int
    scale: tuple[int, ...]
    roots: tuple[int, ...]

    def phrases(self, bars: int, first: float, beat: float) -> list[Note]:
        motif: tuple[tuple[float, ...], list[int]] | None = None
        notes: list[Note] = []
        for phrase in range((bars + 1) // 2):
            fresh = motif is None or self.rng.uniform() < 0.5
            if fresh:
                rhythm = self._pick(self.style.bars) + self._pick(self.style.endings)
                steps = self._contour(rhythm, phrase)
                motif = motif or (rhythm, steps)
            else:
                assert motif is not None
                rhythm, steps = motif[0], self._varied(motif[1])
            start = first + phrase * 2 * BEATS_PER_BAR * beat
            notes += self._sing(rhythm, steps, phrase, start, beat)
        return notes

    def _pick(self, choices: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
        return choices[self.rng.integers(len(choices))]

    def _contour(self, rhythm: tuple[float, ...], phrase: int) -> list[int]:
        """Scale steps of a random walk: starts on a chord tone, stays in a tenth, ends on the tonic chord."""
        sung = sum(length > 0 for length in rhythm)
        step = int(self.roots[(2 * phrase) % 4] % 7 % 5 + self.rng.choice([0, 2, 2, 4]) - 2)
        steps = []
        for _ in range(sung):
            steps.append(step)
            if self.rng.uniform() < self.style.melodic:
                step += int(
                    self.rng.choice([-2, -1, -1, 1, 1, 2, 4], p=[0.15, 0.2, 0.2, 0.15, 0.15, 0.1, 0.05])
                )
                step = int(np.clip(step, -3, 7))
        steps[-1] = int(self.rng.choice([0, 2, 4, 0]))
        return steps

    def _varied(self, steps: list[int]) -> list[int]:
        """The motif with one inner note moved by a step and, half of the time, another last note."""
        varied = list(steps)
        if len(varied) > 2:
            varied[self.rng.integers(1, len(varied) - 1)] += int(self.rng.choice([-1, 1]))
        if self.rng.uniform() < 0.5:
            varied[-1] = int(self.rng.choice([0, 2, 4]))
        return varied

    def _sing(
        self, rhythm: tuple[float, ...], steps: list[int], phrase: int, start: float, beat: float
    ) -> list[Note]:
        notes: list[Note] = []
        sung = [length for length in rhythm if length > 0]
        arch = self.rng.uniform(0.3, 0.7)  # where the phrase is loudest
        for index, (length, step) in enumerate(zip(sung, steps, strict=True)):
            place = index / max(len(sung) - 1, 1)
            effort = 1.0 - 0.45 * abs(place - arch) - self.rng.uniform(0, 0.12) + 0.02 * step
            onset = self._onset(first=index == 0)
            vowel = str(self.rng.choice(list(self.style.vowels)))
            if notes and onset == "":
                vowel = notes[-1].vowel  # melisma: the vowel is carried on
            notes.append(
                Note(
                    start=start,
                    end=start + length * beat,
                    pitch=self.tonic + _pitch(self.scale, step),
                    onset=onset,
                    vowel=vowel,
                    effort=float(np.clip(effort, 0.45, 1.0)),
                    phrase=phrase,
                    last=index == len(sung) - 1,
                )
            )
            start += length * beat
        return notes

    def _onset(self, first: bool) -> str:
        onset = str(self.rng.choice(list(self.style.onsets)))
        if onset == "-":
            return "h" if first else ""
        return onset
