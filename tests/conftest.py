"""Shared fixtures: one small random network and VAE for the whole session. Do not write to them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import tiny
import torch

from singer_core.network.autoencoder import Autoencoder, load_autoencoder
from singer_core.network.backbone import SingerNetwork
from singer_core.network.checkpoint import load_network, open_checkpoint

# `builtin` is not installed; last, as ComfyUI has a `nodes` too.
sys.path.append(str(Path(__file__).parents[1]))


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the reference fixtures."""
    return Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def tiny_state() -> dict[str, torch.Tensor]:
    return tiny.random_state()


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_state, tmp_path_factory) -> Path:
    """A .safetensors file of `tiny.TINY`."""
    return tiny.save_checkpoint(tmp_path_factory.mktemp("tiny") / "net.safetensors", tiny_state)


@pytest.fixture(scope="session")
def tiny_network(tiny_checkpoint) -> SingerNetwork:
    return load_network(open_checkpoint(tiny_checkpoint))


@pytest.fixture(scope="session")
def tiny_vae_folder(tmp_path_factory) -> Path:
    """A diffusers folder with config.json and weights."""
    folder = tmp_path_factory.mktemp("vae")
    tiny.random_vae().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_vae(tiny_vae_folder) -> Autoencoder:
    return load_autoencoder(tiny_vae_folder)
