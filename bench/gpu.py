"""The whole comparison on an accelerator in one command of less than ten minutes.

    python bench/gpu.py --out FOLDER [--reference CHECKOUT --reference-python PYTHON]

Random weights of the published size, 512 x 512, 16 frames and 2 carried ones: our step, reference pass, clip
and decoding in float16 and bfloat16, eager and compiled; the presets; peak memory, on the low-memory path
too; utilisation of the measured matrix-product rate; and the authors' code in the same run (float16, which is
what their wavelet matrices are). Writes FOLDER/gpu.md and FOLDER/gpu.json after every part, so that a run
that was cut short leaves what it has.

    python bench/gpu.py --out FOLDER --dry-run

does the same at tiny width on the CPU, in float32 and with compilation that traces but generates no code.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
from denoiser import ENCODER, TIMESTEP, VAE, Authors, Ours, device_name, relative_difference
from material import authors_config, random_vae
from safetensors.torch import load_file
from stages import operations_of, peak_rate, seconds_of, wait_for, write_material

from singer_core import constants
from singer_core.files import write_text
from singer_core.network.autoencoder import Autoencoder
from singer_core.network.checkpoint import open_checkpoint
from singer_core.options import OFFICIAL, PRESETS, SingerOptions
from singer_core.render.sampler import SpectralWeighting, branches_for, sample_clip

HEAD = "| what | value |\n|---|---:|"
GIGA = 1e9


@dataclass
class Report:
    """Results by name, written after each one."""

    folder: Path
    began: float = field(default_factory=time.monotonic)
    values: dict[str, str | float] = field(default_factory=dict)

    def add(self, name: str, value: str | float) -> None:
        self.values[name] = value
        text = value if isinstance(value, str) else f"{value:.4g}"
        print(f"[{time.monotonic() - self.began:5.0f} s] {name}: {text}", flush=True)
        rows = [f"| {key} | {v if isinstance(v, str) else f'{v:.4g}'} |" for key, v in self.values.items()]
        write_text(self.folder / "gpu.md", "\n".join([HEAD, *rows]) + "\n")
        write_text(self.folder / "gpu.json", json.dumps(self.values, indent=1) + "\n")


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


def clip_with(ours: Ours, vae: Autoencoder, options: SingerOptions) -> Callable[[], object]:
    """A clip under these options from portrait latents to pictures; without encoding the carried frames."""
    conditions = ours.conditions
    weighting = SpectralWeighting(ours.network.adapter, options.but(msm_input="off"))

    def work() -> object:
        clip = dataclasses.replace(conditions, branches=branches_for(options), reference=ours._reference())
        latents = sample_clip(ours.network, options, ours.latents.float(), ours.tokens, clip, weighting)
        return vae.decode(latents)

    return work


def measure_ours(report: Report, chosen: Setting, dtype: torch.dtype, weights: Path, inputs: Path) -> Ours:
    """Every row of ours in one type; the network for what follows."""
    name, device = str(dtype).removeprefix("torch."), chosen.device
    rate = peak_rate(device, dtype)
    report.add(f"{name}: matrix product, TFLOP/s", rate / 1e12)
    ours = Ours(weights, inputs, device, dtype)
    vae = Autoencoder(random_vae(chosen.width).to(device, dtype))

    def step() -> object:
        return ours._guided(ours.latents, TIMESTEP, ours.conditions)

    operations = operations_of(step)
    seconds = seconds_of(step, device, chosen.runs)
    report.add(f"{name}: step, ms", 1000 * seconds)
    report.add(f"{name}: step, TFLOP", operations / 1e12)
    report.add(f"{name}: step, utilisation", operations / seconds / rate)
    report.add(f"{name}: reference pass, ms", 1000 * seconds_of(ours._reference, device, chosen.runs))
    decoding = seconds_of(lambda: vae.decode(ours.latents), device, chosen.runs)
    report.add(f"{name}: decoding {len(ours.latents)} frames, ms", 1000 * decoding)
    for preset in PRESETS:
        work = clip_with(ours, vae, chosen.preset(preset))
        report.add(f"{name}: {preset}, frames/s", len(ours.latents) / seconds_of(work, device, 1))
    quality = clip_with(ours, vae, chosen.preset("quality").but(steps=2))
    if (peak := peak_memory(device, quality)) is not None:
        report.add(f"{name}: peak memory, GB", peak)
        ours.network.keep_reference_aside()
        low = clip_with(ours, vae, chosen.preset("quality").but(steps=2, sequential_guidance=True))
        report.add(f"{name}: peak memory with --low-memory, GB", peak_memory(device, low) or 0.0)
        ours.network.reference_unet.to(device)
    return ours


def measure_compiled(report: Report, chosen: Setting, ours: Ours, name: str) -> None:
    """The step of a compiled network: time, distance from the eager one, and breaks of its graph."""
    explained = torch._dynamo.explain(ours.network)(
        ours.latents, torch.tensor(TIMESTEP, device=chosen.device), ours.tokens, ours.conditions
    )
    report.add(f"{name}: breaks of the compiled graph", float(explained.graph_break_count))
    torch._dynamo.reset()
    eager = ours._guided(ours.latents, TIMESTEP, ours.conditions)
    network = ours.network
    timestep = torch.tensor(TIMESTEP, device=chosen.device)
    ours.network = torch.compile(network, backend=chosen.backend, dynamic=False)  # type: ignore[assignment]
    try:

        def step() -> torch.Tensor:
            return ours._guided(ours.latents, timestep, ours.conditions)

        began = time.monotonic()
        difference = relative_difference(step().float(), eager.float())
        report.add(f"{name}: compilation, s", time.monotonic() - began)
        report.add(f"{name}: compiled step, ms", 1000 * seconds_of(step, chosen.device, chosen.runs))
        report.add(f"{name}: compiled against eager, max. relative difference", difference)
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
        outs = {side: folder / f"{side}.safetensors" for side in ("ours", "authors")}
        for side, out in outs.items():
            (ours if side == "ours" else authors).time("step", 1, out)
        results = [load_file(out)["out"] for out in outs.values()]
        report.add("step against the authors', max. relative difference", relative_difference(*results))
        for work in ("step", "reference", "clip"):
            runs = chosen.runs if work != "clip" else 1
            both = {
                side: statistics.median(seconds for seconds, _ in _times(contestant, work, chosen, runs))
                for side, contestant in (("ours", ours), ("authors", authors))
            }
            report.add(f"{work}: authors, ms", 1000 * both["authors"])
            report.add(f"{work}: ours, times as fast", both["authors"] / both["ours"])
    finally:
        authors.close()


def _times(contestant: Any, work: str, chosen: Setting, runs: int) -> Iterator[tuple[float, float]]:
    for _ in range(runs):
        yield contestant.time(work, chosen.steps)


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
    parser.add_argument("--scratch", type=Path, help="folder for the weights file (10 GB)")
    return parser


@torch.no_grad()
def main(argv: list[str] | None = None) -> None:
    args = arguments().parse_args(argv)
    chosen = setting(args.dry_run, args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    report = Report(args.out)
    report.add("machine", f"{device_name(chosen.device)}, torch {torch.__version__}")
    report.add("day", time.strftime("%Y-%m-%d"))
    with tempfile.TemporaryDirectory(prefix="singer-gpu-", dir=args.scratch) as scratch:
        weights, inputs = write_material(Path(scratch), chosen.width, None, constants.CLIP_FRAMES)
        for dtype in chosen.dtypes:
            ours = measure_ours(report, chosen, dtype, weights, inputs)
            if dtype is chosen.dtypes[0] and args.reference is not None:
                measure_authors(report, chosen, args, weights, inputs, ours)
            measure_compiled(report, chosen, ours, str(dtype).removeprefix("torch."))
            del ours


if __name__ == "__main__":
    main()
