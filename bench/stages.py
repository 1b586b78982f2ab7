"""Where the time of a render goes: every stage timed, its operations counted, and how long it takes to start.

    python bench/stages.py [--width tiny|small|full] [--checkpoint FILE ...] [--device DEVICE]

Operations are the multiplications and additions of matrix products, convolutions and attention, counted by
torch while a stage runs. *Utilisation* is their rate over that of a large matrix product of the same type,
measured in the same run. Weights are random unless given; at full width the random VAE has the published
widths. What a second of video costs is added up from the stages: clips, 40 guided steps each, pictures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from denoiser import ACCELERATOR_DTYPE, CPU_DTYPE, TIMESTEP, Ours, device_name, devices
from material import (
    AUDIO_SECONDS,
    SONG_RATE,
    WIDTHS,
    clip_inputs,
    random_encoder,
    random_vae,
    write_given_weights,
    write_random_weights,
)
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from singer_core import constants
from singer_core.audio.logmel import LogMelFrontEnd
from singer_core.audio.wav2vec2 import Wav2Vec2FrontEnd
from singer_core.audio.waveform import Waveform
from singer_core.network.autoencoder import Autoencoder
from singer_core.network.checkpoint import load_network, open_checkpoint
from singer_core.network.conditions import CONDITIONAL

COMMANDS = {
    "singer --help": ["-c", "from singer_core.cli import main; main(['--help'])"],
    "import singer_core": ["-c", "import singer_core"],
    "python alone": ["-c", ""],
}

Work = Callable[[], object]

REFERENCE, AUDIO, STEP = "reference pass of a clip", "audio tokens of a clip", "step, guided"
DECODE, ENCODE = "decoding of a clip", "encoding of 3 pictures"


@dataclass(frozen=True)
class Stage:
    """A stage of a render; `operations` is 0 where it has none that are counted."""

    name: str
    seconds: float
    operations: float
    peak_rate: float

    @property
    def utilisation(self) -> float:
        return self.operations / self.seconds / self.peak_rate

    def row(self) -> str:
        counted = f"{self.operations / 1e9:.1f}" if self.operations else "-"
        rate = f"{self.operations / self.seconds / 1e9:.0f}" if self.operations else "-"
        share = f"{100 * self.utilisation:.0f} %" if self.operations else "-"
        return f"| {self.name} | {1000 * self.seconds:.1f} | {counted} | {rate} | {share} |"


HEAD = "| stage | ms | GFLOP | GFLOP/s | utilisation |\n|---|---:|---:|---:|---:|"


def wait_for(device: torch.device) -> None:
    getattr(torch, device.type).synchronize()


def seconds_of(work: Work, device: torch.device, runs: int) -> float:
    """Median seconds after one run that warms up: CPU time on a CPU, which other work on the machine disturbs
    less, and the clock's elsewhere."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    work()
    times = []
    for _ in range(runs):
        wait_for(device)
        began = clock()
        work()
        wait_for(device)
        times.append(clock() - began)
    return statistics.median(times)


def operations_of(work: Work) -> float:
    """Multiplications and additions of one run."""
    counter = FlopCounterMode(display=False, custom_mapping=_unknown_to_torch())
    with counter:
        work()
    return float(counter.get_total_flops())


def _unknown_to_torch() -> dict[Any, Any]:
    """Operations that torch's counter has no formula for: shapes -> operations."""

    def linear(x: torch.Size, other: torch.Size, *rest: Any, **_named: Any) -> int:
        fused = not isinstance(rest[1], str)  # with a second operand, before the weight
        return 2 * torch.Size(x).numel() * (rest[0] if fused else other)[0]

    def attention(q: torch.Size, k: torch.Size, v: torch.Size, *_rest: Any, **_named: Any) -> int:
        return 2 * torch.Size(q).numel() * k[-2] + 2 * torch.Size(q[:-1]).numel() * k[-2] * v[-1]

    found = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        found[torch.ops.mkldnn._linear_pointwise] = linear
    return found


def peak_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product."""
    side = 1024 if device.type == "cpu" else 8192
    x = torch.randn(side, side, device=device, dtype=dtype)
    return 2 * side**3 / seconds_of(lambda: x @ x, device, 5)


def stages(ours: Ours, vae: Autoencoder) -> dict[str, Work]:
    """What is timed, by name; the first ones of `PER_CLIP` make a clip."""
    network, conditions, latents = ours.network, ours.conditions, ours.latents
    adapter, windows = network.adapter, ours.given["windows"][0]
    alone = dataclasses.replace(conditions, branches=(CONDITIONAL,))
    pictures = vae.decode(latents[:3]) * 2 - 1
    return {
        REFERENCE: ours._reference,
        AUDIO: lambda: adapter.multi_scale_spectral(adapter.audio_projection(windows), latents),
        STEP: lambda: network(latents, TIMESTEP, ours.tokens, conditions),
        "step, unguided": lambda: network(latents, TIMESTEP, ours.tokens, alone),
        DECODE: lambda: vae.decode(latents),
        ENCODE: lambda: vae.encode(pictures),
    }


def per_video_second(found: list[Stage], frames: int) -> float:
    """Seconds for a second of video in clips of so many frames, under 40 guided steps."""
    seconds = {stage.name: stage.seconds for stage in found}
    clip = sum(seconds[name] for name in (REFERENCE, AUDIO, DECODE, ENCODE))
    return (clip + constants.DEFAULT_STEPS * seconds[STEP]) * constants.FPS / frames


def audio_stages(device: torch.device, with_wav2vec2: bool) -> dict[str, Work]:
    """The front ends on a song of noise."""
    samples = torch.randn(1, round(AUDIO_SECONDS * SONG_RATE), generator=torch.Generator().manual_seed(0)) / 8
    song = Waveform(samples, SONG_RATE)
    ends: dict[str, LogMelFrontEnd | Wav2Vec2FrontEnd] = {"log-mel": LogMelFrontEnd(4, 32)}
    if with_wav2vec2:
        ends["wav2vec2-base"] = Wav2Vec2FrontEnd(random_encoder())

    def work(end: LogMelFrontEnd | Wav2Vec2FrontEnd) -> Work:
        return lambda: end.encode(song, constants.FPS, device=device)

    return {f"{name} features of {AUDIO_SECONDS:g} s": work(end) for name, end in ends.items()}


def start_up(weights: Path, device: torch.device, dtype: torch.dtype, inputs: Path) -> dict[str, float]:
    """Seconds that commands take to start, and from a checkpoint file to the end of the first step."""
    found = {}
    for name, arguments in COMMANDS.items():
        times = []
        for _ in range(3):
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=False)
            times.append(time.perf_counter() - began)
        found[name] = min(times)
    began = time.perf_counter()
    load_network(open_checkpoint(weights), dtype=dtype, device=device)
    wait_for(device)
    found["checkpoint to network"] = time.perf_counter() - began
    began = time.perf_counter()
    ours = Ours(weights, inputs, device, dtype)
    ours.network(ours.latents, TIMESTEP, ours.tokens, ours.conditions)
    wait_for(device)
    found["checkpoint to the end of the first step"] = time.perf_counter() - began
    return found


def measured(works: dict[str, Work], device: torch.device, runs: int, rate: float) -> list[Stage]:
    return [
        Stage(name, seconds_of(work, device, runs), operations_of(work), rate) for name, work in works.items()
    ]


def write_material(folder: Path, width: str, checkpoint: list[Path] | None, frames: int) -> tuple[Path, Path]:
    """Weights and inputs of one clip, as files."""
    weights, inputs = folder / "weights.safetensors", folder / "inputs.safetensors"
    if checkpoint:
        write_given_weights(weights, checkpoint)
    else:
        write_random_weights(weights, WIDTHS[width])
    save_file(clip_inputs(open_checkpoint(weights).architecture, frames), inputs)
    return weights, inputs


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", choices=WIDTHS, default="small", help="of random weights, and the VAE's")
    parser.add_argument("--checkpoint", type=Path, nargs="+", metavar="FILE", help="weights to use instead")
    parser.add_argument("--frames", type=int, default=constants.CLIP_FRAMES)
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each stage (default: 3)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", help="default: the CPU, and the accelerator if any")
    parser.add_argument("--wav2vec2", action="store_true", help="time the published audio encoder, too")
    parser.add_argument("--scratch", type=Path, help="folder for the weights file (10 GB at full width)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = arguments().parse_args(argv)
    torch.set_num_threads(args.threads)
    report: dict[str, Any] = {"width": args.width, "threads": args.threads}
    with tempfile.TemporaryDirectory(prefix="singer-stages-", dir=args.scratch) as scratch, torch.no_grad():
        weights, inputs = write_material(Path(scratch), args.width, args.checkpoint, args.frames)
        for device in devices(args.device):
            dtype = CPU_DTYPE if device.type == "cpu" else ACCELERATOR_DTYPE
            rate = peak_rate(device, dtype)
            print(f"\n{device_name(device)}, {dtype}, matrix product {rate / 1e9:.0f} GFLOP/s\n\n{HEAD}")
            vae = Autoencoder(random_vae(args.width).to(device, dtype))
            works = stages(Ours(weights, inputs, device, dtype), vae)
            works |= audio_stages(device, args.wav2vec2)
            found = measured(works, device, args.runs, rate)
            print("\n".join(stage.row() for stage in found), flush=True)
            second = per_video_second(found, args.frames)
            print(
                f"\nA second of video with {constants.DEFAULT_STEPS} guided steps: {second:.1f} s.",
                flush=True,
            )
            report[str(device)] = [dataclasses.asdict(stage) for stage in found]
            report["start_up"] = start_up(weights, device, dtype, inputs)
            print("\n| start | s |\n|---|---:|")
            print("\n".join(f"| {name} | {value:.2f} |" for name, value in report["start_up"].items()))
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
