"""Run every fixture of a folder and compare each output tensor with its tolerance."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor

from verification import hearing, modules, networks, seeing
from verification.fixtures import Case, Fixture, Tensors, find_fixtures, load_fixture

logger = logging.getLogger(__name__)

Status = Literal["pass", "FAIL", "NOT CHECKED", "excepted"]

# Reference run -> what computes the same with this library.
CHECKS: dict[str, Callable[[Case], Tensors]] = {
    "run_dwt": modules.run_dwt,
    "run_msm": modules.run_msm,
    "run_sfm": modules.run_sfm,
    "run_audioproj": modules.run_audioproj,
    "run_imageproj": modules.run_imageproj,
    "run_facelocator": modules.run_facelocator,
    "run_refblock": modules.run_refblock,
    "run_motion": modules.run_motion,
    "run_audioblock": modules.run_audioblock,
    "run_ddim": modules.run_ddim,
    "run_refunet": networks.run_refunet,
    "run_denoise": networks.run_denoise,
    "run_pipeline": networks.run_pipeline,
    "run_w2v": hearing.run_w2v,
    "run_imageproc": seeing.run_imageproc,
}

# What a malformed or damaged fixture raises, here or in a check.
_UNUSABLE = (LookupError, ValueError, RuntimeError, TypeError, AssertionError, OSError, SafetensorError)

_MASK_LEVELS = 1  # uint8 pictures may differ by one level
_FLOAT_MASK = 1.5 / 255
_PIXELS = 2 * _FLOAT_MASK  # pictures in [-1, 1]


@dataclass(frozen=True)
class Row:
    """The verdict on one output tensor. `error` is in the unit of `tolerance`; 1.0 is exactly at it."""

    fixture: str
    case: str
    tensor: str
    status: Status
    error: float | None = None
    tolerance: str = ""
    note: str = ""


def verify(folder: Path) -> Iterator[Row]:
    """Verdicts on all outputs of all fixtures below `folder`, as they are computed.

    Raises FileNotFoundError where there is no such folder, ValueError where it holds no fixture.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}. Name the folder that holds the fixtures.")
    paths = list(find_fixtures(folder))
    if not paths:
        raise ValueError(f"{folder} holds no fixture (NAME.json with `cases` beside NAME.safetensors).")
    described = set()
    for path in paths:
        described |= {path.with_suffix(".safetensors")} | {path.parent / name for name in _weight_files(path)}
        yield from _verify_fixture(path)
    for path in sorted(folder.rglob("*.safetensors")):
        if path not in described:
            yield Row(path.stem, "", "", "NOT CHECKED", note="no NAME.json describes this file")


def _weight_files(path: Path) -> list[str]:
    return list(json.loads(path.read_text(encoding="utf-8")).get("weights_from") or ())


def _verify_fixture(path: Path) -> Iterator[Row]:
    try:
        fixture = load_fixture(path)
    except _UNUSABLE as error:
        yield Row(path.stem, "", "", "NOT CHECKED", note=str(error))
        return
    for case in fixture.cases:
        yield from _verify_case(fixture, case)


def _verify_case(fixture: Fixture, case: Case) -> Iterator[Row]:
    name, note, outputs = fixture.path.stem, "the check does not compute this tensor", Tensors()
    if not case.expected:
        yield Row(name, case.name, "", "NOT CHECKED", note="the case has no outputs")
        return
    check = CHECKS.get(fixture.run)
    if check is None:
        note = f"no check for the reference run {fixture.run!r}"
    else:
        try:
            with torch.no_grad():
                outputs = check(case)
        except _UNUSABLE as error:
            logger.debug("%s %s", name, case.name, exc_info=True)
            note = f"{type(error).__name__}: {error}"
    for tensor, expected in case.expected.items():
        if excepted(tensor):
            yield Row(name, case.name, tensor, "excepted")
        elif tensor not in outputs:
            yield Row(name, case.name, tensor, "NOT CHECKED", note=note)
        else:
            yield _compare(name, case.name, tensor, outputs[tensor], expected, fixture.tolerance)


def excepted(tensor: str) -> bool:
    """Outputs that are no statement about inference: other code paths of the authors, and diagnostics."""
    return tensor.startswith("debug/") or "NOT_OFFICIAL_" in tensor


def _compare(
    fixture: str, case: str, tensor: str, got: Tensor, expected: Tensor, tolerance: dict[str, Any]
) -> Row:
    if got.shape != expected.shape:
        note = f"shape {tuple(got.shape)} instead of {tuple(expected.shape)}"
        return Row(fixture, case, tensor, "FAIL", note=note)
    excess, words = _excess(tensor, got, expected, tolerance)
    status: Status = "pass" if excess <= 1 else "FAIL"  # False for NaN
    return Row(fixture, case, tensor, status, excess, words)


def _excess(tensor: str, got: Tensor, expected: Tensor, tolerance: dict[str, Any]) -> tuple[float, str]:
    """Largest error as a multiple of the tolerance, and the tolerance in words."""
    difference = (got.double() - expected.double()).abs()
    if not difference.numel():
        return 0.0, "empty"
    if "masks" in tolerance:
        limit = (
            _MASK_LEVELS if expected.dtype == torch.uint8 else _PIXELS if "pixels" in tensor else _FLOAT_MASK
        )
        return (difference.max() / limit).item(), f"{limit:.3g}"
    if not expected.is_floating_point():
        return (0.0 if bool((difference == 0).all()) else float("inf")), "exact"
    magnitude = expected.double().abs()
    if "atol" in tolerance:
        atol, rtol = tolerance["atol"], tolerance["rtol"]
        return (difference / (atol + rtol * magnitude)).max().item(), f"{atol:g} + {rtol:g}|x|"
    largest, rms = tolerance["rel_max"], tolerance["rel_rms"]
    scale = magnitude.max().clamp_min(torch.finfo(torch.float32).tiny)
    root = magnitude.square().mean().sqrt().clamp_min(torch.finfo(torch.float32).tiny)
    errors = difference.max() / scale / largest, difference.square().mean().sqrt() / root / rms
    return max(error.item() for error in errors), f"max {largest:g}, rms {rms:g}"
