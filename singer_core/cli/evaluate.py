"""`singer evaluate`: numbers and pictures of finished videos."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..evaluation.settings import Files
from ..files import write_text
from ..settings import group, required, setting
from .inputs import choose_device
from .progress import progress_bar

if TYPE_CHECKING:
    import torch

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
class Measuring:
    """How it is measured."""

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
    files: Files = group(Files, "the video", "what belongs to it, and what it is measured with")
    how: Measuring = group(Measuring, "measuring")
    reports: Reports = group(Reports, "reports")


def run(args: Arguments) -> int:
    from ..evaluation.evaluate import evaluate
    from ..evaluation.material import distinct_names, read_material
    from ..evaluation.report import report_text, write_html, write_json

    for path in (args.reports.json, args.reports.html):
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"Cannot write {path.name}: there is no folder {path.parent}. Create it.")
    device = choose_device(args.how.device)
    if args.how.protocol:
        return _run_protocol(args.how.protocol, args, device)
    found = []
    for video, name in zip(args.videos, distinct_names(args.videos), strict=True):
        material = read_material(video, args.files, device)
        with progress_bar(name, material.footage.frames, "frame", not sys.stderr.isatty()) as bar:
            found.append(dataclasses.replace(evaluate(material, bar.set_part), name=name))
        print(report_text(found[-1]), end="\n\n")
    if args.reports.json:
        write_json(args.reports.json, found)
    if args.reports.html:
        write_html(args.reports.html, found)
    return _status(args.how.strict, sorted({key for one in found for key in one.lacking}))


def _run_protocol(protocol: str, args: Arguments, device: torch.device) -> int:
    from ..evaluation.protocol import PROTOCOLS, run_protocol, summary_page, summary_text

    if len(args.videos) != 1:
        raise ValueError(f"--protocol takes one folder, got {len(args.videos)}. Run it once for each.")
    table = run_protocol(PROTOCOLS[protocol], args.videos[0], args.files, device)
    if table is None:  # another process writes the table
        return 0
    if args.reports.json:
        write_text(args.reports.json, json.dumps(table, indent=1, allow_nan=False))
    if args.reports.html:
        write_text(args.reports.html, summary_page(table))
    print(summary_text(table))
    return _status(args.how.strict, table["lacking"])


def _status(strict: bool, lacking: list[str]) -> int:
    if lacking:
        print(
            f"singer: warning: not computed for lack of a file or package: {', '.join(lacking)}",
            file=sys.stderr,
        )
    return 3 if strict and lacking else 0
