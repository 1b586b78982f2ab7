"""One clip: guidance, the MSM's ways of being read, and what a step costs."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch

from singer_core.network.backbone import SingerNetwork
from singer_core.network.conditions import (
    CONDITIONAL,
    PORTRAIT_ONLY,
    UNCONDITIONAL,
    AudioTokens,
    ReferenceFeatures,
)
from singer_core.network.spectral import weigh_bands
from singer_core.render.sampler import NotFiniteError, SpectralWeighting, branches_for, guide, sample_clip
from singer_core.settings import MODES, OFFICIAL, BandGains

QUICK = OFFICIAL.but(steps=2, clip_frames=4)


def scales(reference: float, audio: float, **changes):
    return QUICK.but(reference_scale=reference, audio_scale=audio, **changes)


# Guidance


def test_equal_scales_are_ordinary_guidance():
    u, c = tiny.noise(4, 4, 8, 8), tiny.noise(4, 4, 8, 8, seed=1)
    guided = guide(torch.cat([u, c]), scales(3.5, 3.5))
    torch.testing.assert_close(guided, u + 3.5 * (c - u))


def test_two_scales_weigh_the_portrait_and_the_song_apart():
    u, r, c = (tiny.noise(4, 4, 8, 8, seed=i) for i in range(3))
    guided = guide(torch.cat([u, r, c]), scales(2.0, 5.0))
    torch.testing.assert_close(guided, u + 2 * (r - u) + 5 * (c - r))


def test_three_branches_with_equal_scales_would_be_ordinary_guidance():
    u, r, c = (tiny.noise(4, 4, 8, 8, seed=i) for i in range(3))
    nearly = guide(torch.cat([u, r, c]), scales(3.5, 3.5 + 1e-6))
    torch.testing.assert_close(nearly, guide(torch.cat([u, c]), scales(3.5, 3.5)), atol=1e-4, rtol=1e-4)


def test_branches_are_those_that_the_scales_need():
    assert branches_for(scales(1, 1)) == (CONDITIONAL,)
    assert branches_for(scales(3, 3)) == (UNCONDITIONAL, CONDITIONAL)
    assert branches_for(scales(2, 3)) == (UNCONDITIONAL, PORTRAIT_ONLY, CONDITIONAL)
    assert branches_for(scales(1, 3)) == (PORTRAIT_ONLY, CONDITIONAL)
    assert branches_for(scales(0, 0)) == (UNCONDITIONAL, CONDITIONAL)


def test_scale_one_is_the_conditional_prediction():
    c = tiny.noise(4, 4, 8, 8)
    assert torch.equal(guide(c, scales(1, 1)), c)
    u = tiny.noise(4, 4, 8, 8, seed=1)
    torch.testing.assert_close(guide(torch.cat([u, u, c]), scales(0, 1)), c, atol=1e-5, rtol=0)


@pytest.mark.parametrize("amount", [0.0, 0.3, 0.7, 1.0])
def test_rescaling_goes_to_the_deviation_of_the_conditional_prediction(amount):
    u, c = tiny.noise(4, 4, 8, 8), 0.5 * tiny.noise(4, 4, 8, 8, seed=1)
    plain = guide(torch.cat([u, c]), scales(3.5, 3.5))
    rescaled = guide(torch.cat([u, c]), scales(3.5, 3.5, guidance_rescale=amount))
    for frame in range(4):
        wanted = (1 - amount) * plain[frame].std() + amount * c[frame].std()
        assert rescaled[frame].std().item() == pytest.approx(wanted.item(), rel=1e-5)
        direction = torch.nn.functional.cosine_similarity(
            rescaled[frame].flatten(), plain[frame].flatten(), 0
        )
        assert direction.item() == pytest.approx(1, abs=1e-5)


# MSM


@pytest.fixture(scope="module")
def adapter(tiny_network):
    return tiny_network.adapter


LATENTS = tiny.noise(4, 4, tiny.LATENT, tiny.LATENT, seed=30)
TOKENS = tiny.noise(4, 8, 24, seed=31)


def gains(adapter, latents=LATENTS, locked=None, **changes):
    return SpectralWeighting(adapter, QUICK.but(**changes), locked).gains(latents)


def test_official_gains_are_those_of_the_module(adapter):
    torch.testing.assert_close(gains(adapter), adapter.multi_scale_spectral.gains(LATENTS))


def test_gains_for_the_trained_length_are_scaled_from_the_clips(adapter):
    torch.testing.assert_close(gains(adapter, msm_scale="trained_length"), gains(adapter) * 14 / 4)


@pytest.mark.parametrize("frames", [2, 8, 16])
def test_expected_gains_for_the_trained_length_do_not_depend_on_the_clip(adapter, frames):
    expected = gains(
        adapter,
        tiny.noise(frames, 4, tiny.LATENT, tiny.LATENT),
        msm_input="expected",
        msm_scale="trained_length",
    )
    torch.testing.assert_close(expected, adapter.multi_scale_spectral.expected_gains(14))


def test_band_gains_multiply_the_modules(adapter):
    factors = BandGains(0.5, 2.0, 0.0, -1.0)
    torch.testing.assert_close(
        gains(adapter, band_gains=factors), gains(adapter) * torch.tensor(list(factors))
    )


def test_four_zero_bands_silence_the_tokens(adapter):
    weighting = SpectralWeighting(adapter, QUICK.but(band_gains=BandGains(0, 0, 0, 0)))
    assert weighting(TOKENS, LATENTS).abs().max() == 0


def test_without_the_module_only_the_band_gains_act(adapter):
    off = SpectralWeighting(adapter, QUICK.but(msm_input="off"))
    assert off(TOKENS, LATENTS) is TOKENS
    trimmed = SpectralWeighting(adapter, QUICK.but(msm_input="off", band_gains=BandGains(lh=2.0)))
    expected = weigh_bands(TOKENS, torch.tensor([1.0, 2.0, 1.0, 1.0]))
    torch.testing.assert_close(trimmed(TOKENS, LATENTS), expected)


def test_locked_gains_are_the_first_clips_for_all(adapter):
    first = SpectralWeighting(adapter, QUICK.but(msm_input="locked"))
    kept = first.kept(LATENTS)
    torch.testing.assert_close(kept, first.gains(LATENTS))
    other = SpectralWeighting(adapter, QUICK.but(msm_input="locked"), kept)
    noise = tiny.noise(4, 4, tiny.LATENT, tiny.LATENT, seed=99)
    assert torch.equal(other.gains(noise), kept)
    assert torch.equal(other.kept(noise), kept)
    assert SpectralWeighting(adapter, QUICK).kept(LATENTS) is None


def test_another_wavelet_weighs_in_its_own_basis(adapter):
    weighting = SpectralWeighting(adapter, QUICK.but(wavelet="db2"))
    expected = weigh_bands(TOKENS, gains(adapter), "db2")
    torch.testing.assert_close(weighting(TOKENS, LATENTS), expected)
    assert (expected - weigh_bands(TOKENS, gains(adapter))).abs().max() > 0.1


# Sampling


@pytest.fixture(scope="module")
def sample(tiny_network):
    tokens = tiny.noise(2, 1, tiny.TINY.image_tokens, tiny.TINY.image_width)

    def run(options=QUICK, on_step=None, noise=LATENTS):
        clip = dataclasses.replace(
            tiny.clip_of(passes=2),
            branches=branches_for(options),
            sfm_strength=options.sfm_strength,
            sfm_gains=tuple(options.sfm_gains),
        )
        weighting = SpectralWeighting(tiny_network.adapter, options)
        return sample_clip(tiny_network, options, noise, tokens, clip, weighting, on_step)

    return run


def test_every_step_is_reported_with_its_latents(sample):
    steps = []
    latents = sample(QUICK.but(steps=3), lambda step, x: steps.append((step, x)))
    assert [step for step, _ in steps] == [0, 1, 2]
    assert torch.equal(steps[-1][1], latents)
    assert latents.shape == LATENTS.shape
    assert latents.dtype == torch.float32


def test_the_noise_is_left_as_it_was(sample):
    before = LATENTS.clone()
    sample()
    assert torch.equal(LATENTS, before)


def test_an_error_in_the_callback_stops_the_clip(sample):
    def stop(step, latents):
        raise InterruptedError("cancelled")

    with pytest.raises(InterruptedError, match="cancelled"):
        sample(on_step=stop)


def test_gains_read_at_every_step_are_those_of_the_start_for_one_step(sample):
    one = sample(QUICK.but(steps=1))
    assert torch.equal(one, sample(QUICK.but(steps=1, msm_input="every_step")))
    assert not torch.equal(sample(), sample(QUICK.but(msm_input="every_step")))


def test_one_step_of_the_rule_from_pure_noise_is_minus_the_guided_prediction(sample, tiny_network):
    """At the last time step there is no signal: x0 = -v (zero terminal signal-to-noise ratio)."""
    options = QUICK.but(steps=1)
    tokens = tiny.noise(2, 1, tiny.TINY.image_tokens, tiny.TINY.image_width)
    clip = tiny.clip_of(passes=2)
    weighed = SpectralWeighting(tiny_network.adapter, options)(clip.audio.tokens, LATENTS)
    clip = dataclasses.replace(clip, audio=type(clip.audio)(weighed))
    with torch.no_grad():
        prediction = tiny_network(LATENTS, 999, tokens, clip)
    torch.testing.assert_close(sample(options), -guide(prediction, options), atol=1e-4, rtol=1e-4)


@pytest.fixture
def unreadable():
    """A network on a device whose tensors have no values: whoever reads one gets an error."""
    with torch.device("meta"):
        return SingerNetwork(tiny.TINY)


@pytest.mark.parametrize(
    ("mode", "changes"),
    [
        *((mode, {}) for mode in MODES),
        ("paper", {"sequential_guidance": True}),
        ("official", {"solver": "dpmpp_2m"}),
        ("official", {"solver": "unipc"}),
    ],
    ids=str,
)
def test_a_step_waits_for_nothing_but_whether_the_one_before_it_was_finite(unreadable, mode, changes):
    """Reading a value makes the host wait for the accelerator: only that of the step before is read."""
    options, calls = MODES[mode].but(clip_frames=4, overlap=0, **changes), []
    unreadable.unet.conv_in.register_forward_pre_hook(lambda *_: calls.append("network"))
    clip = tiny.clip_of(passes=2)
    clip = dataclasses.replace(
        clip,
        audio=AudioTokens(clip.audio.tokens.to("meta")),
        masks=tuple(mask.to("meta") for mask in clip.masks),
        weights=clip.weights.to("meta"),
        face=clip.face.to("meta"),
        reference=ReferenceFeatures({site: x.to("meta") for site, x in clip.reference.features.items()}),
    )
    tokens = torch.empty(2, 1, tiny.TINY.image_tokens, tiny.TINY.image_width, device="meta")
    # "expected" gains are drawn on the CPU once a song.
    locked = torch.ones(4, device="meta") if options.msm_input == "expected" else None
    weighting = SpectralWeighting(unreadable.adapter, options, locked)
    with pytest.raises(RuntimeError, match=r"[Mm]eta tensor"):
        sample_clip(
            unreadable,
            options,
            LATENTS.to("meta"),
            tokens,
            clip,
            weighting,
            lambda step, _latents: calls.append(f"step {step}"),
        )
    each = calls.index("step 0")
    assert each == (2 if options.sequential_guidance else 1)
    assert calls == [*["network"] * each, "step 0", *["network"] * each]


def test_a_step_that_is_not_finite_is_named(sample):
    noise = LATENTS.clone()
    noise[0, 0, 0, 0] = float("nan")
    seen = []
    with pytest.raises(NotFiniteError, match=r"step 1 of 3 gave NaN or infinity in torch\.float32"):
        sample(QUICK.but(steps=3), lambda step, _latents: seen.append(step), noise)
    assert seen == [0]
    with pytest.raises(NotFiniteError, match="step 1 of 1"):
        sample(QUICK.but(steps=1), noise=noise)
