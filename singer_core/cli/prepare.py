"""`singer prepare`: what is found in a portrait and a song, written down to look at."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from . import inputs

if TYPE_CHECKING:
    import torch

Made = TypeVar("Made")

DESCRIPTION = """
Write what `singer sing` would use of PORTRAIT and SONG into a folder: portrait.json, the crop, its masks and
an overlay picture; vocals.wav, accompaniment.wav where a separator ran, song.json (length, frames, beats) and
song.png (waveform, vocal activity, beats, log-mel energies and their four wavelet sub-bands over time; needs
matplotlib, and beats need librosa: extra `eval`).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("portrait", metavar="PORTRAIT", type=Path, help="picture of one person")
    parser.add_argument("song", metavar="SONG", type=Path, help="sound file: wav, mp3, flac, m4a, ...")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write, made if need be"
    )
    inputs.add_portrait_arguments(parser)
    inputs.add_song_arguments(parser)
    parser.add_argument("--device", default="auto", help="auto (default), cpu, or a torch device")


def run(args: argparse.Namespace) -> int:
    from ..audio.features import frame_count
    from ..audio.waveform import probe_audio, write_wave
    from ..constants import DEFAULT_SIZE
    from ..files import write_text
    from ..portrait.preview import write_preview

    info = probe_audio(args.song)
    portrait = inputs.read_portrait(args.portrait, args, args.size or DEFAULT_SIZE)
    song = inputs.read_song(args.song, args, inputs.choose_device(args.device))
    beats = _optional("beats", lambda: _beats(song))
    args.out.mkdir(parents=True, exist_ok=True)
    summary = {
        "seconds": round(info.seconds, 3),
        "rate": info.rate,
        "channels": info.channels,
        "fps": args.fps,
        "frames": frame_count(song.vocals.length, song.vocals.rate, args.fps),
        "beats": None if beats is None else [round(time, 3) for time in beats.tolist()],
    }
    written: list[Path | None] = [
        *write_preview(portrait, args.out),
        write_wave(args.out / "vocals.wav", song.vocals),
        write_text(args.out / "song.json", json.dumps(summary, indent=1)),
    ]
    if song.rest is not None:
        written.append(write_wave(args.out / "accompaniment.wav", song.rest))
    written.append(_optional("song.png", lambda: _plot(args, song, beats)))
    print("\n".join(str(path) for path in written if path is not None))
    return 0


def _beats(song: inputs.Song) -> torch.Tensor:
    from ..audio.motion import beat_times

    return beat_times(song.mix)


def _plot(args: argparse.Namespace, song: inputs.Song, beats: torch.Tensor | None) -> Path:
    from ..evaluation.song_plot import plot_song

    return plot_song(args.out / "song.png", song.vocals, args.fps, beats)


def _optional(what: str, make: Callable[[], Made]) -> Made | None:
    """What `make` gives; None with a note on stderr where a library that it needs is not installed."""
    try:
        return make()
    except RuntimeError as error:
        print(f"singer: left out {what}: {error}", file=sys.stderr)
        return None
