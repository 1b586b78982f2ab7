"""Laws of the training loop: it learns, it resumes exactly, it saves whole checkpoints or none."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path

import pytest
import torch
from clips import SMALL, config, write_clips
from safetensors.torch import load_file

from singer_core.network.architecture import Architecture
from singer_core.network.checkpoint import load_network, open_checkpoint
from singer_core.training import checkpoints
from singer_core.training.checkpoints import AVERAGE, NETWORK, STATE, all_steps, newest_step
from singer_core.training.objective import Draws
from singer_core.training.trainer import Trainer, learning_rate, plan


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips") / "data")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_loss_on_a_fixed_batch_halves_within_200_steps_from_scratch(clips, tmp_path):
    trainer = Trainer(config(tmp_path, data=clips, reference_dropout=0.0, audio_dropout=0.0))
    batch, draws = trainer.inputs()
    draws = Draws(**{**vars(draws), "timesteps": torch.tensor([600])})
    with torch.no_grad():
        first = float(trainer.module(batch, draws))
    for _ in range(200):
        loss = trainer.module(batch, draws)
        if float(loss.detach()) < first / 2:
            return
        trainer.optimizer.zero_grad()
        loss.backward()
        trainer.optimizer.step()
    pytest.fail(f"the loss is {float(loss)} after 200 steps and was {first}")


def test_resumed_run_equals_an_unbroken_one_bit_for_bit(clips, tmp_path):
    whole = config(tmp_path, data=clips, output=tmp_path / "whole", ema=0.9, steps=2)
    Trainer(whole).run()
    broken = whole.but(output=tmp_path / "broken", save_every=1)
    Trainer(broken).run(until=1)
    # A kill while step 2 is being written leaves an unfinished folder, which does not count.
    (tmp_path / "broken" / ".unfinished-x").mkdir()
    Trainer(broken).run()
    for name in (NETWORK, AVERAGE):
        expected = load_file(tmp_path / "whole" / "step-000002" / name)
        found = load_file(tmp_path / "broken" / "step-000002" / name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    moments = [
        torch.load(tmp_path / run / "step-000002" / STATE, weights_only=True)["optimizer"]["state"]
        for run in ("whole", "broken")
    ]
    for key, values in moments[0].items():
        assert all(torch.equal(moments[1][key][name], value) for name, value in values.items())


def test_checkpoint_is_an_ordinary_one_in_the_published_layout(clips, tmp_path):
    trainer = Trainer(config(tmp_path, data=clips, steps=1))
    trained = trainer.run()
    opened = open_checkpoint(tmp_path / "run" / "step-000001" / NETWORK)
    assert opened.variant == "singer"
    assert opened.architecture == SMALL
    assert opened.file.metadata["singer.noise_schedule"] == "scaled_linear"
    assert (opened.file.metadata["singer.audio_layers"], opened.file.metadata["singer.audio_width"]) == (
        "2",
        "3",
    )
    loaded = load_network(opened).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in trained.state_dict().items())


def test_full_disk_leaves_the_last_good_checkpoint(clips, tmp_path, monkeypatch):
    trainer = Trainer(config(tmp_path, data=clips, save_every=1))
    trainer.run(until=1)
    before = sorted(p.name for p in (tmp_path / "run" / "step-000001").iterdir())

    def full(state: object, path: Path) -> None:
        Path(path).write_bytes(b"half a file")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        trainer.run()
    assert [p.name for p in all_steps(tmp_path / "run")] == ["step-000001"]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["log.csv", "step-000001"]
    assert sorted(p.name for p in (tmp_path / "run" / "step-000001").iterdir()) == before
    monkeypatch.undo()
    assert Trainer(config(tmp_path, data=clips, save_every=1)).step == 1


def test_only_the_newest_checkpoints_stay(clips, tmp_path):
    Trainer(config(tmp_path, data=clips, save_every=1, steps=2, keep=1)).run()
    assert [p.name for p in all_steps(tmp_path / "run")] == ["step-000002"]


def test_checkpoint_of_other_widths_is_refused(clips, tmp_path):
    Trainer(config(tmp_path, data=clips, steps=1)).run()
    other = dataclasses.replace(SMALL, audio_hidden=12)
    with pytest.raises(RuntimeError, match="other widths"):
        Trainer(config(tmp_path, data=clips, steps=1, architecture=other))


def test_data_that_the_network_does_not_read_is_refused(clips, tmp_path):
    other = dataclasses.replace(SMALL, audio_inputs=49)
    with pytest.raises(ValueError, match=r"have 6 audio features a frame; the network reads 7"):
        Trainer(config(tmp_path, data=clips, architecture=other))


def test_features_without_bands_are_not_equalised(clips, tmp_path):
    heard = {name: getattr(Architecture(), name) for name in ("audio_inputs", "audio_past")}
    published = dataclasses.replace(SMALL, **heard)
    with pytest.raises(ValueError, match=r"`equalisation` is 0.25; the network reads wav2vec2 features"):
        Trainer(config(tmp_path, data=clips, architecture=published, equalisation=0.25))


def test_a_loss_that_is_not_finite_stops_the_run(clips, tmp_path):
    trainer = Trainer(config(tmp_path, data=clips))
    with torch.no_grad():
        trainer.network.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="loss of step 1 is nan"):
        trainer.run()
    assert newest_step(tmp_path / "run") is None
    assert trainer.network.unet.conv_in.weight.isfinite().all()  # nothing was learnt from it


def test_batches_partition_over_devices_and_steps(clips, tmp_path):
    """One device with a batch of two sees the samples that two devices with one each see."""
    together = Trainer(config(tmp_path, data=clips, batch=2))
    alone = Trainer(config(tmp_path, data=clips, batch=1))
    both, draws = together.inputs()
    pieces = []
    for rank in range(2):
        alone.accelerator.state.num_processes, alone.accelerator.state.process_index = 2, rank
        pieces.append(alone.inputs())
    alone.accelerator.state.num_processes, alone.accelerator.state.process_index = 1, 0
    assert torch.equal(both.latents, torch.cat([batch.latents for batch, _ in pieces]))
    assert torch.equal(draws.noise, torch.cat([chance.noise for _, chance in pieces]))
    assert torch.equal(draws.timesteps, torch.cat([chance.timesteps for _, chance in pieces]))


def test_gradient_checkpointing_changes_no_gradient(clips, tmp_path):
    gradients = []
    for checkpointing in (False, True):
        trainer = Trainer(
            config(tmp_path, data=clips, gradient_checkpointing=checkpointing, reference_dropout=0.0)
        )
        for parameter in trainer.trained.values():
            if not parameter.any():
                torch.nn.init.constant_(parameter, 0.01)
        batch, draws = trainer.inputs()
        trainer.module(batch, draws).backward()
        gradients.append({name: p.grad for name, p in trainer.trained.items() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=1e-4, atol=1e-6)


def test_learning_rate_warms_up_then_falls_along_half_a_cosine(tmp_path):
    run = config(tmp_path, rate=1.0, warmup=10, steps=100, decay="cosine")
    assert [learning_rate(run, step) for step in (0, 4)] == pytest.approx([0.1, 0.5], rel=0.01)
    assert learning_rate(run, 50) == pytest.approx(0.51)
    assert learning_rate(run, 100) == pytest.approx(0.02)
    assert learning_rate(run.but(decay="constant"), 99) == 1.0


def test_plan_counts_every_trained_value(clips, tmp_path):
    found = plan(config(tmp_path, data=clips))
    trainer = Trainer(config(tmp_path, data=clips))
    assert (
        found["trained"] == sum(p.numel() for p in trainer.trained.values()) == sum(found["parts"].values())
    )
    assert found["bytes"]["total"] > 16 * found["trained"]
