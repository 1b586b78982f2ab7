"""`singer demo`: the built-in singer sings the built-in song; nothing is downloaded."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..demo import files
from ..settings import PAPER
from . import sing

DESCRIPTION = """
Let the built-in model sing: 5 seconds at 25 frames a second, without any download. The model is small
(128 x 128 pixels) and knows drawn faces; docs/model_card.md says what to expect of it.

Another picture needs its face: --landmarks, or --face-mask and --lip-mask.
"""

EPILOG = """
example:
  singer demo
  singer demo --audio my-song.mp3 --steps 20 --out my-song.mp4
  singer demo --image me.png --landmarks me.json
"""

# What suits the built-in model (docs/model_card.md): guided by the song, which calms rests, not by the face.
OPTIONS = PAPER.but(steps=4, reference_scale=1.0, audio_scale=1.25, carry="latents", overlap=2, reanchor=1.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", type=Path, metavar="FILE", help="picture of one person, instead of ours")
    parser.add_argument("--audio", type=Path, metavar="FILE", help="sound file, instead of ours")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("singer-demo.mp4"),
        metavar="FILE",
        help="video to write (default: singer-demo.mp4)",
    )
    sing.add_render_arguments(parser)


def run(args: argparse.Namespace) -> int:
    args.checkpoint, args.vae, args.wav2vec2 = files.CHECKPOINT, files.VAE, None
    args.song = args.audio or files.SONG
    args.portrait = args.image or files.PORTRAIT
    if args.image is None:
        args.landmarks, args.crop = files.LANDMARKS, "squash"
    return sing.run(args, OPTIONS)
