"""Make the built-in model: `python -m builtin STEP FOLDER`, in this order. Every step is resumable.

vae      compute the VAE, say what it loses of people it never saw
people   draw and encode people in several poses, for stage 1
data     draw and encode people who sing, for stage 2
stage1   learn what people look like
stage2   learn to sing; begins with the newest checkpoint of stage 1
sample   let held-out people sing held-out songs: a contact sheet, and measures
export   write the weights in half precision
finder   train the face finder, say how well it finds people it never saw
everything   all but the finder, one after the other, for a machine that has an hour

With --faces FOLDER (photographs with faces.json) half of the singers are photographs; without it all are
drawn.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from singer_core import constants
from singer_core.network.architecture import Architecture
from singer_core.network.autoencoder import Autoencoder, load_autoencoder
from singer_core.network.checkpoint import open_checkpoint
from singer_core.training.checkpoints import AVERAGE, NETWORK, newest_step
from singer_core.training.config import TrainConfig, read_config
from singer_core.training.dataset import DESCRIPTION
from singer_core.training.trainer import Trainer
from singer_core.weights import open_weights, save_weights

from . import finder as finding
from . import held_out as h
from .drawn import DataSet, DrawnWorld, People, draw_dataset
from .faces import Faces, read_faces
from .reader import FaceReader
from .vae import VaeRecipe, make_vae

# What the steps' parameters are; their defaults stand at the steps.
OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "faces": (Path, "folder of photographs with faces.json"),
    "backgrounds": (Path, "folder of pictures without a face (*.jpg), of anything"),
    "start": (Path, "weights to begin with, such as of a network for smaller pictures"),
    "steps": (int, "to train"),
    "until": (int, "stop after this step; the learning rate is still planned for all of them"),
    "size": (int, "side of the pictures in pixels"),
    "count": (int, "of items or people"),
    "jobs": (int, "processes that draw"),
    "seconds": (float, "length of a song"),
    "denoise": (int, "diffusion steps"),
}


def vae(folder: Path, faces: Path | None = None, size: int = VaeRecipe.size) -> None:
    make_vae(folder / "vae", faces, VaeRecipe(size=size))


def people(
    folder: Path, faces: Path | None = None, count: int = 4500, size: int = 192, jobs: int = 1
) -> None:
    _draw(People(count, size, faces=_read(faces)), folder / "people", jobs)


def data(folder: Path, faces: Path | None = None, count: int = 600, size: int = 192, jobs: int = 1) -> None:
    _draw(DrawnWorld(count, size, faces=_read(faces)), folder / "data", jobs)


def stage1(
    folder: Path, steps: int | None = None, until: int | None = None, start: Path | None = None
) -> None:
    config = _config("stage1", folder / "people", folder, steps)
    assert config.architecture is not None  # stage1.toml has one
    _train(config.but(start=start, architecture=_sized(config.architecture, folder / "people")), until)


def stage2(
    folder: Path, steps: int | None = None, until: int | None = None, start: Path | None = None
) -> None:
    begun = start or weights(_newest(folder / "stage1"))
    architecture = _sized(open_checkpoint(begun).architecture, folder / "data")
    config = _config("stage2", folder / "data", folder, steps)
    _train(config.but(start=begun, architecture=architecture), until)


def sample(
    folder: Path,
    faces: Path | None = None,
    count: int = 4,
    seconds: float = 2.56,
    denoise: int = h.DEMO.steps,
) -> None:
    newest = _newest(folder / "stage2")
    models = h.Models.load(weights(newest), folder / "vae" / "vae.safetensors")
    options = h.DEMO.but(steps=denoise)
    size, photographs = _size(folder / "data"), _read(faces, judged=True)
    reader = FaceReader() if faces else None
    sheet, measures = [], []
    for number in range(count):
        show = h.show(number, seconds, size, photographs)
        truth = h.true_frames(show)
        made, took = h.render(models, show, options)
        found = {**h.measure(show, truth, made, options, reader), "seconds": took}
        sheet.append(h.strip(truth, made))
        measures.append(found)
        print(json.dumps({key: round(float(value), 3) for key, value in found.items()}), flush=True)
    h.save_picture(folder / f"{newest.name}-sheet.png", np.concatenate(sheet))
    common = set.intersection(*(set(found) for found in measures))
    print(
        json.dumps({key: round(float(np.nanmean([m[key] for m in measures])), 3) for key in sorted(common)})
    )


def export(folder: Path) -> None:
    for source, name in (
        (weights(_newest(folder / "stage2")), "singer-small"),
        (folder / "vae" / "vae.safetensors", "vae-small"),
    ):
        file = open_weights(source)
        target = folder / f"{name}.safetensors"
        save_weights(target, ((key, file.tensor(key).half()) for key in file.shapes), file.metadata)
        print(target, f"{target.stat().st_size / 1e6:.1f} MB")


def everything(folder: Path, faces: Path | None = None, size: int = 192, jobs: int = 1) -> None:
    vae(folder, faces)
    people(folder, faces, size=size, jobs=jobs)
    data(folder, faces, size=size, jobs=jobs)
    stage1(folder)
    stage2(folder)
    export(folder)
    sample(folder, faces)


def finder(
    folder: Path,
    faces: Path | None = None,
    backgrounds: Path | None = None,
    steps: int = 6000,
    start: Path | None = None,
) -> None:
    found = finding.train_finder(folder / "finder", faces, backgrounds, steps, start=start)
    for name, value in finding.judge_finder(found, faces, backgrounds).items():
        print(f"{name}: {value:.3f}", flush=True)


def weights(checkpoint: Path) -> Path:
    """The averaged weights of a checkpoint, where it has some."""
    return checkpoint / (AVERAGE if (checkpoint / AVERAGE).exists() else NETWORK)


def _newest(run: Path) -> Path:
    found = newest_step(run)
    if found is None:
        raise SystemExit(f"There is no checkpoint in {run}. Run the step `{run.name}` first.")
    return found


def _sized(architecture: Architecture, data: Path) -> Architecture:
    """With MSM and SFM as wide as the latents and the mid block of the data set's pictures."""
    side = _size(data) // constants.VAE_STRIDE
    assert architecture.msm_kernel is not None  # stage1.toml has one
    kernel = (*architecture.msm_kernel[:3], side, side)
    return dataclasses.replace(architecture, msm_kernel=kernel, sfm_width=side >> (architecture.levels - 1))


def _size(data: Path) -> int:
    """Side of the pictures of a data set."""
    path = data / DESCRIPTION
    if not path.is_file():
        raise SystemExit(f"There is no data set in {data}. Run the step `{data.name}` first.")
    return int(json.loads(path.read_text(encoding="utf-8"))["size"])


def _read(faces: Path | None, judged: bool = False) -> Faces | None:
    return None if faces is None else read_faces(faces, judged)


def _draw(items: DataSet, target: Path, jobs: int) -> None:
    began = time.monotonic()

    def report(index: int) -> None:
        if index % 10 == 0:
            print(f"{index + 1}/{items.count}  {time.monotonic() - began:.0f} s", flush=True)

    draw_dataset(items, target, _vae(target.parent), report, jobs)


def _vae(folder: Path) -> Autoencoder:
    return load_autoencoder(folder / "vae" / "vae.safetensors")


def _config(stage: str, data: Path, folder: Path, steps: int | None) -> TrainConfig:
    config = read_config(Path(__file__).with_name(f"{stage}.toml")).but(data=data, output=folder / stage)
    return config.but(steps=steps) if steps else config


def _train(config: TrainConfig, until: int | None) -> None:
    trainer = Trainer(config)
    warp = trainer.network.adapter.portrait_warp
    if warp is not None:
        warp.patches = _vae(config.data.parent).vae
    trainer.run(
        lambda r: print(
            f"{r.step} loss {r.loss:.4f} |g| {r.gradient_norm:.2f} {r.seconds:.0f} s", flush=True
        ),
        until=until,
    )


STEPS = (vae, people, data, stage1, stage2, sample, export, everything, finder)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m builtin", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(required=True, metavar="STEP")
    for step in STEPS:
        own = steps.add_parser(step.__name__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        own.set_defaults(run=step)
        own.add_argument("folder", type=Path)
        for name, parameter in list(inspect.signature(step).parameters.items())[1:]:
            kind, text = OPTIONS[name]
            own.add_argument(f"--{name}", type=kind, default=parameter.default, help=text)
    values = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(1)
    values.pop("run")(**values)
