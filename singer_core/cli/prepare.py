"""`singer prepare`: what is found in a portrait and a song, written down to look at."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..files import renamed_on_success
from ..settings import PortraitSettings, SongSettings, group, required, setting
from . import inputs

if TYPE_CHECKING:
    import torch

    from ..portrait.portrait import Portrait

Made = TypeVar("Made")

DESCRIPTION = """
Write what `singer sing` would use of PORTRAIT and SONG into a folder: portrait.json, the crop, its masks and
an overlay picture; vocals.wav, accompaniment.wav where a separator ran, song.json (length, frames, beats) and
song.png (waveform, vocal activity, beats, log-mel energies and their four wavelet sub-bands over time; needs
matplotlib, and beats need librosa: extra `eval`).
"""


@dataclass(frozen=True)
class Arguments:
    portrait: Path = required("Picture of one person.", positional=True, metavar="PORTRAIT")
    song: Path = required("Sound file: wav, mp3, flac, m4a, ...", positional=True, metavar="SONG")
    out: Path = required("Folder to write, made if need be.", metavar="DIR")
    look: PortraitSettings = group(PortraitSettings, "portrait")
    sound: SongSettings = group(SongSettings, "song")
    device: str = setting("auto", "auto, cpu, or a torch device.")


def run(given: Arguments) -> int:
    from ..audio.features import frame_count
    from ..audio.waveform import probe_audio, write_wave
    from ..files import write_text
    from ..portrait.preview import write_preview

    info = probe_audio(given.song)
    portrait = _portrait(given)
    song = inputs.read_song(given.song, given.sound, inputs.choose_device(given.device))
    beats = _optional("beats", lambda: _beats(song))
    given.out.mkdir(parents=True, exist_ok=True)
    summary = {
        "seconds": round(info.seconds, 3),
        "rate": info.rate,
        "channels": info.channels,
        "fps": given.sound.fps,
        "frames": frame_count(song.vocals.length, song.vocals.rate, given.sound.fps),
        "beats": None if beats is None else [round(time, 3) for time in beats.tolist()],
    }
    written: list[Path | None] = [
        *write_preview(portrait, given.out),
        write_wave(given.out / "vocals.wav", song.vocals),
        write_text(given.out / "song.json", json.dumps(summary, indent=1)),
    ]
    if song.rest is not None:
        written.append(write_wave(given.out / "accompaniment.wav", song.rest))
    written.append(_optional("song.png", lambda: _plot(given, song, beats)))
    print("\n".join(str(path) for path in written if path is not None))
    return 0


def _portrait(given: Arguments) -> Portrait:
    """The prepared portrait; of several faces a picture with their numbers, and the error that wants one."""
    from ..constants import DEFAULT_SIZE
    from ..portrait.image import read_picture
    from ..portrait.landmarks import SeveralFacesError
    from ..portrait.preview import numbered

    try:
        return inputs.read_portrait(given.portrait, given.look, given.look.size or DEFAULT_SIZE)
    except SeveralFacesError as error:
        given.out.mkdir(parents=True, exist_ok=True)
        path = given.out / "faces.png"
        with renamed_on_success(path) as temporary:
            numbered(read_picture(given.portrait).image, error.faces).save(temporary, format="PNG")
        raise ValueError(f"{error} They are in {path}.") from error


def _beats(song: inputs.Song) -> torch.Tensor:
    from ..audio.motion import beat_times

    return beat_times(song.mix)


def _plot(given: Arguments, song: inputs.Song, beats: torch.Tensor | None) -> Path:
    from ..evaluation.song_plot import plot_song

    return plot_song(given.out / "song.png", song.vocals, given.sound.fps, beats)


def _optional(what: str, make: Callable[[], Made]) -> Made | None:
    """What `make` gives; None with a note on stderr where a library that it needs is not installed."""
    try:
        return make()
    except RuntimeError as error:
        print(f"singer: left out {what}: {error}", file=sys.stderr)
        return None
