"""Video files, frame by frame and in constant memory: a writer of H.264 + AAC, a probe and a reader.

Everything runs in ffmpeg through pipes. Turning latents into pictures is not here.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import logging
import math
import os
import re
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ffmpeg import Ffmpeg, check_encoder, packets, running
from ..files import existing, space
from .locks import take

log = logging.getLogger(__name__)

MUXERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}

ENCODER = "libx264"

# Flags of ffmpeg's scaler under which colours are converted exactly; without them pictures are read too dark.
EXACT = "flags=bicubic+accurate_rnd+full_chroma_int"
# What players expect of a video that says nothing: BT.709 in limited range. Converted so, and tagged so.
_COLOUR = (
    f"scale=out_color_matrix=bt709:out_range=tv:{EXACT},format=yuv420p,"
    "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
)
# In fragments of a tenth of a second, none of which waits for another; the sound ends with the pictures.
_GROWING = ["-preset", "veryfast", "-tune", "zerolatency", "-g", "12", "-shortest", "-flush_packets", "1"]
_GROWING += ["-movflags", "+frag_keyframe+delay_moov+default_base_moof", "-frag_duration", "100000"]
# HDR, by its transfer curve in ffmpeg's words: HLG and PQ. Read as an SDR screen shows it: diffuse white (203
# cd/m2, ITU-R BT.2408) is 255, what has less than 80 % of its light stays as it is, the rest is compressed.
_HDR = ("arib-std-b67", "smpte2084")
_TONE_MAPPED = (
    "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=mobius:param=0.8:desat=0,"
    "zscale=t=bt709:m=bt709:r=tv,format=yuv444p,"
)
_MAX_RATE_TERM = 1_001_000  # ffmpeg reads frame rates as fractions of terms up to this (av_parse_video_rate)
_TAIL = 2000  # characters of ffmpeg's last words in an error


@dataclass(frozen=True)
class VideoInfo:
    """What `probe_video` finds in a file."""

    times: list[float]  # seconds at which a picture appears, ascending
    fps: float
    size: tuple[int, int]  # (H, W) of a decoded picture
    seconds: float  # length of the picture track
    sound: float | None  # length of the sound track from 0 on

    @property
    def frames(self) -> int:
        return len(self.times)

    @property
    def has_audio(self) -> bool:
        return self.sound is not None


def check_output(path: str | Path) -> Path:
    """`path`, if a video can be written there; meant to be asked before any work starts.

    Raises ValueError where the ending is not .mp4, .mov or .mkv or the path is a folder, FileNotFoundError
    where the folder does not exist, PermissionError where no file can be created in it, RuntimeError where
    ffmpeg cannot encode H.264.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"Cannot write a video to {path}: it is a folder. Give a file name in it.")
    if path.suffix.lower() not in MUXERS:
        ending = f"its ending is {path.suffix!r}" if path.suffix else "it has no ending"
        raise ValueError(f"Cannot write a video to {path.name!r}: {ending}. Use one of {', '.join(MUXERS)}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"Cannot write {path.name}: there is no folder {path.parent}. Create it.")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise PermissionError(
            f"Cannot write {path.name}: no file can be created in {path.parent} ({error.strerror}). "
            "Choose a folder you may write to."
        ) from error
    check_encoder(ENCODER)
    return path


class VideoWriter:
    """Context manager that writes pictures to an H.264 video, with the sound of a file as AAC.

    path      .mp4, .mov or .mkv. The file appears under this name once all is written; until then a hidden
              `.singer-*.part` grows beside it, which any exception removes. What a killed Python left goes
              when the same path is written again
    size      (H, W) of the pictures; H.264 needs even sides, so an odd one repeats its last row or column
    fps       pictures a second, constant, 0.001 to 1000
    frames    how many pictures will be written
    audio     file whose first sound track is cut to its first frames / fps seconds; several are added up,
              None is silent
    crf       H.264 quality, 0 (lossless) to 51 (worst)
    rounding  True rounds to the nearest of 256 levels; False truncates, as the authors do
    growing   the file can be played under its name while it grows, but for the last pictures, and whatever
              ends the writing, what is written stays; `frames` are then as many as there may be

    The same pictures and sound give the same bytes (on a machine with as many cores).

    Raises, before anything is written, what `check_output` raises, FileNotFoundError where there is no audio
    file, and ValueError on a number out of range or a file without sound; later, OSError (ENOSPC) naming the
    space where the disk is full, RuntimeError with ffmpeg's last words if it fails otherwise, and ValueError
    if the count of pictures is not the announced one.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        fps: float | Fraction,
        *,
        frames: int,
        audio: str | Path | Sequence[str | Path] | None = None,
        crf: int = 18,
        rounding: bool = False,
        growing: bool = False,
    ) -> None:
        self.path = check_output(path)
        self.size = size
        self.fps = _rate(fps)
        self.frames = frames
        files = [] if audio is None else [audio] if isinstance(audio, (str, Path)) else audio
        self.audio = [existing(file) for file in files]
        self.crf = crf
        self.rounding = rounding
        self.growing = growing
        self.written = 0
        hidden = self.path.with_name(f".singer-{self.path.name}-{secrets.token_hex(6)}.part")
        self._part = self.path if growing else hidden
        self._claim: IO[bytes] | None = None  # holds the lock on `_part`
        self._open = contextlib.ExitStack()
        self._ffmpeg: Ffmpeg | None = None
        if min(size) < 2:
            raise ValueError(f"Picture size {tuple(size)} is too small for H.264. Use at least (2, 2).")
        if frames < 1:
            raise ValueError(f"`frames` is {frames}; a video has at least 1. Check the length of the sound.")
        if not 0 <= crf <= 51:
            raise ValueError(f"`crf` is {crf}; H.264 knows 0 (lossless) to 51 (worst). 18 looks lossless.")
        self._starts = [_first_time(file) for file in self.audio]

    def __enter__(self) -> VideoWriter:
        _remove_orphans(self.path)
        with contextlib.ExitStack() as opened:  # closed in the opposite order, here only if something fails
            opened.callback(self._remove_part)
            self._claim = opened.enter_context(self._part.open("wb"))
            take(self._claim)
            self._ffmpeg = opened.enter_context(running(self._command(), fed=True))
            self._open = opened.pop_all()
        return self

    def write(self, frames: Tensor) -> None:
        """Append pictures: (f, 3, H, W) floating, RGB in [0, 1] (values beyond are clipped), any device.

        Raises ValueError on another shape or type, on NaN or infinity, and on more pictures than announced.
        """
        if self._ffmpeg is None or self._ffmpeg.input.closed:
            raise RuntimeError("VideoWriter is not open. Write inside `with VideoWriter(...) as writer:`.")
        if not frames.is_floating_point() or frames.ndim != 4 or frames.shape[1:] != (3, *self.size):
            raise ValueError(
                f"Got {frames.dtype} pictures of {tuple(frames.shape)}; {self.path.name} takes floating "
                f"(f, 3, {self.size[0]}, {self.size[1]}). Open the writer with the size of the pictures."
            )
        if self.written + len(frames) > self.frames:
            raise ValueError(
                f"{self.path.name} was announced with {self.frames} pictures; these would make "
                f"{self.written + len(frames)}. Drop the pictures beyond the end."
            )
        for frame in frames.detach():
            if not frame.isfinite().all():
                raise ValueError(
                    f"Picture {self.written} of {self.path.name} holds NaN or infinity; only numbers can be "
                    "written. Decode in float32 or bfloat16 if it came from a float16 model."
                )
            try:
                self._ffmpeg.input.write(self._raw(frame))
                self._ffmpeg.input.flush()
            except OSError as error:
                raise self._failure() from error
            self.written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None or (self.growing and self.written):
                self._finish()
        finally:
            self._open.close()

    def _remove_part(self) -> None:
        if not (self.growing and self.written):
            self._part.unlink(missing_ok=True)

    def _raw(self, frame: Tensor) -> bytes:
        """One picture (3, H, W) as rgb24, sides made even."""
        high, wide = self.size
        frame = F.pad(frame.float()[None], (0, wide % 2, 0, high % 2), mode="replicate")[0] * 255
        levels = (frame.round() if self.rounding else frame).clamp(0, 255).to(torch.uint8)
        return levels.permute(1, 2, 0).cpu().numpy().tobytes()

    def _command(self) -> list[str]:
        high, wide = (side + side % 2 for side in self.size)
        command = ["-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{wide}x{high}"]
        command += ["-framerate", str(self.fps), "-i", "pipe:0"]
        command += [word for file in self.audio for word in ("-i", f"file:{file}")]
        if self.audio:
            command += ["-filter_complex", self._sound(), "-map", "0:v:0", "-map", "[sound]"]
            command += ["-c:a", "aac", "-b:a", "192k"]
        # without a rate for the output too, ffmpeg takes 119.88 for 120
        command += ["-r", str(self.fps), "-c:v", ENCODER, "-crf", str(self.crf), "-vf", _COLOUR]
        command += ["-fflags", "+bitexact"]  # no random identifiers, no dates
        muxer = MUXERS[self.path.suffix.lower()]
        if self.growing:
            command += _GROWING
        elif muxer != "matroska":
            command += ["-movflags", "+faststart"]  # plays in a browser before it is loaded
        return [*command, "-f", muxer, f"file:{self._part}"]

    def _sound(self) -> str:
        """ffmpeg's graph of the sound: every file from 0, whatever it says, their sum, and its end."""
        count, seconds = len(self.audio), f"{float(self.frames / self.fps):.9f}"
        # Samples are counted. Where the rate changes, ffmpeg begins anew: N is 0 and STARTPTS the time there.
        from_zero = [
            f"[{i}:a:0]asetpts=round(STARTPTS-{float(start):.9f}/TB)+N/SR/TB[s{i}]"
            for i, start in enumerate(self._starts, 1)
        ]
        inputs = "".join(f"[s{i}]" for i in range(1, count + 1))
        added = "anull" if count == 1 else f"amix=inputs={count}:normalize=0"
        added += ",apad" if self.growing else ""  # or pictures behind a short sound would be left out
        return ";".join([*from_zero, f"{inputs}{added},atrim=end={seconds}[sound]"])

    def _finish(self) -> None:
        assert self._ffmpeg is not None and self._claim is not None
        if self.written != self.frames and not self.growing:
            raise ValueError(
                f"{self.path.name} was announced with {self.frames} pictures and got {self.written}; "
                "nothing was kept. Write them all before the block ends."
            )
        try:
            self._ffmpeg.input.close()
        except OSError as error:
            raise self._failure() from error
        if not self._ffmpeg.succeeded():
            raise self._failure()
        self._claim.close()
        os.replace(self._part, self.path)
        log.info("Wrote %s: %d pictures, %s a second.", self.path, self.frames, self.fps)

    def _failure(self) -> OSError | RuntimeError:
        assert self._ffmpeg is not None
        try:
            code = self._ffmpeg.process.wait(timeout=10)  # it stopped reading; let it finish speaking
        except subprocess.TimeoutExpired:
            self._ffmpeg.process.kill()
            code = self._ffmpeg.process.wait()
        said = _last_words(self._ffmpeg)
        if os.strerror(errno.ENOSPC) in said:
            return self._no_space()
        return RuntimeError(
            f"ffmpeg stopped with code {code} while writing {self.path} "
            f"(picture {self.written} of {self.frames}): {said}"
        )

    def _no_space(self) -> OSError:
        held = self._part.stat().st_size if self._part.exists() else 0
        whole = space(held * self.frames / max(self.written, 1))
        folder = self.path.absolute().parent
        error = OSError(
            f"The disk that holds {folder} is full: {self.path.name} takes {space(held)} at picture "
            f"{self.written} of {self.frames}{f', all of it about {whole}' if held else ''}. Free some space "
            "and run the same again, or choose a folder on another disk."
        )
        error.errno = errno.ENOSPC
        return error


def probe_video(path: str | Path) -> VideoInfo:
    """Count, rate, size, length and sound of a video file; no picture but the first is decoded.

    Raises FileNotFoundError where there is no file, ValueError where ffmpeg finds no video in it.
    """
    path = existing(path)
    stored = packets(path, ["-map", "0:v:0", "-map", "0:a:0?", "-c", "copy"])
    first = packets(path, ["-map", "0:v:0", "-frames:v", "1"])
    spans, sound = _spans(stored), _spans(stored, 1)
    size = re.search(r"^#dimensions 0: (\d+)x(\d+)", first, re.M)
    if not spans or size is None:
        raise ValueError(f"{path} holds no pictures. Give a video file.")
    times = sorted(start for start, _ in spans)
    return VideoInfo(
        times=[float(time) for time in times],
        fps=float(1 / _time_base(first)),
        size=(int(size[2]), int(size[1])),
        seconds=float(max(stop for _, stop in spans) - times[0]),
        sound=float(sound[-1][1] - max(sound[0][0], Fraction(0))) if sound else None,
    )


def read_frames(path: str | Path) -> Iterator[Tensor]:
    """The pictures of a video file, one after the other: (3, H, W) uint8, RGB.

    Every stored picture comes once, whatever its time stamp; HDR is tone-mapped. Raises FileNotFoundError
    where there is no file, ValueError where ffmpeg finds no video in it or stops in the middle.
    """
    return _decoded(existing(path))


def _decoded(path: Path) -> Iterator[Tensor]:
    command = ["-i", f"file:{path}", "-map", "0:v:0"]
    command += ["-fps_mode", "passthrough"]  # none doubled, none dropped
    command += ["-vf", f"{_TONE_MAPPED if _is_hdr(path) else ''}scale={EXACT}"]
    command += ["-f", "image2pipe", "-c:v", "ppm", "pipe:1"]  # each picture states its size
    with running(command) as ffmpeg:
        while ffmpeg.output.readline() == b"P6\n":
            wide, high = map(int, ffmpeg.output.readline().split())
            ffmpeg.output.readline()  # 255, the largest level
            picture = bytearray(ffmpeg.output.read(high * wide * 3))
            if len(picture) < high * wide * 3:
                break
            yield torch.frombuffer(picture, dtype=torch.uint8).view(high, wide, 3).permute(2, 0, 1)
        if not ffmpeg.succeeded():
            raise ValueError(f"Cannot read pictures from {path}: {_last_words(ffmpeg)}")


def _is_hdr(path: Path) -> bool:
    with running(["-i", f"file:{path}", "-t", "0", "-f", "null", "-"], level="info") as ffmpeg:
        ffmpeg.process.wait()
        return any(name in ffmpeg.said() for name in _HDR)


def _remove_orphans(path: Path) -> None:
    """Delete what writers of the same video left half-written when they were killed."""
    for part in path.parent.glob(f".singer-{glob.escape(path.name)}-*.part"):
        with contextlib.suppress(OSError), part.open("r+b") as stream:
            if take(stream):
                part.unlink()


def _first_time(path: Path) -> Fraction:
    """Seconds at which the first sound begins in the file's own time. ValueError where it has none."""
    spans = _spans(packets(path, ["-map", "0:a:0", "-frames:a", "1"], "sound"))
    return spans[0][0] if spans else Fraction(0)


def _spans(table: str, stream: int = 0) -> list[tuple[Fraction, Fraction]]:
    """When each packet of a stream begins and ends, in seconds, as they are stored."""
    rows = re.findall(rf"^{stream}, *-?\d+, *(-?\d+), *(\d+),", table, re.M)
    base = _time_base(table, stream) if rows else Fraction(0)
    return [(int(start) * base, (int(start) + int(length)) * base) for start, length in rows]


def _time_base(table: str, stream: int = 0) -> Fraction:
    """Seconds a tick of a stream."""
    found = re.search(rf"^#tb {stream}: (\d+/\d+)", table, re.M)
    assert found is not None
    return Fraction(found[1])


def _rate(fps: float | Fraction) -> Fraction:
    """`fps` as a fraction ffmpeg can read; floats near 30000/1001 and the like become those."""
    if not (math.isfinite(fps) and Fraction(1, 1000) <= fps <= 1000):
        raise ValueError(f"`fps` is {fps}; a video has 0.001 to 1000 pictures a second. The model knows 25.")
    return Fraction(fps).limit_denominator(min(10_000, int(_MAX_RATE_TERM / fps)))


def _last_words(ffmpeg: Ffmpeg) -> str:
    return ffmpeg.said()[-_TAIL:] or "it said nothing."
