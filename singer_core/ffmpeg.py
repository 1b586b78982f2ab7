"""The ffmpeg program that imageio-ffmpeg ships (5.1 or newer), run through pipes; nothing else starts it."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .files import scratch_folder


class Ffmpeg:
    """A running ffmpeg: its pipes, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[bytes], words: IO[bytes]) -> None:
        self.process, self._words = process, words

    @property
    def input(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def said(self) -> str:
        self._words.seek(0)
        return self._words.read().decode("utf-8", "replace").strip()

    def succeeded(self) -> bool:
        """Wait for the end."""
        return self.process.wait() == 0


@contextmanager
def running(options: Sequence[str], fed: bool = False, level: str = "error") -> Iterator[Ffmpeg]:
    """Run ffmpeg with `options`; whatever happens, it has ended afterwards.

    fed    whether the caller writes to `input`
    level  of ffmpeg's messages
    Raises as `ffmpeg_program`.
    """
    with tempfile.TemporaryFile(dir=scratch_folder()) as words:
        process = subprocess.Popen(
            [ffmpeg_program(), "-hide_banner", "-nostdin", "-v", level, *options],
            stdin=subprocess.PIPE if fed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=words,
            start_new_session=True,  # Ctrl-C is ours to handle, not ffmpeg's
        )
        try:
            yield Ffmpeg(process, words)
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what was buffered for a process that has ended
                        pipe.close()


def packets(path: Path, options: Sequence[str], wanted: str = "video") -> str:
    """ffmpeg's table of packets: lines `#key stream: value`, then `stream, dts, pts, duration, size, sum`.

    Raises ValueError where the file holds nothing of what is wanted.
    """
    with running(["-i", f"file:{path}", *options, "-f", "framecrc", "pipe:1"]) as ffmpeg:
        table = ffmpeg.output.read().decode()
        if not ffmpeg.succeeded():
            said = ffmpeg.said().partition("\n")[0]
            raise ValueError(
                f"{path} holds no {wanted} that ffmpeg can read. Give another file. It says: {said}"
            )
    return table


def check_encoder(name: str) -> None:
    """Raise RuntimeError where this ffmpeg cannot encode so."""
    with running(["-encoders"]) as ffmpeg:
        known = ffmpeg.output.read().decode("utf-8", "replace").split()
    if name not in known:
        raise RuntimeError(
            f"The ffmpeg at {ffmpeg_program()} has no encoder {name}, which videos are written with. Unset "
            "IMAGEIO_FFMPEG_EXE, so that the one of imageio-ffmpeg is used, or name another."
        )


def ffmpeg_program() -> str:
    """Path of the ffmpeg program. Raises ModuleNotFoundError with the remedy where there is none."""
    try:
        import imageio_ffmpeg
    except ImportError as error:
        remedy = "Sound and video need ffmpeg. Install it: pip install imageio-ffmpeg"
        raise ModuleNotFoundError(remedy, name="imageio_ffmpeg") from error
    return imageio_ffmpeg.get_ffmpeg_exe()
