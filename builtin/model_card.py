"""What the built-in model's card states: held-out people sing held-out songs, and their films are measured.

    python -m builtin.model_card --out FOLDER [--checkpoint FILE --vae FILE] [--faces FOLDER] [--people 8]

With `--faces` every second person is a photograph, and there are two tables. Films are measured by `singer
evaluate --protocol shv`, whose reports lie beside them, and the true frames too; what only their maker
knows - true mouths, true colours, a song in pieces - is measured here, and the likeness of photographs.
Writes FOLDER/card.md and, of each group, FOLDER/NAME.jpg (16 frames below the truth for each of four people;
nothing of a photograph is published). `--write docs/model_card.md` puts the tables between its lines
<!-- measures --> and <!-- /measures -->. A run that was stopped goes on behind its last film.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from singer_core.evaluation.measures import BY_KEY
from singer_core.files import write_text

from . import films
from . import held_out as h
from .faces import Faces, read_faces
from .reader import FaceReader
from .world import Show

LONG_SECONDS = 20.0
FIRST_LONG = 900  # number of the first person who sings a long song
GROUPS = ("drawn people", "photographs")
SHEET_PEOPLE, SHEET_BYTES = 4, 400_000
RENDERED, SHUFFLED = "rendered", "shuffled"

Lines = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """A line of the table: what, what is asked for, the values, whether their mean (or `level`, a share of
    them) is good enough, and the values of the true frames, which tell what a perfect model would get."""

    name: str
    asked: str
    values: list[float]
    good: Callable[[float], bool] | None = None
    true: list[float] = field(default_factory=list)
    level: float | None = None

    def markdown(self) -> str:
        values = np.array([value for value in self.values if math.isfinite(value)])
        if not len(values):
            return f"| {self.name} | {self.asked} | - | - | - | 0 | - | - |"
        mean = float(values.mean() if self.level is None else np.quantile(values, self.level))
        verdict = "-" if self.good is None else "yes" if self.good(mean) else "**no**"
        spread = f"{values.std(ddof=1):.3f}" if len(values) > 1 else "-"
        extremes = f"{values.min():.3f} .. {values.max():.3f}"
        numbers = f"{mean:.3f} | {spread} | {extremes} | {len(values)}"
        true = f"{np.nanmean(self.true):.3f}" if np.isfinite(self.true).any() else "-"
        return f"| {self.name} | {self.asked} | {numbers} | {true} | {verdict} |"


TITLES = ("measure", "asked for", "mean", "deviation", "least .. most", "count", "true frames", "met")
HEAD = f"| {' | '.join(TITLES)} |\n{'|---' * len(TITLES)}|"
# metrics of the command that the card shows: what is asked for, and what is good enough
COMMAND: dict[str, tuple[str, Callable[[float], bool] | None]] = {
    "mouth_match": (">= 0.8", lambda x: x >= 0.8),
    "mouth_match_lag": ("-1 .. 1", lambda x: abs(x) <= 1),
    "singing_sync": ("", None),
    "sync_chance": ("", None),
    "rest_motion": ("<= 0.25", lambda x: x <= 0.25),
    "seam_ratio": ("<= 1.10", lambda x: x <= 1.10),
    "flicker": ("", None),
    "static_motion": ("", None),
    "psnr": ("", None),
    "ssim": ("", None),
}
COMMAND_LONG: dict[str, tuple[str, Callable[[float], bool] | None]] = {
    "colour_drift": ("-3 .. 3", lambda x: abs(x) <= 3),
    "sharpness_change": ("", None),
    "mouth_match": (">= 0.7", lambda x: x >= 0.7),
    "rest_motion": ("<= 0.25", lambda x: x <= 0.25),
}


def command_rows(made: Lines, true: Lines, long: Lines, true_long: Lines) -> list[Row]:
    """Rows of what `singer evaluate` says of each film, and of the true frames in its place."""

    def rows(wanted: Any, films_: Lines, truth: Lines, behind: str) -> list[Row]:
        return [
            Row(BY_KEY[key].heading + behind, asked, _values(key, films_), good, _values(key, truth))
            for key, (asked, good) in wanted.items()
        ]

    return [
        *rows(COMMAND, made, true, ""),
        *rows(COMMAND_LONG, long, true_long, f" ({LONG_SECONDS:.0f} s)"),
    ]


def world_rows(people: Lines, control: Lines, long: Lines) -> list[Row]:
    """Rows of what only the maker of the frames knows, and of measures that the command has not."""

    def row(title: str, asked: str, key: str, good: Callable[[float], bool] | None) -> Row:
        return Row(title, asked, _values(key, people), good, _values(f"true_{key}", people))

    return [
        row("mouth opening against the true one, best lag", ">= 0.8", "sync", lambda x: x >= 0.8),
        row("that lag, frames", "-1 .. 1", "lag", lambda x: abs(x) <= 1),
        Row("the same under shuffled audio, lag 0", "< 0.2", _values("sync", control), lambda x: x < 0.2),
        row("mouth motion in true rests over sung parts", "<= 0.25", "rest_motion", lambda x: x <= 0.25),
        *(
            row(f"colour error of {region}, % of full scale", "<= 3", f"colour_{region}", lambda x: x <= 3)
            for region in h.AROUND_FACE
        ),
        row("PSNR of frame 0, dB", "", "psnr_first", None),
        row("the same below that of the VAE alone, dB", "<= 2", "psnr_lost", lambda x: x <= 2),
        row("sharpness, share of that of the VAE alone", ">= 0.8", "sharpness_kept", lambda x: x >= 0.8),
        *_likeness(people),
        Row(
            f"drift over {LONG_SECONDS:.0f} s, grey levels, mean of the channels, 25 frames",
            "<= 3",
            _values("drift", long),
            lambda x: x <= 3,
            _values("true_drift", long),
        ),
    ]


def _likeness(people: Lines) -> list[Row]:
    """Distance of dlib's descriptors, that reads photographs only: below 0.6 it takes two for one person."""
    values, true = (
        [x for second in h.LIKENESS_SECONDS for x in _values(f"{kind}likeness_{second}s", people)]
        for kind in ("", "true_")
    )
    title = "distance of the face to the portrait at 1, 3 and 5 s"
    return [
        Row(f"{title}, median", "<= 0.40", values, lambda x: x <= 0.40, true, 0.5),
        Row(f"{title}, 95 %", "<= 0.60", values, lambda x: x <= 0.60, true, 0.95),
    ]


def _values(key: str, lines: Lines) -> list[float]:
    return [float(line[key]) for line in lines if key in line]


@dataclass(frozen=True)
class Stage:
    """Where the films of songs of one length lie, and who makes them."""

    folder: Path
    models: h.Models
    options: Any
    seconds: float
    faces: Faces | None = None
    reader: FaceReader | None = None

    @staticmethod
    def of(out: Path, models: h.Models, options: Any, seconds: float, faces: Faces | None) -> Stage:
        key = h.key_of(models, options, seconds=seconds, faces=faces and faces.fingerprint)
        folder = out / f"{models.fingerprint}-{seconds:g}s-{hashlib.sha256(key.encode()).hexdigest()[:6]}"
        return Stage(folder, models, options, seconds, faces, FaceReader() if faces else None)

    def film(self, number: int, way: str) -> tuple[Show, h.Frames]:
        """Who sings, and the frames of the film, rendered unless it is there."""
        show = h.show(number, self.seconds, self.models.size, self.faces)
        films.add_truth(self.folder, number, show)

        def render() -> h.Frames:
            heard = h.shuffled(show) if way == SHUFFLED else None
            return h.render(self.models, show, self.options, heard)[0]

        return show, films.frames_of(films.add_render(self.folder, way, number, render, show.fps))

    def measured(self, way: str, numbers: Sequence[int]) -> Lines:
        """What `singer evaluate` says of each film."""
        clips = ("--clip-frames", str(self.options.clip_frames), "--overlap", str(self.options.overlap))
        return films.measured(self.folder, way, numbers, *clips)["each"]

    def person(self, number: int) -> dict[str, Any]:
        """What only the maker of the true frames knows of one person's film. Colours in percent."""
        show, made = self.film(number, RENDERED)
        truth = h.true_frames(show)
        h.save_picture(self.folder / "strips" / f"{number}.png", h.strip(truth, made))
        found, true, alone = (
            h.measure(show, truth, frames, self.options, self.reader)
            for frames in (made, truth, redrawn(self.models, truth))
        )
        for measures in (found, true):
            measures |= {key: 100 * value for key, value in measures.items() if key.startswith("colour_")}
        return {
            **found,
            **{f"true_{name}": value for name, value in true.items()},
            "psnr_lost": alone["psnr_first"] - found["psnr_first"],
            "sharpness_kept": found["sharpness"] / alone["sharpness"],
        }

    def control(self, number: int) -> dict[str, Any]:
        """How far the mouth follows the true song where the network heard pieces of it in another order."""
        show, made = self.film(number, SHUFFLED)
        opening = h.measure(show, h.true_frames(show), made, self.options, self.reader)["opening"]
        return {"sync": h.correlation(np.array(opening), show.motion.opening)}


def redrawn(models: h.Models, frames: h.Frames) -> h.Frames:
    """Frames (s, H, W, 3) through the VAE and back: as good as any render can be."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    return h.as_frames(models.vae.decode(models.vae.encode(part)) for part in pixels.split(16))


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


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for films and results")
    parser.add_argument("--checkpoint", type=Path, help="default: the built-in model")
    parser.add_argument("--vae", type=Path, help="default: the built-in VAE")
    parser.add_argument("--faces", type=Path, help="folder of photographs with faces.json")
    parser.add_argument("--people", type=int, default=8, help="of each group")
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
    return parser


def group(args: argparse.Namespace, stages: tuple[Stage, Stage], name: str, step: int) -> str:
    """The table of a group of people; the `step`-th number of each two where there are two groups."""
    short, long = stages
    stride = 2 if short.faces else 1
    numbers, long_numbers = (
        range(first + step, first + step + stride * count, stride)
        for first, count in ((args.first, args.people), (FIRST_LONG, args.long))
    )
    people = [short.person(number) for number in numbers]
    control = [short.control(number) for number in numbers[: args.shuffled]]
    long_people = [long.person(number) for number in long_numbers]
    found = [
        stage.measured(way, who) if who else []
        for stage, who in ((short, numbers), (long, long_numbers))
        for way in (RENDERED, films.TRUE)
    ]
    sheet([short.folder / "strips" / f"{number}.png" for number in numbers], args.out / f"{name}.jpg")
    return "\n".join([
        f"**{name.capitalize()}**\n",
        HEAD,
        "| **by `singer evaluate`** | | | | | | | |",
        *(row.markdown() for row in command_rows(*found)),
        "| **measured beside it** | | | | | | | |",
        *(row.markdown() for row in world_rows(people, control, long_people) if row.values),
    ])  # fmt: skip


def main() -> None:
    args = arguments().parse_args()
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)
    packaged = h.packaged()
    models = h.Models.load(args.checkpoint or packaged[0], args.vae or packaged[1])
    options = chosen_options(args.set)
    faces = None if args.faces is None else read_faces(args.faces, judged=True)
    stages = (
        Stage.of(args.out, models, options, args.seconds, faces),
        Stage.of(args.out, models, options, LONG_SECONDS, faces),
    )
    names = GROUPS if faces else GROUPS[:1]
    text = "\n\n".join(group(args, stages, name, step) for step, name in enumerate(names))
    write_text(args.out / "card.md", f"{text}\n")
    if args.write:
        h.fill_in(args.write, "measures", text)
    print(text)


if __name__ == "__main__":
    main()
