"""Data sets with photographs: two faces that the drawn world drew."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("skia", reason="drawing needs skia-python", exc_type=ImportError)

from photographs import write_faces
from safetensors.torch import load_file

from builtin.drawn import DrawnWorld, People, draw_dataset
from builtin.faces import Faces, read_faces
from builtin.pictures import sources
from builtin.puppet import PuppetShow
from builtin.world import Performance
from singer_core.network.autoencoder import Autoencoder
from singer_core.network.patches import PatchAutoencoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    write_faces(folder, ["0001.png", "0002.png", "0013.png"])
    return folder


@pytest.fixture(scope="module")
def faces(folder: Path) -> Faces:
    return read_faces(folder)


@pytest.fixture(scope="module")
def vae() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(PatchAutoencoder(4))


def test_photographs_sing_every_second_song(faces: Faces) -> None:
    world = DrawnWorld(count=4, seconds=0.6, size=64, faces=faces)
    shows = [world.performance(i) for i in range(4)]
    assert [type(show) for show in shows] == [Performance, PuppetShow] * 2
    assert [world.name(i) for i in (0, 1)] == ["drawn-000000", "photo-000001"]
    assert shows[1].variation != shows[3].variation
    assert not np.array_equal(shows[1].photo.image, shows[3].photo.image)
    alone = DrawnWorld(count=4, seconds=0.6, size=64)
    assert all(isinstance(alone.performance(i), Performance) for i in range(4))


def test_people_come_in_several_poses_without_a_song(faces: Faces, vae: Autoencoder, tmp_path: Path) -> None:
    draw_dataset(People(count=3, size=64, poses=3, faces=faces), tmp_path, vae)
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == [
        *("drawn-000000", "drawn-000001", "photo-000002")
    ]
    for path in tmp_path.glob("*.safetensors"):
        item = load_file(path)
        assert item["latents"].shape == (3, 4, 8, 8) and item["boxes"].shape == (3, 4, 4)
        assert item["portraits"].shape == (2, 3, 64, 64) and item["portrait_frames"].tolist() == [0, 1]
        assert "features" not in item and "opening" not in item
        assert (item["latents"][0] != item["latents"][1]).any()


@pytest.mark.slow
def test_processes_draw_the_same_set(faces: Faces, vae: Autoencoder, tmp_path: Path) -> None:
    people = People(count=3, size=32, poses=2, faces=faces)
    draw_dataset(people, tmp_path / "one", vae)
    draw_dataset(people, tmp_path / "two", vae, jobs=2)
    for path in (tmp_path / "one").glob("*.safetensors"):
        expected, found = load_file(path), load_file(tmp_path / "two" / path.name)
        assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_set_is_not_mixed_with_one_of_other_photographs(
    faces: Faces, vae: Autoencoder, tmp_path: Path
) -> None:
    people = People(count=0, size=32, faces=faces)
    draw_dataset(people, tmp_path, vae)
    with pytest.raises(ValueError, match="other settings"):
        draw_dataset(dataclasses.replace(people, faces=None), tmp_path, vae)


def test_pictures_come_from_the_drawn_world_photographs_and_puppets(folder: Path) -> None:
    assert list(sources(32, None)) == ["drawn"]
    for held_out in (False, True):
        drawn = sources(64, folder, held_out)
        assert list(drawn) == ["drawn", "photographs", "puppets"]
        for draw in drawn.values():
            first, second = (draw(np.random.default_rng(1)) for _ in range(2))
            assert first.shape == second.shape == (64, 64, 3) and first.dtype == np.uint8
