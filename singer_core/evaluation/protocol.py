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
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..files import read_json, read_text, renamed_on_success, write_text
from ..portrait.image import read_image
from ..processes import shared_state
from .evaluate import evaluate
from .fidelity import frechet_distance
from .footage import Floats, open_footage
from .material import PICTURES, Material, read_material
from .measures import BY_KEY, METRICS
from .metric import NotComputedError
from .networks import WINDOW, film_features
from .report import Row, page_of, paragraph, silent_lines, silent_list, table_of
from .settings import Files

logger = logging.getLogger(__name__)

ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
SET_METRICS = ("fid", "fvd")  # of the whole set, not means over pairs
PARTS = ("generated", "truth")
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
    protocol: Protocol, folder: Path, files: Files, device: torch.device
) -> dict[str, Any] | None:
    """Measure all pairs of a folder and aggregate; returns the table, None in all but the main process.

    files   settings; what belongs to one video is taken from the folder instead
    Raises FileNotFoundError for a folder without pairs, ValueError where the lists do not match the files.
    """
    pairs = find_pairs(folder)
    state = shared_state(device.type == "cpu", "Measuring a data set")
    with state.split_between_processes(pairs) as mine:
        for pair in mine:
            measure_pair(protocol, pair, files, state.device)  # each process has its own
    state.wait_for_everyone()
    return aggregate(protocol, pairs) if state.is_main_process else None


@dataclass(frozen=True)
class Pair:
    """The files of one name, and what is written of them in the folder `results`."""

    name: str
    results: Path
    generated: Path
    truth: Path
    vocals: Path | None = None
    landmarks: Path | None = None
    portrait: Path | None = None

    @property
    def result(self) -> Path:
        return self.results / f"{self.name}.json"

    def features(self, key: str, part: str) -> Path:
        """Of the generated or true video, for a metric of the set."""
        return self.results / f"{self.name}.{key}.{part}.npy"

    def read(self) -> dict[str, Any]:
        return read_json(self.result)


def find_pairs(folder: Path) -> list[Pair]:
    """The pairs of a folder, those of its test.txt where there is one, in the order of their names."""
    made, true = (_by_name(folder / part, ENDINGS) for part in PARTS)
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
    results = folder / "results"
    return [
        Pair(name, results, made[name], true[name], *(part.get(name) for part in optional)) for name in names
    ]


def measure_pair(
    protocol: Protocol, pair: Pair, files: Files, device: torch.device | None = None
) -> dict[str, Any]:
    """Write NAME.json (and NAME.fid.npy, NAME.fvd.npy) of a pair; what is there already stays."""
    stamp = _stamp(protocol, pair, files)
    if pair.result.is_file() and pair.read().get("stamp") == stamp:
        return pair.read()
    pair.results.mkdir(parents=True, exist_ok=True)
    own = dataclasses.replace(
        files, reference=pair.truth, audio=files.audio or pair.truth, vocals=pair.vocals,
        landmarks=pair.landmarks, reference_landmarks=None, fps=protocol.fps,
    )  # fmt: skip
    filmed = open_footage(pair.truth).fps
    if abs(filmed / protocol.filmed - 1) > 0.01:
        logger.warning(
            "%s has %.6g fps; %s is filmed at %g.", pair.truth, filmed, protocol.name, protocol.filmed
        )
    portrait = None if pair.portrait is None else read_image(pair.portrait)
    material = dataclasses.replace(
        read_material(pair.generated, own, device), portrait=portrait, set_metrics=False
    )
    found = evaluate(material).to_json()
    for key in SET_METRICS:
        try:
            _write_features(key, material, pair)
        except NotComputedError as error:
            found["not_computed"][key] = str(error)
            found["lacking"] += [key] if error.lacking else []
    write_text(pair.result, json.dumps({**found, "stamp": stamp}))
    return found


def _write_features(key: str, material: Material, pair: Pair) -> None:
    assert material.reference is not None  # the truth is a video
    for part, film in zip(PARTS, (material.footage, material.reference), strict=True):
        path = pair.features(key, part)
        path.unlink(missing_ok=True)  # of other networks or videos
        features = film_features(key, film, material.weights, material.device)
        with renamed_on_success(path) as temporary:
            np.save(temporary, features)


def aggregate(protocol: Protocol, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Mean, 95 % interval and count of every metric over the pairs; FID and FVD of the set.

    Of what is best near 0 also the mean size, because in the mean +3 and -3 cancel.
    The interval is the percentile bootstrap over pairs, 2000 resamples, always the same ones. FID and FVD
    have none: they are biased by the number of samples, which is stated instead.
    """
    rows = [pair.read() for pair in pairs]
    metrics: dict[str, Any] = {}
    for metric in METRICS:
        values = [row["metrics"][metric.key]["value"] for row in rows if metric.key in row["metrics"]]
        found = _of_set(metric.key, pairs) if metric.key in SET_METRICS else _mean(values, metric.better)
        if found:
            metrics[metric.key] = {**found, "unit": metric.unit, "better": metric.better}
    missing = {key: reason for row in rows for key, reason in row["not_computed"].items()}
    lacking = {key for row in rows for key in row["lacking"]}.difference(metrics.keys() & set(SET_METRICS))
    return {
        "singer": __version__,
        "protocol": asdict(protocol),
        "pairs": [pair.name for pair in pairs],
        "interval": f"percentile bootstrap over pairs, {CONFIDENCE:.0%}, {RESAMPLES} resamples",
        "metrics": metrics,
        "not_computed": {key: reason for key, reason in missing.items() if key not in metrics},
        "lacking": sorted(lacking),
    }


def _mean(values: Sequence[float], better: str) -> dict[str, Any]:
    """Mean, its interval and mean size over pairs; empty without any."""
    if not values:
        return {}
    low, high = bootstrap_interval(np.array(values))
    found = {"mean": float(np.mean(values)), "low": low, "high": high, "pairs": len(values)}
    return {**found, "size": float(np.mean(np.abs(values)))} if better == "near 0" else found


def _of_set(key: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Frechet's distance of the features of all pairs; empty where one of them has none."""
    paths = [[pair.features(key, part) for pair in pairs] for part in PARTS]
    if not all(path.is_file() for part in paths for path in part):
        return {}
    sets = [np.concatenate([np.load(path, allow_pickle=False) for path in part]) for part in paths]
    samples = [len(features) for features in sets]
    return {"mean": frechet_distance(*sets), "samples": samples} if min(samples) >= 2 else {}


def bootstrap_interval(values: Floats) -> tuple[float, float]:
    """95 % interval of a mean: quantiles of the means of 2000 resamples. One value gives itself twice."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, (edge, 1 - edge))
    return float(low), float(high)


def summary_text(table: Mapping[str, Any]) -> str:
    """The table for a terminal."""
    rows = [BY_KEY[key].line(entry["mean"], _spread(key, entry)) for key, entry in table["metrics"].items()]
    return "\n".join([f"{_title(table)} {_facts(table)}", "", *rows, *silent_lines(table["not_computed"])])


def summary_page(table: Mapping[str, Any]) -> str:
    """The table as an HTML file."""
    head = [("", "metric"), ("value", "mean"), ("", "95 % interval"), ("", "better")]
    rows: list[Row] = []
    for key, entry in table["metrics"].items():
        metric = BY_KEY[key]
        cells = [("", metric.title), ("value", metric.shown(entry["mean"])), ("quiet", _spread(key, entry))]
        rows.append((metric.group, [*cells, ("quiet", metric.better), ("quiet", metric.published)]))
    body = [
        paragraph(_facts(table), kind="facts"),
        table_of([*head, ("", "the authors' SINGER")], rows),
        silent_list(table["not_computed"]),
    ]
    return page_of(_title(table), body)


def _title(table: Mapping[str, Any]) -> str:
    return f"{table['protocol']['name']}: {len(table['pairs'])} pairs"


def _facts(table: Mapping[str, Any]) -> str:
    return f"at {table['protocol']['fps']:g} fps; {table['interval']}"


def _spread(key: str, entry: Mapping[str, Any]) -> str:
    """The interval of a mean, or the counts of a distance of sets."""
    if "low" not in entry:
        return "{} against {} samples".format(*entry["samples"])
    places = BY_KEY[key].decimals + 1
    size = f", mean size {entry['size']:.{places}f}" if "size" in entry else ""
    return f"[{entry['low']:.{places}f}, {entry['high']:.{places}f}] of {entry['pairs']}{size}"


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
