"""Stage 1 on people without songs, inputs dropped sample by sample, rates by part, portraits that matter."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest
import torch
from clips import SMALL, config, write_clips
from safetensors.torch import load_file, save_file

from singer_core.network.backbone import SingerNetwork
from singer_core.network.conditions import CONDITIONAL, UNCONDITIONAL, ReferenceFeatures
from singer_core.network.warp import MOTION
from singer_core.training.checkpoints import AVERAGE, NETWORK
from singer_core.training.config import Rates, from_mapping
from singer_core.training.dataset import ClipDataset
from singer_core.training.initialise import init_weights
from singer_core.training.objective import Objective, carried_latents, located, predict, seeded
from singer_core.training.recipes import prepare_parameters, starting_network
from singer_core.training.runlog import PORTRAIT_LOG
from singer_core.training.trainer import Trainer


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Items with three poses each and no song."""
    folder = write_clips(tmp_path_factory.mktemp("people") / "data", 3)
    for path in folder.iterdir():
        item = load_file(path)
        del item["features"]
        poses = {
            k: v[:3].contiguous() if k in ("latents", "boxes", "thumbnails") else v for k, v in item.items()
        }
        save_file(poses, path)
    return folder


def pictures(folder: Path, data: Path, **changes: object):
    return config(folder, data=data, stage=1, batch=3, **changes)


def flags(*values: int) -> torch.Tensor:
    """For each sample, whether it goes without something."""
    return torch.tensor(values, dtype=torch.bool)


def test_the_portrait_shows_another_pose_but_for_the_share_that_is_asked_for(people):
    for share in (0.0, 0.5, 1.0):
        data = ClipDataset(people, 1, 0, same_pose=share)
        pairs = [data.sample(seeded("pair", n)) for n in range(60)]
        same = sum(torch.equal(pair.latents[0], pair.reference) for pair in pairs) / len(pairs)
        assert same == pytest.approx(share, abs=0.2 if share == 0.5 else 0)


def test_people_without_songs_are_for_stage_1_only(people, tmp_path):
    Trainer(pictures(tmp_path, people, steps=1)).run()
    with pytest.raises(ValueError, match=r"a person without a song, which only stage 1 learns from"):
        ClipDataset(people, 1, 0)


def test_stage_1_goes_on_exactly_and_looking_at_portraits_changes_nothing(people, tmp_path):
    chances = {"reference_dropout": 0.4, "locator_dropout": 0.4, "ema": 0.9}
    whole = pictures(tmp_path, people, output=tmp_path / "whole", sensitivity_every=0, **chances)
    Trainer(whole).run()
    broken = whole.but(output=tmp_path / "broken", save_every=1, sensitivity_every=1)
    Trainer(broken).run(until=1)
    Trainer(broken).run()
    for name in (NETWORK, AVERAGE):
        expected, found = (load_file(tmp_path / run / "step-000002" / name) for run in ("whole", "broken"))
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    with (tmp_path / "broken" / PORTRAIT_LOG).open(newline="") as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream)] == [1, 2]


def stirred(network: SingerNetwork) -> SingerNetwork:
    """Weights with which every input reaches the output."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.fixture(scope="module")
def network() -> SingerNetwork:
    network = SingerNetwork(SMALL)
    init_weights(network, 0)
    return stirred(network)


def test_a_mixed_batch_is_what_its_samples_are_alone(people, tmp_path, network):
    """Several people, some without portrait or locator, each with its own time step."""
    run = pictures(tmp_path, people)
    batch, draws = Trainer(run, network).inputs()
    draws = dataclasses.replace(
        draws, no_reference=flags(0, 1, 0), no_audio=flags(0, 0, 0), no_locator=flags(1, 0, 0)
    )
    with torch.no_grad():
        together = predict(network, run, batch, draws, batch.latents)
        alone = [
            predict(network, run, batch.pick([n]), draws.pick([n]), batch.latents[[n]]) for n in range(3)
        ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_a_wrong_portrait_costs_nothing_where_no_portrait_is_read(people, tmp_path, network):
    trainer = Trainer(pictures(tmp_path, people), network)
    found = trainer.sensitivity()
    assert found is not None and found.right != found.wrong != found.attention
    fresh = Trainer(pictures(tmp_path, people)).sensitivity()  # its output is 0
    assert fresh is not None and fresh.right == fresh.wrong == fresh.attention


def test_attention_may_see_another_than_the_one_who_moves(tmp_path):
    """An untrained network moves nothing: the portrait itself, whomever attention sees."""
    moving = dataclasses.replace(SMALL, predicts="motion")
    data = write_clips(tmp_path / "data")
    found = Trainer(config(tmp_path, data=data, architecture=moving)).sensitivity()
    assert found is not None and found.right == found.attention != found.wrong


def test_one_person_has_no_wrong_portrait(tmp_path):
    data = write_clips(tmp_path / "one", 1)
    assert Trainer(config(tmp_path, data=data)).sensitivity() is None


def test_dropped_inputs_are_dropped_for_their_sample_alone(people, tmp_path, network):
    run = pictures(tmp_path, people, locator_dropout=1.0, carried_dropout=1.0)
    batch, draws = Trainer(run, network).inputs()
    assert not located(network, batch, draws).any()
    assert not draws.motion_keep.any()
    some = dataclasses.replace(draws, no_locator=flags(1, 0, 1))
    assert [bool(face.any()) for face in located(network, batch, some)] == [False, True, False]
    carried = dataclasses.replace(batch, carried=torch.ones(3, run.motion_frames, *batch.reference.shape[1:]))
    first = dataclasses.replace(draws, no_start=flags(0, 1, 0))
    shown = carried_latents(run, carried, first)
    assert torch.equal(shown[1, 0], batch.reference[1])
    assert not shown[0].any() and not shown[2].any()


def test_the_branch_without_portrait_is_shown_no_carried_frames_where_it_was_trained_so():
    features = {"site": torch.ones(1, 1, 3, 4, 2)}
    branches, size = (UNCONDITIONAL, CONDITIONAL), torch.Size((2, 2))
    shown = [ReferenceFeatures(features, blind).carried("site", branches, size) for blind in (False, True)]
    assert shown[0].shape == shown[1].shape == (2, 2, 2, 2, 2)
    assert shown[0].all()
    assert not shown[1][0].any() and shown[1][1].all()


def test_a_checkpoint_says_who_sees_the_carried_frames_and_what_is_predicted(tmp_path):
    """Published networks say nothing and keep what they were trained with."""
    assert starting_network(config(tmp_path)).architecture.carried_input == "with_portrait"
    published = dataclasses.replace(SMALL, carried_input="always")
    authors = starting_network(config(tmp_path, recipe="authors", architecture=published))
    assert authors.architecture.carried_input == "always"
    moving = dataclasses.replace(SMALL, predicts="motion")
    run = config(tmp_path, data=write_clips(tmp_path / "data"), steps=1, architecture=moving)
    with pytest.raises(ValueError, match="`noise_schedule` is linear; a network that predicts motion"):
        Trainer(run.but(noise_schedule="linear"))
    Trainer(run).run()
    begun = config(
        tmp_path, start=tmp_path / "run/step-000001" / NETWORK, architecture=None, recipe="authors"
    )
    found = starting_network(begun).architecture
    assert (found.carried_input, found.predicts) == ("with_portrait", "motion")


def test_another_architecture_takes_over_what_fits_and_begins_the_rest_fresh(tmp_path, caplog):
    """Larger pictures (a wider SFM), other audio tokens: all of UNets and face locator stays."""
    Trainer(config(tmp_path, data=write_clips(tmp_path / "data"), steps=1)).run()
    start = tmp_path / "run/step-000001" / NETWORK
    assert SMALL.sfm_width is not None
    wider = dataclasses.replace(SMALL, sfm_width=2 * SMALL.sfm_width, audio_hidden=2 * SMALL.audio_hidden)
    with caplog.at_level("INFO"):
        grown = starting_network(config(tmp_path, start=start, architecture=wider))
    before = starting_network(config(tmp_path, start=start, architecture=None)).state_dict()
    fresh = starting_network(config(tmp_path, architecture=wider)).state_dict()
    other = {name for name, value in grown.state_dict().items() if value.shape != before[name].shape}
    assert other and all(name.startswith(("adapter.self_", "adapter.audio_")) for name in other)
    for name, value in grown.state_dict().items():
        assert torch.equal(value, fresh[name] if name in other else before[name]), name
    assert "fresh: adapter.audio_projection, adapter.self_adaptive_filter" in caplog.text


def test_a_start_of_which_too_little_fits_is_refused(tmp_path):
    Trainer(config(tmp_path, data=write_clips(tmp_path / "data"), steps=1)).run()
    channels = tuple(2 * width for width in SMALL.channels)
    run = config(
        tmp_path,
        start=tmp_path / "run/step-000001" / NETWORK,
        architecture=dataclasses.replace(SMALL, channels=channels),
    )
    with pytest.raises(ValueError, match=r"`architecture` shares \d+ of \d+ tensors with .* Accepted: half"):
        starting_network(run)


def test_rates_slow_a_part_down_and_0_leaves_it_as_it_is(tmp_path):
    data = write_clips(tmp_path / "data")
    run = config(tmp_path, data=data, rates=Rates(spatial=0.0, motion=0.5), steps=1)
    trainer = Trainer(run)
    before = {name: p.detach().clone() for name, p in trainer.network.named_parameters()}
    trained = prepare_parameters(trainer.network, run)
    assert not any(name.startswith(("unet.", "reference_unet.", "adapter.face")) for name in trained)
    trainer.run()
    rates = {(group["factor"], group["lr"]) for group in trainer.optimizer.param_groups}
    assert rates == {(1.0, run.rate), (0.5, run.rate / 2)}
    after = dict(trainer.network.named_parameters())
    assert all(torch.equal(after[name], before[name]) for name in before if name not in trained)


def test_rates_are_a_table_of_the_configuration():
    given = {"data": "d", "output": "o", "start": "net.safetensors"}
    assert from_mapping({**given, "rates": {"spatial": 0.1}}).rates == Rates(spatial=0.1)
    with pytest.raises(ValueError, match=r"\[rates\] has the unknown key `spacial`"):
        from_mapping({**given, "rates": {"spacial": 0.1}})
    with pytest.raises(ValueError, match=r"`audio` is -1; accepted: 0 or more"):
        from_mapping({**given, "rates": {"audio": -1}})
    with pytest.raises(ValueError, match=r"All of `rates` are 0"):
        from_mapping({**given, "rates": dict.fromkeys(("spatial", "audio", "spectral", "motion"), 0)})


def test_known_ways_of_the_portrait_weigh_in_the_loss(tmp_path):
    """The fresh network lets everything stay where it is."""
    data = write_clips(tmp_path / "data")
    for path in data.glob("*.safetensors"):
        tensors = load_file(path)
        length, _, *size = tensors["latents"].shape
        ways = torch.full((length, MOTION, *size), 0.5)
        ways[:, :, : size[0] // 2] = torch.nan
        save_file({**tensors, "ways": ways.half()}, path)
    run = config(tmp_path, data=data, steps=1, architecture=dataclasses.replace(SMALL, predicts="motion"))
    trainer = Trainer(run)
    batch, draws = trainer.inputs()
    seen, unseen = (dataclasses.replace(draws, no_reference=flags(*[blind] * run.batch)) for blind in (0, 1))
    with torch.no_grad():
        plain, weighed = (Objective(run.but(ways_weight=weight)) for weight in (0.0, 2.0))
        more = weighed(trainer.network, batch, seen) - plain(trainer.network, batch, seen)
        assert float(more) == pytest.approx(2 * 0.25 / 2, rel=1e-3)
        assert weighed(trainer.network, batch, unseen) == plain(trainer.network, batch, unseen)
    known, pictures = (Trainer(run.but(ways_weight=weight)).sensitivity() for weight in (2.0, 0.0))
    assert known == pictures  # landmarks say little of whose face it is
    weighed(trainer.network, batch, seen).backward()
    gradients = [parameter.grad for parameter in trainer.trained.values() if parameter.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


def test_clips_begin_their_performance_for_the_share_that_is_asked_for(tmp_path):
    folder = write_clips(tmp_path / "data")
    begun = 0
    for number in range(60):
        clip = ClipDataset(folder, 4, 2, beginnings=0.5).sample(seeded("clip", number))
        begun += torch.equal(clip.carried, clip.reference.expand_as(clip.carried))
    assert begun / 60 == pytest.approx(0.5, abs=0.2)
    data = ClipDataset(folder, 4, 2)
    whole = load_file(data.items[0].path)["latents"].float()
    torch.testing.assert_close(data.clip(data.items[0], 0, 3).latents, whole[:4])
    later = data.clip(data.items[0], 5, 3)
    torch.testing.assert_close(later.latents, whole[5:9])
    torch.testing.assert_close(later.carried, whole[3:5])


def test_each_clip_is_equalised_in_its_own_way(tmp_path):
    folder = write_clips(tmp_path / "data", count=1)
    plain, other = (ClipDataset(folder, 4, 2, equalisation=amount) for amount in (0.0, 0.3))
    changes = []
    for number in range(2):
        clip, changed = (data.sample(seeded(number)) for data in (plain, other))
        assert torch.equal(clip.latents, changed.latents)
        assert torch.equal(changed.windows, other.sample(seeded(number)).windows)
        changes.append(float((changed.windows - clip.windows).abs().max()))
    assert changes[0] != changes[1] and min(changes) > 0.01


def test_ways_weigh_nothing_where_no_motion_is_predicted(tmp_path):
    run = config(tmp_path, data=write_clips(tmp_path / "data"), steps=1)
    trainer = Trainer(run)
    batch, draws = trainer.inputs()
    with torch.no_grad():
        plain, weighed = (Objective(run.but(ways_weight=weight)) for weight in (0.0, 2.0))
        assert weighed(trainer.network, batch, draws) == plain(trainer.network, batch, draws)
