"""Draw the portrait and sing the song of `singer demo`; show what it makes of them.

python -m builtin.demo_material [FOLDER]
python -m builtin.demo_material --picture docs/images/demo.webp singer-demo.mp4
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch
from PIL import Image

from singer_core.audio.waveform import Waveform, write_wave
from singer_core.demo import files
from singer_core.files import renamed_on_success
from singer_core.portrait.landmarks import FaceLandmarks, write_landmarks
from singer_core.render.video import read_frames

from .world import Identity, Performance, Song

SINGER, SONG = 700_000_120, 700_000_210  # no training set reaches these seeds
SECONDS, SIZE = 5.0, 512


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("source", type=Path, nargs="?", default=files.FOLDER, help="folder, or the video")
    parser.add_argument("--picture", type=Path, help="animated picture to write of the video")
    args = parser.parse_args()
    if args.picture:
        show(args.source, args.picture)
    else:
        make(args.source)


def make(folder: Path) -> None:
    song = Song.random(SONG, SECONDS, "pop", accompaniment=True)
    singer = Performance(Identity.random(SINGER), song, size=SIZE).framed()
    with renamed_on_success(folder / files.PORTRAIT.name) as path:
        Image.fromarray(singer.frame(0)).save(path, format="PNG", optimize=True)
    face = FaceLandmarks(torch.from_numpy(singer.landmarks(0)))
    write_landmarks(folder / files.LANDMARKS.name, [face], (SIZE, SIZE))
    write_wave(folder / files.SONG.name, Waveform(torch.from_numpy(song.mix)[None], song.rate))


def show(video: Path, picture: Path, side: int = 256) -> None:
    """Portrait and every second frame side by side, at half the frame rate."""
    portrait = Image.open(files.PORTRAIT).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    found = []
    for frame in itertools.islice(read_frames(video), 0, None, 2):
        both = Image.new("RGB", (2 * side, side))
        both.paste(portrait)
        sung = Image.fromarray(frame.movedim(0, 2).numpy())
        both.paste(sung.resize((side, side), Image.Resampling.LANCZOS), (side, 0))
        found.append(both)
    with renamed_on_success(picture) as path:
        found[0].save(path, save_all=True, append_images=found[1:], duration=80, loop=0, quality=70, method=6)


if __name__ == "__main__":
    main()
