"""A data set measured by one command: pairs of generated and true videos -> the table of a paper.

    FOLDER/generated/NAME.mp4     what a model made
    FOLDER/truth/NAME.mp4         what was filmed, with its sound
    FOLDER/vocals/NAME.wav        separated voices (optional)
    FOLDER/landmarks/NAME.json    of the generated videos (optional)
    FOLDER/portraits/NAME.png     what was animated, for the identity (optional)
    FOLDER/test.txt               the NAMEs that count, one a line (optional; without it, all)
    FOLDER/results/               written: a JSON for every pair, features for FID and FVD

A pair that is measured is not measured again unless its files or the settings change. With
`accelerate launch` the pairs are shared out among processes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import html
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..files import read_text, renamed_on_success, write_text
from ..portrait.image import read_image
from ..processes import shared_state
from .distance import frechet_distance
from .evaluate import Material, evaluate
from .files import PICTURES, Files, read_material
from .footage import open_footage
from .metric import BY_KEY, METRICS, Metric, NotComputedError, shown
from .networks import WINDOW, film_features
from .report import grouped, page_of

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
SET_METRICS = ("fid", "fvd")  # of the whole set, not means over pairs
RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Protocol:
    """How a data set is measured.

    fps      at which generated and true videos are compared: the rate of the network
    filmed   rate of the data set; its videos are brought to `fps`, and to the size of the generated ones
    window   frames of a window of FVD; windows do not overlap
    """

    name: str
    fps: float
    filmed: float
    window: int = WINDOW


PROTOCOLS = {
    "singinghead": Protocol("singinghead", fps=25.0, filmed=30.0),
    "shv": Protocol("shv", fps=25.0, filmed=25.0),
}


def run_protocol(
    protocol: Protocol,
    folder: Path,
    files: Files,
    table_file: Path | None = None,
    page_file: Path | None = None,
) -> dict[str, Any] | None:
    """Measure all pairs of a folder and aggregate; returns the table, None in all but the main process.

    files   settings; what belongs to one video is taken from the folder instead
    Raises FileNotFoundError for a folder without pairs, ValueError where the lists do not match the files.
    """
    pairs = find_pairs(folder)
    cpu = files.device is None or files.device.type == "cpu"
    state = shared_state(cpu, "Measuring a data set")
    files = dataclasses.replace(files, device=state.device)  # each process its own
    with state.split_between_processes(pairs) as mine:
        for pair in mine:
            measure_pair(protocol, pair, folder / "results", files)
    state.wait_for_everyone()
    if not state.is_main_process:
        return None
    table = aggregate(protocol, pairs, folder / "results")
    if table_file is not None:
        write_text(table_file, json.dumps(table, indent=1, allow_nan=False))
    if page_file is not None:
        write_text(page_file, summary_page(table))
    return table


@dataclass(frozen=True)
class Pair:
    """The files of one name."""

    name: str
    generated: Path
    truth: Path
    vocals: Path | None = None
    landmarks: Path | None = None
    portrait: Path | None = None


def find_pairs(folder: Path) -> list[Pair]:
    """The pairs of a folder, those of its test.txt where there is one, in the order of their names."""
    made, true = (_by_name(folder / part, ENDINGS) for part in ("generated", "truth"))
    listed = folder / "test.txt"
    names = sorted(set(made) & set(true))
    if listed.is_file():
        wanted = [line.strip() for line in read_text(listed).splitlines() if line.strip()]
        absent = [name for name in wanted if name not in names]
        if absent:
            raise ValueError(
                f"{listed.name} names {len(absent)} pairs that are not in generated/ and truth/, such as "
                f"{', '.join(absent[:3])}. Add the videos, or take the names out."
            )
        names = sorted(set(wanted))
    if not names:
        raise FileNotFoundError(
            f"There are no pairs in {folder}: generated/ holds {len(made)} videos, truth/ {len(true)}, none "
            "of one name. Call them generated/NAME.mp4 and truth/NAME.mp4."
        )
    parts = {"vocals": (".wav", ".flac"), "landmarks": (".json",), "portraits": PICTURES}
    optional = [_by_name(folder / part, endings) for part, endings in parts.items()]
    return [Pair(name, made[name], true[name], *(part.get(name) for part in optional)) for name in names]


def measure_pair(protocol: Protocol, pair: Pair, results: Path, files: Files) -> Path:
    """Write NAME.json (and NAME.fid.npy, NAME.fvd.npy) of a pair; what is there already stays."""
    target = results / f"{pair.name}.json"
    stamp = _stamp(protocol, pair, files)
    if target.is_file() and json.loads(target.read_text(encoding="utf-8")).get("stamp") == stamp:
        return target
    results.mkdir(parents=True, exist_ok=True)
    own = dataclasses.replace(
        files, reference=pair.truth, audio=files.audio or pair.truth, vocals=pair.vocals,
        landmarks=pair.landmarks, reference_landmarks=None, fps=protocol.fps,
    )  # fmt: skip
    filmed = open_footage(pair.truth).fps
    if abs(filmed / protocol.filmed - 1) > 0.01:
        logger.warning(
            "%s has %.6g fps; %s is filmed at %g.", pair.truth, filmed, protocol.name, protocol.filmed
        )
    material = read_material(pair.generated, own)
    if pair.portrait is not None:
        material = dataclasses.replace(material, portrait=read_image(pair.portrait))
    found = evaluate(dataclasses.replace(material, set_metrics=False)).to_json()
    lacking = set(found["lacking"])
    for key in SET_METRICS:
        try:
            _write_features(key, material, results, pair.name)
        except NotComputedError as error:
            found["not_computed"][key] = str(error)
            lacking |= {key} if error.lacking else set()
    return write_text(target, json.dumps({**found, "stamp": stamp, "lacking": sorted(lacking)}))


def _write_features(key: str, material: Material, results: Path, name: str) -> None:
    """Features of both videos of a pair, NAME.KEY.PART.npy."""
    assert material.reference is not None  # the truth is a video
    for part, film in (("generated", material.footage), ("truth", material.reference)):
        path = results / f"{name}.{key}.{part}.npy"
        path.unlink(missing_ok=True)  # of other networks or videos
        features = film_features(key, film, material.weights, material.device)
        with renamed_on_success(path) as temporary:
            np.save(temporary, features)


def aggregate(protocol: Protocol, pairs: Sequence[Pair], results: Path) -> dict[str, Any]:
    """Mean, 95 % interval and count of every metric over the pairs; FID and FVD of the set.

    Of what is best near 0 also the mean size, because in the mean +3 and -3 cancel.
    The interval is the percentile bootstrap over pairs, 2000 resamples, always the same ones. FID and FVD
    have none: they are biased by the number of samples, which is stated instead.
    """
    rows = [json.loads((results / f"{pair.name}.json").read_text(encoding="utf-8")) for pair in pairs]
    metrics: dict[str, Any] = {}
    for metric in METRICS:
        values = [row["metrics"][metric.key]["value"] for row in rows if metric.key in row["metrics"]]
        if values:
            low, high = bootstrap_interval(np.array(values))
            metrics[metric.key] = {
                "mean": float(np.mean(values)), "low": low, "high": high, "pairs": len(values),
                "unit": metric.unit, "better": metric.better,
            }  # fmt: skip
            if metric.better == "near 0":
                metrics[metric.key]["size"] = float(np.mean(np.abs(values)))
    missing = {key: reason for row in rows for key, reason in row["not_computed"].items()}
    lacking = {key for row in rows for key in row["lacking"]}
    for key in SET_METRICS:
        sets = [_load(results, pairs, key, part) for part in ("generated", "truth")]
        if min(len(features) for features in sets) >= 2:
            value = frechet_distance(*sets)
            metrics[key] = {"mean": value, "samples": [len(features) for features in sets],
                            "unit": "", "better": "lower"}  # fmt: skip
            missing.pop(key, None)
            lacking.discard(key)
    return {
        "singer": __version__,
        "protocol": asdict(protocol),
        "pairs": [pair.name for pair in pairs],
        "interval": f"percentile bootstrap over pairs, {CONFIDENCE:.0%}, {RESAMPLES} resamples",
        "metrics": metrics,
        "not_computed": {key: reason for key, reason in missing.items() if key not in metrics},
        "lacking": sorted(lacking),
    }


def bootstrap_interval(values: Floats, seed: int = 0) -> tuple[float, float]:
    """95 % interval of a mean: quantiles of the means of 2000 resamples. One value gives itself twice."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, (edge, 1 - edge))
    return float(low), float(high)


def summary_text(table: Mapping[str, Any]) -> str:
    """The table for a terminal."""
    name, fps = table["protocol"]["name"], table["protocol"]["fps"]
    lines = [
        f"{name}: {len(table['pairs'])} pairs at {fps:g} fps; {table['interval']}",
        "",
    ]
    lines += [f"{metric.title:<42} {value:>24}  {spread}".rstrip() for metric, value, spread in _rows(table)]
    if table["not_computed"]:
        lines += ["", "not computed:", *(f"  {key}: {why}" for key, why in table["not_computed"].items())]
    return "\n".join(lines)


def summary_page(table: Mapping[str, Any]) -> str:
    """The table as an HTML file."""
    title = f"{table['protocol']['name']}: {len(table['pairs'])} pairs"
    rows = []
    for metric, value, spread in _rows(table):
        cells = (metric.title, value, spread, metric.better, metric.published)
        classes = ("", "value", "quiet", "quiet", "quiet")
        both = zip(cells, classes, strict=True)
        row = "".join(f"<td class='{name}'>{html.escape(text)}</td>" for text, name in both)
        rows.append((metric, f"<tr>{row}</tr>"))
    missing = "".join(f"<li>{key}: {html.escape(why)}</li>" for key, why in table["not_computed"].items())
    head = (
        "<tr><th>metric</th><th class='value'>mean</th><th>95 % interval</th><th>better</th>"
        "<th>the authors' SINGER</th></tr>"
    )
    return page_of(
        title,
        f"<h1>{html.escape(title)}</h1>"
        f"<p class='facts'>{table['protocol']['fps']:g} fps; {html.escape(table['interval'])}</p>"
        f"<div class='wide'><table>{head}{grouped(rows, 5)}</table></div>"
        f"<h2>Not computed</h2><ul class='quiet'>{missing}</ul>",
    )


def _rows(table: Mapping[str, Any]) -> list[tuple[Metric, str, str]]:
    """(metric, mean, interval or counts) of what was measured."""
    rows = []
    for key, entry in table["metrics"].items():
        if "low" in entry:
            places = BY_KEY[key].decimals + 1
            spread = f"[{entry['low']:.{places}f}, {entry['high']:.{places}f}] of {entry['pairs']}"
            spread += f", mean size {entry['size']:.{places}f}" if "size" in entry else ""
        else:
            spread = f"{entry['samples'][0]} against {entry['samples'][1]} samples"
        rows.append((BY_KEY[key], shown(key, entry["mean"]), spread))
    return rows


def _by_name(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in endings}


def _stamp(protocol: Protocol, pair: Pair, files: Files) -> str:
    """Changes with the files of a pair, the networks at hand and the settings."""
    optional = (pair.vocals, pair.landmarks, pair.portrait)
    used = [pair.generated, pair.truth, *(path for path in optional if path)]
    used += sorted(files.weights.glob("*")) if files.weights.is_dir() else []
    sizes = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in used]
    settings = (asdict(protocol), files.clip_frames, files.overlap, files.lip_box, sizes, __version__)
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]


def _load(results: Path, pairs: Sequence[Pair], key: str, part: str) -> Floats:
    """Features of all pairs, (n, d); empty where one of them has none."""
    paths = [results / f"{pair.name}.{key}.{part}.npy" for pair in pairs]
    if not all(path.is_file() for path in paths):
        return np.zeros((0, 0))
    return np.concatenate([np.load(path, allow_pickle=False) for path in paths])
