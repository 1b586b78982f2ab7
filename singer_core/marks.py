"""What a user says of some seconds of a song: retakes, and weights of phrases (docs/takes.md).

A line each, or with ; between them:

    31.5-34:7                   sing these seconds again with seed 7
    0:31.5-0:34:8 lip 1.2       the same seconds with another seed, and the lips' weight times 1.2
    31.5-34=2                   of their takes, show the second; 1 is the song's own
    1:02-1:10 pose 0.6          no retake: a phrase, with the weight of the head times 0.6

Phrases may be lyrics with times, too, as .lrc and .srt files have them, with factors in braces:

    [01:02.00] and the night is long {pose 0.6}
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .constants import MAX_SEED
from .files import existing, read_text

REGIONS = ("pose", "face", "lip")
ORIGINAL = 1  # number of the song's own take

_TIME = r"(?:\d+:)*\d+(?:\.\d+)?"
_SPAN = re.compile(rf"({_TIME})\s*-\s*({_TIME})(?=\s|$)")
_TAKE = re.compile(rf"({_TIME})\s*-\s*({_TIME})\s*(?::(?P<seed>\d+)|=(?P<number>\d+))(?=\s|$)")
_LRC = re.compile(r"\[(\d+:\d+(?:\.\d+)?)\]")
_SRT = re.compile(r"(\d+:\d+:\d+[,.]\d+)\s*-->\s*(\d+:\d+:\d+[,.]\d+)[^\n]*\n((?:[^\n]*\S[^\n]*\n?)*)")
_BRACES = re.compile(r"\{([^}]*)\}")
LYRICS = (".lrc", ".srt", ".txt")

Weights = tuple[float, float, float]  # pose, face, lip: factors


@dataclass(frozen=True)
class Mark:
    """Seconds [start, stop) of a song, and factors on its motion weights there."""

    start: float
    stop: float
    weights: Weights = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Take:
    """Frames [start, stop) of a song, sung again from `seed`; with `number`, one of their takes is chosen.

    weights  factors on the song's motion weights
    """

    start: int
    stop: int
    weights: Weights = (1.0, 1.0, 1.0)
    seed: int = 0
    number: int | None = None

    @property
    def span(self) -> range:
        return range(self.start, self.stop)

    def text(self, fps: float) -> str:
        """As a user writes it, in seconds."""
        words = [
            f" {name} {value:g}" for name, value in zip(REGIONS, self.weights, strict=True) if value != 1
        ]
        chosen = f":{self.seed}" if self.number is None else f"={self.number}"
        return f"{self.start / fps:g}-{self.stop / fps:g}{chosen}{''.join(words)}"


def marks_text(given: str) -> str:
    """The text of marks, or that of the file which is named instead: .lrc, .srt or .txt."""
    path = Path(given)
    if path.suffix.lower() not in LYRICS or "\n" in given:
        return given
    return read_text(existing(path))


def read_marks(text: str, seconds: float, name: str = "marks") -> list[Mark]:
    """The marks of a text: lines of seconds with factors, or lyrics as in .lrc and .srt files.

    Raises ValueError that shows the place, naming the input.
    """
    if "-->" in text or _LRC.search(text):
        return _of_lyrics(text, seconds, name)
    marks = []
    for place, line in _lines(text, name):
        found = _SPAN.match(line)
        if found is None:
            raise ValueError(f"{place}: a line begins with seconds from-to. Write 0:31-0:34 lip 1.2.")
        span, weights = _span(found, seconds, place), _weights(line, found.end(), place)
        if weights == (1.0, 1.0, 1.0):
            raise ValueError(f"{place}: no weight is changed. Add pose, face or lip, as in lip 1.2.")
        marks.append(Mark(*span, weights))
    return marks


def _of_lyrics(text: str, seconds: float, name: str) -> list[Mark]:
    """The lines of lyrics with factors in braces; one of .lrc lasts to the next."""
    lines = [(_seconds(start), _seconds(stop), words) for start, stop, words in _SRT.findall(text)]
    if not lines:
        found = [(time, line) for line in text.splitlines() for time in _LRC.findall(line)]
        begun = sorted((_seconds(time), line) for time, line in found)
        stops = [*(start for start, _ in begun[1:]), seconds]
        lines = [(start, stop, words) for (start, words), stop in zip(begun, stops, strict=True)]
    marks = []
    for start, stop, words in lines:
        for factors in _BRACES.findall(words):
            weights = _weights(factors, 0, f"`{name}`: {words.strip()!r}")
            marks.append(Mark(start, min(stop, seconds), weights))
    if not marks:
        raise ValueError(f"`{name}`: no line of the lyrics says a weight. Write {{lip 1.2}} behind a line.")
    return marks


def read_takes(text: str, frames: int, fps: float, name: str = "takes") -> list[Take]:
    """The takes of a text, in frames of a song of so many.

    Seconds are rounded to frames. The same seconds may be sung again and again, others may not overlap them.
    Raises ValueError that shows the place, naming the input.
    """
    takes: list[Take] = []
    for place, line in _lines(text, name):
        found = _TAKE.match(line)
        if found is None:
            raise ValueError(
                f"{place}: a take is seconds from-to and a seed, as 31.5-34:7, or a number, as 31.5-34=2."
            )
        start, stop = (round(time * fps) for time in _span(found, frames / fps, place))
        if start == (stop := min(stop, frames)):
            raise ValueError(f"{place}: that is less than a frame. Give more seconds.")
        if (seed := int(found["seed"] or 0)) > MAX_SEED:
            raise ValueError(f"{place}: the largest seed is {MAX_SEED}. Give a smaller one.")
        number = int(found["number"]) if found["number"] else None
        take = Take(start, stop, _weights(line, found.end(), place), seed, number)
        for other in takes:
            if other.span != take.span and other.start < take.stop and take.start < other.stop:
                raise ValueError(f"{place} overlaps {other.text(fps)}. Give the same seconds, or others.")
        takes.append(take)
    return takes


def _lines(text: str, name: str) -> list[tuple[str, str]]:
    """(what names the line in an error, line) of every line that says something."""
    lines = [line.strip() for line in text.replace(";", "\n").splitlines()]
    return [(f"`{name}`: {line!r}", line) for line in lines if line and not line.startswith("#")]


def _span(found: re.Match[str], seconds: float, place: str) -> tuple[float, float]:
    start, stop = (_seconds(found[group]) for group in (1, 2))
    if stop <= start:
        raise ValueError(f"{place}: {found[2]} is not behind {found[1]}. Write from-to.")
    if stop > seconds + 0.5 or start >= seconds:
        raise ValueError(f"{place}: {found[2]} is outside of the song, which has {seconds:.2f} s.")
    return start, stop


def _seconds(text: str) -> float:
    """`31.5`, `0:31.5` or `1:00:31.5` in seconds; a decimal comma is a point."""
    total = 0.0
    for part in text.replace(",", ".").split(":"):
        total = 60 * total + float(part)
    return total


def _weights(line: str, end: int, place: str) -> Weights:
    """The factors behind the times of a line."""
    words, weights = line[end:].split(), dict.fromkeys(REGIONS, 1.0)
    for name, value in zip(words[::2], [*words[1::2], ""], strict=False):
        if name not in weights:
            raise ValueError(f"{place}: {name!r} is none of {', '.join(REGIONS)}.")
        if not re.fullmatch(r"\d+(\.\d+)?|\.\d+", value):
            raise ValueError(f"{place}: {name} {value!r} is no factor. Write {name} 1.2.")
        weights[name] = float(value)
    return weights["pose"], weights["face"], weights["lip"]


def numbered(takes: Sequence[Take], earlier: Sequence[Take] = ()) -> dict[range, list[Take]]:
    """The takes of every span that is sung again, those of earlier runs first; the first is number 2."""
    found: dict[range, list[Take]] = {}
    for take in dict.fromkeys([*earlier, *takes]):
        if take.number is None:
            found.setdefault(take.span, []).append(take)
    return found


def listed(takes: Sequence[Take], earlier: Sequence[Take], shown: Sequence[Take], fps: float) -> list[str]:
    """A line for all seconds that were sung again: their takes, a star at the one that is shown."""
    lines = []
    for span, those in numbered(takes, earlier).items():
        named = [f"{number}{'*' * (take in shown)} {take.text(fps)}" for number, take in enumerate(those, 2)]
        own = f"1{'*' * all(take not in shown for take in those)} the song's"
        lines.append(f"Takes of {span.start / fps:g}-{span.stop / fps:g} s: {', '.join([own, *named])}")
    return lines


def chosen(takes: Sequence[Take], earlier: Sequence[Take], fps: float) -> list[Take]:
    """The take of every span that is shown, in order: the last one named; the song's own is left out.

    Raises ValueError for a number that no take has.
    """
    known, last = numbered(takes, earlier), {take.span: take for take in takes}
    for span, take in last.items():
        if take.number is None or take.number == ORIGINAL:
            continue
        those = known.get(span, [])
        if not 0 <= take.number - 2 < len(those):
            raise ValueError(
                f"There is no take {take.text(fps)}: these seconds have 1 (the song's)"
                + "".join(f", {number} ({other.text(fps)})" for number, other in enumerate(those, 2))
                + ". Choose one of them, or retake them with a seed."
            )
        last[span] = those[take.number - 2]
    return sorted((take for take in last.values() if take.number is None), key=lambda take: take.start)
