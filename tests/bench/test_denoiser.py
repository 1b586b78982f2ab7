"""The benchmark: what both sides are given, and what it reports."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
sys.path.insert(0, str(ROOT / "bench"))

import denoiser  # noqa: E402
import material  # noqa: E402

from singer_core.network.checkpoint import open_checkpoint  # noqa: E402


@pytest.fixture(scope="module")
def golden_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference network of the fixtures, written as one float32 file."""
    path = tmp_path_factory.mktemp("bench") / "weights.safetensors"
    material.write_given_weights(path, sorted(GOLDEN.glob("weights_tiny-*.safetensors")))
    return path


def test_parts_of_a_checkpoint_are_joined_without_changing_a_value(golden_weights: Path) -> None:
    with safe_open(golden_weights, "pt") as joined:
        names = set(joined.keys())
        for part in GOLDEN.glob("weights_tiny-*.safetensors"):
            with safe_open(part, "pt") as given:
                for name in given.keys():  # noqa: SIM118 - safe_open is no mapping
                    names.remove(name)
                    assert joined.get_tensor(name).dtype is torch.float32
                    assert torch.equal(joined.get_tensor(name), given.get_tensor(name).float()), name
    assert not names


def test_the_authors_constructors_get_the_configuration_the_fixtures_were_made_with(
    golden_weights: Path,
) -> None:
    config = material.authors_config(open_checkpoint(golden_weights).architecture)
    expected = json.loads((GOLDEN / "weights_tiny.json").read_text())["config"]
    # Shapes show how many features a frame has, not how they divide into encoder layers; nor do they need to.
    per_frame = {key: audio.pop("blocks") * audio.pop("channels") for key, audio in
                 (("ours", config["audioproj"]), ("golden", expected["audioproj"]))}  # fmt: skip
    assert per_frame["ours"] == per_frame["golden"]
    assert config["face_locator"].pop("block_out_channels") == [16, 32, 64, 128]  # the authors' default
    assert config == {key: expected[key] for key in config}


def test_random_weights_are_a_checkpoint_of_the_width_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    material.write_random_weights(path, material.WIDTHS["tiny"])
    checkpoint = open_checkpoint(path)
    assert checkpoint.variant == "singer"
    assert checkpoint.architecture == material.WIDTHS["tiny"]
    for name in checkpoint.file.shapes:
        value = checkpoint.file.tensor(name)
        assert value.isfinite().all(), name
        assert value.abs().sum() > 0, f"{name} would silence its path"


def test_a_checkpoint_without_spectral_modules_is_none_of_the_authors() -> None:
    arch = material.Architecture(msm_kernel=None, sfm_width=None)
    with pytest.raises(ValueError, match="needs a SINGER checkpoint"):
        material.authors_config(arch)


class Scripted:
    """A contestant whose times are known; notes when it was asked."""

    def __init__(self, name: str, times: list[float], calls: list[str], value: float) -> None:
        self.name, self.times, self.calls, self.value = name, iter([99.0, *times]), calls, value

    def time(self, work: str, steps: int, out: Path | None = None) -> tuple[float, float]:
        self.calls.append(self.name)
        if out is not None:
            save_file({"out": torch.tensor([2.0, self.value])}, out)
        wall = next(self.times)
        return wall, wall / 2


def test_ratio_is_of_medians_without_the_first_run_and_sides_take_turns(tmp_path: Path) -> None:
    calls: list[str] = []
    ours, authors = Scripted("ours", [1, 9, 2], calls, 1.0), Scripted("authors", [6, 5, 1], calls, 1.5)
    row = denoiser.measure({"ours": ours, "authors": authors}, "step", 3, 1, tmp_path)
    assert calls[:2] == ["ours", "authors"]
    assert calls[2:] == ["authors", "ours", "ours", "authors", "authors", "ours"]
    assert row.ratio() == pytest.approx(5 / 2)
    assert row.difference == pytest.approx(0.5 / 2.0)


def test_without_a_reference_ours_is_measured_alone_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    options = "--width tiny --frames 2 --runs 1 --steps 1 --device cpu --work step"
    denoiser.main([*options.split(), "--json", str(report)])
    printed = capsys.readouterr().out
    assert "Ours alone" in printed
    assert "not measured" in printed
    (row,) = json.loads(report.read_text())["devices"][0]["rows"]
    assert row["seconds"]["ours"]["wall"] > 0
    assert row["ratio_wall"] is None
    assert row["max_relative_difference"] is None


def test_a_folder_without_the_authors_code_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkout of the authors' repository"):
        denoiser.main(["--reference", str(tmp_path)])


@pytest.mark.slow
@pytest.mark.skipif("SINGER_REFERENCE" not in os.environ, reason="needs a checkout of the authors' code")
def test_a_step_and_a_whole_clip_are_those_of_the_authors_code(tmp_path: Path) -> None:
    """SINGER_REFERENCE names the checkout, SINGER_REFERENCE_PYTHON the Python that runs it."""
    report = tmp_path / "report.json"
    reference = ["--reference", os.environ["SINGER_REFERENCE"]]
    if "SINGER_REFERENCE_PYTHON" in os.environ:
        reference += ["--reference-python", os.environ["SINGER_REFERENCE_PYTHON"]]
    options = "--width tiny --frames 4 --runs 1 --steps 3 --device cpu --work step clip"
    denoiser.main([*options.split(), *reference, "--json", str(report)])
    for row in json.loads(report.read_text())["devices"][0]["rows"]:
        assert row["max_relative_difference"] < 3e-4, row["work"]
