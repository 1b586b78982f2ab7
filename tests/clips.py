"""A data set of noise, small enough for tests: what the trainer reads, with nothing behind it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from tiny import FEATURES, LATENT, TINY, noise, random_state, save_checkpoint

from singer_core.training.config import TrainConfig
from singer_core.weights import save_weights

# Checkpoints of it are written in no time; the recipe `matched` hides the carried frames with the portrait.
# It hears four frames back, as no published one does.
SMALL = dataclasses.replace(
    TINY,
    channels=(32, 32, 32),
    carried_input="with_portrait",
    audio_past=4,
    audio_inputs=7 * FEATURES[0] * FEATURES[1],
)
LENGTH = 12  # frames of a performance


def write_clips(folder: Path, count: int = 2, length: int = LENGTH) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        generator = torch.Generator().manual_seed(index)
        still = noise(1, 4, LATENT, LATENT, seed=index)
        box = torch.tensor([[[15, 10, 50, 55], [25, 40, 40, 48]]], dtype=torch.int16)
        shift = torch.randint(-4, 5, (length, 1, 1), generator=generator).to(torch.int16)
        save_weights(
            folder / f"clip-{index}.safetensors",
            {
                "latents": (still + 0.1 * noise(length, 4, LATENT, LATENT, seed=index + 50)).half(),
                "features": noise(length, *FEATURES, seed=index + 100).half(),
                "boxes": box + shift,
                "thumbnails": torch.randint(256, (length, 3, LATENT, LATENT), generator=generator).byte(),
                "identity": noise(TINY.identity_width, seed=index + 150),
                "grey": noise(4, LATENT, LATENT, seed=7).half(),
            }.items(),
            {},
        )
    return folder


def config(folder: Path, **changes: object) -> TrainConfig:
    """A run of the tiny network on `write_clips`' data under `folder`."""
    plain = TrainConfig(
        data=folder / "data",
        output=folder / "run",
        architecture=SMALL,
        trainable="all",
        frames=2,
        steps=2,
        rate=2e-3,
        save_every=2,
        log_every=1,
        seed=3,
    )
    return plain.but(**changes)


def distillation(folder: Path, **changes: object) -> TrainConfig:
    """A run that distills a network of random numbers, which it writes where it is missing."""
    teacher = folder / "net.safetensors"
    if not teacher.exists():
        save_checkpoint(teacher, random_state(SMALL), {"singer.audio_past": str(SMALL.audio_past)})
    off = {"reference_dropout": 0.0, "audio_dropout": 0.0, "noise_offset": 0.0}
    short = {"distilled_steps": 2, "teacher_steps": 4, "rate": 1e-3}
    changes = {"recipe": "distill", "start": teacher, "architecture": None, **off, **short, **changes}
    return config(folder, **changes)
