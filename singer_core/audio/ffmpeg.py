"""Sound through the ffmpeg program that imageio-ffmpeg ships: blocks in, blocks out, nothing held.

A block is a float32 array (frames, channels), interleaved as ffmpeg writes it.
"""

from __future__ import annotations

import logging
import re
import struct
import subprocess
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

BLOCK_FRAMES = 65536  # frames a block: 2 MB of 7.1 sound

_log = logging.getLogger(__name__)
_DURATION = re.compile(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class AudioInfo:
    """What a sound file says of itself."""

    rate: int  # Hz
    channels: int
    seconds: float  # as the container states it; counted by decoding where it states nothing


def ffmpeg_program() -> str:
    """Path of the ffmpeg program. Raises RuntimeError with the remedy where there is none."""
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise RuntimeError("Sound files need ffmpeg. Install it: pip install imageio-ffmpeg") from error
    return imageio_ffmpeg.get_ffmpeg_exe()


def decode_blocks(path: Path) -> tuple[int, int, Generator[np.ndarray, None, None]]:
    """Decode the first sound stream of a file at its own rate.

    returns  rate (Hz), channels, iterator of blocks (frames, channels)
    Raises ValueError where the file is not sound, has no sound stream, or breaks off with an error.
    """
    blocks = _decoded(path)
    rate, channels = next(blocks)
    return rate, channels, blocks


def _decoded(path: Path) -> Generator:
    """(rate, channels) first, then the blocks of `decode_blocks`."""
    command = [*_input(path), "-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav", "pipe:1"]
    with _running(command) as (process, messages):
        assert process.stdout is not None
        header = _read_wav_header(process.stdout)
        if header is None:
            process.wait()
            raise ValueError(_reason(path, messages()))
        yield header
        yield from _read_blocks(process.stdout, header[1])
        if process.wait() != 0:
            raise ValueError(
                f"The sound of {path.name} breaks off: {_last(messages())} Re-encode or replace it."
            )
        if messages().strip():
            _log.warning("%s is damaged (%s); what could be decoded is used.", path.name, _last(messages()))


def resample_blocks(
    blocks: Iterator[np.ndarray], channels: int, rate: int, new_rate: int
) -> Iterator[np.ndarray]:
    """Resample a stream of blocks (frames, channels) from `rate` to `new_rate` Hz with swresample."""
    layout = (
        ["-ac", str(channels), "-channel_layout", f"{channels}C"] if channels > 2 else ["-ac", str(channels)]
    )
    raw = ["-f", "f32le", "-ar", str(rate), *layout, "-i", "pipe:0"]
    command = ["-v", "error", *raw, "-ar", str(new_rate), "-f", "f32le", "pipe:1"]
    with _running(command, feed=True) as (process, messages):
        assert process.stdout is not None and process.stdin is not None
        failure: list[BaseException] = []
        feeder = threading.Thread(target=_feed, args=(process.stdin, blocks, failure), daemon=True)
        feeder.start()
        yield from _read_blocks(process.stdout, channels)
        feeder.join()
        if failure:
            raise failure[0]
        if process.wait() != 0:
            raise RuntimeError(f"ffmpeg could not resample {rate} Hz to {new_rate} Hz: {_last(messages())}")


def probe(path: Path) -> AudioInfo:
    """Rate, channels and stated length of the first sound stream. Raises like `decode_blocks`."""
    rate, channels, blocks = decode_blocks(path)
    with _running([*_input(path, "info"), "-map", "0:a:0", "-t", "0", "-f", "null", "-"]) as (
        process,
        messages,
    ):
        process.communicate()
        found = _DURATION.search(messages())
    if found:
        hours, minutes, seconds = found.groups()
        blocks.close()
        return AudioInfo(rate, channels, int(hours) * 3600 + int(minutes) * 60 + float(seconds))
    return AudioInfo(rate, channels, sum(len(block) for block in blocks) / rate)


def _input(path: Path, level: str = "error") -> list[str]:
    """Options that open `path` as a local file and nothing else (playlists may not reach out)."""
    return ["-nostdin", "-v", level, "-protocol_whitelist", "file,pipe", "-i", f"file:{path}"]


@contextmanager
def _running(options: Sequence[str], feed: bool = False):
    """Run ffmpeg; yields the process and a function for what it has said so far. Always ends the process."""
    with tempfile.TemporaryFile() as said:

        def messages() -> str:
            said.seek(0)
            return said.read().decode("utf-8", "replace")

        stdin = subprocess.PIPE if feed else subprocess.DEVNULL
        command = [ffmpeg_program(), "-hide_banner", *options]
        process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=said)
        try:
            yield process, messages
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None and not pipe.closed:
                    _close(pipe)


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:  # what was still buffered for a process that has ended
        return


def _feed(pipe: IO[bytes], blocks: Iterator[np.ndarray], failure: list[BaseException]) -> None:
    """Write all blocks into a pipe; what goes wrong is left in `failure` for the reading thread to raise."""
    try:
        for block in blocks:
            pipe.write(np.ascontiguousarray(block, dtype="<f4").tobytes())
        pipe.close()
    except BrokenPipeError:  # ffmpeg ended early; the reader sees its exit status
        return
    except Exception as error:  # noqa: BLE001 (handed to the reading thread, which raises it)
        failure.append(error)
        _close(pipe)


def _read_wav_header(pipe: IO[bytes]) -> tuple[int, int] | None:
    """(rate, channels) of a WAVE stream, read up to the first sample; None where the stream is empty."""
    if len(pipe.read(12)) < 12:
        return None
    rate = channels = 0
    while True:
        head = pipe.read(8)
        if len(head) < 8:
            return None
        name, size = struct.unpack("<4sI", head)
        if name == b"data":
            return rate, channels
        body = pipe.read(size + size % 2)
        if name == b"fmt ":
            channels, rate = struct.unpack("<HI", body[2:8])


def _read_blocks(pipe: IO[bytes], channels: int) -> Iterator[np.ndarray]:
    """float32 blocks (frames, channels) from a pipe of interleaved samples."""
    stride = 4 * channels
    while data := pipe.read(BLOCK_FRAMES * stride):
        whole = len(data) // stride * stride
        if whole:
            yield np.frombuffer(data[:whole], dtype="<f4").reshape(-1, channels)


def _last(said: str) -> str:
    """The last line of ffmpeg's messages, without the tag in front."""
    lines = [line for line in said.splitlines() if line.strip()]
    return re.sub(r"^\[[^]]*\]\s*", "", lines[-1]).rstrip(".") + "." if lines else "no message."


def _reason(path: Path, said: str) -> str:
    """Why nothing came out of a file."""
    if "matches no streams" in said:
        return f"{path.name} holds no sound stream. Give a sound file or a video with sound."
    if not said.strip():
        return f"{path.name} holds no sound: its stream has zero samples. Give a file with sound in it."
    return f"{path.name} cannot be decoded as sound: {_last(said)} Give a wav, mp3, flac or m4a file."
