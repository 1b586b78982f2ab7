"""The drawn data set and the VAE of the built-in model: deterministic, resumable, and readable elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from builtin import vae as tiny_vae
from builtin.drawn import DrawnWorld, draw_dataset
from singer_core.network.autoencoder import Autoencoder, load_autoencoder
from singer_core.network.patches import PatchAutoencoder
from singer_core.training.dataset import ClipDataset
from singer_core.training.objective import seeded

pytest.importorskip("skia")

WORLD = DrawnWorld(count=2, seconds=0.6, size=64, mels=(2, 4))


@pytest.fixture(scope="module")
def vae() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(PatchAutoencoder(4))


@pytest.fixture(scope="module")
def drawn(vae, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw_dataset(WORLD, folder, vae)
    return folder


def test_the_same_seeds_draw_the_same_set_in_any_number_of_goes(drawn, vae, tmp_path):
    draw_dataset(dataclasses.replace(WORLD, count=1), tmp_path, vae)
    first = (tmp_path / "drawn-000000.safetensors").stat().st_mtime_ns
    draw_dataset(WORLD, tmp_path, vae)
    assert (tmp_path / "drawn-000000.safetensors").stat().st_mtime_ns == first
    for name in ("drawn-000000.safetensors", "drawn-000001.safetensors"):
        expected, found = load_file(drawn / name), load_file(tmp_path / name)
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_a_set_is_not_mixed_with_one_of_another_vae(drawn):
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="other settings"):
        draw_dataset(WORLD, drawn, Autoencoder(PatchAutoencoder(4)))


def test_every_frame_is_described(drawn):
    found = load_file(drawn / "drawn-000001.safetensors")
    assert found["latents"].shape == (15, 4, 8, 8) and found["features"].shape == (15, 2, 4)
    face, lips = found["boxes"][:, 0], found["boxes"][:, 1]
    assert (lips[:, :2] > face[:, :2]).all() and (lips[:, 2:] < face[:, 2:]).all()
    assert found["opening"].min() >= 0 and found["opening"].max() <= 1
    sample = ClipDataset(drawn, 4, 2).sample(seeded(0))
    assert sample.identity.shape == (9,) and sample.identity.abs().max() <= 1


def pictures(count: int) -> Iterator[torch.Tensor]:
    """In [-1, 1]; smooth, so that few coordinates say much."""
    noise = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    yield from torch.nn.functional.interpolate(noise, size=32, mode="bicubic").clamp(-1, 1).split(4)


def test_the_vae_keeps_what_differs_most_and_its_file_is_read_as_one(tmp_path):
    recipe = tiny_vae.VaeRecipe(channels=24)
    made = tiny_vae.principal_axes(pictures(64), recipe)
    tiny_vae.save_vae(tmp_path / "vae.safetensors", made)
    vae, given = load_autoencoder(tmp_path / "vae.safetensors"), next(pictures(4))
    assert isinstance(vae.vae, PatchAutoencoder)
    latents = vae.encode(given)
    assert latents.shape == (4, 24, 4, 4)
    assert tiny_vae.psnr_of(vae.decode(latents), given / 2 + 0.5).min() > 30
    first = latents[:, :1] @ latents[:, :1].mT
    assert first.square().mean() > (latents[:, 23:] @ latents[:, 23:].mT).square().mean()


def test_all_coordinates_lose_nothing(tmp_path):
    recipe = tiny_vae.VaeRecipe(channels=3 * 64, whitening=1.0)
    noise = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    vae = tiny_vae.principal_axes(iter([noise]), recipe)
    with torch.no_grad():
        latents = vae.encode(noise)
        torch.testing.assert_close(vae.decode(latents), noise, rtol=1e-4, atol=1e-4)
    assert latents.square().mean() == pytest.approx(1.0, rel=1e-3)
