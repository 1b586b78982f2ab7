"""`singer download`: list the files that others publish, and fetch those that are named."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from ..downloads import CACHE, FILES, download, find_file
from ..settings import setting

DESCRIPTION = """
Without NAME: list the files that SINGER can use: what for, size, terms, where they go, SHA-256. With names:
fetch those from Hugging Face (HF_ENDPOINT names a mirror, HF_TOKEN a login) into ComfyUI's folders below DIR,
where `singer sing` finds them; each is
checked against its SHA-256. A download that broke off goes on where it stopped; a file that is there is
kept. By naming a file you accept its terms.
"""
EPILOG = """
example:
  singer download singer sd-vae-ft-mse wav2vec2-base-960h --dir ~/ComfyUI/models
"""


@dataclass(frozen=True)
class Arguments:
    names: tuple[str, ...] = setting(
        (), "What to fetch; none = list what there is.", positional=True, metavar="NAME"
    )
    dir: Path = setting(CACHE, "Models folder that holds singer/, vae/, ...", metavar="DIR")


def run(args: Arguments) -> int:
    if not args.names:
        print(_table(args.dir))
        return 0
    files = {name: find_file(name) for name in args.names}
    for name, file in files.items():
        print(f"{name}: {file.size}, terms: {file.terms} ({file.page})", file=sys.stderr)
        try:
            print(download(name, args.dir.expanduser() / file.folder))
        except KeyboardInterrupt:
            print("singer: interrupted; the same command goes on where it stopped.", file=sys.stderr)
            return 130
    return 0


def _table(folder: Path) -> str:
    width = max(map(len, FILES))
    lines = [f"{'name':<{width}}  {'size':>8}  what for; terms; where it goes; SHA-256; page"]
    for name, file in FILES.items():
        fetched = "" if file.repository else " (not fetched: get it there)"
        lines += [
            f"{name:<{width}}  {file.size:>8}  {file.purpose}; terms: {file.terms}",
            f"{'':<{width}}  {'':>8}  {folder / file.folder / file.target}",
            f"{'':<{width}}  {'':>8}  {file.sha256 or 'SHA-256 as the server says'}",
            f"{'':<{width}}  {'':>8}  {file.page}{fetched}",
        ]
    return "\n".join(lines)
