"""The ablation: arms differ in the spectral modules alone, and what is compared are differences by seed."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tiny
import torch
from clips import config, write_clips

from singer_core.network.checkpoint import load_network, open_checkpoint
from singer_core.training.checkpoints import metadata_of, save_network
from singer_core.training.recipes import MSM, SFM
from singer_core.training.trainer import Trainer

pytest.importorskip("skia")

from builtin import ablation


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    run = config(folder, data=write_clips(folder / "data", length=20), recipe="matched")
    network = Trainer(run).network
    torch.nn.init.normal_(network.unet.conv_out.weight, std=0.1)  # zero in an untrained one: no gradient
    save_network(folder / "stage1.safetensors", network, metadata_of(run, network.architecture))
    return folder


@pytest.fixture(autouse=True)
def recipe(folder, monkeypatch):
    """Of the built-in model, but for ways: the tiny network predicts frames."""
    text = re.sub("ways_weight = .*", "ways_weight = 0.0", ablation.RECIPE.read_text())
    (folder / "recipe.toml").write_text(text)
    monkeypatch.setattr(ablation, "RECIPE", folder / "recipe.toml")


def begun(folder, arm, seed=0):
    target = folder / f"{arm}{seed}.safetensors"
    path = ablation.begin(folder / "stage1.safetensors", folder / "data", arm, seed, target)
    return load_network(open_checkpoint(path), torch.float32)


def test_arms_of_a_seed_differ_in_the_spectral_modules_alone(folder):
    learnable, flat, other = begun(folder, "learnable"), begun(folder, "flat"), begun(folder, "flat", 1)
    values, plain, again = (network.state_dict() for network in (learnable, flat, other))
    differing = [name for name in values if not torch.equal(values[name], plain[name])]
    assert differing and all(name.startswith((MSM, SFM)) for name in differing)
    reseeded = [name for name in plain if not torch.equal(plain[name], again[name])]
    assert reseeded and all(name.startswith("adapter.") for name in reseeded)
    gains = learnable.adapter.multi_scale_spectral.expected_gains(14)
    assert gains.max() - gains.min() > 0.01


def test_audio_tokens_begin_without_their_mean(folder):
    network, means = begun(folder, "flat"), []
    projection = network.adapter.audio_projection
    projection.proj3.register_forward_hook(lambda _module, _given, made: means.append(made.mean(0)))
    clips = ablation.songs(
        network.architecture, ablation.read_config(ablation.RECIPE).but(data=folder / "data")
    )
    for number in range(ablation.CENTRED):
        projection(clips.sample(ablation.seeded("centre", number)).windows)
    torch.testing.assert_close(torch.stack(means).mean(0), torch.zeros_like(means[0]), atol=1e-5, rtol=0)


def test_the_flat_arm_stays_flat_and_the_pictures_stay_as_they_were(folder):
    before = begun(folder, "flat").state_dict()
    network = ablation.trained(folder, folder / "stage1.safetensors", folder / "data", "flat", 0, steps=2)
    adapter = network.adapter
    gains = adapter.multi_scale_spectral.gains(torch.randn(4, 4, tiny.LATENT, tiny.LATENT))
    torch.testing.assert_close(gains, gains[:1].expand(4))
    x = torch.randn(2, adapter.self_adaptive_filter.bands.weight.shape[2], 2, 2)
    torch.testing.assert_close(adapter.self_adaptive_filter(x), x)
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    assert changed and all(
        name.startswith(("adapter.sites.", "adapter.audio_projection.")) for name in changed
    )


def test_held_out_losses_are_the_same_every_time(folder):
    network = begun(folder, "learnable")
    once, twice = (ablation.held_out_loss(network, folder / "data", count=2) for _ in range(2))
    assert once == twice > 0


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.001, -0.002, 0.0, 0.002, -0.001], "equal within the margin"),
        ([0.1, 0.11, 0.09, 0.1, 0.1], "different"),
        ([0.1, -0.1, 0.05, -0.02, 0.03], "undecided"),
    ],
)
def test_verdicts(differences, verdict):
    assert ablation.Paired(np.array(differences)).verdict(0.02) == verdict


def test_the_interval_is_that_of_students_t():
    assert ablation.Paired(np.array([1.0, 2.0, 3.0])).half == pytest.approx(4.302653 / 3**0.5)


def test_the_table_pairs_arms_by_seed():
    lines = [
        {"arm": arm, "seed": seed, "loss": 0.1, "sync": sync + 0.1 * seed, "gains": [7.0] * 4}
        for seed in range(2)
        for arm, sync in (("learnable", 0.8), ("flat", 0.7))
    ]
    text = ablation.table(lines)
    assert "| flat | 1 | 0.10000 | 0.800 | 7.00, 7.00, 7.00, 7.00 |" in text
    assert "sync -0.1000 ± 0.0000 (different of 0.02)" in text
