"""The command `singer`: one module per sub-command, imported only when it runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "sing": "render a video of a portrait singing a song",
    "convert": "convert a checkpoint to safetensors",
    "info": "say what a checkpoint file is and holds",
    "verify": "run reference fixtures through the library",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 success, 1 a check failed, 2 bad input."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="singer", description="SINGER portrait video.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    chosen = parser.parse_args(argv[:1]).command
    module = importlib.import_module(f"singer_core.cli.{chosen}")
    command = argparse.ArgumentParser(prog=f"singer {chosen}")
    module.add_arguments(command)
    args = command.parse_args(argv[1:])
    try:
        return module.run(args)
    except (ValueError, FileNotFoundError, RuntimeError, OSError) as error:
        print(f"singer: error: {error}", file=sys.stderr)
        return 2
