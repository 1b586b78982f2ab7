"""The drawn data set and the tiny VAE: deterministic, resumable, and readable elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file

from builtin import vae as tiny_vae
from builtin.drawn import DrawnWorld, draw_dataset
from singer_core.network import taesd
from singer_core.network.autoencoder import Autoencoder, load_autoencoder
from singer_core.training.dataset import ClipDataset
from singer_core.training.objective import seeded

pytest.importorskip("skia")

WORLD = DrawnWorld(count=2, seconds=0.6, size=64, mels=(2, 4))
SMALL = tiny_vae.VaeRecipe(width=8, size=64, crop=32, batch=2, steps=3, pool=4)


@pytest.fixture(scope="module")
def vae() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(tiny_vae.build_vae(8))


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
        assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_set_is_not_mixed_with_one_of_another_vae(drawn):
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="other settings"):
        draw_dataset(WORLD, drawn, Autoencoder(tiny_vae.build_vae(8)))


def test_every_frame_is_described(drawn):
    found = load_file(drawn / "drawn-000001.safetensors")
    assert found["latents"].shape == (15, 4, 8, 8) and found["features"].shape == (15, 2, 4)
    face, lips = found["boxes"][:, 0], found["boxes"][:, 1]
    assert (lips[:, :2] > face[:, :2]).all() and (lips[:, 2:] < face[:, 2:]).all()
    assert found["opening"].min() >= 0 and found["opening"].max() <= 1
    sample = ClipDataset(drawn, 4, 2).sample(seeded(0))
    assert sample.identity.shape == (9,) and sample.identity.abs().max() <= 1


def test_training_the_vae_lowers_its_loss_and_writes_a_readable_file(tmp_path):
    losses: list[float] = []
    recipe = dataclasses.replace(SMALL, steps=40, rate=0.02, batch=4)
    tiny_vae.train_vae(recipe, tmp_path, on_step=lambda step, loss: losses.append(loss), save_every=100)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    loaded = load_autoencoder(tmp_path / "vae.safetensors")
    assert isinstance(loaded.vae, AutoencoderTiny)
    assert loaded.encode(torch.zeros(1, 3, 64, 64)).shape == (1, 4, 8, 8)


def test_the_vae_goes_on_from_its_last_state(tmp_path):
    tiny_vae.train_vae(SMALL, tmp_path)
    steps: list[int] = []
    tiny_vae.train_vae(
        dataclasses.replace(SMALL, steps=5), tmp_path, on_step=lambda step, loss: steps.append(step)
    )
    assert steps == [3, 4]


def test_a_grown_vae_draws_the_same_pictures_and_uses_its_new_channels(vae):
    torch.manual_seed(1)
    wide = tiny_vae.build_vae(12)
    tiny_vae.grow(wide, vae.vae.state_dict())
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1
    latents = wide.encode(pixels).latents
    torch.testing.assert_close(latents, vae.vae.encode(pixels).latents, rtol=1e-4, atol=1e-5)
    wide.decode(latents).sample.sum().backward()
    last = wide.decoder.layers[-1].weight
    assert last.grad is not None and last.grad[:, 8:].any()


def test_a_widened_vae_draws_the_same_pictures(vae):
    """Loaders that know TAESD's 64 channels only take the narrow VAE so."""
    wide = tiny_vae.build_vae(taesd.TAESD_WIDTH)
    wide.load_state_dict(taesd.widened(vae.vae.state_dict()))
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1
    latents = vae.encode(pixels)
    torch.testing.assert_close(Autoencoder(wide).encode(pixels), latents, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(Autoencoder(wide).decode(latents), vae.decode(latents), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="8 channels wide, more than 4"):
        taesd.widened(vae.vae.state_dict(), 4)


def test_comfyui_finds_the_parts_of_a_taesd(vae):
    found = taesd.comfyui_state(vae.vae.state_dict())
    assert found["taesd_decoder.1.weight"].shape == (64, 4, 3, 3)
    assert found["taesd_encoder.0.weight"].shape == (64, 3, 3, 3)
    assert "taesd_decoder.3.conv.0.weight" in found and "taesd_decoder.0.weight" not in found
    assert float(found["vae_scale"]) == pytest.approx(0.18215)
    assert len(found) == len(vae.vae.state_dict()) + 2


def test_psnr_and_colour_error_are_those_of_their_definitions():
    true, made = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    expected = -10 * torch.log10((made - true).square().mean((1, 2, 3)))
    torch.testing.assert_close(tiny_vae.psnr_of(made, true), expected)
    lifted = true + torch.tensor([0.3, 0.0, -0.3])[:, None, None]
    torch.testing.assert_close(tiny_vae.colour_error(lifted, true), torch.full((2,), 0.2))


def test_latents_that_hold_the_colours_in_any_mixture_hide_nothing():
    colours = torch.rand(2, 3, 8, 8)
    latents = torch.einsum("bchw,dc->bdhw", colours, torch.randn(4, 3)) + 0.3
    assert tiny_vae.unexplained(latents, colours) < 1e-3
    grey = colours.mean(1, keepdim=True).expand(-1, 4, -1, -1)
    assert float(tiny_vae.unexplained(grey, colours)) == pytest.approx(2 / 3, abs=0.02)


def test_opponent_axes_are_orthonormal():
    torch.testing.assert_close(tiny_vae.AXES @ tiny_vae.AXES.T, torch.eye(3))
