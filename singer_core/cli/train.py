"""`singer train`: train or adapt a network from a configuration file."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..settings import group, required, setting

if TYPE_CHECKING:
    from ..training.config import TrainConfig

DESCRIPTION = """
Train as CONFIG (TOML or JSON, docs/training.md) says. Where its `output` folder holds checkpoints already,
training goes on from the newest, exactly as if it had never stopped. For several devices or machines:
accelerate launch -m singer_core.cli.train CONFIG
"""


@dataclass(frozen=True)
class Preparation:
    """Where the data come from."""

    prepare: Path | None = setting(None, "Folder of videos with sound.", metavar="VIDEOS")
    vae: Path | None = setting(None, "The VAE's weights.", metavar="PATH")
    wav2vec2: Path | None = setting(None, "The audio encoder's weights.", metavar="PATH")
    faces: Path | None = setting(None, "insightface's folder (default: ~/.insightface).", metavar="DIR")


@dataclass(frozen=True)
class Arguments:
    config: Path = required("Configuration file (.toml or .json).", positional=True, metavar="CONFIG")
    dry_run: bool = setting(False, "Print what would be trained and the memory it needs.")
    until: int | None = setting(None, "Stop after this step, to go on later.", metavar="STEP")
    data: Preparation = group(
        Preparation, "data", "turn a folder of videos into the `data` that CONFIG names, then stop"
    )
    threads: int | None = setting(None, "CPU threads (default: PyTorch's).")


def run(args: Arguments) -> int:
    import torch

    from ..training.config import read_config
    from ..training.trainer import Trainer, plan

    config = read_config(args.config)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.data.prepare:
        return _prepare(args.data.prepare, args.data, config)
    if args.dry_run:
        print(_summary(plan(config), config))
        return 0
    trainer = Trainer(config)
    trainer.run(
        lambda r: print(
            f"step {r.step}/{config.steps}  loss {r.loss:.4f}  rate {r.rate:.2e}  "
            f"gradient {r.gradient_norm:.2f}  {r.seconds:.0f} s",
            file=sys.stderr,
        ),
        until=args.until,
    )
    return 0


def _prepare(videos: Path, data: Preparation, config: TrainConfig) -> int:
    """Prepare a folder of videos; 1 where none of them can be used."""
    from functools import partial

    from ..network.autoencoder import load_autoencoder
    from ..network.checkpoint import open_checkpoint
    from ..portrait.detection import detect_insightface
    from ..training.videos import VideoSettings, prepare_videos, usable
    from .inputs import read_front_end

    if data.vae is None or config.start is None:
        raise ValueError("--prepare needs --vae, and a configuration with `start`: the network to adapt.")
    checkpoint = open_checkpoint(config.start)
    settings = VideoSettings(
        size=checkpoint.architecture.trained_size, shortest=config.frames + config.motion_frames
    )
    report = prepare_videos(
        videos,
        config.data,
        settings,
        load_autoencoder(data.vae),
        read_front_end(checkpoint, data.wav2vec2),
        partial(detect_insightface, root=data.faces),
    )
    for name, words in report.items():
        print(f"{name}: {words}")
    return int(not usable(report))


def _summary(found: dict[str, Any], config: TrainConfig) -> str:
    lines = [f"{found['parameters']:,} parameters, of which {found['trained']:,} are trained:"]
    lines += [f"  {count:>13,}  {part}" for part, count in found["parts"].items()]
    size = {name: f"{value / 2**30:.2f} GiB" for name, value in found["bytes"].items()}
    lines.append(
        f"memory, estimated: {size['total']} (weights {size['weights']}, gradients and optimizer "
        f"{size['training']}, activations {size['activations']})"
    )
    lines.append(f"settings: {json.dumps(json.loads(config.to_json()))}")
    return "\n".join(lines)


def main() -> None:
    """Entry point for `accelerate launch -m`."""
    from . import main as singer

    sys.exit(singer(["train", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
