"""What is installed with the pack, and what a registry reads of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OF_COMFYUI = {
    "torch",
    "torchvision",
    "torchaudio",
    "transformers",
    "diffusers",
    "numpy",
    "safetensors",
    "einops",
}


def test_comfyui_users_get_nothing_that_they_have_or_that_only_the_command_line_needs():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = {line for line in lines if line and not line.startswith("#")}
    assert set(PROJECT["dependencies"]) == listed
    assert not {line.split(">")[0] for line in listed} & OF_COMFYUI


def test_no_dependency_has_an_upper_bound():
    extras = PROJECT["optional-dependencies"].values()
    for line in (*PROJECT["dependencies"], *(line for extra in extras for line in extra)):
        assert "<" not in line.partition(";")[0] and "==" not in line.partition(";")[0], line


def test_the_registry_finds_repository_system_and_licence():
    assert PROJECT["urls"]["Repository"].startswith("https://")
    assert any(line.startswith("Operating System ::") for line in PROJECT["classifiers"])
    assert (ROOT / PROJECT["license"]["file"]).is_file()
