"""Make the built-in model, step by step: `python bench/train_builtin.py STEP FOLDER`, every step resumable.

vae      train the VAE on drawn pictures, print its PSNR on people it never saw
data     draw and encode the performances to learn from
train    train the network on them; goes on from the newest checkpoint
sample   let held-out people sing held-out songs; writes a contact sheet, prints the measures
export   write the weights in half precision
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

HELD_OUT = 700  # times a million: seeds of people and songs that no training set reaches
CONFIG = Path(__file__).parents[1] / "singer_core" / "training" / "configs" / "builtin.toml"


def vae(args: argparse.Namespace) -> None:
    from singer_core.training import tiny_vae

    recipe = tiny_vae.VaeRecipe(steps=args.steps or tiny_vae.VaeRecipe.steps, decoder_only=args.decoder_only)
    if args.decoder_only:  # whole pictures: the borders come short in crops
        recipe = dataclasses.replace(recipe, crop=recipe.size, batch=4, rate=1e-3)
    folder = args.folder / "vae"
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with (folder / "log.csv").open("a", newline="") as stream:
        log = csv.writer(stream)

        def report(step: int, loss: float) -> None:
            if step % 20 == 0:
                log.writerow([step, f"{loss:.5f}", f"{time.monotonic() - began:.1f}"])
                stream.flush()

        network = tiny_vae.train_vae(recipe, folder, report).float().eval()
    test = torch.stack(list(tiny_vae.held_out_pictures(24, recipe.size)))
    mean, deviation = tiny_vae.latent_statistics(network, test)
    psnr = tiny_vae.reconstruction_psnr(network, test)
    print(f"PSNR on {len(test)} unseen people: {psnr.mean():.2f} dB (worst {psnr.min():.2f})")
    print("latents: mean", [f"{x:.2f}" for x in mean], "deviation", [f"{x:.2f}" for x in deviation])


def data(args: argparse.Namespace) -> None:
    from singer_core.training.drawn import DrawnWorld, draw_dataset

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
    sheet, measures = [], []
    for number in range(args.people):
        frames, found = sing(newest / name, args, HELD_OUT * 1_000_000 + number)
        sheet.append(frames)
        measures.append(found)
        print(json.dumps({key: round(float(value), 3) for key, value in found.items()}), flush=True)
    target = args.folder / f"{newest.name}-sheet.png"
    Image.fromarray(np.concatenate(sheet)).save(target)
    means = {key: float(np.mean([m[key] for m in measures])) for key in measures[0]}
    print(target, json.dumps({key: round(value, 3) for key, value in means.items()}))


def sing(checkpoint: Path, args: argparse.Namespace, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """16 frames of truth above 16 rendered ones, and the measures of the whole song."""
    from singer_core.network.checkpoint import load_network, open_checkpoint
    from singer_core.options import PAPER
    from singer_core.portrait.colours import colour_identity
    from singer_core.portrait.landmarks import FaceLandmarks
    from singer_core.portrait.portrait import prepare_portrait
    from singer_core.render.pipeline import SingerPipeline
    from singer_core.training.drawn import DrawnWorld, song_features
    from singer_core.training.synthetic import Identity, Performance, Song

    song = Song.random(seed, args.seconds, "pop", accompaniment=False)
    show = Performance(Identity.random(seed), song, size=128)
    truth = np.stack([show.frame(i) for i in range(len(show))])
    landmarks = FaceLandmarks(torch.from_numpy(show.landmarks(0)))
    portrait = prepare_portrait(
        torch.from_numpy(truth[0]).permute(2, 0, 1).float() / 255,
        (128, 128),
        landmarks=landmarks,
        crop="squash",
    )
    colours = colour_identity(portrait.image, portrait.masks[0])
    portrait = dataclasses.replace(portrait, identity=colours)
    options = PAPER.but(
        steps=args.denoise, reference_scale=args.reference, audio_scale=args.audio, carry="latents"
    )
    network = load_network(open_checkpoint(checkpoint), torch.float32)
    pipeline = SingerPipeline(network, load_vae(args.folder), options)
    heard = song_features(song, DrawnWorld(1))
    began = time.monotonic()
    pictures = torch.cat([clip.pictures for clip in pipeline.render(portrait, heard, seed=1)])[: len(show)]
    seconds = time.monotonic() - began
    made = (pictures.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    chosen = np.linspace(0, len(show) - 1, 16).round().astype(int)
    rows = [np.concatenate(list(x[chosen]), axis=1) for x in (truth, made)]
    return np.concatenate(rows), {**measure(show, truth, made), "seconds": seconds}


def measure(show: Any, truth: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """Sync of the mouth, motion in rests over motion in song, colour error, PSNR of the first frame."""
    from singer_core.training.drawn import face_boxes
    from singer_core.training.synthetic import measured_opening

    boxes = np.stack([face_boxes(show.landmarks(i))[1] for i in range(len(show))])
    box = (*boxes[:, :2].min(0) - 1, *boxes[:, 2:].max(0) + 2)
    opening = np.array([measured_opening(frame, box, show.identity) for frame in made])
    lags = {lag: correlation(opening, show.motion.opening, lag) for lag in range(-5, 6)}
    best = max(lags, key=lambda lag: lags[lag])
    error = (made.astype(float) - truth.astype(float)) / 255
    first = float(-10 * np.log10(np.mean(error[0] ** 2) + 1e-10))
    colour = float(np.abs(error.mean((0, 1, 2))).mean())
    whole = float(-10 * np.log10(np.mean(error**2) + 1e-10))
    return {"sync": lags[best], "lag": best, "psnr0": first, "psnr": whole, "colour": colour}


def correlation(made: np.ndarray, true: np.ndarray, lag: int) -> float:
    """Correlation of the made curve `lag` frames later with the true one."""
    first, second = (made[lag:], true[: len(true) - lag]) if lag >= 0 else (made[:lag], true[-lag:])
    if first.std() < 1e-6 or second.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def export(args: argparse.Namespace) -> None:
    from singer_core.network.weights import open_weights, save_weights
    from singer_core.training.checkpoints import AVERAGE, newest_step

    newest = newest_step(args.folder / "run")
    if newest is None:
        raise SystemExit("There is no checkpoint to export. Run the step `train` first.")
    for source, name in (
        (newest / AVERAGE, "singer-small"),
        (args.folder / "vae/vae.safetensors", "vae-small"),
    ):
        file = open_weights(source)
        metadata = {**file.metadata, "singer.identity": "colours"}
        target = args.folder / f"{name}.safetensors"
        save_weights(target, ((key, file.tensor(key).half()) for key in file.shapes), metadata)
        print(target, f"{target.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    steps = {"vae": vae, "data": data, "train": train, "sample": sample, "export": export}
    parser.add_argument("step", choices=tuple(steps))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, help="of vae or train")
    parser.add_argument(
        "--decoder-only", action="store_true", help="vae: leave the encoder, so that data stay valid"
    )
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
