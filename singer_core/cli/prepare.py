"""`singer prepare`: what is found in a portrait and a song, written down to look at."""

from __future__ import annotations

import argparse
from pathlib import Path

from singer_core.cli import inputs

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
