"""`singer train`: train or adapt a network from a configuration file."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..training.config import TrainConfig

HELP = "train or adapt a network"
DESCRIPTION = """
Train as CONFIG (TOML or JSON, docs/training.md) says. Where its `output` folder holds checkpoints already,
training goes on from the newest, exactly as if it had never stopped. For several devices or machines:
accelerate launch -m singer_core.cli.train CONFIG
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", type=Path, help="configuration file (.toml or .json)")
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be trained and the memory it needs"
    )
    parser.add_argument("--until", type=int, metavar="STEP", help="stop after this step, to go on later")
    group = parser.add_argument_group(
        "data", "turn a folder of videos into the `data` that CONFIG names, then stop"
    )
    group.add_argument("--prepare", type=Path, metavar="VIDEOS", help="folder of videos with sound")
    group.add_argument("--vae", type=Path, metavar="PATH", help="the VAE's weights")
    group.add_argument("--wav2vec2", type=Path, metavar="PATH", help="the audio encoder's weights")
    group.add_argument(
        "--faces", type=Path, metavar="DIR", help="insightface's folder (default: ~/.insightface)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: PyTorch's)")


def run(args: argparse.Namespace) -> int:
    import torch

    from ..training.config import read_config
    from ..training.trainer import Trainer, plan

    config = read_config(args.config)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.prepare:
        return _prepare(args, config)
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


def _prepare(args: argparse.Namespace, config: TrainConfig) -> int:
    """Prepare a folder of videos; 1 where none of them can be used."""
    from functools import partial

    from ..network.autoencoder import load_autoencoder
    from ..network.checkpoint import open_checkpoint
    from ..portrait.detection import detect_insightface
    from ..training.videos import VideoSettings, prepare_videos
    from .sing import choose_front_end

    if args.vae is None or config.start is None:
        raise ValueError("--prepare needs --vae, and a configuration with `start`: the network to adapt.")
    checkpoint = open_checkpoint(config.start)
    settings = VideoSettings(
        size=checkpoint.architecture.trained_size, shortest=config.frames + config.motion_frames
    )
    report = prepare_videos(
        args.prepare,
        config.data,
        settings,
        load_autoencoder(args.vae),
        choose_front_end(checkpoint, args.wav2vec2),
        partial(detect_insightface, root=args.faces),
    )
    for name, words in report.items():
        print(f"{name}: {words}")
    return int("ready" not in report.values())


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


def main() -> int:
    """Entry point for `accelerate launch -m`."""
    parser = argparse.ArgumentParser(prog="singer train", description=DESCRIPTION)
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
