"""`singer evaluate`: numbers and pictures of finished videos."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .. import constants
from ..settings import group, required, setting

if TYPE_CHECKING:
    from ..evaluation.files import Files
    from ..evaluation.mouth import Box
    from ..evaluation.protocol import Protocol

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


@dataclass(frozen=True)
class Belonging:
    """What belongs to the video."""

    reference: Path | None = setting(None, "The true video, or the portrait as a picture.")
    audio: Path | None = setting(None, "The song (default: the video's own sound).")
    vocals: Path | None = setting(None, "Its separated voice (default: the song).")
    landmarks: Path | None = setting(
        None, "JSON with the face mesh of every frame, or of the portrait alone, which gives a lip box."
    )
    reference_landmarks: Path | None = setting(None, "The same of the reference video or portrait.")
    lip_box: tuple[int, int, int, int] | None = setting(
        None,
        "Pixels around the lips, with room for an open mouth.",
        metavar="L,T,R,B",
        parse=lambda text: _box(text),
    )
    clip_frames: int = setting(
        constants.CLIP_FRAMES, "Frames of a clip, as it was sampled: where seams are looked for."
    )
    overlap: int = setting(0, "Frames that a clip shares with the one before, as it was sampled.")


@dataclass(frozen=True)
class Measuring:
    """How it is measured."""

    fps: float | None = setting(None, "Measure at this rate (default: the video's own).")
    weights: Path | None = setting(None, "Folder with networks (default: models/evaluation).", metavar="DIR")
    device: str = setting("auto", "Of the networks: auto, cpu, or a torch device.")
    strict: bool = setting(False, "Exit status 3 where a file or package is lacking.")
    protocol: Literal["singinghead", "shv"] | None = setting(
        None, "Measure the pairs of a data set: FOLDER/generated/NAME.mp4 against FOLDER/truth/NAME.mp4."
    )


@dataclass(frozen=True)
class Reports:
    """What is written."""

    json: Path | None = setting(None, "Write all numbers and curves.")
    html: Path | None = setting(None, "Write a report with plots, in one file.")


@dataclass(frozen=True)
class Arguments:
    videos: tuple[Path, ...] = required(
        "Videos, or one folder with --protocol.", positional=True, metavar="VIDEO"
    )
    given: Belonging = group(Belonging, "what belongs to the video")
    how: Measuring = group(Measuring, "measuring")
    reports: Reports = group(Reports, "reports")


def run(args: Arguments) -> int:
    import dataclasses

    from ..evaluation.evaluate import evaluate
    from ..evaluation.files import distinct_names, read_material
    from ..evaluation.protocol import PROTOCOLS
    from ..evaluation.report import report_text, write_html, write_json
    from .progress import progress_bar

    for path in (args.reports.json, args.reports.html):
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"Cannot write {path.name}: there is no folder {path.parent}. Create it.")
    files = _files(args)
    if args.how.protocol:
        return _run_protocol(PROTOCOLS[args.how.protocol], args, files)
    found = []
    for video, name in zip(args.videos, distinct_names(args.videos), strict=True):
        material = read_material(video, files)
        with progress_bar(name, material.footage.frames, "frame", not sys.stderr.isatty()) as bar:
            found.append(dataclasses.replace(evaluate(material, bar.set_part), name=name))
        print(report_text(found[-1]), end="\n\n")
    if args.reports.json:
        write_json(args.reports.json, found)
    if args.reports.html:
        write_html(args.reports.html, found)
    return _status(args.how.strict, sorted({key for one in found for key in one.lacking}))


def _run_protocol(protocol: Protocol, args: Arguments, files: Files) -> int:
    from ..evaluation.protocol import run_protocol, summary_text

    if len(args.videos) != 1:
        raise ValueError(f"--protocol takes one folder, got {len(args.videos)}. Run it once for each.")
    table = run_protocol(protocol, args.videos[0], files, args.reports.json, args.reports.html)
    if table is None:  # another process writes the table
        return 0
    print(summary_text(table))
    return _status(args.how.strict, table["lacking"])


def _status(strict: bool, lacking: list[str]) -> int:
    if lacking:
        print(
            f"singer: warning: not computed for lack of a file or package: {', '.join(lacking)}",
            file=sys.stderr,
        )
    return 3 if strict and lacking else 0


def _files(args: Arguments) -> Files:
    from ..evaluation.evaluate import WEIGHTS
    from ..evaluation.files import Files
    from .inputs import choose_device

    return Files(
        reference=args.given.reference,
        audio=args.given.audio,
        vocals=args.given.vocals,
        landmarks=args.given.landmarks,
        reference_landmarks=args.given.reference_landmarks,
        lip_box=args.given.lip_box,
        clip_frames=args.given.clip_frames,
        overlap=args.given.overlap,
        fps=args.how.fps,
        weights=args.how.weights or WEIGHTS,
        device=choose_device(args.how.device),
    )


def _box(text: str) -> Box:
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is no box; write LEFT,TOP,RIGHT,BOTTOM in pixels") from None
    return left, top, right, bottom
