"""The study of docs/study.md: what the spectral modules do, on held-out people and songs.

    python -m builtin.study run --out FOLDER [--checkpoint FILE --vae FILE] [--seeds 8] [--minutes 10]
    python -m builtin.study table --out FOLDER [--write docs/study.md]

`run` renders the same people and songs under every variant and adds a line to FOLDER/study.jsonl for each
variant and seed; it stops when `--minutes` are over or `--seeds` are done, and goes on where it stopped.
Seeds come one after the other, so that all variants are as far. `table` prints what was found; `--write` puts
it into the document. What the modules do in training is ablation.py's question.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from singer_core import constants
from singer_core.audio.features import AudioFeatures
from singer_core.audio.logmel import LogMelFrontEnd
from singer_core.audio.waveform import Waveform
from singer_core.files import write_text
from singer_core.network.backbone import SingerNetwork
from singer_core.settings import BandGains

from . import held_out as h
from .drawn import DrawnWorld
from .world import Performance

FIRST_NUMBER = 100  # people 100, 101, ...: not those of the model card
SECONDS = 2.32  # four clips that share two frames
STYLES = ("operatic", "rap", "growl")
LENGTHS = (0.1, 0.4, 1.0, 2.0, 4.0)  # seconds
WAVELETS = ("db2", "sym4", "bior2.2")


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    flat     the MSM's gains are replaced by their mean, the same for all bands
    audio    "song", or "shuffled": pieces of 0.32 s in an order that does not match the true one
    excerpt  seconds from the first note on; None = the whole song
    """

    group: str
    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    flat: bool = False
    audio: str = "song"
    style: str = "pop"
    excerpt: float | None = None


OFF: dict[str, Any] = {"msm_input": "off"}
FULL = Variant("modules", "full")
VARIANTS = (
    FULL,
    Variant("modules", "MSM flat: its mean gain on every band", flat=True),
    Variant("modules", "MSM off: gains of 1", OFF),
    Variant("modules", "SFM off", {"sfm_strength": 0.0}),
    Variant("modules", "MSM flat and SFM off", {"sfm_strength": 0.0}, flat=True),
    Variant("modules", "MSM and SFM off", {**OFF, "sfm_strength": 0.0}),
    Variant("modules", "shuffled audio", audio="shuffled"),
    *(Variant("MSM input", name, {"msm_input": name}) for name in ("initial_noise", "expected", "locked")),
    *(Variant("wavelet", name, {"wavelet": name}) for name in WAVELETS),
    *(Variant("style", name, style=name) for name in STYLES),
    *(Variant("length", f"{length:g} s", excerpt=length) for length in LENGTHS),
)


@dataclass(frozen=True)
class Case:
    """What is rendered and compared: a performance, the frames of it that count, and what is heard."""

    show: Performance
    first: int
    truth: h.Frames
    heard: AudioFeatures

    @staticmethod
    def of(variant: Variant, number: int, size: int) -> Case:
        seconds = max(SECONDS, 1.0 + (variant.excerpt or 0.0))
        show = h.performance(number, seconds, size, variant.style)
        if variant.excerpt is None:
            heard = h.shuffled(show) if variant.audio == "shuffled" else h.features_of(show)
            return Case(show, 0, h.true_frames(show), heard)
        first = int(show.song.score.notes[0].start * show.fps)
        rate = show.song.rate
        start = round(first / show.fps * rate)
        sound = torch.from_numpy(show.song.vocals[start : start + round(variant.excerpt * rate)])[None]
        heard = LogMelFrontEnd(*DrawnWorld(1).mels).encode(Waveform(sound, rate), show.fps)
        truth = np.stack([show.frame(first + i) for i in range(heard.frames)])
        return Case(show, first, truth, heard)

    @property
    def true_opening(self) -> h.Floats:
        return self.show.motion.opening[self.first : self.first + len(self.truth)]


def measured(case: Case, made: h.Frames, options: Any) -> dict[str, Any]:
    """The study's measures of a render.

    sync     correlation of measured and true opening at lag 0
    error    mean absolute difference of the openings measured in render and truth, over that of the portrait
    """
    opening, drawn = h.openings(case.show, made), h.openings(case.show, case.truth)
    still = h.openings(case.show, case.show.frame(0)[None])[0]
    error = float(np.abs(opening - drawn).mean() / max(np.abs(still - drawn).mean(), 1e-6))
    sung = case.show.motion.sung[case.first : case.first + len(made)]
    return {
        "sync": h.correlation(opening, case.true_opening),
        "error": error,
        "rest_motion": h.rest_motion(opening, sung) if len(made) > 1 else float("nan"),
        "psnr": h.psnr(made, case.truth),
        "seam_ratio": h.seam_ratio(made, h.joints(len(made), options)),
        "sharpness": h.sharpness(made) / h.sharpness(case.truth),
        "opening": [round(float(x), 4) for x in opening],
        "true": [round(float(x), 4) for x in case.true_opening],
    }


def options_of(variant: Variant, network: SingerNetwork) -> Any:
    """The demo's options under the variant."""
    options = h.DEMO.but(**variant.changes)
    if variant.flat:
        mean = float(mean_gains(network).mean())
        options = options.but(msm_input="off", band_gains=BandGains(mean, mean, mean, mean))
    return options


def mean_gains(network: SingerNetwork) -> torch.Tensor:
    """Expected gain of each band as it acts, (4,); ones without an MSM."""
    module = network.adapter.multi_scale_spectral
    return torch.ones(4) if module is None else module.expected_gains(constants.TRAINED_CLIP_FRAMES)


def run(args: argparse.Namespace) -> None:
    models, ledger = load_models(args), h.Ledger(args.out / "study.jsonl")
    end = time.monotonic() + 60 * args.minutes
    for number in range(FIRST_NUMBER, FIRST_NUMBER + args.seeds):
        for variant in VARIANTS:
            options = options_of(variant, models.network)
            key = h.key_of(models, options, variant=dataclasses.asdict(variant), person=number)
            if key in ledger.found:
                continue
            if time.monotonic() > end:
                break
            case = Case.of(variant, number, models.size)
            made, seconds = h.render(models, case.show, options, case.heard)
            values = measured(case, made[: len(case.truth)], options)
            names = {"weights": models.fingerprint, "group": variant.group, "variant": variant.name}
            ledger.add(key, {**names, "number": number, **values, "seconds": seconds})
            print(
                number, variant.group, variant.name, f"{values['sync']:.3f}", f"{seconds:.0f} s", flush=True
            )
    gains = ", ".join(f"{gain:.2f}" for gain in mean_gains(models.network))
    write_text(args.out / "gains.md", f"Expected gains of the bands LL, LH, HL, HH: {gains}.\n")
    table(args)


TITLES = ("sync", "against full", "opening error", "rest motion", "PSNR, dB", "seam ratio", "seeds")
COLUMNS = ("error", "rest_motion", "psnr", "seam_ratio")


def table(args: argparse.Namespace) -> None:
    """Print the tables of the newest weights in the ledger, and write them to study.md."""
    lines = list(h.Ledger(args.out / "study.jsonl").found.values())
    if not lines:
        raise SystemExit(f"There is nothing in {args.out / 'study.jsonl'}. Run the step `run` first.")
    lines = [line for line in lines if line["weights"] == lines[-1]["weights"]]
    full = {line["number"]: line for line in lines if line["variant"] == FULL.name}
    text = []
    for group in dict.fromkeys(variant.group for variant in VARIANTS):
        text += ["", f"| {group} | {' | '.join(TITLES)} |", f"|---{'|---' * len(TITLES)}|"]
        names = [variant.name for variant in VARIANTS if variant.group == group]
        for name in names if group == FULL.group else [FULL.name, *names]:
            own = [line for line in lines if line["variant"] == name and line["group"] in (group, FULL.group)]
            if own:
                text.append(table_row(name, own, full))
    gains = args.out / "gains.md"
    text += ["", gains.read_text(encoding="utf-8").strip() if gains.exists() else ""]
    write_text(args.out / "study.md", "\n".join(text).strip() + "\n")
    if args.write:
        h.fill_in(args.write, "tables", "\n".join(text))
    print("\n".join(text))


def table_row(name: str, own: list[dict[str, Any]], full: dict[int, dict[str, Any]]) -> str:
    paired = [line["sync"] - full[line["number"]]["sync"] for line in own if line["number"] in full]
    cells = [spread([line["sync"] for line in own]), spread(paired) if name != FULL.name else "-"]
    cells += [spread([line[column] for line in own]) for column in COLUMNS]
    return f"| {name} | {' | '.join(cells)} | {len(own)} |"


def spread(values: Iterable[float]) -> str:
    """Mean of the finite values, and half of its interval."""
    found = np.array([value for value in values if math.isfinite(value)])
    if not len(found):
        return "-"
    return f"{found.mean():.3f} ± {h.half_width(found):.3f}" if len(found) > 1 else f"{found.mean():.3f}"


def load_models(args: argparse.Namespace) -> h.Models:
    if args.checkpoint is None or args.vae is None:
        packaged = h.packaged()
        args.checkpoint, args.vae = args.checkpoint or packaged[0], args.vae or packaged[1]
    return h.Models.load(args.checkpoint, args.vae)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    steps = {"run": run, "table": table}
    parser.add_argument("step", choices=tuple(steps))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, help="default: the built-in model")
    parser.add_argument("--vae", type=Path, help="default: the built-in VAE")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10.0, help="run: begin no render after these")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT", help="put the tables into it")
    args = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)
    steps[args.step](args)


if __name__ == "__main__":
    main()
