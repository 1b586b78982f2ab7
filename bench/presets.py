"""What a faster render costs: the videos of a model of many steps beside those of the preset `quality`.

    python -m bench.presets FILE VAE --out FOLDER [--people 2 --seconds 1.2 --more]

Held-out people sing held-out songs (`held_out.py`), each from the same noise, in the mode of `singer demo`
and guided by the song. Every row is a change to the options; PSNR and the mouth's curve are compared with
the same person's render of `quality`, singing with the drawn frames. Writes FOLDER/presets.md; renders stay
in FOLDER, and a run that was stopped goes on behind the last one. The built-in model is no such model: it
takes one step.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from builtin import held_out as h
from singer_core.files import write_text
from singer_core.settings import PRESETS, SingerOptions

BEST = "quality"
GUIDED = h.DEMO.but(audio_scale=1.25)
SHORT: dict[str, dict[str, Any]] = {
    **PRESETS,
    "fast, one branch after another": {**PRESETS["fast"], "sequential_guidance": True},
    "4 steps of DDIM": {"steps": 4},
}
MORE: dict[str, dict[str, Any]] = {
    "fast, all steps guided": {**PRESETS["fast"], "guidance_interval": (0.0, 1.0)},
    "10 steps of DDIM": {"steps": 10},
    "10 steps of UniPC": {"steps": 10, "solver": "unipc"},
    "20 steps of DDIM": {"steps": 20},
}
HEAD = (
    "| options | PSNR to quality, dB | mouth, correlation with quality | singing sync | seam ratio "
    "| CPU seconds | times as fast |\n|---|---:|---:|---:|---:|---:|---:|"
)


def rendered(
    models: h.Models, options: SingerOptions, number: int, seconds: float, folder: Path
) -> tuple[h.Frames, float]:
    """The person's frames under these options, and CPU seconds that they took; from the folder if there."""
    key = h.key_of(models, options, person=number, seconds=seconds)
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if not path.exists():
        show, began = h.performance(number, seconds, models.size), time.process_time()
        frames, _ = h.render(models, show, options)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, frames=frames, spent=time.process_time() - began)
    with np.load(path) as kept:
        return kept["frames"], float(kept["spent"])


def compared(
    models: h.Models, options: SingerOptions, best: SingerOptions, number: int, seconds: float, folder: Path
) -> dict[str, float]:
    """The measures of one person's render against the drawn frames and against that of `best`."""
    show = h.performance(number, seconds, models.size)
    made, spent = rendered(models, options, number, seconds, folder)
    ideal, spent_best = rendered(models, best, number, seconds, folder)
    opening = h.openings(show, made)
    return {
        "psnr": h.psnr(made, ideal),
        "mouth": h.correlation(opening, h.openings(show, ideal)),
        "sync": h.sync(opening, show.motion.opening),
        "seam": h.seam_ratio(made, h.joints(len(made), options)),
        "spent": spent,
        "times": spent_best / spent,
    }


def line(name: str, people: list[dict[str, float]]) -> str:
    """A row of the table: means over the people."""
    mean = {measure: float(np.nanmean([person[measure] for person in people])) for measure in people[0]}
    psnr = "-" if name == BEST else f"{mean['psnr']:.1f}"
    return (
        f"| {name} | {psnr} | {mean['mouth']:.3f} | {mean['sync']:.3f} | {mean['seam']:.2f} "
        f"| {mean['spent']:.0f} | {mean['times']:.1f} |"
    )


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for results; a run goes on there")
    parser.add_argument("checkpoint", type=Path, help="of a model of many steps")
    parser.add_argument("vae", type=Path, help="that it was trained with")
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.2, help="of each song; 1.2 = two clips")
    parser.add_argument("--more", action="store_true", help="other solvers and caches, too")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows alone")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = arguments().parse_args(argv)
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)
    models = h.Models.load(args.checkpoint, args.vae)
    rows = {**SHORT, **(MORE if args.more else {})}
    best, lines = GUIDED.but(**rows[BEST]), [HEAD]
    for name in args.only or rows:
        people = [
            compared(models, GUIDED.but(**rows[name]), best, number, args.seconds, args.out)
            for number in range(args.people)
        ]
        lines.append(line(name, people))
        print(lines[-1], flush=True)
    write_text(args.out / "presets.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
