"""How many frames a second the built-in singer sings on a CPU, and where the time goes.

    python bench/realtime.py [--threads 1] [--rounds 5]

`singer demo` sings its song several times in this process, with the networks loaded once, and every stage
is timed where it runs: medians over the songs, for a frame of the video. On a busy machine CPU time of one
thread says more than the clock; more threads wait busily, so theirs says nothing there. Operations are
counted in one more song; their rate stands beside that of a large matrix product of the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from stages import operations_of, peak_rate

from singer_core.audio.logmel import LogMelFrontEnd
from singer_core.cli import main as singer
from singer_core.cli import sing
from singer_core.network.autoencoder import Autoencoder
from singer_core.network.backbone import SingerNetwork
from singer_core.render.video import VideoWriter, probe_video

STAGES: dict[str, tuple[type, str]] = {
    "audio features": (LogMelFrontEnd, "encode"),
    "encoding the portrait": (Autoencoder, "encode"),
    "reference pass": (SingerNetwork, "reference_features"),
    "denoising": (SingerNetwork, "forward"),
    "decoding": (Autoencoder, "decode"),
    "handing pictures over": (VideoWriter, "write"),
}
FFMPEG, REST, WHOLE = "ffmpeg, a process of its own", "the rest", "all"
HEAD = "| stage | CPU ms | ms | GFLOP | GFLOP/s | frames a CPU second |\n|---|---:|---:|---:|---:|---:|"

Spent = dict[str, torch.Tensor]  # of each stage: CPU seconds, seconds, operations


@contextlib.contextmanager
def watched(counting: bool) -> Iterator[Spent]:
    """What every stage takes in here; operations are counted or time is taken."""
    spent: Spent = {name: torch.zeros(3, dtype=torch.float64) for name in STAGES}

    def timed(owner: Any, name: str, method: Callable[..., Any], *given: Any, **named: Any) -> Any:
        made: list[Any] = []
        began, operations = clocks(), 0.0
        if counting:
            operations = operations_of(lambda: made.append(method(owner, *given, **named)))
        else:
            made.append(method(owner, *given, **named))
        spent[name] += torch.tensor([*(clocks() - began)[:2], operations])
        return made[0]

    with contextlib.ExitStack() as patched:
        for name, (owner, method) in STAGES.items():
            around = functools.partialmethod(timed, name, getattr(owner, method))
            patched.enter_context(mock.patch.object(owner, method, around))
        yield spent


def clocks() -> torch.Tensor:
    """CPU seconds of this process, the clock's, CPU seconds of processes that have ended."""
    ended = os.times()
    used = ended.children_user + ended.children_system
    return torch.tensor([time.process_time(), time.perf_counter(), used], dtype=torch.float64)


def song(folder: Path, counting: bool = False) -> Spent:
    """The built-in song, sung once: what a frame takes, by stage."""
    out = folder / "song.mp4"
    with watched(counting) as spent:
        began = clocks()
        assert singer(["demo", "--out", str(out), "--quiet", "--device", "cpu", "--no-keep-clips"]) == 0
        own, clock, ended = (clocks() - began).tolist()
    stages = torch.stack(list(spent.values())).sum(0)
    whole = torch.tensor([own + ended, clock, float(stages[2])])
    spent[REST] = torch.tensor([own, clock, 0.0]) - stages * torch.tensor([1, 1, 0])
    spent |= {FFMPEG: torch.tensor([ended, 0.0, 0.0]), WHOLE: whole}
    frames = probe_video(out).frames
    return {name: values / frames for name, values in spent.items()}


def row(name: str, cpu: float, clock: float, operations: float) -> str:
    work, rate = (f"{operations / 1e9:.3f}", f"{operations / cpu / 1e9:.0f}") if operations else ("-", "-")
    return f"| {name} | {1000 * cpu:.2f} | {1000 * clock:.2f} | {work} | {rate} | {1 / max(cpu, 1e-9):.0f} |"


def measured(threads: int, rounds: int, folder: Path) -> str:
    """The table for so many threads."""
    torch.set_num_threads(threads)
    counts = song(folder, counting=True)  # warms up, too
    rates, songs = [], []
    for _ in range(rounds):
        rates.append(peak_rate(torch.device("cpu"), torch.float32) / 1e9)
        songs.append(song(folder))
    lines = [f"\n{threads} threads, matrix product {statistics.median(rates):.0f} GFLOP/s\n", HEAD]
    for name in counts:
        cpu, clock = (statistics.median(float(each[name][i]) for each in songs) for i in (0, 1))
        lines.append(row(name, cpu, clock, float(counts[name][2])))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    loaded = sing.Loaded()
    with (
        tempfile.TemporaryDirectory(prefix="singer-realtime-") as folder,
        mock.patch.object(sing, "Loaded", lambda: loaded),
    ):
        for threads in args.threads:
            print(measured(threads, args.rounds, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
