"""What a training run is: one frozen record, read from TOML or JSON (docs/training.md)."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from .. import constants
from ..network.architecture import Architecture
from ..settings import NoiseSchedule

RecipeName = Literal["authors", "matched", "lora"]
Precision = Literal["no", "fp16", "bf16"]
Part = Literal["adapter", "all"]
Decay = Literal["constant", "cosine"]


@dataclass(frozen=True)
class TrainConfig:
    """One run. Fields that a recipe presets (`PRESETS`) may be overridden by name.

    data, output          folder of prepared clips; folder that checkpoints and log are written to
    recipe, stage         who is trained and how (docs/training.md); 1 = picture pairs, 2 = clips
    start                 checkpoint to begin with; None = fresh weights of `architecture`
    architecture          widths for fresh weights, fields of `Architecture`
    trainable             "adapter": what the recipe says; "all": every parameter (small models)
    frames, motion_frames of a clip; motion frames come before it
    batch, accumulate     samples a forward on each device; forwards a step
    rate, warmup, decay   learning rate, steps of linear warm-up, course afterwards
    *_dropout             chance that a forward goes without portrait, song, or carried frames
    motion_drop           share of the carried frames' patches set to zero
    motion_noise          deviation of noise on the carried frames' latents
    noise_offset          deviation of the noise that is equal over a channel's pixels and frames
    lip_weight            extra weight of the loss around the lips, 0 = none
    ema                   decay of the averaged weights, 0 = none
    lora_rank, lora_motion  rank of the factors; whether motion modules get some too
    save_every, keep      steps between checkpoints; how many of them stay
    log_every             steps between rows of the log
    tensorboard           whether the log is written for TensorBoard too
    """

    data: Path
    output: Path
    recipe: RecipeName = "matched"
    stage: int = 2
    start: Path | None = None
    architecture: Architecture | None = None
    trainable: Part = "adapter"
    seed: int = 42
    steps: int = 30_000
    frames: int = constants.TRAINED_CLIP_FRAMES
    motion_frames: int = constants.MOTION_FRAMES
    batch: int = 1
    accumulate: int = 1
    rate: float = 1e-5
    warmup: int = 1
    decay: Decay = "constant"
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 1e-2
    clip_gradient: float = 1.0
    noise_schedule: NoiseSchedule = "scaled_linear"
    noise_offset: float = 0.05
    reference_dropout: float = 0.05
    audio_dropout: float = 0.05
    start_dropout: float = 0.05
    motion_drop: float = 0.0
    motion_noise: float = 0.0
    lip_weight: float = 0.0
    ema: float = 0.0
    precision: Precision = "no"
    gradient_checkpointing: bool = False
    eight_bit_adam: bool = False
    lora_rank: int = 16
    lora_motion: bool = False
    save_every: int = 500
    log_every: int = 10
    tensorboard: bool = False
    keep: int = 2

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            _require(getattr(self, name) in choices, name, getattr(self, name), ", ".join(map(str, choices)))
        for name in ("steps", "batch", "accumulate", "save_every", "log_every", "keep", "lora_rank"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("reference_dropout", "audio_dropout", "start_dropout", "motion_drop", "ema"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0 to 1")
        for name in ("warmup", "weight_decay", "noise_offset", "motion_noise", "lip_weight", "clip_gradient"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _require(self.rate > 0, "rate", self.rate, "a positive learning rate, such as 1e-4")
        _require(self.frames >= 2 and self.frames % 2 == 0, "frames", self.frames, "an even number from 2")
        total, limit = self.frames + self.motion_frames, constants.MOTION_POSITIONS
        _require(total <= limit, "frames + motion_frames", total, f"at most {limit}")
        _require(self.motion_frames >= 1, "motion_frames", self.motion_frames, "at least 1")
        if self.recipe == "lora" and (self.start is None or self.stage == 1 or self.ema):
            raise ValueError(
                "The recipe `lora` adapts a trained network: it needs `start`, and has neither `stage = 1` "
                "nor `ema`. Name the checkpoint to adapt."
            )
        if self.start is None and self.architecture is None:
            raise ValueError(
                "The run has neither `start` nor `architecture`. Name a checkpoint to begin with, or the "
                "widths of a new network in an [architecture] table."
            )

    def but(self, **changes: Any) -> TrainConfig:
        """A copy with some fields changed; ValueError where a value is out of range."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """All fields, for logs and checkpoints; the inverse of `from_mapping`."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["architecture"] = self.architecture and dataclasses.asdict(self.architecture)
        return json.dumps(values, default=str, indent=1)


_CHOICES: dict[str, tuple[Any, ...]] = {
    "recipe": get_args(RecipeName),
    "stage": (1, 2),
    "trainable": get_args(Part),
    "decay": get_args(Decay),
    "precision": get_args(Precision),
    "noise_schedule": get_args(NoiseSchedule),
}

# What a recipe sets where the file says nothing (numerics section 17; FIELD "Training facts").
PRESETS: dict[str, dict[str, Any]] = {
    "authors": {"batch": 6, "precision": "fp16", "gradient_checkpointing": True, "eight_bit_adam": True},
    "matched": {
        "frames": constants.CLIP_FRAMES,
        "rate": 1e-4,
        "warmup": 200,
        "decay": "cosine",
        "start_dropout": 0.2,
        "motion_drop": 0.25,
        "ema": 0.999,
    },
    "lora": {
        "steps": 2000,
        "accumulate": 8,
        "rate": 1e-4,
        "warmup": 50,
        "precision": "bf16",
        "gradient_checkpointing": True,
        "frames": constants.CLIP_FRAMES,
        "start_dropout": 0.2,
    },
}


def read_config(path: Path) -> TrainConfig:
    """A run from a TOML or JSON file; relative paths in it count from its folder.

    Raises FileNotFoundError, and ValueError for a file that cannot be parsed, an unknown key (naming the
    nearest
    known one), a missing key, or a value of the wrong type or out of range.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration {path}. Two examples are in docs/training.md.")
    text = path.read_text(encoding="utf-8")
    try:
        values = json.loads(text) if path.suffix == ".json" else _toml(text)
    except ValueError as error:
        raise ValueError(
            f"{path.name} cannot be read: {error}. Write TOML, or JSON in a .json file."
        ) from error
    return from_mapping(values, path.parent, path.name)


def from_mapping(
    values: Mapping[str, Any], folder: Path = Path(), name: str = "The configuration"
) -> TrainConfig:
    """A run from plain values, presets of its recipe filled in."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} holds a {type(values).__name__}; a table of `key = value` is accepted.")
    fields = {f.name: f for f in dataclasses.fields(TrainConfig)}
    check_keys(values, fields, name)
    for required in ("data", "output"):
        if required not in values:
            raise ValueError(f'{name} lacks `{required}`. Write `{required} = "folder"`.')
    types = get_type_hints(TrainConfig)
    preset = PRESETS.get(values.get("recipe", "matched"), {})
    given = {key: _value(key, value, types[key], folder) for key, value in values.items()}
    return TrainConfig(**{**preset, **given})


def check_keys(values: Mapping[str, Any], known: Iterable[str], name: str) -> None:
    """ValueError naming the first key that is not known, and the nearest that is."""
    names = list(known)
    for key in values:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1, cutoff=0.0)[0]
            raise ValueError(f"{name} has the unknown key `{key}`. The nearest known key is `{near}`.")


def _toml(text: str) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib  # type: ignore[no-redef]
    return tomllib.loads(text)


def _value(key: str, value: Any, kind: Any, folder: Path) -> Any:
    """A value of the file as the field's type."""
    if value is None:
        return None
    if key in ("data", "output", "start"):
        _require(isinstance(value, str), key, value, "a path in quotes")
        return (folder / Path(value).expanduser()).resolve()
    if key == "architecture":
        return _architecture(value)
    if key == "betas":
        return tuple(float(x) for x in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (int, float, bool) and type(value) is not kind:
        raise ValueError(f"`{key}` is {value!r}; accepted: {_WORDS[kind]}.")
    return value


_WORDS = {int: "a whole number", float: "a number", bool: "true or false"}


def _architecture(values: Any) -> Architecture:
    if not isinstance(values, Mapping):
        raise ValueError(
            f"`architecture` is {values!r}; accepted: a table of widths such as `channels = [64, 96]`."
        )
    check_keys(values, [f.name for f in dataclasses.fields(Architecture)], "[architecture]")
    widths: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return Architecture(**widths)


def _require(holds: bool, name: str, value: object, accepted: str) -> None:
    if not holds:
        raise ValueError(f"`{name}` is {value}; accepted: {accepted}.")
