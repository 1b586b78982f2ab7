"""The loss, its chance, and what a forward goes without."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
import tiny
import torch

sys.path.append(str(Path(__file__).parent))

from clips import SMALL, config, write_clips

from singer_core.network.backbone import SingerNetwork
from singer_core.network.checkpoint import published_key
from singer_core.network.conditions import CONDITIONAL, PORTRAIT_ONLY, UNCONDITIONAL
from singer_core.network.schedule import ddim, signal_to_noise
from singer_core.network.warp import CERTAIN, COVER, FIELD, MOTION
from singer_core.training.dataset import ClipDataset, collate
from singer_core.training.initialise import init_weights
from singer_core.training.objective import (
    Draws,
    Objective,
    carried_latents,
    clip_conditions,
    draw,
    image_tokens,
    seeded,
)
from singer_core.training.recipes import prepare_parameters, starting_network


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips") / "data")


@pytest.fixture(scope="module")
def network() -> SingerNetwork:
    network = SingerNetwork(SMALL)
    init_weights(network, 0)
    return network


def batch_and_draws(clips: Path, run, numbers: range = range(1)):
    data = ClipDataset(clips, run.frames, run.motion_frames, audio_past=SMALL.audio_past)
    batch = collate([data.sample(seeded(run.seed, "clip", n)) for n in numbers])
    return batch, draw(run, tuple(batch.latents.shape[1:]), numbers, 0)


def without(draws: Draws, **flags: bool) -> Draws:
    plain = dict.fromkeys(("no_reference", "no_audio", "no_start", "no_locator"), False)
    each = {
        name: torch.full_like(draws.timesteps, flag, dtype=torch.bool)
        for name, flag in {**plain, **flags}.items()
    }
    return Draws(**{**vars(draws), **each})


def test_min_snr_weighs_every_sample_by_the_formula(tmp_path):
    """min(snr + 1, 5) / (snr + 1) of v-prediction; 1 where nothing but noise is left."""
    run = config(tmp_path)
    timesteps = torch.tensor([999, 700, 100])
    snr = signal_to_noise(ddim("scaled_linear", 1000), timesteps)
    error = torch.rand(3, 2, 4, 4, 4)
    weights = torch.tensor([1.0, 1.0, 5 / (float(snr[2]) + 1)])
    assert float(snr[0]) == 0 and float(snr[1]) < 4 < float(snr[2])
    lips = torch.zeros(3, 2, 4, 4)
    expected = (error.mean((1, 2, 3, 4)) * weights).mean()
    torch.testing.assert_close(Objective(run).weighted(error, snr, lips), expected)
    authors = Objective(run.but(recipe="authors")).weighted(error, snr, lips)
    torch.testing.assert_close(authors, error.mean() * weights.mean())


def test_extra_weights_keep_the_mean_of_an_even_error(tmp_path):
    objective = Objective(config(tmp_path))
    lips = torch.zeros(1, 2, 4, 4)
    lips[:, :, 2:, 1:3] = 1
    snr = torch.zeros(1)
    even = objective.weighted(torch.full((1, 2, 4, 4, 4), 0.7), snr, 3 * lips)
    assert float(even) == pytest.approx(0.7, rel=1e-5)
    inside = lips[:, :, None].expand(-1, -1, 4, -1, -1)
    assert objective.weighted(inside, snr, 3 * lips) > objective.weighted(1 - inside, snr, 3 * lips)


def test_lips_and_what_is_painted_over_are_watched(clips, tmp_path):
    run = config(tmp_path, lip_weight=3.0, paint_weight=40.0)
    batch, _ = batch_and_draws(clips, run)
    torch.testing.assert_close(Objective(run).watched(batch), 3 * batch.lips)  # without ways
    ways = torch.zeros(*batch.lips.shape[:2], MOTION, *batch.lips.shape[2:])
    ways[:, :, :FIELD] = torch.nan  # outside the face
    ways[:, :, FIELD : FIELD + COVER // 2, 0, 1] = CERTAIN  # half of one latent pixel
    found = Objective(run).watched(dataclasses.replace(batch, ways=ways)) - 3 * batch.lips
    assert (found[:, :, 0, 1] == 20).all() and float(found.sum()) == 20 * found[:, :, 0, 1].numel()


def test_the_target_is_v_of_the_schedule(clips, tmp_path, network):
    """A network whose output is 0 has the loss E[v^2], v = sqrt(a) noise - sqrt(1 - a) x0."""
    run = config(tmp_path)
    batch, draws = batch_and_draws(clips, run)
    a = ddim("scaled_linear", 1000).alphas_cumprod[draws.timesteps]
    v = a.sqrt() * draws.noise - (1 - a).sqrt() * batch.latents
    snr = a / (1 - a)
    expected = v.square().mean() * torch.clamp(snr + 1, max=5.0) / (snr + 1)
    assert not network.unet.conv_out.weight.any()
    torch.nn.init.zeros_(network.unet.conv_out.bias)
    torch.testing.assert_close(Objective(run)(network, batch, without(draws)), expected[0], rtol=1e-4, atol=0)


def test_dropped_reference_of_the_authors_gives_four_zero_motion_frames(clips, tmp_path, network):
    run = config(tmp_path, recipe="authors")
    batch, draws = batch_and_draws(clips, run)
    tokens = image_tokens(network, batch.identity)
    clip = clip_conditions(network, run, batch, without(draws, no_reference=True), batch.latents, tokens)
    assert clip.reference is None
    assert clip.branches == (CONDITIONAL,)
    x = torch.ones(run.frames, 32, tiny.LATENT, tiny.LATENT)
    carried = clip.carried("down_blocks.0.attentions.0", x)
    assert carried.shape == (1, 4, *x.shape[1:]) and not carried.any()
    assert clip.reference_keys("down_blocks.0.attentions.0", lambda x: (x, x)) == [None]


def test_dropped_audio_of_the_authors_is_zeros_behind_the_msm(clips, tmp_path, network):
    run = config(tmp_path, recipe="authors")
    batch, draws = batch_and_draws(clips, run)
    tokens = image_tokens(network, batch.identity)
    heard = clip_conditions(network, run, batch, without(draws), batch.latents, tokens).audio.tokens
    silent = clip_conditions(network, run, batch, without(draws, no_audio=True), batch.latents, tokens)
    assert heard.any() and not silent.audio.tokens.any()


@pytest.mark.parametrize(
    ("flags", "branch"),
    [
        ({}, CONDITIONAL),
        ({"no_audio": True}, PORTRAIT_ONLY),
        ({"no_reference": True}, UNCONDITIONAL),
        ({"no_reference": True, "no_audio": True}, UNCONDITIONAL),
    ],
)
def test_matched_dropout_trains_the_guidance_branches_of_inference(clips, tmp_path, network, flags, branch):
    run = config(tmp_path)
    batch, draws = batch_and_draws(clips, run)
    tokens = image_tokens(network, batch.identity)
    clip = clip_conditions(network, run, batch, without(draws, **flags), batch.latents, tokens)
    assert clip.branches == (branch,)
    assert clip.reference is not None and clip.reference.made is None and clip.audio.made is None


def test_start_frames_are_grey_for_the_authors_and_the_portrait_otherwise(clips, tmp_path):
    run = config(tmp_path, motion_drop=0.0)
    batch, draws = batch_and_draws(clips, run)
    first = without(draws, no_start=True)
    grey = carried_latents(run.but(recipe="authors"), batch, first)
    assert torch.equal(grey[0, 0], batch.grey[0]) and torch.equal(grey[0, 1], batch.grey[0])
    still = carried_latents(run, batch, first)
    assert torch.equal(still[0, 0], batch.reference[0]) and torch.equal(still[0, 1], batch.reference[0])
    assert torch.equal(carried_latents(run, batch, without(draws)), batch.carried)


def test_motion_drop_blanks_whole_patches_at_its_rate(clips, tmp_path):
    run = config(tmp_path, motion_drop=0.25)
    kept = torch.cat([batch_and_draws(clips, run, range(n, n + 1))[1].motion_keep for n in range(12)])
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert 0.2 < 1 - float(kept.mean()) < 0.3
    patches = kept.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2))
    assert torch.equal(patches.amin((-3, -1)), patches.amax((-3, -1)))


def test_noise_offset_adds_one_value_a_channel(clips, tmp_path):
    plain, shifted = (
        batch_and_draws(clips, config(tmp_path, noise_offset=offset))[1].noise for offset in (0.0, 0.5)
    )
    difference = (shifted - plain)[0]
    spread = difference.amax((0, 2, 3)) - difference.amin((0, 2, 3))
    assert float(spread.max()) < 1e-5 and difference.abs().amin() > 0


def test_time_steps_of_successive_samples_cover_the_range_evenly(tmp_path):
    run = config(tmp_path)
    times = draw(run, (run.frames, 4, 2, 2), range(100), 0).timesteps
    counts = torch.histc(times.float(), bins=10, min=0, max=1000)
    assert counts.min() >= 9 and counts.max() <= 11
    assert int(times.min()) >= 0 and int(times.max()) <= 999


def test_training_may_keep_to_the_time_steps_that_are_sampled(tmp_path):
    run = config(tmp_path, sampled_steps=2)
    times = draw(run, (run.frames, 4, 2, 2), range(7, 11), 0).timesteps
    assert times.tolist() == [499, 999, 499, 999]


def test_authors_train_audio_and_motion_modules_audio_projection_and_msm_gate(tmp_path):
    """numerics section 17, by the published names; motion modules that never run do not exist here."""
    run = config(tmp_path, recipe="authors", trainable="adapter")
    network = starting_network(run)
    trained = {published_key(name) for name in prepare_parameters(network, run)}
    everything = {published_key(name) for name, _ in network.named_parameters()}
    expected = {
        key
        for key in everything
        if key.startswith("denoising_unet.") and (".audio_modules." in key or ".motion_modules." in key)
    }
    expected |= {key for key in everything if key.startswith(("audioproj.", "audioembed.fc."))}
    assert trained == expected
    assert {name for name, p in network.named_parameters() if p.requires_grad} == set(
        prepare_parameters(network, run)
    )


def test_matched_adds_the_msm_matrix_and_the_sfm_which_starts_as_the_identity(tmp_path):
    run = config(tmp_path, trainable="adapter")
    network = starting_network(run)
    trained = {published_key(name) for name in prepare_parameters(network, run)}
    added = {key for key in trained if "hidden_spectral" in key or "dct_layer" in key}
    assert "audioembed.dct_layer.weight" in added and len(added) == 4
    assert not any(key.startswith(("reference_unet.", "imageproj.", "face_locator.")) for key in trained)
    x = torch.randn(2, SMALL.channels[-1], 2, 2)
    torch.testing.assert_close(network.adapter.self_adaptive_filter(x), x)


def test_every_trained_parameter_gets_a_gradient(clips, tmp_path):
    """So that several devices agree on what to exchange: nothing is trained that the loss does not reach."""
    run = config(tmp_path)
    network = SingerNetwork(SMALL)
    init_weights(network, 0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    trained = prepare_parameters(network, run)
    batch, draws = batch_and_draws(clips, run)
    Objective(run)(network, batch, without(draws)).backward()
    assert [name for name, p in trained.items() if p.grad is None] == []


def test_stage_1_learns_from_pictures_without_audio_or_motion(clips, tmp_path, network):
    run = config(tmp_path, stage=1)
    data = ClipDataset(clips, 1, 0, same_pose=run.same_pose)
    batch = collate([data.sample(seeded("clip", n)) for n in range(2)])
    draws = without(draw(run, tuple(batch.latents.shape[1:]), range(2), 0))
    trained = prepare_parameters(network, run)
    Objective(run)(network, batch, draws).backward()
    assert any(p.grad is not None and p.grad.any() for p in trained.values())
    assert not any(name.startswith("adapter.sites.") for name in trained)
    assert network.adapter.sites["mid_block_attentions_0"].motion.temporal_transformer is not None
    network.zero_grad()


def test_fresh_network_passes_the_residual_stream_on(network):
    """Audio and motion modules begin as the identity up to the small way out of the audio modules."""
    assert not network.unet.conv_out.weight.any()
    for site in network.adapter.sites.values():
        assert not site.motion.temporal_transformer.proj_out.weight.any()
        assert not site.audio.transformer_blocks[0].zero_conv_lip.weight.any()
    again = SingerNetwork(SMALL)
    init_weights(again, 0)
    other = again.state_dict()
    assert all(torch.isfinite(value).all() for value in other.values())
    reference, own = again.reference_unet.conv_in.weight, again.unet.conv_in.weight
    assert torch.equal(reference, own)


def test_msm_begins_with_a_gain_of_one_behind_the_projection(clips, tmp_path, network):
    run = config(tmp_path)
    batch, draws = batch_and_draws(clips, run)
    tokens = image_tokens(network, batch.identity)
    heard = clip_conditions(network, run, batch, without(draws), batch.latents, tokens).audio.tokens
    assert float(heard.square().mean().sqrt()) == pytest.approx(1.0, rel=0.05)


def test_the_data_set_gives_true_neighbours_and_carried_frames(clips):
    data = ClipDataset(clips, 4, 2)
    sample, longer = data.clip(data.items[0], 5, 0), data.clip(data.items[0], 3, 0)
    assert torch.equal(sample.carried, longer.latents[:2])
    assert torch.equal(sample.windows[0, 0], longer.windows[2, 0])
    assert torch.equal(sample.windows[1, 1], sample.windows[0, 2])
    assert sample.lips.any() and not sample.lips.all()
    assert [m.shape for m in sample.masks] == [(3, 64), (3, 16), (3, 4), (3, 1)]
    assert dataclasses.replace(sample).shown.max() == 1


def test_too_short_performances_are_named(clips, tmp_path):
    with pytest.raises(ValueError, match="the longest has 12"):
        ClipDataset(clips, 20, 2)
    with pytest.raises(FileNotFoundError, match="no prepared clips"):
        ClipDataset(tmp_path / "nowhere", 4, 2)
