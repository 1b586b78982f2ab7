"""Configuration files: what is accepted, and what the errors say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from singer_core.network.architecture import Architecture
from singer_core.training.config import PRESETS, TrainConfig, from_mapping, read_config

ROOT = Path(__file__).parents[2]
EXAMPLES = [
    *sorted((ROOT / "singer_core/training/configs").glob("*.toml")),
    *sorted((ROOT / "builtin").glob("*.toml")),
]
SMALLEST = {"data": "d", "output": "o", "start": "net.safetensors"}


def write(folder: Path, text: str, name: str = "run.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_accepted(path):
    assert read_config(path).steps > 0


def test_unknown_key_is_refused_with_the_nearest_known_one(tmp_path):
    path = write(tmp_path, 'data = "d"\noutput = "o"\nstart = "s"\nlearning_rate = 1e-4\nwarm_up = 3\n')
    with pytest.raises(ValueError, match=r"run.toml has the unknown key `learning_rate`"):
        read_config(path)
    path = write(tmp_path, 'data = "d"\noutput = "o"\nstart = "s"\nwarm_up = 3\n')
    with pytest.raises(ValueError, match=r"`warm_up`. The nearest known key is `warmup`"):
        read_config(path)


def test_unknown_width_is_refused(tmp_path):
    path = write(tmp_path, 'data = "d"\noutput = "o"\n[architecture]\nchanels = [32]\n')
    with pytest.raises(ValueError, match=r"\[architecture\] has the unknown key `chanels`.*`channels`"):
        read_config(path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("steps", 0, "`steps` is 0; accepted: at least 1"),
        ("steps", 1.5, "`steps` is 1.5; accepted: a whole number"),
        ("steps", True, "`steps` is True; accepted: a whole number"),
        ("rate", 0, "`rate` is 0.0; accepted: a positive"),
        ("rate", "1e-4", "`rate` is '1e-4'; accepted: a number"),
        ("recipe", "mached", "`recipe` is mached; accepted: authors, matched, lora"),
        ("frames", 15, "`frames` is 15; accepted: an even number"),
        ("frames", 32, "accepted: at most 32"),
        ("ema", 2, "`ema` is 2.0; accepted: 0 to 1"),
        ("stage", 3, "`stage` is 3; accepted: 1, 2"),
        ("data", 7, "`data` is 7; accepted: a path in quotes"),
        ("gradient_checkpointing", 1, "accepted: true or false"),
    ],
)
def test_bad_values_are_named_with_what_is_accepted(key, value, words):
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        from_mapping({**SMALLEST, key: value})


@pytest.mark.parametrize("key", ["data", "output"])
def test_missing_folders_are_named(key):
    with pytest.raises(ValueError, match=f"lacks `{key}`"):
        from_mapping({name: value for name, value in SMALLEST.items() if name != key})


def test_a_run_needs_a_start_or_widths():
    with pytest.raises(ValueError, match="neither `start` nor `architecture`"):
        from_mapping({"data": "d", "output": "o"})


def test_recipe_presets_give_way_to_the_file():
    assert from_mapping({**SMALLEST, "recipe": "authors"}).batch == PRESETS["authors"]["batch"] == 6
    assert from_mapping({**SMALLEST, "recipe": "authors", "batch": 2}).batch == 2


def test_authors_recipe_is_the_published_configuration():
    """numerics section 17."""
    run = from_mapping({**SMALLEST, "recipe": "authors"})
    assert (run.rate, run.warmup, run.decay) == (1e-5, 1, "constant")
    assert (run.betas, run.weight_decay, run.epsilon, run.clip_gradient) == ((0.9, 0.999), 1e-2, 1e-8, 1.0)
    assert (run.frames, run.motion_frames, run.steps, run.seed) == (14, 2, 30_000, 42)
    assert (run.reference_dropout, run.audio_dropout, run.start_dropout) == (0.05, 0.05, 0.05)
    assert (run.noise_offset, run.noise_schedule, run.precision) == (0.05, "scaled_linear", "fp16")


def test_paths_count_from_the_file(tmp_path):
    (tmp_path / "deep").mkdir()
    run = read_config(write(tmp_path / "deep", 'data = "../d"\noutput = "o"\nstart = "s"\n'))
    assert run.data == (tmp_path / "d").resolve()


def test_json_and_toml_say_the_same(tmp_path):
    toml = 'data = "d"\noutput = "o"\nframes = 8\n[architecture]\nchannels = [32, 64]\nlayers = 1\n'
    values = {"data": "d", "output": "o", "frames": 8, "architecture": {"channels": [32, 64], "layers": 1}}
    one, two = write(tmp_path, toml), write(tmp_path, json.dumps(values), "run.json")
    assert read_config(one) == read_config(two)
    assert read_config(one).architecture == Architecture(channels=(32, 64), layers=1)


def test_what_a_run_writes_down_reads_back(tmp_path):
    run = from_mapping({**SMALLEST, "recipe": "lora"}, tmp_path)
    assert from_mapping(json.loads(run.to_json())) == run
    assert isinstance(run, TrainConfig)


def test_broken_and_missing_files(tmp_path):
    with pytest.raises(ValueError, match=r"run.toml cannot be read"):
        read_config(write(tmp_path, "data = = 3"))
    with pytest.raises(ValueError, match="holds a list"):
        read_config(write(tmp_path, "[1]", "run.json"))
    with pytest.raises(FileNotFoundError, match="no configuration"):
        read_config(tmp_path / "none.toml")
