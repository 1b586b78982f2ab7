"""A folder of photographs: who can sing, who is kept for judging, and what is wrong with it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("skia", reason="drawing needs skia-python", exc_type=ImportError)

from photographs import write_faces

from builtin.faces import is_held_out, read_faces
from builtin.world import Song

NAMES = ["0001.png", "0013.png", "0014.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_faces(tmp_path, NAMES)
    return tmp_path


def change(folder: Path, name: str, **values: object) -> None:
    entries = json.loads((folder / "faces.json").read_text(encoding="utf-8"))
    entries[name].update(values)
    (folder / "faces.json").write_text(json.dumps(entries), encoding="utf-8")


def test_numbers_divisible_by_thirteen_are_for_judging(folder: Path) -> None:
    assert [is_held_out(name) for name in ("0000.jpg", "0013.jpg", "0014.jpg", "1859.jpg")] == [1, 1, 0, 1]
    assert list(read_faces(folder).meshes) == ["0001.png", "0014.png"]
    assert list(read_faces(folder, judged=True).meshes) == ["0013.png"]


def test_a_folder_without_meshes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no faces\.json in .*Give the folder that holds both"):
        read_faces(tmp_path)


def test_damaged_pictures_and_meshes_are_named_skipped_and_counted(folder: Path, caplog) -> None:
    (folder / "0001.png").write_bytes((folder / "0001.png").read_bytes()[:3000])
    with caplog.at_level(logging.INFO):
        assert list(read_faces(folder).meshes) == ["0014.png"]
    assert "0001.png is skipped: picture unreadable" in caplog.text
    assert "1 faces" in caplog.text and "1 picture unreadable" in caplog.text
    points = np.array(json.loads((folder / "faces.json").read_text(encoding="utf-8"))["0014.png"]["points"])
    change(folder, "0014.png", points=(points + np.array([200, 0, 0])).tolist())
    with pytest.raises(ValueError, match="1 picture unreadable, 1 mesh outside the picture"):
        read_faces(folder)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"mouth": 0.2}, "mouth open"),
        ({"yaw": -0.4}, "turned away"),
        ({"points": [[1.0, 1.0, 0.0]] * 478}, "too small or too near"),
        ({"points": []}, "mesh of shape"),
        ({"size": [250, 256]}, "picture of another size"),
    ],
)
def test_faces_that_cannot_sing_are_skipped(folder: Path, values: dict, reason: str, caplog) -> None:
    change(folder, "0001.png", **values)
    with caplog.at_level(logging.INFO):
        assert list(read_faces(folder).meshes) == ["0014.png"]
    assert reason in caplog.text


def test_a_seed_chooses_a_face_and_its_variation(folder: Path) -> None:
    faces, song = read_faces(folder), Song.random(1, 0.6, accompaniment=False)
    first, again = faces.show(5, song, 64), faces.show(5, song, 64)
    assert np.array_equal(first.frame(4), again.frame(4))
    assert first.variation != faces.show(6, song, 64).variation
