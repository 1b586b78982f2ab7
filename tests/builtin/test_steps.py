"""`python -m builtin`: its steps find what the ones before have made, and go on."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("skia", reason="drawing needs skia-python", exc_type=ImportError)

from photographs import write_faces

from builtin import vae as tiny_vae
from builtin.steps import main
from singer_core.network.patches import PatchAutoencoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vae").mkdir()
    tiny_vae.save_vae(tmp_path / "vae" / "vae.safetensors", PatchAutoencoder(8))
    return tmp_path


def test_people_are_drawn_until_there_are_enough(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "faces").mkdir()
    write_faces(folder / "faces", ["0001.png"])
    asked = ["people", str(folder), "--size", "32", "--faces", str(folder / "faces")]
    main([*asked, "--count", "2"])
    first = (folder / "people" / "drawn-000000.safetensors").stat().st_mtime_ns
    main([*asked, "--count", "3"])
    assert (folder / "people" / "drawn-000000.safetensors").stat().st_mtime_ns == first
    assert (folder / "people" / "photo-000002.safetensors").is_file()
    assert "1/2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("step", "before"),
    [("stage1", "people"), ("stage2", "stage1"), ("sample", "stage2"), ("export", "stage2")],
)
def test_a_step_names_the_one_that_is_missing(folder: Path, step: str, before: str) -> None:
    with pytest.raises(SystemExit, match=f"Run the step `{before}` first"):
        main([step, str(folder)])


def test_a_folder_without_meshes_stops_a_step(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no faces\.json"):
        main(["data", str(folder), "--faces", str(folder)])
