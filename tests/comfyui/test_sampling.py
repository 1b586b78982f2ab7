"""Whole songs in ComfyUI against the reference pipeline, and the parts they are made of."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch

from singer_core import constants
from singer_core.network.checkpoint import load_network, open_checkpoint
from singer_core.render.pipeline import SingerPipeline
from singer_core.settings import OFFICIAL, PAPER, BandGains


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


def guider_of(model, conditions, length: int, cfg: float = 3.5):
    import comfy.samplers

    positive, negative, latent = conditions(length)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider, latent


def trailing_sigmas(model, steps: int) -> torch.Tensor:
    """The authors' time steps, where `simple` rounds otherwise."""
    table = model.get_model_object("model_sampling").sigmas
    times = [round(1000 - step * 1000 / steps) - 1 for step in range(steps)]
    return torch.cat([table[times], torch.zeros(1)])


def simple_sigmas(model, steps: int) -> torch.Tensor:
    import comfy.samplers

    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)


def sample(pack, noise, guider, sampler, sigmas, latent, vae=None, form=(4, 2, 0)) -> torch.Tensor:
    node = pack("song").SingerSampler
    clip_frames, motion_frames, overlap = form
    out = node.execute(noise, guider, sampler, sigmas, latent, clip_frames, motion_frames, overlap, vae)
    return out.result[0]["samples"]


def test_a_song_gives_the_reference_latents(pack, golden_model, golden_conditions, golden_vae, pipeline_case):
    steps, seed = pipeline_case.config["steps"], pipeline_case.config["noise_seed"]
    scale = pipeline_case.config["cfg_scale"]
    guider, latent = guider_of(golden_model, lambda _length: golden_conditions, 0, scale)
    noise = pack("samplers").ClipNoise(seed, 4)
    expected_noise = pipeline_case.expected["clip1/noise"][0].transpose(0, 1)
    assert relative(noise.generate_noise(latent)[4:], expected_noise) < 1e-6
    sampler = pack("samplers").ddim_sampler()
    found = sample(pack, noise, guider, sampler, trailing_sigmas(golden_model, steps), latent, golden_vae)
    for clip in range(2):
        expected = pipeline_case.expected[f"clip{clip}/latents_final"][0].transpose(0, 1)
        latents = found[4 * clip :][:4] * constants.VAE_SCALE
        assert relative(latents, expected) < 2e-3
        assert ((latents - expected).norm() / expected.norm()).item() < 5e-4


def by_the_library(network, vae, **changes) -> torch.Tensor:
    """Latents of the first clip, seed 42."""
    pipeline = SingerPipeline(network, vae, OFFICIAL.but(clip_frames=4, **changes))
    return next(pipeline.render(tiny.portrait_of(), tiny.audio_of(8), 42)).latents


@pytest.mark.parametrize(("name", "tolerance"), [("ours", 1e-4), ("euler", 3e-3)])
def test_samplers_agree_with_the_library(pack, model, conditions, tiny_network, tiny_vae, name, tolerance):
    import comfy.samplers

    sampler = pack("samplers").ddim_sampler() if name == "ours" else comfy.samplers.sampler_object(name)
    guider, latent = guider_of(model, conditions, 4)
    noise = pack("samplers").ClipNoise(42, 4).generate_noise(latent)
    found = guider.sample(noise, latent["samples"], sampler, simple_sigmas(model, 10), seed=42)
    expected = by_the_library(tiny_network, tiny_vae, steps=10)
    assert relative(found * constants.VAE_SCALE, expected) < tolerance


def test_a_network_that_predicts_motion_does_so_in_the_graph_too(pack, conditions, tiny_vae, tmp_path):
    moving = tiny.random_state(dataclasses.replace(tiny.TINY, predicts="motion"))
    path = tiny.save_checkpoint(tmp_path / "moving.safetensors", moving)
    model = pack("model").load_singer(str(path), OFFICIAL, torch.float32)
    guider, latent = guider_of(model, conditions, 4)
    noise, sampler = pack("samplers").ClipNoise(42, 4).generate_noise(latent), pack("samplers").ddim_sampler()
    found = guider.sample(noise, latent["samples"], sampler, simple_sigmas(model, 2), seed=42)
    expected = by_the_library(load_network(open_checkpoint(path)), tiny_vae, steps=2)
    assert relative(found * constants.VAE_SCALE, expected) < 1e-4


def test_one_clip_is_what_ksampler_gives(core, pack, model, conditions, vae):
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    positive, negative, latent = conditions(4)
    (expected,) = core.common_ksampler(model, 7, 2, 3.5, "euler", "simple", positive, negative, latent)
    guider, latent = guider_of(model, conditions, 4)
    sampler, sigmas = comfy.samplers.sampler_object("euler"), simple_sigmas(model, 2)
    found = sample(pack, Noise_RandomNoise(7), guider, sampler, sigmas, latent, vae)
    assert torch.equal(found, expected["samples"])


def test_a_guider_comes_back_as_it_was(pack, model, conditions, vae):
    guider, latent = guider_of(model, conditions, 0)
    before = guider.original_conds
    noise, sampler = pack("samplers").ClipNoise(1, 4), pack("samplers").ddim_sampler()
    first = sample(pack, noise, guider, sampler, simple_sigmas(model, 1), latent, vae)
    assert guider.original_conds is before
    assert torch.equal(sample(pack, noise, guider, sampler, simple_sigmas(model, 1), latent, vae), first)


def spoiling(dtypes: set[torch.dtype]):
    """A sampler that gives NaN where the model computes in one of these."""
    from comfy.samplers import KSAMPLER

    def sampled(model, x, sigmas, extra_args=None, callback=None, disable=None):
        denoiser = model.inner_model.inner_model
        return x * torch.nan if denoiser.get_dtype_inference() in dtypes else x

    return KSAMPLER(sampled)


def computing_in_half(model):
    from comfy_extras.nodes_model_advanced import ModelComputeDtype

    return ModelComputeDtype().patch(model, "fp16")[0]


def test_a_clip_of_nan_is_sampled_again_in_float32(pack, model, conditions, caplog):
    sampler, noise = spoiling({torch.float16}), pack("samplers").ClipNoise(1, 4)
    latents = sample(pack, noise, *guider_and(computing_in_half(model), conditions, 8, sampler))
    assert len(latents) == 8 and latents.isfinite().all()
    assert caplog.text.count("sampling it again in float32") == 2  # each clip begins in half precision


def test_a_song_of_nan_ends_at_its_first_clip(pack, model, conditions):
    sampler, noise = spoiling({torch.float16, torch.float32}), pack("samplers").ClipNoise(1, 4)
    with pytest.raises(RuntimeError, match=r"Clip 1 \(frames 0 to 4\) came out as NaN or Inf"):
        sample(pack, noise, *guider_and(computing_in_half(model), conditions, 8, sampler))


def test_frames_beyond_whole_clips_and_overlaps_are_cut(pack, model, conditions):
    noise, sampler = pack("samplers").ClipNoise(1, 4), pack("samplers").ddim_sampler()
    guider, latent = guider_of(model, conditions, 7)
    assert len(sample(pack, noise, guider, sampler, simple_sigmas(model, 1), latent)) == 7
    overlapped = sample(pack, noise, guider, sampler, simple_sigmas(model, 1), latent, form=(4, 2, 2))
    assert len(overlapped) == 7


def test_a_part_of_the_latents_sings_its_own_frames(core, pack, model, conditions, vae):
    """`LatentFromBatch` and `RebatchLatents` say which frames they cut out, and so does the video then."""
    from comfy_extras.nodes_rebatch import LatentRebatch

    guider, whole = guider_of(model, conditions, 8)
    (cut,) = core.LatentFromBatch().frombatch(whole, 4, 4)
    rebatched = LatentRebatch.execute([whole], [4]).result[0][1]
    other, alone = guider_of(model, lambda length: conditions(length, first_frame=4), 4)
    noise, sigmas = pack("samplers").ClipNoise(42, 4), simple_sigmas(model, 2)
    sampler = pack("samplers").ddim_sampler()
    expected = sample(pack, noise, other, sampler, sigmas, alone)
    for part in (cut, rebatched):
        assert torch.equal(sample(pack, noise, guider, sampler, sigmas, part), expected)
    assert pack("sockets").timing_of(cut) == pack("sockets").timing_of(alone) == (25.0, 4)


def test_latents_of_other_frames_are_refused(core, pack, model, conditions):
    positive, negative, whole = conditions(8)
    (part,) = core.LatentFromBatch().frombatch(whole, 4, 4)
    with pytest.raises(ValueError, match="have 4 frames, the conditioning is for 8 from frame 0"):
        core.common_ksampler(model, 7, 1, 3.5, "euler", "simple", positive, negative, part)
    guider, _ = guider_of(model, conditions, 8)
    given = (pack("samplers").ClipNoise(42, 4), guider, pack("samplers").ddim_sampler())
    for latent in (
        {"samples": torch.zeros(10, 4, tiny.LATENT, tiny.LATENT)},
        {**part, "batch_index": [6, 7, 8, 9]},
    ):
        with pytest.raises(ValueError, match=r"`latent_image` has .* frames .* is for 8"):
            sample(pack, *given, simple_sigmas(model, 1), latent)
    with pytest.raises(ValueError, match=r"are frames 0, 2, 4, 6 \.\.\. of others"):
        sample(pack, *given, simple_sigmas(model, 1), {**part, "batch_index": [0, 2, 4, 6]})


def test_a_longer_song_begins_as_a_shorter_one(pack, model, conditions):
    noise, sampler = pack("samplers").ClipNoise(1, 4), pack("samplers").ddim_sampler()
    short, long = (sample(pack, noise, *guider_and(model, conditions, length, sampler)) for length in (4, 8))
    assert torch.equal(long[:4], short)


def guider_and(model, conditions, length, sampler):
    guider, latent = guider_of(model, conditions, length)
    return guider, sampler, simple_sigmas(model, 1), latent


def split(pack, model, conditions, reference: float, audio: float, rescale: float = 0.0):
    positive, negative, latent = conditions(4)
    node = pack("samplers").SingerGuider
    guider = node.execute(model, positive, negative, reference, audio, rescale).result[0]
    noise = pack("samplers").ClipNoise(3, 4).generate_noise(latent)
    import comfy.samplers

    sampler = comfy.samplers.sampler_object("euler")
    return guider.sample(noise, latent["samples"], sampler, simple_sigmas(model, 2), seed=3)


def test_equal_scales_are_ordinary_guidance(pack, model, conditions):
    guider, latent = guider_of(model, conditions, 4, 2.0)
    import comfy.samplers

    noise = pack("samplers").ClipNoise(3, 4).generate_noise(latent)
    sampler = comfy.samplers.sampler_object("euler")
    expected = guider.sample(noise, latent["samples"], sampler, simple_sigmas(model, 2), seed=3)
    assert torch.equal(split(pack, model, conditions, 2.0, 2.0), expected)
    assert relative(split(pack, model, conditions, 2.0, 2.0001), expected) < 1e-3
    assert relative(split(pack, model, conditions, 2.0, 4.0), expected) > 1e-2


@pytest.mark.parametrize(
    "scales", [(2.0, 2.0), (2.0, 3.0), (1.0, 3.0)], ids=["together", "apart", "song alone"]
)
def test_split_and_rescaled_guidance_are_the_librarys(
    pack, model, conditions, tiny_network, tiny_vae, scales
):
    reference, heard = scales
    given = {"reference_scale": reference, "audio_scale": heard, "guidance_rescale": 0.7}
    expected = by_the_library(tiny_network, tiny_vae, steps=4, **given)
    positive, negative, latent = conditions(4)
    guider = pack("samplers").SingerGuider.execute(model, positive, negative, reference, heard, 0.7).result[0]
    noise = pack("samplers").ClipNoise(42, 4).generate_noise(latent)
    sampler = pack("samplers").ddim_sampler()
    found = guider.sample(noise, latent["samples"], sampler, simple_sigmas(model, 4), seed=42)
    assert relative(found * constants.VAE_SCALE, expected) < 1e-3


WEIGHTINGS = {
    "paper": ("every_step", "trained_length", (1.0, 1.0, 1.0, 1.0), "haar"),
    "expected": ("expected", "sum", (1.2, 0.5, 1.0, 0.0), "haar"),
    "off": ("off", "sum", (1.0, 1.0, 1.0, 1.0), "haar"),
    "other basis": ("initial_noise", "sum", (0.5, 1.0, 2.0, 1.0), "db2"),
}


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_spectral_weighting_is_the_librarys(pack, model, conditions, tiny_network, tiny_vae, name):
    mode, scale, gains, wavelet = WEIGHTINGS[name]
    given = {"msm_input": mode, "msm_scale": scale, "band_gains": BandGains(*gains), "wavelet": wavelet}
    expected = by_the_library(tiny_network, tiny_vae, steps=2, **given)
    node = pack("spectral").SingerSpectralWeighting
    patched = node.execute(model, mode, scale, *gains, wavelet).result[0]
    found = first_clip(pack, patched, conditions, 2)
    assert relative(found, expected) < 1e-3
    assert relative(first_clip(pack, model, conditions, 2), expected) > 1e-3


def test_weighting_as_the_node_is_added_changes_nothing(pack, model):
    options = PAPER.but(wavelet="db2")  # whatever the model was made or changed to
    node = pack("spectral").SingerSpectralWeighting
    widgets = {one.id: one.default for one in node.define_schema().inputs if one.id != "model"}
    (patched,) = node.execute(pack("model").with_options(model, options), **widgets).result
    assert pack("model").options_of(patched) == options


def test_filters_compose_and_are_the_librarys(pack, model, conditions, tiny_network, tiny_vae):
    node = pack("spectral").SingerSelfAdaptiveFilter
    once = node.execute(model, 0.5, 1.0, 0.5, 1.0, 1.0).result[0]
    twice = node.execute(once, 0.5, 2.0, 1.0, 1.0, 1.0).result[0]
    gains = BandGains(2.0, 0.5, 1.0, 1.0)
    expected = by_the_library(tiny_network, tiny_vae, steps=2, sfm_strength=0.25, sfm_gains=gains)
    assert relative(first_clip(pack, twice, conditions, 2), expected) < 1e-3
    assert relative(first_clip(pack, once, conditions, 2), expected) > 1e-3


def test_locked_gains_are_those_of_the_first_clip(pack, model, conditions, tiny_network, tiny_vae):
    options = OFFICIAL.but(clip_frames=4, steps=2, msm_input="locked", carry="latents")
    pipeline = SingerPipeline(tiny_network, tiny_vae, options)
    expected = torch.cat([c.latents for c in pipeline.render(tiny.portrait_of(), tiny.audio_of(8), 42)])
    node = pack("spectral").SingerSpectralWeighting
    patched = node.execute(model, "locked", "sum", 1.0, 1.0, 1.0, 1.0, "haar").result[0]
    guider, latent = guider_of(patched, conditions, 0)
    noise, sampler = pack("samplers").ClipNoise(42, 4), pack("samplers").ddim_sampler()
    found = sample(pack, noise, guider, sampler, simple_sigmas(model, 2), latent)
    assert relative(found * constants.VAE_SCALE, expected) < 1e-3


def first_clip(pack, model, conditions, steps: int) -> torch.Tensor:
    guider, latent = guider_of(model, conditions, 4)
    noise = pack("samplers").ClipNoise(42, 4).generate_noise(latent)
    sampler = pack("samplers").ddim_sampler()
    samples = guider.sample(noise, latent["samples"], sampler, simple_sigmas(model, steps), seed=42)
    return samples * constants.VAE_SCALE
