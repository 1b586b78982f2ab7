"""Does the measure of singing put models in the right order? Held-out people sing held-out songs five ways:

    true        the true frames themselves
    full        the built-in model
    flat        the same with one gain for all bands of the MSM, their mean, and without SFM
    bare        the same with neither: the audio tokens lose the scale that the gains gave them, too
    shuffled    the full model that hears the song in pieces of 0.32 s, put together in another order

    python -m bench.evaluation --out FOLDER [--checkpoint FILE --vae FILE] [--people 6 --seconds 4]

The films are measured by `singer evaluate --protocol shv`: the mouth from a lip box that follows from the
portrait's landmarks, against the voice. Only the drawn opening, which no real video has, is asked here.
Writes FOLDER/order.md and FOLDER/order.html, the report of the first person's films side by side. A run that
was stopped goes on behind its last film.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from builtin import films, study
from builtin import held_out as h
from singer_core.cli import main as singer
from singer_core.evaluation.protocol import bootstrap_interval
from singer_core.files import write_text
from singer_core.settings import BandGains

WAYS = (films.TRUE, "full", "flat", "bare", "shuffled")
PAIRS = (
    (films.TRUE, "full"),
    ("full", "flat"),
    ("full", "bare"),
    ("bare", "shuffled"),
    ("full", "shuffled"),
)
COLUMNS = {
    "singing_sync": "mouth against vocal level, best lag",
    "mouth_match": "mouth against the true film's mouth, best lag",
    "true_opening": "opening by colours against the drawn one",
    "rest_motion": "motion in rests over in song",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
}
ORDERED = ("singing_sync", "mouth_match", "true_opening")

Values = Mapping[str, Sequence[Mapping[str, float]]]  # way -> metrics of each person


def options_of(way: str, models: h.Models) -> Any:
    if way not in ("flat", "bare"):
        return h.DEMO
    mean = float(study.mean_gains(models.network).mean()) if way == "flat" else 1.0
    return h.DEMO.but(msm_input="off", sfm_strength=0.0, band_gains=BandGains(mean, mean, mean, mean))


def film(folder: Path, way: str, number: int, show: h.Performance, models: h.Models) -> Path:
    if way == films.TRUE:
        return films.add_truth(folder, number, show)

    def render() -> h.Frames:
        heard = h.shuffled(show) if way == "shuffled" else None
        return h.render(models, show, options_of(way, models), heard)[0]

    return films.add_render(folder, way, number, render, show.fps)


def run(args: argparse.Namespace) -> None:
    packaged = h.packaged()
    models = h.Models.load(args.checkpoint or packaged[0], args.vae or packaged[1])
    folder = args.out / f"{models.fingerprint}-{args.seconds:g}s"
    numbers = range(args.people)
    openings: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in numbers:
        show = h.performance(number, args.seconds, models.size)
        for way in WAYS:
            frames = films.frames_of(film(folder, way, number, show, models))
            openings[way].append(h.correlation(h.openings(show, frames), show.motion.opening))
            print(number, way, f"{openings[way][-1]:.3f}", flush=True)
    clip = ("--clip-frames", str(h.DEMO.clip_frames), "--overlap", str(h.DEMO.overlap))
    rows = {
        way: [
            {**metrics, "true_opening": opening}
            for metrics, opening in zip(
                films.measured(folder, way, numbers, *clip)["each"], openings[way], strict=True
            )
        ]
        for way in WAYS
    }
    text = f"{table(rows)}\n\n{verdict(rows)}\n"
    write_text(args.out / "order.md", text)
    print(text)
    first = films.name_of(0)
    shown = [str(folder / way / "generated" / f"{first}.mp4") for way in WAYS]
    given = [
        f"{folder / part / first}{ending}" for part, ending in zip(films.SHARED, films.ENDINGS, strict=True)
    ]
    names = ("--reference", "--vocals", "--landmarks")
    given = [word for pair in zip(names, given, strict=True) for word in pair]
    singer(["evaluate", *shown, *given, *clip, "--html", str(args.out / "order.html")])


def table(rows: Values) -> str:
    """Markdown: means with 95 % intervals over the people."""
    ways = list(rows)
    lines = [f"| measure | {' | '.join(ways)} |", "|---" * (len(ways) + 1) + "|"]
    for key, title in COLUMNS.items():
        cells = []
        for way in ways:
            values = np.array([row[key] for row in rows[way] if key in row])
            if not len(values):
                cells.append("-")
                continue
            low, high = bootstrap_interval(values)
            cells.append(f"{values.mean():.3f} [{low:.3f}, {high:.3f}]")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(rows: Values) -> str:
    """Markdown: whether each way sings better than the next, person by person."""
    lines = ["| | " + " | ".join(COLUMNS[key] for key in ORDERED) + " |", "|---" * (len(ORDERED) + 1) + "|"]
    for better, worse in PAIRS:
        cells = []
        for key in ORDERED:
            both = zip(rows[better], rows[worse], strict=True)
            gaps = np.array([a[key] - b[key] for a, b in both if key in a and key in b])
            low, high = bootstrap_interval(gaps)
            holds = "not told apart" if low <= 0 <= high else "yes" if gaps.mean() > 0 else "**no**"
            cells.append(
                f"{holds}: {gaps.mean():+.3f} [{low:+.3f}, {high:+.3f}], {(gaps > 0).sum()} of {len(gaps)}"
            )
        lines.append(f"| {better} > {worse} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for films and results")
    parser.add_argument("--checkpoint", type=Path, help="default: the built-in model")
    parser.add_argument("--vae", type=Path, help="default: the built-in VAE")
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each song")
    args = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)
    run(args)


if __name__ == "__main__":
    main()
