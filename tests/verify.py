"""Run reference fixtures through the library: `python tests/verify.py DIR`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from verification.runner import Row, verify

DESCRIPTION = """
Run every fixture found in DIR (NAME.json beside NAME.safetensors) through the library on the CPU in float32
and print the largest error of every output tensor as a multiple of its tolerance. Excepted are outputs named
NOT_OFFICIAL_* and debug/*, which the table lists.
"""
EPILOG = "exit status: 0 all passed, 1 a tensor failed or could not be checked, 2 no fixtures."


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    rows = []
    print(f"{'fixture':<15} {'case':<6} {'tensor':<60} {'error/tol':>9}  {'tolerance':<22} result")
    try:
        for row in verify(args.folder):
            rows.append(row)
            if not args.failed or row.status not in ("pass", "excepted"):
                print(_line(row))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    counts = Counter(row.status for row in rows)
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    if args.json:
        args.json.write_text(
            json.dumps([dataclasses.asdict(row) for row in rows], indent=1), encoding="utf-8"
        )
    return int(bool(counts["FAIL"] or counts["NOT CHECKED"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder with the fixtures")
    parser.add_argument("--failed", action="store_true", help="print only what did not pass")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows to FILE as well")
    return parser


def _line(row: Row) -> str:
    error = "" if row.error is None else f"{row.error:9.3g}"
    line = f"{row.fixture:<15} {row.case:<6} {row.tensor:<60} {error:>9}  {row.tolerance:<22} {row.status}"
    return f"{line}  {row.note}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
