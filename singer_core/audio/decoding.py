"""Sound through ffmpeg: blocks in, blocks out, nothing held.

A block is a float32 array (frames, channels), interleaved as ffmpeg writes it.
"""

from __future__ import annotations

import contextlib
import logging
import re
import struct
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ..ffmpeg import running

BLOCK_FRAMES = 65536  # frames a block: 2 MB of 7.1 sound

_log = logging.getLogger(__name__)
_DURATION = re.compile(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class AudioInfo:
    """What a sound file says of itself."""

    rate: int  # Hz
    channels: int
    seconds: float  # as the container states it; counted by decoding where it states nothing


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
    with running(command) as ffmpeg:
        header = _read_wav_header(ffmpeg.output)
        if header is None:
            ffmpeg.process.wait()
            raise ValueError(_reason(path, ffmpeg.said()))
        yield header
        yield from _read_blocks(ffmpeg.output, header[1])
        if not ffmpeg.succeeded():
            said = _last(ffmpeg.said())
            raise ValueError(f"The sound of {path.name} breaks off: {said} Re-encode or replace it.")
        if said := ffmpeg.said():
            _log.warning("%s is damaged (%s); what could be decoded is used.", path.name, _last(said))


def resample_blocks(
    blocks: Iterator[np.ndarray], channels: int, rate: int, new_rate: int
) -> Iterator[np.ndarray]:
    """Resample a stream of blocks (frames, channels) from `rate` to `new_rate` Hz with swresample."""
    layout = (
        ["-ac", str(channels), "-channel_layout", f"{channels}C"] if channels > 2 else ["-ac", str(channels)]
    )
    raw = ["-f", "f32le", "-ar", str(rate), *layout, "-i", "pipe:0"]
    with running([*raw, "-ar", str(new_rate), "-f", "f32le", "pipe:1"], fed=True) as ffmpeg:
        failure: list[BaseException] = []
        feeder = threading.Thread(target=_feed, args=(ffmpeg.input, blocks, failure), daemon=True)
        feeder.start()
        yield from _read_blocks(ffmpeg.output, channels)
        feeder.join()
        if failure:
            raise failure[0]
        if not ffmpeg.succeeded():
            said = _last(ffmpeg.said())
            raise RuntimeError(f"ffmpeg could not resample {rate} Hz to {new_rate} Hz: {said}")


def probe(path: Path) -> AudioInfo:
    """Rate, channels and stated length of the first sound stream. Raises like `decode_blocks`."""
    rate, channels, blocks = decode_blocks(path)
    with running([*_input(path), "-map", "0:a:0", "-t", "0", "-f", "null", "-"], level="info") as ffmpeg:
        ffmpeg.process.wait()
        found = _DURATION.search(ffmpeg.said())
    if found:
        hours, minutes, seconds = found.groups()
        blocks.close()
        return AudioInfo(rate, channels, int(hours) * 3600 + int(minutes) * 60 + float(seconds))
    return AudioInfo(rate, channels, sum(len(block) for block in blocks) / rate)


def _input(path: Path) -> list[str]:
    """Options that open `path` as a local file and nothing else (playlists may not reach out)."""
    return ["-protocol_whitelist", "file,pipe", "-i", f"file:{path}"]


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
        with contextlib.suppress(OSError):
            pipe.close()


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
    if not said:
        return f"{path.name} holds no sound: its stream has zero samples. Give a file with sound in it."
    return f"{path.name} cannot be decoded as sound: {_last(said)} Give a wav, mp3, flac or m4a file."
