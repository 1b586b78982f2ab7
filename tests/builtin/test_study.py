"""What the study compares: cases that differ in one thing."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("skia")

from builtin import held_out as h
from builtin import study


def test_every_variant_has_a_key_of_its_own():
    names = [(variant.group, variant.name) for variant in study.VARIANTS]
    assert len(set(names)) == len(names) == 21
    assert names[0] == ("modules", "full")


@pytest.mark.parametrize("length", [0.1, 0.4, 1.0])
def test_an_excerpt_begins_with_the_first_note(length):
    variant = next(v for v in study.VARIANTS if v.excerpt == length)
    case = study.Case.of(variant, 100, 128)
    frames = math.ceil(length * 25)
    assert case.heard.frames == len(case.truth) == len(case.true_opening) == frames
    assert np.array_equal(case.truth[0], case.show.frame(case.first))
    assert (
        case.show.song.score.notes[0].start * 25 - 1 < case.first <= case.show.song.score.notes[0].start * 25
    )


def test_measures_of_the_truth_are_perfect():
    case = study.Case.of(study.FULL, 101, 128)
    found = study.measured(case, case.truth, h.DEMO)
    assert found["error"] == 0 and found["sync"] > 0.95 and found["sharpness"] == 1
    still = study.measured(case, case.show.frame(0)[None].repeat(len(case.truth), axis=0), h.DEMO)
    assert still["error"] == pytest.approx(1)


def test_tables_compare_with_the_full_model_of_the_same_seed(tmp_path):
    ledger = h.Ledger(tmp_path / "study.jsonl")
    rest = {"error": 0.5, "rest_motion": float("nan"), "psnr": 20.0, "seam_ratio": 1.0, "weights": "w"}
    for number, (full, other) in enumerate([(0.9, 0.8), (0.7, 0.6)]):
        for name, group, sync in (
            ("full", "modules", full),
            ("SFM off", "modules", other),
            ("db2", "wavelet", full),
        ):
            ledger.add(
                f"{name}{number}", {"number": number, "variant": name, "group": group, "sync": sync, **rest}
            )
    study.table(SimpleNamespace(out=tmp_path, write=None))
    text = (tmp_path / "study.md").read_text()
    assert "| full | 0.800 ± 1.271 | - | 0.500 ± 0.000 | - | 20.000 ± 0.000 | 1.000 ± 0.000 | 2 |" in text
    assert "| SFM off | 0.700 ± 1.271 | -0.100 ± 0.000 |" in text
    assert text.index("| wavelet |") < text.index("| db2 | 0.800 ± 1.271 | 0.000 ± 0.000 |")
