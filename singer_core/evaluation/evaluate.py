"""All that can be said of one video: `evaluate` asks every metric and writes down why one is silent."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..progress import Progress, unwatched
from .footage import Floats
from .material import Material
from .measures import BY_KEY, METRICS, Case
from .metric import NotComputedError
from .reading import Thumbnail


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was found.

    values    metric -> number;  missing: metric -> why there is none;  lacking: those that a file would help
    The others as in `Case`.
    """

    name: str
    info: dict[str, Any]
    values: dict[str, float]
    missing: dict[str, str]
    lacking: tuple[str, ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...]
    curves: dict[str, Floats]
    thumbnails: tuple[Thumbnail, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data: metrics with unit and direction, reasons, findings, curves."""
        metrics = {
            key: {"value": round(value, 6), "unit": BY_KEY[key].unit, "better": BY_KEY[key].better}
            for key, value in self.values.items()
        }
        return {
            "video": self.name,
            **self.info,
            "metrics": metrics,
            "not_computed": dict(self.missing),
            "lacking": list(self.lacking),
            "findings": list(self.findings),
            "notes": list(self.notes),
            "curves": {name: np.round(curve, 4).tolist() for name, curve in self.curves.items()},
        }


def evaluate(material: Material, progress: Progress = unwatched) -> Evaluation:
    """Measure a video by every metric that what is given allows. Raises ValueError for a broken video."""
    case, footage = Case(material, progress), material.footage
    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    lacking: list[str] = []
    for measure, metrics in itertools.groupby(METRICS, key=lambda metric: metric.measure):
        keys = [metric.key for metric in metrics]
        try:
            found = dict(zip(keys, measure(case), strict=True))
        except NotComputedError as error:
            missing |= dict.fromkeys(keys, str(error))
            lacking += keys if error.lacking else []
            continue
        for key, value in found.items():
            if value is None or not math.isfinite(value):
                missing[key] = "too little to measure in this video"
            else:
                values[key] = float(value)
    return Evaluation(
        name=footage.name,
        info={
            "frames": footage.frames,
            "fps": round(footage.fps, 6),
            "size": [footage.size[1], footage.size[0]],
            "seconds": round(footage.seconds, 4),
            "clip_frames": material.clip_frames,
            "overlap": material.overlap,
        },
        values=values,
        missing=missing,
        lacking=tuple(lacking),
        findings=tuple(case.findings),
        notes=tuple(case.notes),
        curves=case.curves,
        thumbnails=case.thumbnails,
    )
