"""What the built-in model's card states: held-out people sing held-out songs, and their videos are measured.

    python bench/model_card.py --out FOLDER [--checkpoint FILE --vae FILE] [--people 8 --seconds 5 --long 1]

Writes FOLDER/card.md (the table) and FOLDER/sheet.jpg (16 frames below the truth for each of four people).
`--write docs/model_card.md` puts the table between its lines <!-- measures --> and <!-- /measures -->.
Every person is a line of FOLDER/people.jsonl; a run that was stopped goes on behind the last one. A song of
five seconds takes about a minute on one core.
"""

from __future__ import annotations

import argparse
import ast
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import held_out as h
import numpy as np
import torch
from PIL import Image

from singer_core.files import write_text

LONG_SECONDS = 20.0
FIRST_LONG = 900  # number of the first person who sings a long song
SHEET_PEOPLE, SHEET_BYTES = 4, 400_000


@dataclass(frozen=True)
class Row:
    """A line of the table: what, what is asked for, the values, whether their mean is good enough, and the
    values of the drawn frames themselves, which tell what a perfect model would get."""

    name: str
    asked: str
    values: list[float]
    good: Callable[[float], bool] | None = None
    drawn: list[float] = field(default_factory=list)

    def markdown(self) -> str:
        values = np.array([value for value in self.values if math.isfinite(value)])
        if not len(values):
            return f"| {self.name} | {self.asked} | - | - | - | 0 | - | - |"
        mean = float(values.mean())
        verdict = "-" if self.good is None else "yes" if self.good(mean) else "**no**"
        spread = f"{values.std(ddof=1):.3f}" if len(values) > 1 else "-"
        extremes = f"{values.min():.3f} .. {values.max():.3f}"
        numbers = f"{mean:.3f} | {spread} | {extremes} | {len(values)}"
        drawn = f"{np.nanmean(self.drawn):.3f}" if self.drawn else "-"
        return f"| {self.name} | {self.asked} | {numbers} | {drawn} | {verdict} |"


TITLES = ("measure", "asked for", "mean", "deviation", "least .. most", "count", "drawn frames", "met")
HEAD = f"| {' | '.join(TITLES)} |\n{'|---' * len(TITLES)}|"


def rows(
    people: list[dict[str, Any]], long: list[dict[str, Any]], control: list[dict[str, Any]]
) -> list[Row]:
    def of(name: str, lines: list[dict[str, Any]] = people) -> list[float]:
        return [float(line[name]) for line in lines if name in line]

    def row(
        title: str, asked: str, name: str, good: Callable[[float], bool] | None, factor: float = 1.0
    ) -> Row:
        drawn = [factor * x for x in of(f"drawn_{name}")]
        return Row(title, asked, [factor * x for x in of(name)], good, drawn)

    titles = [(region, f"colour error of {region}, % of full scale") for region in h.REGIONS]
    return [
        row("mouth opening, best-lag correlation with the truth", ">= 0.7", "sync", lambda x: x >= 0.7),
        row("that lag, frames", "-1 .. 1", "lag", lambda x: abs(x) <= 1),
        Row("correlation under shuffled audio, lag 0", "< 0.2", of("sync", control), lambda x: x < 0.2),
        row("mouth motion in rests over sung parts", "<= 0.25", "rest_motion", lambda x: x <= 0.25),
        *(row(title, "<= 6", f"colour_{region}", lambda x: x <= 6, 100) for region, title in titles),
        Row("PSNR of frame 0 against the portrait, dB", ">= 22", of("psnr_first"), lambda x: x >= 22),
        Row("the same of the VAE alone, dB", "", of("psnr_vae")),
        row("seam ratio", "<= 1.15", "seam_ratio", lambda x: x <= 1.15),
        Row(
            f"drift over {LONG_SECONDS:.0f} s, grey levels",
            "<= 3",
            of("drift", long),
            lambda x: x <= 3,
            of("drawn_drift", long),
        ),
        Row("correlation of the mouth in these", "", of("sync", long)),
        Row("sharpness, share of the drawn frames'", "", of("sharpness")),
        Row("PSNR of all frames, dB", "", of("psnr")),
        Row("seconds to render, one thread", "", of("seconds")),
    ]


def control(models: h.Models, options: Any, number: int, seconds: float, ledger: h.Ledger) -> dict[str, Any]:
    """How far the mouth follows the true song where the network heard pieces of it in another order."""
    key = h.key_of(models, options, person=number, seconds=seconds, audio="shuffled")
    if key in ledger.found:
        return ledger.found[key]
    show = h.performance(number, seconds)
    made, _ = h.render(models, show, options, h.shuffled(show))
    sync = h.correlation(h.openings(show, made), show.motion.opening)
    return ledger.add(key, {"number": number, "sync": sync})


def person(
    models: h.Models, options: Any, number: int, seconds: float, ledger: h.Ledger, strips: Path
) -> dict[str, Any]:
    """The measures of one person's song, from the ledger or a render."""
    key = h.key_of(models, options, person=number, seconds=seconds)
    if key in ledger.found:
        return ledger.found[key]
    show = h.performance(number, seconds)
    truth = h.true_frames(show)
    made, spent = h.render(models, show, options)
    h.save_picture(strips / f"{number}.png", h.strip(truth, made))
    extra: dict[str, Any] = {
        "number": number,
        "seconds": spent,
        "psnr_vae": h.psnr(redrawn(models, truth[0]), truth[0]),
        **{f"drawn_{name}": value for name, value in h.measure(show, truth, truth, options).items()},
    }
    extra.pop("drawn_opening")
    return ledger.add(key, {**h.measure(show, truth, made, options), **extra})


def redrawn(models: h.Models, picture: h.Frames) -> h.Frames:
    """A picture (H, W, 3) through the VAE and back: as good as any render can be."""
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    return h.as_frames([models.vae.decode(models.vae.encode(pixels))])[0]


def sheet(strips: list[Path], target: Path) -> None:
    """The strips below each other as a JPEG of at most `SHEET_BYTES`."""
    with_strip = [path for path in strips if path.exists()][:SHEET_PEOPLE]
    if not with_strip:
        return
    picture = Image.fromarray(np.concatenate([np.asarray(Image.open(path)) for path in with_strip]))
    for quality in range(90, 30, -5):
        picture.save(target, quality=quality)
        if target.stat().st_size <= SHEET_BYTES:
            return


def chosen_options(settings: list[str]) -> Any:
    """The demo's options with `NAME=VALUE` changes."""
    changes: dict[str, Any] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        try:
            changes[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            changes[name] = text
    return h.DEMO.but(**changes)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for results; a run goes on there")
    parser.add_argument("--checkpoint", type=Path, help="default: the built-in model")
    parser.add_argument("--vae", type=Path, help="default: the built-in VAE")
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--first", type=int, default=0, help="number of the first of them")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each song")
    parser.add_argument(
        "--long", type=int, default=1, help=f"people who sing {LONG_SECONDS:.0f} s, for the drift"
    )
    parser.add_argument("--shuffled", type=int, default=3, help="people whose song is shuffled, as a control")
    parser.add_argument("--write", type=Path, help="document to put the table into")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="an option of sampling"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)
    if args.checkpoint is None or args.vae is None:
        packaged = h.packaged()
        args.checkpoint, args.vae = args.checkpoint or packaged[0], args.vae or packaged[1]
    models, options = h.Models.load(args.checkpoint, args.vae), chosen_options(args.set)
    ledger, strips = h.Ledger(args.out / "people.jsonl"), args.out / models.fingerprint

    def sung(numbers: range, seconds: float) -> list[dict[str, Any]]:
        lines = []
        for number in numbers:
            line = person(models, options, number, seconds, ledger, strips)
            values = {k: round(v, 3) for k, v in line.items() if isinstance(v, int | float)}
            print(values, flush=True)
            lines.append(line)
        return lines

    numbers = range(args.first, args.first + args.people)
    people = sung(numbers, args.seconds)
    long = sung(range(FIRST_LONG, FIRST_LONG + args.long), LONG_SECONDS)
    controls = [
        control(models, options, number, args.seconds, ledger)
        for number in range(args.first, args.first + args.shuffled)
    ]
    table = "\n".join([HEAD, *(row.markdown() for row in rows(people, long, controls))])
    write_text(args.out / "card.md", f"{table}\n")
    if args.write:
        h.fill_in(args.write, "measures", table)
    sheet(
        [strips / f"{number}.png" for number in range(args.first, args.first + args.people)],
        args.out / "sheet.jpg",
    )
    print(table)


if __name__ == "__main__":
    main()
