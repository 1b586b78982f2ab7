"""`singer evaluate`: numbers and pictures of finished videos."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .. import constants

if TYPE_CHECKING:
    from ..evaluation.files import Files
    from ..evaluation.mouth import Box

HELP = "measure videos: singing, stability, likeness to a reference"
DESCRIPTION = """
Measure how well a video sings and how steady it is, most of it without any network: does the mouth follow the
voice and rest where nothing is sung, do the clips show, do colours drift, does the sound fit. A reference
video adds PSNR and SSIM; networks in --weights add FID, FVD, LSE-C, LSE-D and identity. What cannot be
computed is listed with the remedy. docs/evaluation.md defines every metric.
"""
EPILOG = """
examples:
  singer evaluate singing.mp4 --vocals vocals.wav --landmarks portrait.json --html report.html
  singer evaluate singing.mp4 --reference true.mp4 --lip-box 200,300,310,400 --json numbers.json
  singer evaluate --protocol singinghead FOLDER --json table.json

exit status: 0 measured, 2 bad input, 3 with --strict where a metric lacks a file or a package.
"""
PROTOCOLS = ("singinghead", "shv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "videos", metavar="VIDEO", nargs="+", type=Path, help="videos, or one folder with --protocol"
    )
    given = parser.add_argument_group("what belongs to the video")
    given.add_argument(
        "--reference", type=Path, metavar="FILE", help="the true video, or the portrait as a picture"
    )
    given.add_argument("--audio", type=Path, metavar="FILE", help="the song (default: the video's own sound)")
    given.add_argument("--vocals", type=Path, metavar="FILE", help="its separated voice (default: the song)")
    given.add_argument(
        "--landmarks",
        type=Path,
        metavar="FILE",
        help="JSON with the face mesh of every frame, or of the portrait alone, which gives a lip box",
    )
    given.add_argument(
        "--reference-landmarks", type=Path, metavar="FILE", help="the same of the reference video or portrait"
    )
    given.add_argument(
        "--lip-box", type=_box, metavar="L,T,R,B", help="pixels around the lips, with room for an open mouth"
    )
    given.add_argument(
        "--clip-frames",
        type=int,
        default=constants.CLIP_FRAMES,
        metavar="N",
        help="frames of a clip (default 16), as it was rendered: where seams are looked for",
    )
    given.add_argument(
        "--overlap",
        type=int,
        default=0,
        metavar="N",
        help="frames that a clip shares with the one before (default 0)",
    )
    how = parser.add_argument_group("measuring")
    how.add_argument("--fps", type=float, metavar="X", help="measure at this rate (default: the video's own)")
    how.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder with networks (default models/evaluation)"
    )
    how.add_argument(
        "--device", default="auto", help="of the networks: auto (default), cpu, or a torch device"
    )
    how.add_argument("--strict", action="store_true", help="exit status 3 where a file or package is lacking")
    how.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        help="measure the pairs of a data set: FOLDER/generated/NAME.mp4 against FOLDER/truth/NAME.mp4",
    )
    out = parser.add_argument_group("reports")
    out.add_argument("--json", type=Path, metavar="FILE", help="write all numbers and curves")
    out.add_argument("--html", type=Path, metavar="FILE", help="write a report with plots, in one file")


def run(args: argparse.Namespace) -> int:
    import dataclasses

    from ..evaluation.evaluate import evaluate
    from ..evaluation.files import distinct_names, read_material
    from ..evaluation.report import report_text, write_html, write_json
    from .progress import progress_bar

    for path in (args.json, args.html):
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"Cannot write {path.name}: there is no folder {path.parent}. Create it.")
    files = _files(args)
    if args.protocol:
        return _run_protocol(args, files)
    found = []
    for video, name in zip(args.videos, distinct_names(args.videos), strict=True):
        material = read_material(video, files)
        with progress_bar(name, material.footage.frames, "frame", not sys.stderr.isatty()) as bar:
            found.append(dataclasses.replace(evaluate(material, bar.set_part), name=name))
        print(report_text(found[-1]), end="\n\n")
    if args.json:
        write_json(args.json, found)
    if args.html:
        write_html(args.html, found)
    return _status(args.strict, sorted({key for one in found for key in one.lacking}))


def _run_protocol(args: argparse.Namespace, files: Files) -> int:
    from ..evaluation.protocol import PROTOCOLS as KNOWN
    from ..evaluation.protocol import run_protocol, summary_text

    if len(args.videos) != 1:
        raise ValueError(f"--protocol takes one folder, got {len(args.videos)}. Run it once for each.")
    table = run_protocol(KNOWN[args.protocol], args.videos[0], files, args.json, args.html)
    if table is None:  # another process writes the table
        return 0
    print(summary_text(table))
    return _status(args.strict, table["lacking"])


def _status(strict: bool, lacking: list[str]) -> int:
    if lacking:
        print(
            f"singer: warning: not computed for lack of a file or package: {', '.join(lacking)}",
            file=sys.stderr,
        )
    return 3 if strict and lacking else 0


def _files(args: argparse.Namespace) -> Files:
    from ..evaluation.evaluate import WEIGHTS
    from ..evaluation.files import Files
    from .inputs import choose_device

    return Files(
        reference=args.reference,
        audio=args.audio,
        vocals=args.vocals,
        landmarks=args.landmarks,
        reference_landmarks=args.reference_landmarks,
        lip_box=args.lip_box,
        clip_frames=args.clip_frames,
        overlap=args.overlap,
        fps=args.fps,
        weights=args.weights or WEIGHTS,
        device=choose_device(args.device),
    )


def _box(text: str) -> Box:
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no box; write LEFT,TOP,RIGHT,BOTTOM in pixels"
        ) from None
    return left, top, right, bottom
