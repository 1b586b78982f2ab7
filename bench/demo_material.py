"""Draw the portrait and sing the song of `singer demo`: `python bench/demo_material.py [FOLDER]`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

from singer_core.audio.waveform import Waveform
from singer_core.audio.wavfile import write_wave
from singer_core.demo import files
from singer_core.files import renamed_on_success
from singer_core.portrait.landmarks import FaceLandmarks, write_landmarks
from singer_core.training.synthetic import Identity, Performance, Song

SINGER, SONG = 700_000_118, 700_000_210  # no training set reaches these seeds
SECONDS, SIZE = 5.0, 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=files.FOLDER)
    parser.add_argument("--song", type=int, default=SONG, help="seed of the song")
    args = parser.parse_args()
    song = Song.random(args.song, SECONDS, "pop", accompaniment=True)
    show = Performance(Identity.random(SINGER), song, size=SIZE)
    with renamed_on_success(args.folder / files.PORTRAIT.name) as path:
        Image.fromarray(show.frame(0)).save(path, format="PNG", optimize=True)
    face = FaceLandmarks(torch.from_numpy(show.landmarks(0)))
    write_landmarks(args.folder / files.LANDMARKS.name, [face], (SIZE, SIZE))
    write_wave(args.folder / files.SONG.name, Waveform(torch.from_numpy(song.mix)[None], song.rate))


if __name__ == "__main__":
    main()
