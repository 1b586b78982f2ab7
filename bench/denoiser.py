"""Times a denoiser step, the reference pass, a whole clip, decoding and audio features: ours beside the
authors' code, in the same run.

    python bench/denoiser.py
    python bench/denoiser.py --reference CHECKOUT --reference-python CHECKOUT_VENV/bin/python

Both sides get the same weights file, the same inputs and the same number of threads, run in turns and
hand back their results, so every row also says how far apart these are. Without `--reference` ours is
measured alone. The authors' code runs in a process of its own, by its own Python (`bench/reference.py`).

A *step* is what a sampler asks for: the predictions of the unconditional and of the conditional half, and
their guided sum. A *clip* is everything after the VAE: projections, MSM, face locator, reference pass and
DDIM steps; what is computed once per clip counts there, and only there. *decode* turns a clip's latents into
pictures, *audio* a song of noise into features; VAE and encoder (wav2vec2-base's size) have random weights.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from material import (
    REGIONS,
    SONG_RATE,
    WIDTHS,
    authors_config,
    clip_inputs,
    random_encoder,
    random_vae,
    write_given_weights,
    write_random_weights,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from singer_core import constants
from singer_core.audio.wav2vec2 import Wav2Vec2FrontEnd
from singer_core.audio.waveform import Waveform
from singer_core.network.autoencoder import Autoencoder, load_autoencoder
from singer_core.network.checkpoint import load_network, open_checkpoint
from singer_core.network.conditions import (
    CONDITIONAL,
    UNCONDITIONAL,
    AudioTokens,
    ClipConditions,
    ReferenceFeatures,
)
from singer_core.network.schedule import ddim

TIMESTEP = 499
AUTHORS_NETWORK = Path("models", "models", "unet_3d_revised.py")
WORK = ("step", "reference", "clip", "decode", "audio")
VAE, ENCODER = "vae", "wav2vec2"  # folders of random weights beside the inputs
CPU_DTYPE = torch.float32
ACCELERATOR_DTYPE = torch.float16  # there the authors' wavelet matrices are float16, and float32 fails


class Contestant(Protocol):
    """One side of the comparison, with weights and inputs loaded."""

    def time(self, work: str, steps: int, out: Path | None = None) -> tuple[float, float]:
        """Do the work of WORK once: (wall, CPU) seconds. A step's and a clip's result is written to `out`."""


class Ours:
    """`singer_core` in this process."""

    def __init__(self, weights: Path, inputs: Path, device: torch.device, dtype: torch.dtype) -> None:
        self.network = load_network(open_checkpoint(weights), dtype=dtype, device=device)
        self.device = device
        self.given = {
            name: value.to(device, dtype if value.is_floating_point() else None)
            for name, value in load_file(inputs).items()
        }
        self.latents = self.given["latents"][0].transpose(0, 1)  # (f, 4, h, w)
        self.tokens = self._tokens()
        self.conditions = self._conditions()
        self.vae, self.encoder = (inputs.with_name(name) for name in (VAE, ENCODER))

    @functools.cached_property
    def autoencoder(self) -> Autoencoder:
        return load_autoencoder(self.vae, self.network.dtype, self.device)

    @functools.cached_property
    def front_end(self) -> Wav2Vec2FrontEnd:
        return Wav2Vec2FrontEnd.load(self.encoder)

    def _heard(self) -> Tensor:
        song = Waveform(self.given["song"].float().cpu(), SONG_RATE)
        return self.front_end.encode(song, constants.FPS, device=self.device).features

    def _tokens(self) -> Tensor:
        identity = self.given["identity"]
        project = self.network.adapter.image_projection
        return torch.stack([project(torch.zeros_like(identity)), project(identity)])

    def _reference(self) -> ReferenceFeatures:
        images = self.given["ref_latents"][None]
        return self.network.reference_features(images, self.tokens, rounded_to=torch.float16)

    def _conditions(self) -> ClipConditions:
        given, adapter = self.given, self.network.adapter
        audio = adapter.audio_projection(given["windows"][0])
        audio = adapter.multi_scale_spectral(audio, self.latents)
        region = (given["region"].to(audio) / 255).expand(1, 3, -1, -1)
        levels = range(self.network.architecture.levels)
        return ClipConditions(
            branches=(UNCONDITIONAL, CONDITIONAL),
            frames=len(self.latents),
            audio=AudioTokens(audio),
            masks=tuple(torch.stack([given[f"{name}_{level}"] for name in REGIONS]) for level in levels),
            weights=given["region_weights"][None],
            face=adapter.face_locator(region),
            reference=self._reference(),
        )

    def _guided(self, latents: Tensor, t: Tensor | int, conditions: ClipConditions) -> Tensor:
        uncond, cond = self.network(latents, t, self.tokens, conditions).chunk(2)
        return uncond + constants.DEFAULT_GUIDANCE * (cond - uncond)

    def _clip(self, steps: int) -> Tensor:
        self.tokens = self._tokens()
        conditions, scheduler = self._conditions(), ddim("linear", steps)
        latents = self.latents
        for t in scheduler.timesteps:
            guided = self._guided(latents, t.to(self.device), conditions)
            latents = scheduler.step(guided, t, latents, return_dict=False)[0]
        return latents

    def time(self, work: str, steps: int, out: Path | None = None) -> tuple[float, float]:
        jobs: dict[str, Callable[[], Tensor | ReferenceFeatures]] = {
            "reference": self._reference,
            "step": lambda: self._guided(self.latents, TIMESTEP, self.conditions),
            "clip": lambda: self._clip(steps),
            "decode": lambda: self.autoencoder.decode(self.latents),
            "audio": self._heard,
        }
        wait = getattr(torch, self.device.type).synchronize
        wait()
        wall, cpu = time.perf_counter(), time.process_time()
        result = jobs[work]()
        wait()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        if out is not None and isinstance(result, Tensor):
            frames_behind = result.transpose(0, 1)[None] if work != "audio" else result
            save_file({"out": frames_behind.float().cpu().contiguous()}, out)
        return wall, cpu


class Authors:
    """The authors' code in a process of its own, asked over its standard input."""

    def __init__(self, python: Path, checkout: Path, log: Path, load: dict[str, Any]) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name("reference.py")), str(checkout.resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            cwd=log.parent,  # their MSM writes a file to the working directory at every call
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(load["threads"])},
        )
        self.versions = self._ask({"do": "load", **load})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            reply = self.process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if not reply:
            last = (self.log.read_text().strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"The reference process stopped at `{request['do']}`: {last}")
        return json.loads(reply)

    def time(self, work: str, steps: int, out: Path | None = None) -> tuple[float, float]:
        request = {"do": work, "t": TIMESTEP, "steps": steps, "out": str(out) if out else None}
        reply = self._ask(request)
        return reply["seconds"], reply["cpu_seconds"]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@dataclass(frozen=True)
class Row:
    """Seconds of every run of one kind of work: side -> [(wall, CPU)]; how far the results are apart."""

    work: str
    runs: dict[str, list[tuple[float, float]]]
    difference: float | None

    def median(self, side: str, clock: int = 0) -> float:
        return statistics.median(run[clock] for run in self.runs[side])

    def ratio(self, clock: int = 0) -> float | None:
        """How many times as fast as the authors' code ours is."""
        return self.median("authors", clock) / self.median("ours", clock) if "authors" in self.runs else None

    def as_json(self) -> dict[str, Any]:
        sides = {
            side: {
                "wall": self.median(side),
                "cpu": self.median(side, 1),
                "wall_runs": [run[0] for run in runs],
            }
            for side, runs in self.runs.items()
        }
        return {
            "work": self.work,
            "seconds": sides,
            "ratio_wall": self.ratio(),
            "ratio_cpu": self.ratio(1),
            "max_relative_difference": self.difference,
        }


def measure(sides: dict[str, Contestant], work: str, runs: int, steps: int, folder: Path) -> Row:
    """Let the sides work in turns, after one run each that warms up and leaves the results to compare."""
    outs = {side: folder / f"{work}-{side}.safetensors" for side in sides}
    for side, contestant in sides.items():
        contestant.time(work, steps, outs[side])
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for run in range(runs):
        for side in list(sides)[:: 1 if run % 2 else -1]:
            times[side].append(sides[side].time(work, steps))
    results = [load_file(out)["out"] for out in outs.values() if out.exists()]
    return Row(work, times, relative_difference(*results) if len(results) == 2 else None)


def relative_difference(x: Tensor, reference: Tensor) -> float:
    """max |x - reference| / max |reference|"""
    return ((x - reference).abs().max() / reference.abs().max()).item()


def compare(args: argparse.Namespace, device: torch.device, folder: Path) -> dict[str, Any]:
    """All rows for one device."""
    weights, inputs = folder / "weights.safetensors", folder / "inputs.safetensors"
    arch = open_checkpoint(weights).architecture
    dtype = CPU_DTYPE if device.type == "cpu" else ACCELERATOR_DTYPE
    sides: dict[str, Contestant] = {"ours": Ours(weights, inputs, device, dtype)}
    authors = None
    if args.reference is not None:
        load = {
            "config": authors_config(arch),
            "weights": str(weights),
            "inputs": str(inputs),
            "threads": args.threads,
            "vae": str(folder / VAE),
            "encoder": str(folder / ENCODER),
        }
        load |= {"device": str(device), "dtype": str(dtype).removeprefix("torch.")}
        authors = Authors(args.reference_python, args.reference, folder / "reference.log", load)
        sides["authors"] = authors
    rows = [measure(sides, work, args.runs, args.steps, folder) for work in args.work]
    if authors is not None:
        authors.close()
    return {
        "device": device_name(device),
        "dtype": str(dtype).removeprefix("torch."),
        "torch": {"ours": torch.__version__, "authors": authors.versions["torch"] if authors else None},
        "diffusers_authors": authors.versions["diffusers"] if authors else None,
        "rows": rows,
    }


def device_name(device: torch.device) -> str:
    if device.type == "cpu":
        return f"{os.cpu_count()} CPU cores ({platform.machine()})"
    module = getattr(torch, device.type)
    return module.get_device_name(device) if hasattr(module, "get_device_name") else device.type


def table(result: dict[str, Any]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| work | ours, s | authors, s | times as fast | by CPU time | max. relative difference |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        theirs = f"{row.median('authors'):.3f}" if "authors" in row.runs else "not measured"
        ratios = [f"{ratio:.2f}" if (ratio := row.ratio(clock)) is not None else "-" for clock in (0, 1)]
        difference = f"{row.difference:.1e}" if row.difference is not None else "-"
        lines.append(
            f"| {row.work} | {row.median('ours'):.3f} | {theirs} | {' | '.join(ratios)} | {difference} |"
        )
    return "\n".join(lines)


def devices(chosen: str | None) -> list[torch.device]:
    """The CPU, and the accelerator that torch offers; or the chosen one."""
    if chosen is not None:
        return [torch.device(chosen)]
    accelerator = getattr(torch, "accelerator", None)
    found = (
        [accelerator.current_accelerator()] if accelerator is not None and accelerator.is_available() else []
    )
    return [torch.device("cpu"), *found]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=Path, metavar="DIR", help="checkout of the authors' repository")
    parser.add_argument("--reference-python", type=Path, metavar="PYTHON", default=Path(sys.executable),
                        help="the Python it runs with (default: this one)")  # fmt: skip
    parser.add_argument(
        "--width", choices=WIDTHS, default="small", help="network of random weights (default: small)"
    )
    parser.add_argument("--checkpoint", type=Path, nargs="+", metavar="FILE", help="weights to use instead")
    parser.add_argument(
        "--frames", type=int, default=constants.CLIP_FRAMES, help="frames of the clip, even (default: 16)"
    )
    parser.add_argument("--steps", type=int, default=4, help="DDIM steps of the whole clip (default: 4)")
    parser.add_argument("--runs", type=int, default=7, help="timed runs of each side (default: 7)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each side (default: 1)")
    parser.add_argument("--work", nargs="+", choices=WORK, default=WORK, help="what to time (default: all)")
    parser.add_argument(
        "--device", help="measure on this device alone (default: the CPU, and the accelerator if any)"
    )
    parser.add_argument("--scratch", type=Path, help="folder for the weights file (10 GB at full width)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = arguments().parse_args(argv)
    if args.reference is not None and not (args.reference / AUTHORS_NETWORK).is_file():
        raise FileNotFoundError(
            f"{args.reference} is no checkout of the authors' repository: it has no {AUTHORS_NETWORK}. "
            "Give the folder that `git clone` made."
        )
    torch.set_num_threads(args.threads)
    report: dict[str, Any] = {"network": args.width if args.checkpoint is None else "checkpoint"}
    report |= {key: getattr(args, key) for key in ("frames", "steps", "runs", "threads")}
    with tempfile.TemporaryDirectory(prefix="singer-bench-", dir=args.scratch) as scratch, torch.no_grad():
        folder = Path(scratch)
        if args.checkpoint:
            write_given_weights(folder / "weights.safetensors", args.checkpoint)
        else:
            write_random_weights(folder / "weights.safetensors", WIDTHS[args.width])
        arch = open_checkpoint(folder / "weights.safetensors").architecture
        save_file(clip_inputs(arch, args.frames), folder / "inputs.safetensors")
        if "decode" in args.work:
            random_vae(args.width).save_pretrained(folder / VAE)
        if "audio" in args.work:
            random_encoder().save_pretrained(folder / ENCODER)
        print(", ".join(f"{name} {value}" for name, value in report.items()))
        if args.reference is None:
            print("Ours alone: --reference DIR measures the authors' code beside it.")
        report["devices"] = [compare(args, device, folder) for device in devices(args.device)]
    for result in report["devices"]:
        print(f"\n{result['device']}, {result['dtype']}, torch {result['torch']['ours']}\n\n{table(result)}")
        result["rows"] = [row.as_json() for row in result["rows"]]
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
