"""Does the measure of singing put models in the right order? Held-out people sing held-out songs four ways:

    truth       the drawn frames themselves
    full        the built-in model
    bare        the same without its two wavelet modules (MSM and SFM)
    shuffled    the full model that hears the song in pieces of 0.32 s, put together in another order

    python bench/evaluation.py --out FOLDER [--checkpoint FILE --vae FILE] [--people 6 --seconds 4]

Every render is measured by `singer_core.evaluation`, as `singer evaluate` does: mouth opening from a lip box
(no landmarks), against the vocals. Writes FOLDER/order.md and FOLDER/order.html; a render is made once and
its numbers lie in FOLDER/renders.jsonl.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
from collections.abc import Callable
from pathlib import Path

import held_out as h
import numpy as np
import torch

from singer_core.audio.waveform import Waveform
from singer_core.evaluation.evaluate import Evaluation, Material, evaluate
from singer_core.evaluation.footage import footage_of
from singer_core.evaluation.mouth import portrait_lip_box
from singer_core.evaluation.protocol import bootstrap_interval
from singer_core.evaluation.report import write_html
from singer_core.evaluation.singing import best_match, vocal_level
from singer_core.files import write_text

WAYS = ("truth", "full", "bare", "shuffled")
BARE = {"msm_input": "off", "sfm_strength": 0.0}
COLUMNS = {
    "singing_sync": "mouth against vocal level, best lag",
    "sync_at_zero": "the same without a lag",
    "mouth_match": "mouth against the true frames' mouth, best lag",
    "true_opening": "colour-measured opening against the drawn one",
    "rest_motion": "motion in rests over in song",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
}


def frames_of(way: str, show: h.Performance, models: h.Models, truth: h.Frames) -> h.Frames:
    if way == "truth":
        return truth
    options = h.DEMO.but(**BARE) if way == "bare" else h.DEMO
    heard = h.shuffled(h.features_of(show)) if way == "shuffled" else None
    return h.render(models, show, options, heard)[0]


def measured(
    name: str, show: h.Performance, made: h.Frames, truth: h.Frames
) -> tuple[dict[str, float], Evaluation]:
    """Numbers of a render, and all that was found."""
    vocals = Waveform(torch.from_numpy(show.song.vocals)[None], show.song.rate)
    films = [footage_of(torch.from_numpy(x).movedim(3, 1), show.fps, name) for x in (made, truth)]
    box = portrait_lip_box(h.portrait_of(show), (show.size, show.size))
    material = Material(films[0], song=vocals, vocals=vocals, lip_box=box, reference=films[1])
    found = evaluate(material)
    level = vocal_level(vocals, show.fps, len(made))
    at_zero = best_match(found.curves["opening"], level, 0)
    extra = {
        "sync_at_zero": at_zero.correlation if at_zero else 0.0,
        "true_opening": h.correlation(h.openings(show, made), show.motion.opening),
    }
    return {**found.values, **extra}, found


def run(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    packaged = h.packaged()
    models = h.Models.load(args.checkpoint or packaged[0], args.vae or packaged[1])
    ledger = args.out / "renders.jsonl"
    known = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
    done = {row["key"]: row["values"] for row in known}
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    reports: list[Evaluation] = []
    for number in range(args.people):
        show = h.performance(number, args.seconds)
        truth: h.Frames | None = None
        for way in WAYS:
            key = f"{models.fingerprint} {way} {number} {args.seconds}"
            if key not in done:
                truth = h.true_frames(show) if truth is None else truth
                made = frames_of(way, show, models, truth)
                done[key], found = measured(f"{way} {number}", show, made, truth)
                reports += [found] if number == 0 else []
                with ledger.open("a") as stream:
                    stream.write(json.dumps({"key": key, "values": done[key]}) + "\n")
                print(key, {k: round(v, 3) for k, v in done[key].items() if k in COLUMNS}, flush=True)
            rows[way].append(done[key])
    if reports:
        write_html(args.out / "order.html", reports)
    text = table(rows) + "\n\n" + verdict(rows) + "\n"
    write_text(args.out / "order.md", text)
    print(text)


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: means with 95 % intervals over the people."""
    lines = [f"| measure | {' | '.join(WAYS)} |", "|---" * (len(WAYS) + 1) + "|"]
    for key, title in COLUMNS.items():
        cells = []
        for way in WAYS:
            values = np.array([row[key] for row in rows[way] if key in row])
            if not len(values):
                cells.append("-")
                continue
            low, high = bootstrap_interval(values)
            cells.append(f"{values.mean():.3f} [{low:.3f}, {high:.3f}]")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(rows: dict[str, list[dict[str, float]]]) -> str:
    """Whether each way sings better than the next, person by person."""
    lines = []
    for better, worse in itertools.pairwise(WAYS):
        for key in ("singing_sync", "mouth_match", "true_opening"):
            gaps = np.array([a[key] - b[key] for a, b in zip(rows[better], rows[worse], strict=True)])
            low, high = bootstrap_interval(gaps)
            holds = "holds" if gaps.mean() > 0 else "does NOT hold"
            sure = "" if low > 0 or high < 0 else ", within chance"
            lines.append(
                f"- {better} > {worse} by {COLUMNS[key]}: {holds}{sure}; mean difference {gaps.mean():+.3f} "
                f"[{low:+.3f}, {high:+.3f}], {int((gaps > 0).sum())} of {len(gaps)} people"
            )
    return "\n".join(lines)


def main() -> None:
    formatter: Callable[..., argparse.HelpFormatter] = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--vae", type=Path)
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4.0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(1)
    run(args)


if __name__ == "__main__":
    main()
