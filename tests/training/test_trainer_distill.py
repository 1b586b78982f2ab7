"""Distilling a guided teacher into few steps: what is learnt, that it resumes, what files say."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.append(str(Path(__file__).parent))

from clips import SMALL, distillation, write_clips
from tiny import random_state, save_checkpoint

from singer_core.cli import main
from singer_core.cli.sing import default_options
from singer_core.network.checkpoint import open_checkpoint
from singer_core.network.conditions import CONDITIONAL, UNCONDITIONAL
from singer_core.network.schedule import ddim
from singer_core.settings import PAPER
from singer_core.training.checkpoints import NETWORK, export_newest
from singer_core.training.distillation import Conditioned, Distillation
from singer_core.training.trainer import Trainer


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Data, and a network to distill."""
    folder = tmp_path_factory.mktemp("distill")
    write_clips(folder / "data")
    return folder


@pytest.fixture(scope="module")
def first(world) -> Trainer:
    """Before its first step: the student is the teacher."""
    return Trainer(distillation(world, output=world / "first", batch=2))


def objective_of(trainer: Trainer, **changes: object) -> Distillation:
    return Distillation(trainer.config.but(**changes), trainer.module.objective.teacher)


@torch.no_grad()
def test_a_teacher_of_as_many_steps_without_guidance_is_met_at_once(first):
    batch, draws = first.inputs()
    same = {"teacher_steps": 2, "reference_scale": 1.0, "audio_scale": 1.0}
    assert float(objective_of(first, **same)(first.network, batch, draws)) < 1e-9
    assert float(objective_of(first)(first.network, batch, draws)) > 1e-3


@torch.no_grad()
def test_the_target_is_where_diffusers_sampler_takes_the_guided_teacher(first):
    objective, (batch, draws) = first.module.objective, first.inputs()
    batch, draws = batch.of_frames(2), draws.of_frames(2)
    start = torch.tensor([0, 2])
    found = objective._taught(batch, draws, batch.latents, start)
    for row, half in enumerate(start.tolist()):
        one, chance = batch.pick([row]), draws.pick([row])
        teacher = Conditioned.of(objective.teacher, first.config, one, chance)
        scheduler, x = ddim(first.config.noise_schedule, 4), one.latents
        for time in scheduler.timesteps[half : half + 2]:
            blind, full = teacher.predict(x, time[None], (UNCONDITIONAL, CONDITIONAL)).chunk(2)
            x = scheduler.step(blind + 3.5 * (full - blind), time, x).prev_sample
        torch.testing.assert_close(found[row], x[0], rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_own_outputs_are_carried_and_gone_on_from(first):
    objective, (batch, draws) = first.module.objective, first.inputs()
    yes, no = torch.tensor([True, True]), torch.tensor([False, False])
    plain = dataclasses.replace(draws, own_carried=no, own_beginning=no, no_start=no)
    later = objective._carrying(first.network, batch, plain)
    assert torch.equal(later.carried, batch.latents[:, :2]) and torch.equal(
        later.windows, batch.windows[:, 2:]
    )
    own = objective._carrying(first.network, batch, dataclasses.replace(plain, own_carried=yes))
    expected = objective._sung(first.network, batch.of_frames(2), plain.of_frames(2), plain.noise[:, :2], 2)
    torch.testing.assert_close(own.carried, expected, rtol=1e-4, atol=1e-5)

    start, half = torch.tensor([0, 2]), plain.of_frames(-2)
    x = objective._beginning(first.network, later, dataclasses.replace(half, own_beginning=yes), start)
    assert torch.equal(x[0], half.noise[0])  # no signal at the first step
    mixed = objective._beginning(first.network, later, half, start)
    share = ddim("scaled_linear", 2).alphas_cumprod[499]
    torch.testing.assert_close(mixed[1], share.sqrt() * later.latents[1] + (1 - share).sqrt() * half.noise[1])
    assert not torch.allclose(x[1], mixed[1])


def test_distillation_resumes_exactly_and_says_what_it_made(world, tmp_path, capsys):
    short = {"own_outputs": 1.0, "teacher_steps": 2}
    whole, broken = (distillation(world, output=tmp_path / name, **short) for name in ("whole", "broken"))
    Trainer(whole.but(save_every=1)).run()
    shutil.copytree(whole.output / "step-000001", broken.output / "step-000001")
    trainer = Trainer(broken)
    trainer.run()
    files = [run.output / "step-000002" / NETWORK for run in (whole, broken)]
    expected, found = map(load_file, files)
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    taught, start = trainer.module.objective.teacher.state_dict(), load_file(world / "net.safetensors")
    assert torch.equal(taught["unet.conv_out.weight"], start["denoising_unet.conv_out.weight"])
    assert not torch.equal(found["denoising_unet.conv_out.weight"], start["denoising_unet.conv_out.weight"])

    made = open_checkpoint(files[0])
    assert made.distilled_steps == 2 and made.file.metadata["singer.folded_guidance"] == "3.5,3.5"
    assert main(["info", str(files[0])]) == 0
    assert (
        "made for 2 steps without guidance (distilled, guidance learnt: 3.5 and 3.5)"
        in capsys.readouterr().out
    )
    assert default_options(made) == PAPER
    with pytest.raises(ValueError, match="distilled already, for 2 steps"):
        Trainer(distillation(world, output=tmp_path / "again", start=files[0]))


def test_what_cannot_be_distilled_is_one_clear_error(world, tmp_path):
    run = distillation(world, output=tmp_path / "run")
    with pytest.raises(
        ValueError, match="`teacher_steps` is 5; accepted: a multiple of `distilled_steps` \\(2\\)"
    ):
        run.but(teacher_steps=5)
    with pytest.raises(ValueError, match="needs `start`"):
        run.but(start=None, architecture=SMALL)
    with pytest.raises(ValueError, match=r"`audio_dropout` is 0.1; accepted: 0"):
        run.but(audio_dropout=0.1)
    sings = (".audio_modules.", ".motion_modules.", "audioproj.", "audioembed.", "hidden_spectral")
    state = {key: x for key, x in random_state(SMALL).items() if not any(part in key for part in sings)}
    silent = save_checkpoint(tmp_path / "silent.safetensors", state)
    with pytest.raises(ValueError, match=r"`start` silent.safetensors has no audio and motion modules"):
        Trainer(run.but(start=silent))


def test_factors_leave_the_teacher_its_tensors(world, tmp_path):
    pytest.importorskip("peft")
    trainer = Trainer(distillation(world, output=tmp_path / "run", trainable="factors", lora_rank=2, steps=1))
    teacher = trainer.module.objective.teacher
    student = dict(trainer.network.named_parameters())
    assert student["unet.conv_out.weight"] is teacher.unet.conv_out.weight
    attention = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    assert student[f"unet.{attention}.base_layer.weight"] is teacher.unet.get_submodule(attention).weight
    parts = ("unet.", ".audio.", ".motion.")
    assert all(any(part in name and ".lora_" in name for name in trainer.trained) for part in parts)
    trainer.run()
    assert open_checkpoint(tmp_path / "run" / "step-000001" / NETWORK).distilled_steps == 2
    for_core = tmp_path / "turbo.safetensors"
    export_newest(trainer.config, open_checkpoint(world / "net.safetensors"), for_core, {})
    names = set(load_file(for_core))
    assert {f"lora_unet_{attention.replace('.', '_')}.lora_{factor}.weight" for factor in "AB"} <= names
    assert all(name.startswith(("lora_unet_", "diffusion_model.adapter.")) for name in names)
