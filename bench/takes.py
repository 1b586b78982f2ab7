"""Retakes with the built-in model: how their ends meet the song, and what one costs (docs/takes.md).

python -m bench.takes ends --songs 4 --each 8 --seconds 10
python -m bench.takes cost --seconds 180
python -m bench.takes kills --count 20 --steps 1
python -m bench.takes together --count 5
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.long_songs import RUN, song_file, vocals_of
from builtin import held_out as h
from singer_core.audio.activity import with_activity
from singer_core.marks import Take
from singer_core.render.pipeline import SingerPipeline
from singer_core.render.store import ClipStore
from singer_core.render.takes import RAMP

COLUMNS = ("left end", "right end", "sync of the song", "sync inside")
NAMES = (*COLUMNS, *(f"the song's own {name}" for name in COLUMNS))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    ends = parts.add_parser("ends")
    ends.add_argument("--songs", type=int, default=4)
    ends.add_argument("--each", type=int, default=8, help="retakes of every song")
    ends.add_argument("--seconds", type=float, default=10)
    cost = parts.add_parser("cost")
    cost.add_argument("--seconds", type=float, default=180)
    cost.add_argument("--retake", default="100-104:7")
    kills = parts.add_parser("kills")
    kills.add_argument("--count", type=int, default=20)
    kills.add_argument("--seed", type=int, default=0)
    together = parts.add_parser("together")
    together.add_argument("--count", type=int, default=5)
    for part in (cost, kills, together):
        part.add_argument("--steps", type=int, default=h.DEMO.steps)
    args = parser.parse_args()
    measures = {"ends": measure_ends, "cost": measure_cost, "kills": measure_kills}
    {**measures, "together": measure_together}[args.part](args)


# Ends


@dataclass(frozen=True)
class Found:
    """What one retake and the same frames of the song's own look like.

    Each (left end, right end, sync of the whole song, sync of the take's frames).
    """

    take: Take
    own: tuple[float, ...]
    again: tuple[float, ...]


def measure_ends(args: argparse.Namespace) -> None:
    """Change over an end with its ramp over that of the song elsewhere, and how the mouth keeps time."""
    models, found = h.Models.load(*h.packaged()), []
    pipeline = SingerPipeline(models.network, models.vae, h.DEMO)
    print(f"| song | seconds | {' | '.join(NAMES)} |")
    print(f"|---:|---|{'---:|' * 8}")
    for number in range(args.songs):
        for one in ends_of(pipeline, number, args):
            found.append(one)
            seconds = f"{one.take.start / 25:g}-{one.take.stop / 25:g}:{one.take.seed}"
            print(f"| {number} | {seconds} | {_numbers(one.again)} | {_numbers(one.own)} |", flush=True)
    all_of = np.array([one.again + one.own for one in found])
    print(f"| mean | {len(found)} retakes | {_numbers(np.nanmean(all_of, axis=0))} |")
    ratios = all_of[:, :2] / all_of[:, 4:6]
    for name, ratio in zip(COLUMNS, ratios.T, strict=False):
        print(f"{name} over the song's own: mean {np.nanmean(ratio):.3f}, largest {np.nanmax(ratio):.3f}")


def ends_of(pipeline: SingerPipeline, number: int, args: argparse.Namespace) -> Iterator[Found]:
    """Retakes of 0.8 to 2 s anywhere in a song."""
    show = h.performance(number, args.seconds, pipeline.network.architecture.trained_size[0])
    heard, portrait = with_activity(h.features_of(show), vocals_of(show)), h.portrait_of(show)
    random_numbers = random.Random(number)
    with tempfile.TemporaryDirectory() as folder:
        shared = pipeline.shared_key(portrait)
        keys = pipeline.clip_keys(shared, heard, 1)
        with ClipStore(Path(folder), shared, keys) as store:
            own = _frames(pipeline, show, portrait, heard, store, [])
            for seed in range(args.each):
                length = random_numbers.randint(20, 50)
                start = random_numbers.randint(10, len(show) - length - 10)
                take = Take(start, start + length, seed=100 + seed)
                again = _frames(pipeline, show, portrait, heard, store, [take])
                yield Found(take, _measured(show, own, take), _measured(show, again, take))


def _frames(pipeline, show, portrait, heard, store, takes) -> h.Frames:  # type: ignore[no-untyped-def]
    clips = pipeline.render(portrait, heard, 1, store=store, takes=takes)
    return h.as_frames(clip.pictures for clip in clips)[: len(show)]


def _measured(show: h.Performance, frames: h.Frames, take: Take) -> tuple[float, ...]:
    opening, inside = h.openings(show, frames), slice(take.start, take.stop)
    return (
        h.seam_ratio(frames, [(take.start, RAMP)]),
        h.seam_ratio(frames, [(take.stop - RAMP, RAMP)]),
        h.sync(opening, show.motion.opening),
        h.correlation(opening[inside], show.motion.opening[inside]),
    )


def _numbers(values: object) -> str:
    return " | ".join(f"{value:.3f}" for value in np.asarray(values))


# Cost


def measure_cost(args: argparse.Namespace) -> None:
    """CPU seconds of a song, of the same with a retake, and of the same where nothing is left to do."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = _demo(folder, args.steps, "--audio", str(song_file(folder, args.seconds)))
        first = _spent(command)
        clips = {path: path.read_bytes() for path in folder.glob("work/*/clip-*")}
        nothing = _spent(command)
        retake = _spent([*command, "--retake", args.retake])
        same = all(path.read_bytes() == content for path, content in clips.items())
        new = len(list(folder.glob("work/*/clip-*"))) - len(clips)
    share = (retake - nothing) / first
    print(f"{args.seconds:g} s of song, {args.steps} steps: {len(clips)} clips, {first:.0f} CPU s.")
    print(f"Again: {nothing:.0f} CPU s (networks, features, video). With {args.retake}: {retake:.0f} CPU s,")
    print(f"{new} clips; without the write {100 * share:.1f} % of the first render. What was there is")
    print("byte-identical." if same else "DIFFERENT.")


def _demo(folder: Path, steps: int, *more: str) -> list[str]:
    command = [
        sys.executable,
        "-c",
        RUN,
        "demo",
        "--device",
        "cpu",
        "--quiet",
        "--out",
        str(folder / "film.mp4"),
    ]
    return [*command, "--steps", str(steps), "--work-dir", str(folder / "work"), *more]


def _spent(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# Kills


def measure_kills(args: argparse.Namespace) -> None:
    """Retakes of the demo's song, killed at random moments and begun again: the same video, nothing else."""
    retakes = ("--retake", "1-1.8:7", "--retake", "2.4-3.6:8", "--retake", "4-4.6:9")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film, song = folder / "film.mp4", _demo(folder, args.steps)
        subprocess.run([*song, *retakes, "--no-keep-clips"], check=True, capture_output=True)
        unbroken, moments, kills, finished = film.read_bytes(), random.Random(args.seed), 0, 0
        subprocess.run(song, check=True, capture_output=True)
        base = {*folder.glob("work/*/clip-*")}
        began = time.monotonic()
        subprocess.run([*song, *retakes], check=True, capture_output=True)
        whole = time.monotonic() - began
        while kills < args.count:
            for path in {*folder.glob("work/*/clip-*")} - base if finished else ():
                path.unlink()
            film.unlink(missing_ok=True)
            finished = 0
            while not finished:
                process = subprocess.Popen([*song, *retakes], stderr=subprocess.DEVNULL)
                try:
                    process.wait(moments.uniform(0.2, 0.95) * whole)
                    finished = 1
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    kills += 1
            assert film.read_bytes() == unbroken
        left = sorted(str(path.relative_to(folder)) for path in folder.rglob(".*") if path.is_file())
        print(
            f"{kills} kills during retakes of {whole:.1f} s; every file that came to its end has the bytes of"
        )
        print(f"one made without a break. Half-written files afterwards: {', '.join(left) or 'none'}.")


# Together


def measure_together(args: argparse.Namespace) -> None:
    """Two renders of the demo's song at once in one folder, each with another take, against each alone."""
    with tempfile.TemporaryDirectory() as name:

        def begun(work: str, take: str) -> tuple[Path, subprocess.Popen[bytes]]:
            folder = Path(name, work)
            folder.mkdir(exist_ok=True)
            film = folder / f"{take.replace(':', '-')}.mp4"
            command = [*_demo(folder, args.steps), "--retake", take, "--out", str(film)]
            return film, subprocess.Popen(command, stderr=subprocess.DEVNULL)

        def bytes_of(film: Path, render: subprocess.Popen[bytes]) -> bytes:
            assert render.wait() == 0
            return film.read_bytes()

        takes = ("1-1.8:7", "2.4-3.6:8")
        alone = [bytes_of(*begun(f"alone {take[0]}", take)) for take in takes]
        assert alone[0] != alone[1]
        for number in range(args.count):
            both = [begun(f"both {number}", take) for take in takes]
            assert [bytes_of(*one) for one in both] == alone
        left = [str(path) for path in Path(name).rglob(".*") if path.is_file()]
    print(f"{args.count} times two renders at once, each with the bytes of one alone.")
    print(f"Half-written files afterwards: {', '.join(left) or 'none'}.")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
