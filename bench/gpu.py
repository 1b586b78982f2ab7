"""The whole comparison on an accelerator in one command of less than ten minutes.

    python bench/gpu.py --out FOLDER [--reference CHECKOUT --reference-python PYTHON]

Random weights of the published size, 512 x 512, 16 frames and 2 carried ones. In float16: our step, reference
pass, clips under the presets, decoding, peak memory, on the low-memory path too, utilisation of the measured
matrix-product rate, the authors' code in the same run, channels-last, CUDA graphs, compiled. In bfloat16:
step and peak memory. At the end stands what was wanted beside what was found.

Nothing is downloaded. Writes FOLDER/gpu.md and FOLDER/gpu.json after every row; a part that fails, or for
which the time is too short, leaves a row that says so, and the others run.

    python bench/gpu.py --out FOLDER --dry-run

does the same at tiny width on the CPU, in float32 and with compilation that traces but generates no code.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
from denoiser import (
    ENCODER,
    TIMESTEP,
    VAE,
    Authors,
    Contestant,
    Ours,
    device_name,
    measure,
    relative_difference,
)
from material import authors_config, random_vae
from stages import operations_of, peak_rate, seconds_of, wait_for, write_material
from torch import Tensor

from singer_core import constants
from singer_core.files import write_text
from singer_core.network.autoencoder import Autoencoder
from singer_core.network.backbone import SingerNetwork
from singer_core.network.checkpoint import open_checkpoint
from singer_core.network.conditions import ClipConditions
from singer_core.render.sampler import SpectralWeighting, branches_for, sample_clip
from singer_core.settings import OFFICIAL, PRESETS, SingerOptions

HEAD = "| what | value |\n|---|---:|"
GIGA = 1e9
# Of one graph of the full network, estimates: traced alone, and with generated code.
TRACING_SECONDS, COMPILATION_SECONDS = 60.0, 150.0


@dataclass
class Report:
    """Results by name, written after each one."""

    folder: Path
    limit: float
    began: float = field(default_factory=time.monotonic)
    values: dict[str, str | float] = field(default_factory=dict)

    def add(self, name: str, value: str | float) -> None:
        self.values[name] = value
        text = value if isinstance(value, str) else f"{value:.4g}"
        print(f"[{time.monotonic() - self.began:5.0f} s] {name}: {text}", flush=True)
        rows = [f"| {key} | {v if isinstance(v, str) else f'{v:.4g}'} |" for key, v in self.values.items()]
        write_text(self.folder / "gpu.md", "\n".join([HEAD, *rows]) + "\n")
        write_text(self.folder / "gpu.json", json.dumps(self.values, indent=1) + "\n")

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part whose failure is a row, not the end."""
        try:
            yield
        except (RuntimeError, OSError, ImportError) as error:
            self.add(name, f"failed: {(str(error).strip().splitlines() or [type(error).__name__])[0][:200]}")

    def has_time(self, name: str, seconds: float) -> bool:
        """Whether so many seconds are left; a row that says so where they are not."""
        left = self.limit - (time.monotonic() - self.began)
        if left < seconds:
            self.add(name, f"left out: about {seconds:.0f} s, of which {left:.0f} s were left")
        return left >= seconds


@dataclass(frozen=True)
class Setting:
    """What is run: `full` on an accelerator, or a small copy of it on a CPU."""

    width: str
    device: torch.device
    dtypes: tuple[torch.dtype, ...]
    steps: int
    runs: int
    backend: str

    def preset(self, name: str) -> SingerOptions:
        """The preset, in the dry run with a tenth of its steps."""
        options = OFFICIAL.but(**PRESETS[name])
        return options.but(steps=max(1, options.steps * self.steps // constants.DEFAULT_STEPS))


def setting(dry: bool, device: str | None) -> Setting:
    if dry:
        return Setting("tiny", torch.device("cpu"), (torch.float32,), 4, 1, "eager")
    accelerator = getattr(torch, "accelerator", None)
    if device is None and (accelerator is None or not accelerator.is_available()):
        raise SystemExit("No accelerator was found. Run this on a machine with one, or give --dry-run.")
    chosen = torch.device(device) if device else accelerator.current_accelerator()
    return Setting("full", chosen, (torch.float16, torch.bfloat16), constants.DEFAULT_STEPS, 5, "inductor")


def peak_memory(device: torch.device, work: Callable[[], object]) -> float | None:
    """GB that were allocated at most while `work` ran, weights included; None where the device does not
    tell."""
    module = getattr(torch, device.type)
    if not hasattr(module, "reset_peak_memory_stats"):
        work()
        return None
    module.empty_cache()
    module.reset_peak_memory_stats()
    work()
    wait_for(device)
    return float(module.max_memory_allocated()) / GIGA


def clip_with(
    ours: Ours, vae: Autoencoder, options: SingerOptions, compiled: Any = None
) -> Callable[[], object]:
    """A clip under these options from portrait latents to pictures; without encoding the carried frames."""
    conditions, network = ours.conditions, compiled.network if compiled else ours.network
    weighting = SpectralWeighting(network.adapter, options.but(msm_input="off"))
    images = ours.given["ref_latents"][None]

    def work() -> object:
        reference = network.reference_features(images, ours.tokens, rounded_to=torch.float16)
        clip = dataclasses.replace(conditions, branches=branches_for(options), reference=reference)
        latents = sample_clip(
            compiled or network, options, ours.latents.float(), ours.tokens, clip, weighting
        )
        return vae.decode(latents)

    return work


def step_of(ours: Ours) -> Callable[[], Tensor]:
    """A guided step; its time step is on the device, so that nothing is copied there."""
    timestep = torch.tensor(TIMESTEP, device=ours.device)
    return lambda: ours._guided(ours.latents, timestep, ours.conditions)


def measure_step(report: Report, chosen: Setting, ours: Ours, name: str) -> None:
    """Time, operations and utilisation of a step."""
    rate, step = peak_rate(chosen.device, ours.network.dtype), step_of(ours)
    operations, seconds = operations_of(step), seconds_of(step, chosen.device, chosen.runs)
    report.add(f"{name}: matrix product, TFLOP/s", rate / 1e12)
    report.add(f"{name}: step, ms", 1000 * seconds)
    report.add(f"{name}: step, TFLOP", operations / 1e12)
    report.add(f"{name}: step, utilisation", operations / seconds / rate)


def measure_memory(report: Report, chosen: Setting, ours: Ours, vae: Autoencoder, name: str) -> None:
    """Peak memory of a clip, whole and on the low-memory path."""
    options = chosen.preset("quality").but(steps=2)
    if (peak := peak_memory(chosen.device, clip_with(ours, vae, options))) is None:
        report.add(f"{name}: peak memory, GB", "this device does not tell")
        return
    report.add(f"{name}: peak memory, GB", peak)
    ours.network.keep_reference_aside()
    low = clip_with(ours, vae, options.but(sequential_guidance=True))
    report.add(f"{name}: peak memory with --low-memory, GB", peak_memory(chosen.device, low) or 0.0)
    visiting = seconds_of(ours._reference, chosen.device, chosen.runs)
    report.add(f"{name}: reference pass with --low-memory, ms", 1000 * visiting)
    ours.network.reference_unet.to(chosen.device)


def measure_clips(report: Report, chosen: Setting, ours: Ours, vae: Autoencoder, name: str) -> None:
    """What is run once a clip, and whole clips under the presets."""
    report.add(f"{name}: reference pass, ms", 1000 * seconds_of(ours._reference, chosen.device, chosen.runs))
    decoding = seconds_of(lambda: vae.decode(ours.latents), chosen.device, chosen.runs)
    report.add(f"{name}: decoding {len(ours.latents)} frames, ms", 1000 * decoding)
    for preset in PRESETS:
        work = clip_with(ours, vae, chosen.preset(preset))
        report.add(f"{name}: {preset}, frames/s", len(ours.latents) / seconds_of(work, chosen.device, 1))


def measure_channels_last(report: Report, chosen: Setting, ours: Ours, name: str) -> None:
    """The step with convolutions whose channels lie together."""
    ours.network.unet.to(memory_format=torch.channels_last)
    try:
        report.add(
            f"{name}: step, channels last, ms", 1000 * seconds_of(step_of(ours), chosen.device, chosen.runs)
        )
    finally:
        ours.network.unet.to(memory_format=torch.contiguous_format)


class Compiled:
    """The network, compiled for all steps of a clip but its first, which makes the clip's keys and values."""

    def __init__(self, network: SingerNetwork, backend: str) -> None:
        self.network, self.dtype = network, network.dtype
        self.compiled = torch.compile(network, backend=backend, dynamic=False)

    def __call__(
        self,
        latents: Tensor,
        timestep: Tensor,
        tokens: Tensor,
        clip: ClipConditions,
        **rest: Any,
    ) -> Tensor:
        if not clip.audio.made:
            return self.network(latents, timestep, tokens, clip, **rest)
        return self.compiled(latents, timestep.to(latents.device), tokens, clip, **rest).clone()


def measure_compiled(report: Report, chosen: Setting, ours: Ours, vae: Autoencoder, name: str) -> None:
    """The step and the preset `fast` as CUDA graphs of PyTorch's own kernels, then compiled; their distance
    from the eager ones."""
    network, eager = ours.network, step_of(ours)()
    explained = torch._dynamo.explain(network)(
        ours.latents, torch.tensor(TIMESTEP, device=chosen.device), ours.tokens, ours.conditions
    )
    report.add(f"{name}: breaks of the compiled graph", float(explained.graph_break_count))
    kinds = [("compiled", chosen.backend, COMPILATION_SECONDS)]
    if chosen.device.type == "cuda":
        kinds.insert(0, ("CUDA graphs", "cudagraphs", TRACING_SECONDS))
    for kind, backend, needed in kinds:
        if not report.has_time(f"{name}: step, {kind}, ms", needed):
            return
        torch._dynamo.reset()
        ours.network = Compiled(network, backend)  # type: ignore[assignment]
        try:
            with report.part(f"{name}: step, {kind}, ms"):
                began, step = time.monotonic(), step_of(ours)
                difference = relative_difference(step().float(), eager.float())
                report.add(f"{name}: compilation, {kind}, s", time.monotonic() - began)
                report.add(f"{name}: step, {kind}, ms", 1000 * seconds_of(step, chosen.device, chosen.runs))
                report.add(f"{name}: {kind} against eager, max. relative difference", difference)
                if report.has_time(f"{name}: fast, {kind}, frames/s", needed):
                    work = clip_with(ours, vae, chosen.preset("fast"), ours.network)
                    rate = len(ours.latents) / seconds_of(work, chosen.device, 1)
                    report.add(f"{name}: fast, {kind}, frames/s", rate)
        finally:
            ours.network = network


def measure_authors(
    report: Report, chosen: Setting, args: argparse.Namespace, weights: Path, inputs: Path, ours: Ours
) -> None:
    """The authors' step, reference pass and clip on the same weights and inputs."""
    dtype, folder = chosen.dtypes[0], weights.parent
    load = {
        "config": authors_config(open_checkpoint(weights).architecture),
        "weights": str(weights),
        "inputs": str(inputs),
        "threads": torch.get_num_threads(),
        "device": str(chosen.device),
        "dtype": str(dtype).removeprefix("torch."),
        "vae": str(folder / VAE),
        "encoder": str(folder / ENCODER),
    }
    authors = Authors(args.reference_python, args.reference, folder / "reference.log", load)
    try:
        sides: dict[str, Contestant] = {"ours": ours, "authors": authors}
        for work in ("step", "reference"):
            row = measure(sides, work, chosen.runs, chosen.steps, folder)
            if work == "step":
                step_seconds = row.median("authors") + row.median("ours")
            report.add(f"{work}: authors, ms", 1000 * row.median("authors"))
            report.add(f"{work}: ours, times as fast", row.ratio() or 0.0)
            if row.difference is not None:
                report.add(f"{work}: max. relative difference to the authors", row.difference)
        name = f"clip of {chosen.steps} steps"
        if report.has_time(name, 1.5 * chosen.steps * step_seconds):
            took = {side: contestant.time("clip", chosen.steps)[0] for side, contestant in sides.items()}
            report.add(f"{name}: authors, ms", 1000 * took["authors"])
            report.add("clip: ours, times as fast", took["authors"] / took["ours"])
    finally:
        authors.close()


def add_verdicts(report: Report, name: str) -> None:
    """What was wanted of a data-centre GPU beside what was found."""
    wanted = {
        "clip: ours, times as fast": (">=", 3.0),
        "step: max. relative difference to the authors": ("<=", 2e-2),
        f"{name}: peak memory, GB": ("<=", 7.0),
        f"{name}: peak memory with --low-memory, GB": ("<=", 5.0),
        f"{name}: step, utilisation": (">=", 0.45),
        f"{name}: fast, compiled, frames/s": (">=", 12.0),
    }
    for row, (sign, limit) in wanted.items():
        found = report.values.get(row)
        verdict = "not measured"
        if isinstance(found, float):
            met = found >= limit if sign == ">=" else found <= limit
            verdict = f"{found:.4g}: {'met' if met else 'not met'}"
        report.add(f"wanted: {row} {sign} {limit:g}", verdict)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--dry-run", action="store_true", help="tiny, on the CPU, to see that it works")
    parser.add_argument("--device", help="default: the accelerator that torch finds")
    parser.add_argument("--reference", type=Path, metavar="DIR", help="checkout of the authors' repository")
    parser.add_argument(
        "--reference-python", type=Path, metavar="PYTHON", default=Path(sys.executable), help="its Python"
    )
    parser.add_argument(
        "--minutes", type=float, default=9.5, help="parts that would end later are left out (default: 9.5)"
    )
    parser.add_argument("--scratch", type=Path, help="folder for the weights file (10 GB)")
    return parser


@torch.no_grad()
def main(argv: list[str] | None = None) -> None:
    args = arguments().parse_args(argv)
    chosen = setting(args.dry_run, args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    report = Report(args.out, args.minutes * 60)
    report.add("machine", f"{device_name(chosen.device)}, torch {torch.__version__}")
    report.add("day", time.strftime("%Y-%m-%d"))
    first = str(chosen.dtypes[0]).removeprefix("torch.")
    with tempfile.TemporaryDirectory(prefix="singer-gpu-", dir=args.scratch) as scratch:
        weights, inputs = write_material(Path(scratch), chosen.width, None, constants.CLIP_FRAMES)
        for dtype in reversed(chosen.dtypes):  # the first one last: it takes what time is left
            name = str(dtype).removeprefix("torch.")
            ours = Ours(weights, inputs, chosen.device, dtype)
            vae = Autoencoder(random_vae(chosen.width).to(chosen.device, dtype))
            with report.part(f"{name}: step, ms"):
                measure_step(report, chosen, ours, name)
            with report.part(f"{name}: peak memory, GB"):
                measure_memory(report, chosen, ours, vae, name)
            if name == first:
                measure_rest(report, chosen, args, (weights, inputs), ours, vae)
            del ours, vae
    add_verdicts(report, first)


def measure_rest(
    report: Report,
    chosen: Setting,
    args: argparse.Namespace,
    files: tuple[Path, Path],
    ours: Ours,
    vae: Autoencoder,
) -> None:
    """What is measured in one type alone."""
    name = str(chosen.dtypes[0]).removeprefix("torch.")
    with report.part(f"{name}: clips"):
        measure_clips(report, chosen, ours, vae, name)
    if args.reference is None:
        report.add("authors", "left out: no --reference")
    else:
        with report.part("authors"):
            measure_authors(report, chosen, args, *files, ours)
    with report.part(f"{name}: step, channels last, ms"):
        measure_channels_last(report, chosen, ours, name)
    add_verdicts(report, name)  # again at the end; compilation may take longer than anyone waits
    with report.part(f"{name}: compiled"):
        measure_compiled(report, chosen, ours, vae, name)


if __name__ == "__main__":
    main()
