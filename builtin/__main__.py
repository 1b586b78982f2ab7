"""Make the built-in model, step by step: `python -m builtin STEP FOLDER`, every step resumable.

vae      train the VAE on drawn pictures, print its PSNR on people it never saw
data     draw and encode the performances to learn from
train    train the network on them; goes on from the newest checkpoint
sample   let held-out people sing held-out songs; writes a contact sheet, prints the measures
export   write the weights in half precision
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

CONFIG = Path(__file__).parent / "builtin.toml"


def vae(args: argparse.Namespace) -> None:
    from .vae import VaeRecipe, make_vae

    recipe = VaeRecipe(steps=args.steps or VaeRecipe.steps)
    make_vae(args.folder / "vae", args.faces, recipe, args.start)


def data(args: argparse.Namespace) -> None:
    from .drawn import DrawnWorld, draw_dataset

    world = DrawnWorld(count=args.count)
    began = time.monotonic()

    def report(index: int) -> None:
        if index % 10 == 0:
            print(f"{index + 1}/{world.count}  {time.monotonic() - began:.0f} s", flush=True)

    draw_dataset(world, args.folder / "data", load_vae(args.folder), report)


def train(args: argparse.Namespace) -> None:
    from singer_core.training.trainer import Trainer

    trainer = Trainer(run_config(args))
    trainer.run(
        lambda r: print(
            f"{r.step} loss {r.loss:.4f} |g| {r.gradient_norm:.2f} {r.seconds:.0f} s", flush=True
        ),
        until=args.until,
    )


def run_config(args: argparse.Namespace) -> Any:
    from singer_core.training.config import read_config

    config = read_config(CONFIG).but(data=args.folder / "data", output=args.folder / "run")
    return config.but(steps=args.steps) if args.steps else config


def load_vae(folder: Path) -> Any:
    from singer_core.network.autoencoder import load_autoencoder

    return load_autoencoder(folder / "vae" / "vae.safetensors")


def sample(args: argparse.Namespace) -> None:
    from singer_core.training.checkpoints import AVERAGE, NETWORK, newest_step

    newest = newest_step(args.folder / "run")
    if newest is None:
        raise SystemExit(f"There is no checkpoint in {args.folder / 'run'}. Run the step `train` first.")
    name = NETWORK if args.raw or not (newest / AVERAGE).exists() else AVERAGE
    from . import held_out as h

    models = h.Models.load(newest / name, args.folder / "vae" / "vae.safetensors")
    options = h.DEMO.but(steps=args.denoise, reference_scale=args.reference, audio_scale=args.audio)
    sheet, measures = [], []
    for number in range(args.people):
        show = h.performance(number, args.seconds)
        truth = h.true_frames(show)
        made, seconds = h.render(models, show, options)
        found = {**h.measure(show, truth, made, options), "seconds": seconds}
        found.pop("opening")
        sheet.append(h.strip(truth, made))
        measures.append(found)
        print(json.dumps({key: round(float(value), 3) for key, value in found.items()}), flush=True)
    target = args.folder / f"{newest.name}-sheet.png"
    h.save_picture(target, np.concatenate(sheet))
    common = set.intersection(*(set(found) for found in measures))
    means = {key: round(float(np.nanmean([found[key] for found in measures])), 3) for key in sorted(common)}
    print(target, json.dumps(means))


def export(args: argparse.Namespace) -> None:
    from singer_core.training.checkpoints import AVERAGE, newest_step
    from singer_core.weights import open_weights, save_weights

    newest = newest_step(args.folder / "run")
    if newest is None:
        raise SystemExit("There is no checkpoint to export. Run the step `train` first.")
    for source, name in (
        (newest / AVERAGE, "singer-small"),
        (args.folder / "vae/vae.safetensors", "vae-small"),
    ):
        file = open_weights(source)
        target = args.folder / f"{name}.safetensors"
        save_weights(target, ((key, file.tensor(key).half()) for key in file.shapes), file.metadata)
        print(target, f"{target.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    steps = {"vae": vae, "data": data, "train": train, "sample": sample, "export": export}
    parser.add_argument("step", choices=tuple(steps))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, help="of vae or train")
    parser.add_argument("--faces", type=Path, help="folder of photographs with faces.json")
    parser.add_argument("--start", type=Path, help="vae: weights to begin with, as wide or narrower")
    parser.add_argument("--until", type=int, help="train: stop after this step")
    parser.add_argument("--count", type=int, default=300, help="data: performances")
    parser.add_argument("--people", type=int, default=4, help="sample: how many")
    parser.add_argument("--seconds", type=float, default=2.56, help="sample: length of a song")
    parser.add_argument("--denoise", type=int, default=8, help="sample: diffusion steps")
    parser.add_argument("--reference", type=float, default=1.0, help="sample: guidance towards the portrait")
    parser.add_argument("--audio", type=float, default=1.0, help="sample: guidance towards the song")
    parser.add_argument(
        "--raw", action="store_true", help="sample: the weights themselves, not their average"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(1)
    steps[args.step](args)


if __name__ == "__main__":
    main()
