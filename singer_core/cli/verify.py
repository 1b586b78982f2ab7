"""`singer verify`: run reference fixtures through the library."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter
from pathlib import Path

HELP = "run reference fixtures through the library and compare every output tensor"
DESCRIPTION = """
Run every fixture found in DIR (NAME.json beside NAME.safetensors) through the library on the CPU in float32
and print the largest error of every output tensor as a multiple of its tolerance. Exit status 1 if any tensor
fails or could not be checked. Excepted are outputs named NOT_OFFICIAL_* and debug/*, which the table lists.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder with the fixtures")
    parser.add_argument("--failed", action="store_true", help="print only what did not pass")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows to FILE as well")


def run(args: argparse.Namespace) -> int:
    from ..verification.runner import verify

    rows = []
    print(f"{'fixture':<15} {'case':<6} {'tensor':<60} {'error/tol':>9}  {'tolerance':<22} result")
    for row in verify(args.folder):
        rows.append(row)
        if args.failed and row.status in ("pass", "excepted"):
            continue
        error = "" if row.error is None else f"{row.error:9.3g}"
        line = (
            f"{row.fixture:<15} {row.case:<6} {row.tensor:<60} {error:>9}  {row.tolerance:<22} {row.status}"
        )
        print(f"{line}  {row.note}".rstrip())
    counts = Counter(row.status for row in rows)
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    if args.json:
        args.json.write_text(
            json.dumps([dataclasses.asdict(row) for row in rows], indent=1), encoding="utf-8"
        )
    return int(bool(counts["FAIL"] or counts["NOT CHECKED"]))
