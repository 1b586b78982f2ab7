"""`singer duet`: two portraits, two stems, one video."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import inputs, sing
from .film import Film, canvas_of, write_films

if TYPE_CHECKING:
    from ..render.canvas import Canvas

DESCRIPTION = """
Render two singers of one song, each with the stem of their own voice: where a stem is silent, its singer is.
The two are shown side by side; with --paste-back and twice the same picture, both sing in that picture.

All options hold for both singers; --second changes one for the second. Stopped and run again, the same
command goes on, as with `singer sing`.
"""

EPILOG = """
examples:
  singer duet ann.png ann.wav bob.png bob.wav --landmarks ann.json --second landmarks=bob.json \\
      --mix song.mp3 --checkpoint net.pth --vae vae.safetensors --wav2vec2 wav2vec2-base-960h --out duet.mp4
  singer duet both.png ann.wav both.png bob.wav --landmarks faces.json --face-index 0 --second face-index=1 \\
      --paste-back --checkpoint net.pth --vae vae.safetensors --wav2vec2 wav2vec2-base-960h --out duet.mp4

`singer sing --help` describes modes, presets and files.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, metavar, text in (
        ("portrait", "PORTRAIT", "picture of the first singer: on the left"),
        ("song", "STEM", "the first singer's voice, silent where the other sings alone"),
        ("second_portrait", "PORTRAIT2", "picture of the second singer; may be the same file"),
        ("second_song", "STEM2", "the second singer's voice"),
    ):
        parser.add_argument(name, metavar=metavar, type=Path, help=text)
    parser.add_argument(
        "--mix",
        type=Path,
        metavar="FILE",
        help="sound of the video: the song that both voices are from (default: the two stems together)",
    )
    parser.add_argument(
        "--second",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the second singer alone, such as landmarks=bob.json; may be given again",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("duet.mp4"),
        metavar="FILE",
        help="video to write: .mp4, .mov or .mkv (default: duet.mp4)",
    )
    sing.add_file_arguments(parser)
    sing.add_render_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from .. import constants
    from ..audio.waveform import probe_audio, read_audio

    singers = [args, second_singer(args)]
    if args.mix:
        probe_audio(args.mix)
    seconds = max(read_audio(one.song, constants.AUDIO_RATE, mono=True).seconds for one in singers)
    loaded: sing.Loaded = {}
    films = [sing.prepare(one, loaded, seconds=seconds)[0] for one in singers]
    rates = [film.audio.fps for film in films]
    if rates[0] != rates[1]:
        raise ValueError(
            f"The singers have {rates[0]:g} and {rates[1]:g} frames a second; a video has one rate. "
            "Give --fps without --second."
        )
    sound = [args.mix] if args.mix else [one.song for one in singers]
    write_films(films, _canvas(singers, films), sound, args.out, args)
    return 0


def second_singer(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments of `singer sing` for the second singer.

    Raises ValueError for an option that `--second` does not know, and where the first singer's face would be
    looked for in another picture.
    """
    parser = sing.Parser(prog="--second", add_help=False, allow_abbrev=False)
    inputs.add_portrait_arguments(parser)
    inputs.add_song_arguments(parser)
    sing.add_sampling_arguments(parser)
    values = {**vars(args), "portrait": args.second_portrait, "song": args.second_song, "plot": None}
    second = parser.parse_args([f"--{word}" for word in args.second], argparse.Namespace(**values))
    changed = {word.partition("=")[0] for word in args.second}
    for name in ("landmarks", "face-mask", "lip-mask"):
        given = getattr(args, name.replace("-", "_"))
        if given and name not in changed and not _one_picture(args):
            raise ValueError(
                f"--{name} {given} is of {args.portrait}, and the second singer is {args.second_portrait}. "
                f"Give the latter's, too: --second {name}=FILE."
            )
    return second


def _one_picture(args: argparse.Namespace) -> bool:
    return args.portrait.resolve() == args.second_portrait.resolve()


def _canvas(singers: Sequence[argparse.Namespace], films: Sequence[Film]) -> Canvas:
    """Side by side, or both back in the picture that they have in common."""
    from ..render.canvas import in_one_picture, side_by_side

    first, second = films
    if singers[0].paste_back and _one_picture(singers[0]):
        return in_one_picture(first.portrait, second.portrait)
    left, right = (canvas_of(film, one) for film, one in zip(films, singers, strict=True))
    return side_by_side(left, right)
