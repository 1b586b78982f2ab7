"""The ablation of docs/study.md: networks that learn to sing with the spectral modules, and without them.

    python -m builtin.ablation FOLDER --stage1 FILE --data FOLDER --vae FILE [--write docs/study.md]

On one stage 1, which stays as it is, audio and motion modules are trained from fresh weights: once for each
seed and arm (`ARMS`), with the same fresh weights, clips and noise in all arms of a seed. The seed is the
unit: what is compared are the differences of arms within it. A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from singer_core import constants
from singer_core.files import write_text
from singer_core.network.architecture import Architecture
from singer_core.network.autoencoder import load_autoencoder
from singer_core.network.backbone import SingerNetwork
from singer_core.network.checkpoint import load_network, open_checkpoint
from singer_core.training.checkpoints import metadata_of, save_network
from singer_core.training.config import Rates, TrainConfig, read_config
from singer_core.training.dataset import ClipDataset, collate
from singer_core.training.initialise import init_weights
from singer_core.training.objective import Objective, draw, seeded
from singer_core.training.recipes import PICTURES
from singer_core.training.trainer import DROPOUTS, Trainer

from . import held_out as h
from .drawn import DrawnWorld, draw_dataset
from .pictures import HELD_OUT_SEED

MARGIN = 0.02  # of sync: below it two arms count as equal. Declared before the first run
FIRST_NUMBER = 200  # people 200, 201, ...: neither those of the model card nor those of the study
SECONDS = 2.32  # of a render
CENTRED = 64  # clips that the mean of audio tokens is taken of
HELD_OUT, DRAWS = 8, 4  # performances whose loss is measured, and clips of each
RECIPE = Path(__file__).with_name("stage2.toml")
WARP = "adapter.portrait_warp."  # pictures' own, and never trained
RATE, WARMUP = 2.5e-3, 30  # fresh modules on a frozen network stand more than the recipe's
STRIPS = (0.5, 1.0, 1.5, 2.0)  # deviation of the kernel in the strip of each band, so that bands can differ


def learnable(network: SingerNetwork) -> None:
    """A fair chance for the MSM: strips that answer differently, and a gate that lets a gradient through."""
    module = network.adapter.multi_scale_spectral
    assert module is not None
    weight = module.kernel.weight
    factors = torch.tensor(STRIPS).repeat_interleave(weight.shape[-2] // constants.SPECTRAL_BANDS)
    weight.mul_(factors[:, None])
    last: Any = module.gate[2]
    last.reset_parameters()


def flat(network: SingerNetwork) -> None:
    """The same gain for every band: the gate sees zeros."""
    module = network.adapter.multi_scale_spectral
    assert module is not None
    module.kernel.weight.zero_()


ARMS = {
    "learnable": (learnable, 1.0),
    "flat": (flat, 0.0),  # and the SFM the identity, as it begins
}


def centre(network: SingerNetwork, data: Path) -> None:
    """Audio tokens that vary: their mean over songs, nine tenths of them, goes out of the last bias."""
    projection: Any = network.adapter.audio_projection
    clips = songs(network.architecture, read_config(RECIPE).but(data=data))
    windows = torch.cat([clips.sample(seeded("centre", number)).windows for number in range(CENTRED)])
    projection.proj3.bias.sub_(projection.projected(windows).mean(0))


def songs(arch: Architecture, config: TrainConfig) -> ClipDataset:
    """Random clips of the data set of `config`, from anywhere in their songs."""
    return ClipDataset(
        config.data,
        config.frames,
        config.motion_frames,
        locator_input=arch.locator_input,
        audio_past=arch.audio_past,
    )


def begin(stage1: Path, data: Path, arm: str, seed: int, target: Path) -> Path:
    """The network that a training begins with, as a file: stage 1 with fresh modules."""
    checkpoint = open_checkpoint(stage1)
    trained = load_network(checkpoint, torch.float32)
    network = SingerNetwork(trained.architecture)
    init_weights(network, seed)
    kept = (*PICTURES, WARP)
    pictures = {name: value for name, value in trained.state_dict().items() if name.startswith(kept)}
    network.load_state_dict(pictures, strict=False)
    with torch.no_grad(), torch.random.fork_rng([]):
        torch.manual_seed(seed)
        ARMS[arm][0](network)
        centre(network, data)
    config = TrainConfig(data=target, output=target, start=stage1)
    save_network(target, network, metadata_of(config, network.architecture))
    return target


def trained(folder: Path, stage1: Path, data: Path, arm: str, seed: int, steps: int) -> SingerNetwork:
    """The network of an arm and a seed after `steps`, trained as far as it was not."""
    output = folder / f"{arm}-{seed}"
    output.mkdir(parents=True, exist_ok=True)
    start = output / "start.safetensors"
    config = read_config(RECIPE).but(
        data=data,
        output=output,
        start=start if start.exists() else begin(stage1, data, arm, seed, start),
        rates=Rates(spatial=0.0, spectral=ARMS[arm][1]),
        seed=seed,
        steps=steps,
        rate=RATE,
        warmup=min(WARMUP, steps),
        decay="cosine",
        weight_decay=0.0,
        ema=0.0,
        keep=1,
        sensitivity_every=0,
    )
    return Trainer(config).run()


@torch.no_grad()
def held_out_loss(network: SingerNetwork, data: Path, count: int = HELD_OUT * DRAWS) -> float:
    """Mean loss of `count` noised clips, the same for every network."""
    config = read_config(RECIPE).but(
        data=data, output=data, start=data, seed=0, **dict.fromkeys(DROPOUTS, 0.0)
    )
    clips = songs(network.architecture, config)
    losses = []
    network.eval()
    for number in range(count):
        batch = collate([clips.sample(seeded(config.seed, "clip", number))])
        chance = draw(config, tuple(batch.latents.shape[1:]), range(number, number + 1), number)
        losses.append(float(Objective(config)(network, batch, chance)))
    return float(np.mean(losses))


def mean_sync(models: h.Models, people: int) -> float:
    """How well drawn people's mouths, read from the pixels, follow their songs."""
    found = []
    for number in range(FIRST_NUMBER, FIRST_NUMBER + people):
        show = h.performance(number, SECONDS, models.size)
        made, _ = h.render(models, show, h.DEMO)
        found.append(h.correlation(h.openings(show, made), show.motion.opening))
    return float(np.mean(found))


def measure(network: SingerNetwork, held: Path, vae: Path, people: int) -> dict[str, Any]:
    module = network.adapter.multi_scale_spectral
    assert module is not None
    network.eval().requires_grad_(False)
    return {
        "loss": held_out_loss(network, held),
        "sync": mean_sync(h.Models(network, load_autoencoder(vae), ""), people),
        "gains": [round(float(gain), 3) for gain in module.expected_gains(constants.TRAINED_CLIP_FRAMES)],
    }


@dataclasses.dataclass(frozen=True)
class Paired:
    """Differences of an arm to the first one, seed by seed, and the interval that holds their mean."""

    differences: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.differences.mean())

    @property
    def half(self) -> float:
        return h.half_width(self.differences)

    def verdict(self, margin: float) -> str:
        if abs(self.mean) + self.half < margin:
            return "equal within the margin"
        return "different" if abs(self.mean) > self.half else "undecided"


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: a row for each arm and seed, then the paired differences."""
    text = ["| arm | seed | loss | sync | gains of LL, LH, HL, HH |", "|---|---:|---:|---:|---|"]
    text += [
        f"| {x['arm']} | {x['seed']} | {x['loss']:.5f} | {x['sync']:.3f} | "
        f"{', '.join(f'{gain:.2f}' for gain in x['gains'])} |"
        for x in lines
    ]
    by_arm = {arm: {x["seed"]: x for x in lines if x["arm"] == arm} for arm in ARMS}
    seeds = sorted(set.intersection(*(set(found) for found in by_arm.values())))
    if len(seeds) < 2:
        return "\n".join(text)

    def paired(key: str) -> Paired:
        first, second = ([by_arm[arm][seed][key] for seed in seeds] for arm in ARMS)
        return Paired(np.array(second) - np.array(first))

    sync, loss = paired("sync"), paired("loss")
    return "\n".join([
        *text,
        "",
        f"Flat minus learnable over {len(seeds)} seeds, 95 % interval: sync {sync.mean:+.4f} ± "
        f"{sync.half:.4f} ({sync.verdict(MARGIN)} of {MARGIN}), loss {loss.mean:+.5f} ± {loss.half:.5f}.",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stage1", type=Path, required=True, help="weights, of any size")
    parser.add_argument("--data", type=Path, required=True, help="data set of stage 2")
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400, help="of every training")
    parser.add_argument("--people", type=int, default=8, help="who are rendered for every training")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT", help="put the table into it")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(1)
    held = args.folder / "held-out"
    size = open_checkpoint(args.stage1).architecture.trained_size[0]
    world = DrawnWorld(HELD_OUT, size, seed=HELD_OUT_SEED // 1_000_000)
    draw_dataset(world, held, load_autoencoder(args.vae))
    ledger = h.Ledger(args.folder / "ablation.jsonl")
    for seed in range(args.seeds):
        for arm in ARMS:
            key = f"{args.stage1.parent.name} {arm} {seed} {args.steps} {args.people}"
            if key not in ledger.found:
                network = trained(args.folder, args.stage1, args.data, arm, seed, args.steps)
                found = measure(network, held, args.vae, args.people)
                print(ledger.add(key, {"arm": arm, "seed": seed, **found}), flush=True)
    text = table(list(ledger.found.values()))
    write_text(args.folder / "ablation.md", f"{text}\n")
    if args.write:
        h.fill_in(args.write, "ablation", text)
    print(text)


if __name__ == "__main__":
    main()
