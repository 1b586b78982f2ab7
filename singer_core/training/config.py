"""What a training run is: one frozen value, read from TOML or JSON (docs/training.md).

Each field says its default, its words and what it accepts once: by `least` and `most` in its metadata, or by
its type.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_origin

from .. import constants
from ..files import read_text
from ..network.architecture import Architecture
from ..settings import NoiseSchedule, check_choices, require, required, setting, typed_fields

RecipeName = Literal["authors", "matched", "lora", "distill"]
Stage = Literal[1, 2]
Precision = Literal["no", "fp16", "bf16"]
Part = Literal["adapter", "all", "factors"]
Decay = Literal["constant", "cosine"]


def count(default: int, help: str) -> Any:
    """A field from 1."""
    return setting(default, help, least=1)


def amount(default: float, help: str) -> Any:
    """A field from 0."""
    return setting(default, help, least=0)


def chance(default: float, help: str) -> Any:
    """A field from 0 to 1."""
    return setting(default, help, least=0, most=1)


@dataclass(frozen=True)
class Rates:
    """Factors on the learning rate by what a parameter is part of; 0 leaves it as it is."""

    spatial: float = amount(1.0, "Both UNets, face locator and image projection: what people look like.")
    audio: float = amount(1.0, "Audio modules and audio projection.")
    spectral: float = amount(1.0, "MSM and SFM.")
    motion: float = amount(1.0, "Motion modules.")

    def __post_init__(self) -> None:
        _check_ranges(self)
        if not any(dataclasses.astuple(self)):
            raise ValueError("All of `rates` are 0, so nothing would be trained. Set one above 0.")


@dataclass(frozen=True)
class TrainConfig:
    """One run. Fields that a recipe presets (`PRESETS`) may be overridden by name."""

    data: Path = required("Folder of prepared clips, or of people for stage 1.")
    output: Path = required("Folder that checkpoints and log are written to.")
    recipe: RecipeName = setting("matched", "Who is trained, and how (docs/training.md).")
    stage: Stage = setting(2, "1: picture pairs of many people; 2: clips.")
    start: Path | None = setting(
        None, "Checkpoint to begin with; without it fresh weights of `architecture`."
    )
    architecture: Architecture | None = setting(
        None, "Widths of fresh weights; beside `start`, of a network that takes over what fits."
    )
    trainable: Part = setting(
        "adapter",
        "adapter: what the recipe says; all: every parameter (small models); factors: low-rank, to distill.",
    )
    seed: int = setting(42, "Of all chance.")
    steps: int = count(30_000, "Steps of the optimizer.")
    frames: int = setting(constants.TRAINED_CLIP_FRAMES, "Of a clip, even.")
    motion_frames: int = count(constants.MOTION_FRAMES, "Carried frames before the clip.")
    batch: int = count(1, "Samples of a forward on each device.")
    accumulate: int = count(1, "Forwards of a step.")
    rate: float = setting(1e-5, "Learning rate.")
    rates: Rates = field(default_factory=Rates, metadata={"help": "Factors on it by part of the network."})
    warmup: int = amount(1, "Steps of linear warm-up.")
    decay: Decay = setting("constant", "Course of the learning rate afterwards.")
    betas: tuple[float, float] = setting((0.9, 0.999), "Of AdamW.")
    epsilon: float = setting(1e-8, "Of AdamW.")
    weight_decay: float = amount(1e-2, "Of AdamW.")
    clip_gradient: float = amount(1.0, "Largest norm of the gradient; 0 = any.")
    noise_schedule: NoiseSchedule = setting("scaled_linear", "Betas of the diffusion.")
    noise_offset: float = amount(0.05, "Deviation of the noise that a channel's pixels and frames share.")
    reference_dropout: float = chance(0.05, "Chance that a sample goes without portrait.")
    audio_dropout: float = chance(0.05, "Chance that it goes without song.")
    locator_dropout: float = chance(0.0, "Chance that the face locator is shown nothing.")
    beginnings: float = chance(0.0, "Chance that a clip begins its performance, behind the portrait.")
    equalisation: float = amount(0.0, "Of each clip's log-mel features: a curve's deviation; 0.1 = 2 dB.")
    start_dropout: float = chance(
        0.05, "Chance that a clip is the first: the portrait stands in for carried frames."
    )
    carried_dropout: float = chance(0.0, "Chance that all carried frames are zeros.")
    motion_drop: float = chance(0.0, "Share of the carried frames' patches set to zero.")
    motion_noise: float = amount(0.0, "Deviation of noise on the carried frames' latents.")
    same_pose: float = chance(0.15, "Stage 1: chance that the portrait is the very picture to be learnt.")
    lip_weight: float = amount(0.0, "Extra weight of the loss around lips, and eyes if data have them.")
    paint_weight: float = amount(0.0, "Extra weight of the loss where `ways` say that something is painted.")
    ways_weight: float = amount(0.0, "Of what is known of the motion, of a network that predicts it.")
    ema: float = chance(0.0, "Decay of the averaged weights; 0 = none.")
    precision: Precision = setting("no", "Of the forward pass; no = float32.")
    gradient_checkpointing: bool = setting(False, "Less memory, more time.")
    eight_bit_adam: bool = setting(
        False, "Needs bitsandbytes and a GPU; else ordinary AdamW, with a warning."
    )
    lora_rank: int = count(16, "Rank of the factors.")
    lora_motion: bool = setting(False, "Whether motion modules get factors too.")
    sampled_steps: int = amount(0, "Train at the time steps of a sampler of so many steps alone; 0 = at all.")
    distilled_steps: int = count(2, "Steps that the student takes for a clip.")
    teacher_steps: int = count(20, "Steps of the teacher, a multiple of them.")
    reference_scale: float = amount(
        constants.DEFAULT_GUIDANCE, "The teacher's guidance towards the portrait."
    )
    audio_scale: float = amount(
        constants.DEFAULT_GUIDANCE, "And towards the song; both become the student's."
    )
    own_outputs: float = chance(
        0.5, "Chance that the student begins, and goes on, from what it makes itself instead of the data."
    )
    save_every: int = count(500, "Steps between checkpoints.")
    keep: int = count(2, "How many of them stay.")
    log_every: int = count(10, "Steps between rows of the log.")
    sensitivity_every: int = amount(500, "Steps between looks at how much the portrait matters; 0 = none.")
    tensorboard: bool = setting(False, "The log as TensorBoard events too.")

    def __post_init__(self) -> None:
        _check_ranges(self)
        check_choices(self)
        require(self.rate > 0, "rate", self.rate, "a positive learning rate, such as 1e-4")
        require(self.frames >= 2 and self.frames % 2 == 0, "frames", self.frames, "an even number from 2")
        total, limit = self.frames + self.motion_frames, constants.MOTION_POSITIONS
        require(total <= limit, "frames + motion_frames", total, f"at most {limit}")
        if self.recipe == "distill":
            self._check_distillation()
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

    def _check_distillation(self) -> None:
        if self.start is None or self.stage == 1 or self.architecture or (self.has_factors and self.ema):
            raise ValueError(
                "The recipe `distill` makes a trained network faster: it needs `start`, and has neither "
                "`stage = 1` nor `architecture`, nor `ema` beside `factors`. Name the teacher's checkpoint."
            )
        accepted = (
            f"a multiple of `distilled_steps` ({self.distilled_steps}), such as {10 * self.distilled_steps}"
        )
        divides = self.teacher_steps % self.distilled_steps == 0
        require(divides, "teacher_steps", self.teacher_steps, accepted)
        for name in ("reference_dropout", "audio_dropout", "noise_offset"):
            require(not getattr(self, name), name, getattr(self, name), "0, for a student without guidance")

    @property
    def has_factors(self) -> bool:
        """Whether low-rank factors are trained."""
        return self.recipe == "lora" or self.trainable == "factors"

    def but(self, **changes: Any) -> TrainConfig:
        """A copy with some fields changed; ValueError where a value is out of range."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """All fields, for logs and checkpoints; the inverse of `from_mapping`."""
        return json.dumps(dataclasses.asdict(self), default=str, indent=1)


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
    "distill": {
        "trainable": "all",
        "steps": 2000,
        "rate": 1e-4,
        "warmup": 50,
        "decay": "cosine",
        "frames": constants.CLIP_FRAMES,
        "reference_dropout": 0.0,
        "audio_dropout": 0.0,
        "start_dropout": 0.2,
        "noise_offset": 0.0,
        "lora_rank": 64,
        "sensitivity_every": 0,
    },
}


def read_config(path: Path) -> TrainConfig:
    """A run from a TOML or JSON file; relative paths in it count from its folder.

    Raises FileNotFoundError, and ValueError for a file that cannot be parsed, an unknown key (naming the
    nearest known one), a missing key, or a value of the wrong type or out of range.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration {path}. Two examples are in docs/training.md.")
    text = read_text(path)
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
    check_keys(values, [f.name for f in dataclasses.fields(TrainConfig)], name)
    for folder_key in ("data", "output"):
        if folder_key not in values:
            raise ValueError(f'{name} lacks `{folder_key}`. Write `{folder_key} = "folder"`.')
    kinds = {its_field.name: kind for its_field, kind in typed_fields(TrainConfig)}
    preset = PRESETS.get(values.get("recipe", "matched"), {})
    given = {key: _value(key, value, kinds[key], folder) for key, value in values.items()}
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
    if dataclasses.is_dataclass(kind):
        return _table(key, value, kind)
    if kind is Path:
        require(isinstance(value, str), key, value, "a path in quotes")
        return (folder / Path(value).expanduser()).resolve()
    if get_origin(kind) is tuple:
        return tuple(float(x) for x in value)
    if kind is float and type(value) is int:
        return float(value)
    require(type(value) is kind or kind not in _WORDS, key, repr(value), _WORDS.get(kind, ""))
    return value


def _table(key: str, values: Any, kind: Any) -> Any:
    require(isinstance(values, Mapping), key, repr(values), f"a table of {_WORDS[kind]}")
    check_keys(values, [f.name for f in dataclasses.fields(kind)], f"[{key}]")
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Architecture: "widths such as `channels = [64, 96]`",
    Rates: "factors such as `spatial = 0.1`",
}


def _check_ranges(values: Any) -> None:
    """ValueError for a field below its `least` or above its `most`."""
    for its_field in dataclasses.fields(values):
        least, most = its_field.metadata.get("least"), its_field.metadata.get("most", math.inf)
        if least is None:
            continue
        value = getattr(values, its_field.name)
        above = {0: "0 or more"}.get(least, f"at least {least}")
        accepted = above if most == math.inf else f"{least} to {most}"
        require(_is_number(value) and least <= value <= most, its_field.name, value, accepted)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
