"""Adapting a trained network by low-rank factors: what changes, what does not, and that it merges."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.append(str(Path(__file__).parent))

from clips import config, write_clips
from tiny import random_state, save_checkpoint

from singer_core.network.checkpoint import load_network, open_checkpoint
from singer_core.training.checkpoints import NETWORK
from singer_core.training.config import TrainConfig
from singer_core.training.objective import image_tokens, predict
from singer_core.training.recipes import prepare_parameters, starting_network
from singer_core.training.trainer import Trainer

pytest.importorskip("peft")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Data, and a trained network to adapt."""
    folder = tmp_path_factory.mktemp("lora")
    write_clips(folder / "data")
    save_checkpoint(folder / "net.safetensors", random_state())
    return folder


def adaptation(world: Path, output: Path, **changes: object) -> TrainConfig:
    plain = config(world, output=output, start=world / "net.safetensors", architecture=None, steps=2)
    return plain.but(recipe="lora", trainable="adapter", lora_rank=2, rate=0.05, **changes)


def test_only_attention_of_audio_modules_msm_gate_and_sfm_change(world, tmp_path):
    run = adaptation(world, tmp_path / "run")
    Trainer(run).run()
    before, after = load_file(run.start), load_file(tmp_path / "run" / "step-000002" / NETWORK)
    changed = {key for key, value in before.items() if not torch.equal(after[key], value)}
    dead = ("denoising_unet.down_blocks.2.motion_modules", "denoising_unet.up_blocks.0.motion_modules")
    changed = {key for key in changed if not key.startswith(dead)}  # written as zeros, never run
    gates = {"audioembed.fc.0.weight", "audioembed.fc.2.weight"}
    full = {key for key in before if "hidden_spectral" in key} | gates
    factors = {
        key
        for key in before
        if ".audio_modules." in key
        and ".attn" in key
        and key.endswith((".to_q.weight", ".to_k.weight", ".to_v.weight", ".to_out.0.weight"))
    }
    assert factors <= changed <= factors | full
    assert changed & full


def test_merged_network_predicts_what_the_adapted_one_does(world, tmp_path):
    run = adaptation(world, tmp_path / "run")
    trainer = Trainer(run)
    adapted = trainer.run()
    merged = load_network(open_checkpoint(tmp_path / "run" / "step-000002" / NETWORK))
    batch, draws = trainer.inputs()
    with torch.no_grad():
        expected = predict(adapted, run, batch, draws, batch.latents)
        assert image_tokens(merged, batch.identity).shape[0] == 2
        found = predict(merged, run, batch, draws, batch.latents)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_factors_begin_as_no_change(world, tmp_path):
    run = adaptation(world, tmp_path / "run")
    trainer = Trainer(run)
    plain = starting_network(run)
    batch, draws = trainer.inputs()
    with torch.no_grad():
        expected = predict(plain, run, batch, draws, batch.latents)
        found = predict(trainer.network, run, batch, draws, batch.latents)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_adaptation_resumes_exactly(world, tmp_path):
    whole, broken = adaptation(world, tmp_path / "whole"), adaptation(world, tmp_path / "broken")
    Trainer(whole).run()
    Trainer(broken).run(until=1)
    Trainer(broken).run()
    expected = load_file(tmp_path / "whole" / "step-000002" / NETWORK)
    found = load_file(tmp_path / "broken" / "step-000002" / NETWORK)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_motion_modules_join_where_asked_for(world, tmp_path):
    names = {}
    for motion in (False, True):
        run = adaptation(world, tmp_path / "run", lora_motion=motion)
        names[motion] = set(prepare_parameters(starting_network(run), run))
    added = names[True] - names[False]
    assert added and all(".motion." in name and ".lora_" in name for name in added)


def test_adaptation_needs_a_network_to_adapt(world, tmp_path):
    with pytest.raises(ValueError, match="needs `start`"):
        adaptation(world, tmp_path / "run").but(start=None)
