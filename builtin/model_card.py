"""What the built-in model's card states: held-out people sing held-out songs, and their frames are measured.

    python -m builtin.model_card --out FOLDER [--checkpoint FILE --vae FILE] [--faces FOLDER] [--people 20]

With `--faces` every second person is a photograph, and there are two tables. Mouths and colours are read of
pixels where the world is drawn, by dlib (`reader.py`) where it is not; *true* is the same of the true frames.
Writes FOLDER/card.md, FOLDER/strips (16 frames below the truth of each person) and FOLDER/model_card.jpg,
the strips of four drawn people; nothing of a photograph is published. `--write docs/model_card.md` puts the
tables between its lines <!-- measures --> and <!-- /measures -->. A run that was stopped goes on behind its
last song.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from singer_core.files import write_text
from singer_core.training.config import read_config
from singer_core.training.trainer import Trainer

from . import held_out as h
from .drawn import DrawnWorld, draw_dataset
from .faces import Faces, read_faces
from .pictures import HELD_OUT_SEED
from .reader import FaceReader

LONG_SECONDS = 20.0
FIRST_LONG = 900  # number of the first person who sings a long song
GROUPS = ("drawn people", "photographs")
SHEET_PEOPLE, SHEET_BYTES = 4, 400_000
WRONGED, WRONGED_SECONDS = 8, 2.0  # people who are given another's portrait, and how long they sing

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


TITLES = ("measure", "asked for", "mean", "deviation", "least .. most", "count", "true", "met")
HEAD = f"| {' | '.join(TITLES)} |\n{'|---' * len(TITLES)}|"


def rows(people: Lines, control: Lines, long: Lines, wronged: Lines) -> list[Row]:
    """Of a group: of all, of those whose song is shuffled, who sing long, and who get a wrong portrait."""

    def row(
        title: str, asked: str, key: str, good: Callable[[float], bool] | None, of: Lines = people
    ) -> Row:
        return Row(title, asked, _values(key, of), good, _values(f"true_{key}", of))

    seams, beyond = "motion at seams over inside", f"({LONG_SECONDS:.0f} s)"
    return [
        row("mouth opening against the true one, best lag", ">= 0.8", "sync", lambda x: x >= 0.8),
        row("that lag, frames", "-1 .. 1", "lag", lambda x: abs(x) <= 1),
        row("the same under shuffled audio, lag 0", "< 0.2", "sync", lambda x: x < 0.2, control),
        row("mouth motion in true rests over sung parts", "<= 0.25", "rest_motion", lambda x: x <= 0.25),
        row("PSNR of frame 0, dB", "", "psnr_first", None),
        row("the same below that of the VAE alone, dB", "<= 2", "psnr_lost", lambda x: x <= 2),
        *(
            row(f"colour error of {region}, % of full scale", "<= 3", f"colour_{region}", lambda x: x <= 3)
            for region in h.AROUND_FACE
        ),
        *_likeness(people),
        row("sharpness, share of that of the VAE alone", ">= 0.8", "sharpness_kept", lambda x: x >= 0.8),
        row(seams, "<= 1.10", "seam_ratio", lambda x: x <= 1.10),
        row(f"{seams} {beyond}", "<= 1.10", "seam_ratio", lambda x: x <= 1.10, long),
        Row(
            "the same over that of the true frames, both lengths, median",
            "<= 1.10",
            _values("seam_excess", [*people, *long]),
            lambda x: x <= 1.10,
            level=0.5,
        ),
        row(f"drift, grey levels, first to last second {beyond}", "<= 3", "drift", lambda x: x <= 3, long),
        row("loss with a wrong person over the right one", ">= 3", "wrong", lambda x: x >= 3, wronged),
        row(
            "the same, through the reference attention alone",
            ">= 1.3",
            "attention",
            lambda x: x >= 1.3,
            wronged,
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
class Judge:
    """Renders people and measures them, each song once: what `ledger` has is not made again."""

    out: Path
    models: h.Models
    ledger: h.Ledger
    seconds: float
    faces: Faces | None
    reader: FaceReader | None

    @staticmethod
    def of(out: Path, models: h.Models, seconds: float, faces: Faces | None) -> Judge:
        return Judge(
            out, models, h.Ledger(out / "card.jsonl"), seconds, faces, FaceReader() if faces else None
        )

    def found(self, what: Callable[[int], dict[str, Any]], number: int, seconds: float) -> dict[str, Any]:
        names = {"what": what.__name__, "number": number, "seconds": seconds}
        key = h.key_of(self.models, h.DEMO, **names, faces=self.faces and self.faces.fingerprint)
        if key not in self.ledger.found:
            print(what.__name__, number, flush=True)
            self.ledger.add(key, what(number))
        return self.ledger.found[key]

    def show(self, number: int, seconds: float) -> h.Show:
        return h.show(number, seconds, self.models.size, self.faces)

    def person(self, number: int) -> dict[str, Any]:
        """Every measure of a song, colours in percent."""
        show = self.show(number, self.seconds)
        made, _ = h.render(self.models, show, h.DEMO)
        truth = h.true_frames(show)
        alone = redrawn(self.models, truth)
        h.save_picture(self.out / "strips" / f"{number}.png", h.strip(truth, made))
        found, true = (h.measure(show, truth, frames, h.DEMO, self.reader) for frames in (made, truth))
        for measures in (found, true):
            measures |= {key: 100 * value for key, value in measures.items() if key.startswith("colour_")}
        return {
            **found,
            **{f"true_{name}": value for name, value in true.items()},
            "psnr_lost": h.psnr(alone[0], truth[0]) - found["psnr_first"],
            "sharpness_kept": h.sharpness(made) / h.sharpness(alone),
            "seam_excess": found["seam_ratio"] / true["seam_ratio"],
        }

    def control(self, number: int) -> dict[str, Any]:
        """How far the mouth follows the true song where the network heard pieces of it in another order."""
        show = self.show(number, self.seconds)
        made, _ = h.render(self.models, show, h.DEMO, h.shuffled(show))
        return {"sync": h.correlation(h.opening(show, made, self.reader), show.motion.opening)}

    def long(self, number: int) -> dict[str, Any]:
        """Seams and drift, of the true frames too."""
        show = self.show(number, LONG_SECONDS)
        made, _ = h.render(self.models, show, h.DEMO)
        truth, places = h.true_frames(show), h.joints(len(made), h.DEMO)
        seams, true = (h.seam_ratio(frames, places) for frames in (made, truth))
        drift, moved = (float(h.drifts(frames)[-1]) for frames in (made, truth))
        return {
            "seam_ratio": seams,
            "true_seam_ratio": true,
            "seam_excess": seams / true,
            "drift": drift,
            "true_drift": moved,
        }

    def wronged(self, step: int) -> dict[str, Any]:
        """Loss of clips with another's portrait over that with their own; in all inputs, in the reference."""
        world = (DrawnWorld, Photographed)[step]
        folder = self.out / f"wronged-{GROUPS[step].replace(' ', '-')}"
        items = world(
            WRONGED,
            self.models.size,
            HELD_OUT_SEED // 1_000_000,
            self.faces if step else None,
            seconds=WRONGED_SECONDS,
        )
        draw_dataset(items, folder, self.models.vae)
        network = self.models.network
        config = read_config(Path(__file__).with_name("stage2.toml")).but(
            data=folder, output=folder / "log", start=None, architecture=network.architecture
        )
        found = Trainer(config, network).sensitivity()
        assert found is not None  # eight people
        network.eval().requires_grad_(False)
        return {"wrong": found.wrong / found.right, "attention": found.attention / found.right}


class Photographed(DrawnWorld):
    """Photographs alone."""

    EVERY = 1


def redrawn(models: h.Models, frames: h.Frames) -> h.Frames:
    """Frames (s, H, W, 3) through the VAE and back: as good as any render can be."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    return h.as_frames(models.vae.decode(models.vae.encode(part)) for part in pixels.split(16))


def sheet(strips: list[Path], target: Path) -> None:
    """The strips below each other as a JPEG of at most `SHEET_BYTES`."""
    picture = Image.fromarray(np.concatenate([np.asarray(Image.open(path)) for path in strips]))
    for quality in range(90, 30, -5):
        picture.save(target, quality=quality)
        if target.stat().st_size <= SHEET_BYTES:
            return


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for strips and results")
    parser.add_argument("--checkpoint", type=Path, help="default: the built-in model")
    parser.add_argument("--vae", type=Path, help="default: the built-in VAE")
    parser.add_argument("--faces", type=Path, help="folder of photographs with faces.json")
    parser.add_argument("--people", type=int, default=20, help="of both groups together")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each song")
    parser.add_argument("--long", type=int, default=5, help=f"of them sing {LONG_SECONDS:.0f} s too")
    parser.add_argument("--shuffled", type=int, default=6, help="of them hear their song shuffled too")
    parser.add_argument("--write", type=Path, help="document to put the tables into")
    return parser


def group(args: argparse.Namespace, judge: Judge, step: int) -> str:
    """The table of a group: every number, or every second where there are photographs."""

    def numbers(first: int, count: int) -> range:
        return range(first + step, first + count, 2 if judge.faces else 1)

    people = [judge.found(judge.person, n, args.seconds) for n in numbers(0, args.people)]
    control = [judge.found(judge.control, n, args.seconds) for n in numbers(0, args.shuffled)]
    long = [judge.found(judge.long, n, LONG_SECONDS) for n in numbers(FIRST_LONG, args.long)]
    wronged = [judge.found(judge.wronged, step, WRONGED_SECONDS)]
    lines = [row.markdown() for row in rows(people, control, long, wronged) if row.values]
    return "\n".join([f"**{GROUPS[step].capitalize()}**\n", HEAD, *lines])


def main() -> None:
    args = arguments().parse_args()
    logging.basicConfig(level=logging.ERROR)
    packaged = h.packaged()
    models = h.Models.load(args.checkpoint or packaged[0], args.vae or packaged[1])
    faces = None if args.faces is None else read_faces(args.faces, judged=True)
    judge = Judge.of(args.out, models, args.seconds, faces)
    text = "\n\n".join(group(args, judge, step) for step in range(2 if faces else 1))
    drawn = range(0, args.people, 2 if faces else 1)[:SHEET_PEOPLE]
    sheet([args.out / "strips" / f"{number}.png" for number in drawn], args.out / "model_card.jpg")
    write_text(args.out / "card.md", f"{text}\n")
    if args.write:
        h.fill_in(args.write, "measures", text)
    print(text)


if __name__ == "__main__":
    main()
