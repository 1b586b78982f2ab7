"""The command `singer`: one module per sub-command, imported only when it runs."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from .arguments import add_arguments, hyphenated, made

COMMANDS = {
    "demo": "let the built-in model sing, without any download",
    "sing": "render a video of a portrait singing a song",
    "duet": "render two singers in one video, each with a stem of their own",
    "batch": "render many songs and portraits, over many processes if wanted",
    "prepare": "write down what is found in a portrait and a song, to look at before rendering",
    "convert": "convert a checkpoint, or an identity network, to safetensors",
    "train": "train a network, or adapt one to a singer",
    "evaluate": "measure videos: singing, stability, likeness to a reference",
    "download": "list the files that others publish, and fetch those you name",
    "info": "say what a checkpoint file is and holds",
}

# Modules of the extra `cli`; other packages' absence is told with a remedy where they are used.
NEEDED = ("torch", "diffusers", "transformers", "safetensors", "einops", "huggingface_hub", "numpy", "PIL")

DESCRIPTION = "One portrait and one song in, a video of that person singing out (SINGER, arXiv 2412.03430)."
EPILOG = """
examples:
  singer demo
  singer info net.pth
  singer prepare portrait.png song.mp3 --out prepared
  singer sing portrait.png song.mp3 --checkpoint net.pth --vae sd-vae-ft-mse.safetensors \\
      --wav2vec2 wav2vec2-base-960h --out singing.mp4

exit status: 0 success, 1 a check failed, 2 bad input or a file that cannot be used, 130 interrupted,
3 `evaluate --strict` lacks a file or package.
`singer COMMAND --help` describes a command.
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage, which fills a screen."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"singer: error: {message}. `{self.prog} --help` lists what is accepted.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 success, 1 a check failed, 2 bad input, 130 interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    name = _top_parser().parse_args(argv[:1]).command
    module = importlib.import_module(f"singer_core.cli.{name}")
    parser = _Parser(
        prog=f"singer {name}",
        description=module.DESCRIPTION,
        epilog=getattr(module, "EPILOG", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--verbose", action="store_true", help="log what is loaded and done")
    add_arguments(parser, module.Arguments)
    args = parser.parse_args(hyphenated(argv[1:]))
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        return module.run(made(module.Arguments, vars(args)))
    except BrokenPipeError:  # the reader of our output, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name in NEEDED
        remedy = '. What the command line needs comes with: pip install "singer-portrait[cli]"'
        print(f"singer: error: {error}{remedy if missing else ''}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("singer: interrupted; nothing half-written is left behind.", file=sys.stderr)
        return 130


def _top_parser() -> argparse.ArgumentParser:
    from .. import __version__

    parser = _Parser(
        prog="singer",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"singer {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    return parser


def _terminate(number: int, _frame: object) -> None:
    """Turn SIGTERM into an exception, so that temporary files are removed."""
    sys.exit(128 + number)
