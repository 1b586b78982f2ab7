"""Reference fixtures on disk: NAME.json describes NAME.safetensors, tensors `<case>/{w,in,out}/<name>`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """One case of a fixture. Floating tensors are float32 (the storage types convert exactly)."""

    name: str
    config: dict[str, Any]  # the case's entry in the fixture's json
    inputs: Tensors
    weights: Tensors
    expected: Tensors
    folder: Path
    weight_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fixture:
    """One NAME.json + NAME.safetensors pair."""

    path: Path  # of the json
    run: str  # the reference run that produced it, e.g. "run_msm"
    tolerance: dict[str, Any]
    cases: tuple[Case, ...] = field(repr=False)


def load_upcast(path: Path) -> Tensors:
    """All tensors of a safetensors file, floating ones as float32."""
    return {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}


def load_fixture(path: Path) -> Fixture:
    """The fixture described by the json file `path`.

    Raises FileNotFoundError where the tensor file is missing, ValueError where the pair is not a fixture.
    """
    meta = json.loads(path.read_text(encoding="utf-8"))
    tensors_path = path.with_suffix(".safetensors")
    if not tensors_path.is_file():
        raise FileNotFoundError(f"{path.name} describes {tensors_path.name}, which is not in {path.parent}.")
    parts: dict[str, dict[str, Tensors]] = {name: {"in": {}, "out": {}, "w": {}} for name in meta["cases"]}
    for key, value in load_upcast(tensors_path).items():
        case, part, name = key.split("/", 2)
        if case not in parts or part not in parts[case]:
            raise ValueError(f"{tensors_path.name}: tensor {key!r} is not `<case>/{{w,in,out}}/<name>`.")
        parts[case][part][name] = value
    shared = next(iter(parts.values()))["w"]  # weights may stand with the first case alone
    files = tuple(meta.get("weights_from") or ())
    cases = tuple(
        Case(name, meta["cases"][name], p["in"], p["w"] or shared, p["out"], path.parent, files)
        for name, p in parts.items()
    )
    return Fixture(path, meta["official_run"], meta["tolerance"], cases)


def find_fixtures(folder: Path) -> Iterator[Path]:
    """The json files below `folder` that describe a fixture (they have `cases`), by name."""
    for path in sorted(folder.rglob("*.json")):
        try:
            meta = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError):
            continue
        if isinstance(meta, dict) and "cases" in meta:
            yield path
