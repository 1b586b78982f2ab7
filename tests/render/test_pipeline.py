"""A song through the pipeline, with a network and a VAE small enough to run in a second."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch

from singer_core.network.autoencoder import Autoencoder
from singer_core.network.checkpoint import load_network, open_checkpoint
from singer_core.network.patches import PatchAutoencoder
from singer_core.render.pipeline import SingerPipeline
from singer_core.render.seams import cross_fade
from singer_core.settings import MODES, OFFICIAL

QUICK = {"steps": 1, "clip_frames": 4, "motion_frames": 2, "overlap": 0}
OPTIONS = OFFICIAL.but(**QUICK)


@pytest.fixture(scope="module")
def pipeline(tiny_network, tiny_vae):
    return SingerPipeline(tiny_network, tiny_vae, OPTIONS)


def using(pipeline, **changes) -> SingerPipeline:
    return dataclasses.replace(pipeline, options=pipeline.options.but(**changes))


def pictures_of(clips) -> torch.Tensor:
    return torch.cat([clip.pictures for clip in clips])


def film(pipeline, frames=6, size=(tiny.SIDE, tiny.SIDE), **arguments) -> torch.Tensor:
    portrait = arguments.pop("portrait", None) or tiny.portrait_of(*size)
    return pictures_of(pipeline.render(portrait, tiny.audio_of(frames), **arguments))


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("overlap", [0, 2])
def test_a_song_has_exactly_its_frames(pipeline, frames, overlap):
    pictures = film(using(pipeline, overlap=overlap), frames)
    assert pictures.shape == (frames, 3, tiny.SIDE, tiny.SIDE)
    assert pictures.dtype == torch.float32
    assert 0 <= pictures.min() < pictures.max() <= 1


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_runs_and_is_deterministic(tiny_network, tiny_vae, mode):
    overlap = min(MODES[mode].overlap, 2)
    options = MODES[mode].but(**{**QUICK, "steps": 2, "overlap": overlap})
    pipeline = SingerPipeline(tiny_network, tiny_vae, options)
    first, again = film(pipeline, seed=7), film(pipeline, seed=7)
    assert first.isfinite().all()
    assert torch.equal(first, again)


def test_the_seed_decides_on_the_film(pipeline):
    assert (film(pipeline, 4, seed=7) - film(pipeline, 4, seed=8)).abs().max() > 1e-3


def test_global_random_state_neither_matters_nor_changes(pipeline):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = film(pipeline, 4)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(film(pipeline, 4), first)


@pytest.mark.parametrize("size", [(64, 128), (128, 64), (192, 64), (64, 64)], ids=str)
def test_other_sizes_and_shapes_run(pipeline, size):
    pictures = film(pipeline, 5, size)
    assert pictures.shape == (5, 3, *size)
    assert pictures.isfinite().all()


def test_noise_is_drawn_from_one_generator_in_the_authors_order(pipeline):
    """torch.randn(1, 4, f, h, w) per clip, one CPU generator for the song (numerics section 13)."""
    clips = list(pipeline.render(tiny.portrait_of(), tiny.audio_of(8), seed=42))
    generator = torch.Generator().manual_seed(42)
    for clip in clips:
        drawn = torch.randn(1, 4, 4, tiny.LATENT, tiny.LATENT, generator=generator)
        assert torch.equal(clip.inputs.noise, drawn[0].transpose(0, 1))
    assert len(clips) == 2


def test_a_longer_song_begins_as_a_shorter_one(pipeline):
    """Clips depend on what came before them alone; only the audio window looks two frames ahead."""
    song = tiny.audio_of(12)
    short = dataclasses.replace(song, features=song.features[:8], frames=6)
    portrait = tiny.portrait_of()
    longer, shorter = (pictures_of(pipeline.render(portrait, audio)) for audio in (song, short))
    assert len(longer) == 12
    torch.testing.assert_close(longer[:4], shorter[:4])


def test_only_the_sound_of_a_clip_and_its_window_reaches_it(pipeline):
    song, portrait = tiny.audio_of(8), tiny.portrait_of()
    changed = dataclasses.replace(song, features=torch.cat([song.features[:6], song.features[6:] + 1]))
    before, after = (pictures_of(pipeline.render(portrait, audio)) for audio in (song, changed))
    assert torch.equal(before[:4], after[:4])
    assert (before[4:] - after[4:]).abs().max() > 1e-3


def test_sound_portrait_and_weights_matter(pipeline):
    first = film(pipeline, 4)
    portrait = tiny.portrait_of()
    changes = {
        "audio": pictures_of(pipeline.render(portrait, tiny.audio_of(4, seed=3))),
        "image": film(pipeline, 4, portrait=dataclasses.replace(portrait, image=portrait.image.flip(-1))),
        "identity": film(pipeline, 4, portrait=dataclasses.replace(portrait, identity=None)),
        "region": film(pipeline, 4, portrait=dataclasses.replace(portrait, region=1 - portrait.region)),
        "weights": film(pipeline, 4, weights=torch.tensor([[1.0, 1.0, 0.0]]).expand(4, -1)),
    }
    assert all((first - other).abs().max() > 1e-4 for other in changes.values())


def test_frames_of_weight_zero_do_not_hear_the_song(pipeline):
    """What a silence gate does to the lips, here to all three regions, in the second clip alone."""
    portrait, song = tiny.portrait_of(), tiny.audio_of(8)
    other = dataclasses.replace(song, features=torch.cat([song.features[:6], -3 * song.features[6:]]))
    gate = torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0])[:, None].expand(-1, 3)
    for weights, same in ((gate, True), (None, False)):
        films = [pictures_of(pipeline.render(portrait, audio, weights=weights)) for audio in (song, other)]
        assert torch.equal(*films) is same


def test_unit_weights_are_the_default(pipeline):
    torch.testing.assert_close(film(pipeline, 6, weights=torch.ones(6, 3)), film(pipeline, 6))


def test_weights_shorter_than_the_last_clip_repeat_their_last_row(pipeline):
    weights = 1 + 0.2 * tiny.noise(5, 3)
    padded = torch.cat([weights, weights[-1:].expand(3, -1)])
    pictures = [film(pipeline, 5, weights=given) for given in (weights, padded)]
    assert torch.equal(*pictures)


def test_a_filter_of_strength_zero_is_a_network_without_it(pipeline, tiny_checkpoint, tiny_vae):
    network = load_network(open_checkpoint(tiny_checkpoint))
    network.unet.mid_block._forward_hooks.clear()
    without = SingerPipeline(network, tiny_vae, OPTIONS)
    assert torch.equal(film(using(pipeline, sfm_strength=0.0), 4), film(without, 4))
    assert (film(pipeline, 4) - film(without, 4)).abs().max() > 1e-3


class CountingVae(Autoencoder):
    """Says how many pictures it was asked to encode and decode."""

    def __init__(self, vae: Autoencoder) -> None:
        super().__init__(vae.vae)
        self.encoded: list[int] = []
        self.decoded: list[int] = []

    def encode(self, pixels):
        self.encoded.append(len(pixels))
        return super().encode(pixels)

    def decode(self, latents, batch=1):
        self.decoded.append(len(latents))
        return super().decode(latents, batch)


def test_carried_latents_are_the_last_of_the_clip_before_and_are_not_encoded_again(pipeline, tiny_vae):
    vae = CountingVae(tiny_vae)
    carrying = dataclasses.replace(using(pipeline, carry="latents"), vae=vae)
    first, second = carrying.render(tiny.portrait_of(), tiny.audio_of(8))
    assert torch.equal(second.inputs.reference_latents[1:], first.latents[-2:])
    assert torch.equal(second.inputs.reference_latents[0], first.inputs.reference_latents[0])
    assert max(vae.encoded) == 1


def test_carried_pixels_are_the_last_pictures_encoded(pipeline, tiny_vae):
    first, second = pipeline.render(tiny.portrait_of(), tiny.audio_of(8))
    torch.testing.assert_close(
        second.inputs.reference_latents[1:], tiny_vae.encode(first.pictures[-2:] * 2 - 1)
    )


def test_the_first_clip_is_shown_the_portrait_standing_still(pipeline, tiny_vae):
    portrait = tiny.portrait_of()
    [clip] = pipeline.render(portrait, tiny.audio_of(3))
    expected = tiny_vae.encode(portrait.image[None] * 2 - 1).expand(3, -1, -1, -1)
    torch.testing.assert_close(clip.inputs.reference_latents, expected)


@pytest.mark.parametrize(("stretched", "scale"), [(True, 2), (False, 1)])
def test_pictures_without_dark_pixels_are_stretched_once_more_unless_told_not_to(
    pipeline, tiny_vae, stretched, scale
):
    bright = dataclasses.replace(tiny.portrait_of(), image=0.6 + 0.3 * tiny.portrait_of().image)
    [clip] = using(pipeline, brighten_bright=stretched).render(bright, tiny.audio_of(2))
    pixels = (bright.image * 2 - 1) * scale - (scale - 1)
    torch.testing.assert_close(clip.inputs.reference_latents[0], tiny_vae.encode(pixels[None])[0])


def test_padding_behind_the_song_is_not_decoded(pipeline, tiny_vae):
    vae = CountingVae(tiny_vae)
    film(dataclasses.replace(pipeline, vae=vae), 6)
    assert vae.decoded == [4, 2]


def test_overlapping_clips_fade_into_each_other(pipeline):
    first, second = using(pipeline, overlap=2).render(tiny.portrait_of(), tiny.audio_of(6))
    assert [len(clip.pictures) for clip in (first, second)] == [2, 4]
    alone = _unfaded(using(pipeline, overlap=2))
    for i, share in enumerate((1 / 3, 2 / 3)):
        expected = (1 - share) * first.latents[2 + i] + share * alone[i]
        torch.testing.assert_close(second.latents[i], expected, atol=1e-5, rtol=0)


def _unfaded(pipeline) -> torch.Tensor:
    """Latents of the second clip before the fade: those after its last step."""
    seen = {}
    steps = pipeline.render(tiny.portrait_of(), tiny.audio_of(6), on_step=lambda s: seen.update({s.clip: s}))
    list(steps)
    return seen[1].latents


@pytest.mark.parametrize("shared", [0, 1, 2, 4])
def test_a_fade_keeps_constants_and_goes_evenly_from_one_to_the_other(shared):
    ones = torch.ones(6, 2, 3)
    assert torch.equal(cross_fade(None, ones), ones)
    torch.testing.assert_close(cross_fade(ones[:shared], ones), ones)
    faded = cross_fade(torch.zeros(shared, 2, 3), ones)[:, 0, 0]
    expected = torch.ones(6)
    expected[:shared] = torch.arange(1, shared + 1) / (shared + 1)
    torch.testing.assert_close(faded, expected)


def test_steps_count_up_to_the_total(pipeline):
    seen = []
    film(using(pipeline, steps=2), 7, on_step=seen.append)
    assert [step.done for step in seen] == [1, 2, 3, 4]
    assert {step.total for step in seen} == {4}
    assert [(step.clip, step.step) for step in seen] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_clip_is_handed_out_before_the_next_one_starts(pipeline):
    seen = []
    pictures = pipeline.render(tiny.portrait_of(), tiny.audio_of(8), on_step=seen.append)
    assert len(next(pictures).pictures) == 4
    assert {step.clip for step in seen} == {0}


def test_locked_gains_are_those_of_the_first_clip(tiny_network, pipeline):
    """The second clip has other noise, so it would have gains of its own."""
    free, locked = (film(using(pipeline, msm_input=how), 8) for how in ("initial_noise", "locked"))
    assert torch.equal(free[:4], locked[:4])
    assert (free[4:] - locked[4:]).abs().max() > 1e-5


def test_unequal_scales_run_three_branches_and_scale_one_runs_one(pipeline, tiny_network):
    rows = []
    handle = tiny_network.unet.conv_out.register_forward_hook(lambda _m, _a, out: rows.append(len(out)))
    for scales in ((3.5, 3.5), (2.0, 3.0), (1.0, 1.0)):
        film(using(pipeline, reference_scale=scales[0], audio_scale=scales[1]), 2)
    handle.remove()
    assert rows == [8, 12, 4]


def test_an_identity_of_another_width_is_refused_with_both_widths(pipeline):
    portrait = dataclasses.replace(tiny.portrait_of(), identity=torch.zeros(512))
    with pytest.raises(ValueError, match=r"\(512,\) values; this checkpoint reads 16"):
        film(pipeline, 4, portrait=portrait)


def test_the_vae_of_another_network_is_refused_with_both_widths(pipeline):
    other = dataclasses.replace(pipeline, vae=Autoencoder(PatchAutoencoder(8)))
    with pytest.raises(ValueError, match="gives latents of 8 channels; this network reads 4"):
        film(other)


def test_features_of_another_front_end_are_refused_with_both_sizes(pipeline):
    audio = dataclasses.replace(tiny.audio_of(4), features=tiny.noise(4, 12, 768))
    with pytest.raises(ValueError, match=r"\(12, 768\) values a frame; this checkpoint reads 6"):
        next(pipeline.render(tiny.portrait_of(), audio))


def test_another_size_than_a_network_that_moves_the_portrait_was_trained_at_is_refused(pipeline, monkeypatch):
    moving = dataclasses.replace(pipeline.network.architecture, predicts="motion")
    monkeypatch.setattr(pipeline.network, "architecture", moving)
    with pytest.raises(
        ValueError, match=f"has 128 x 64 pixels; this model sings {tiny.SIDE} x {tiny.SIDE} only"
    ):
        film(pipeline, size=(64, 128))


def test_half_precision_stays_near_full_precision(tiny_checkpoint, pipeline):
    """Without guidance, which multiplies the differences of a random network by 3.5."""
    plain = using(pipeline, reference_scale=1.0, audio_scale=1.0)
    half = dataclasses.replace(plain, network=load_network(open_checkpoint(tiny_checkpoint), torch.bfloat16))
    exact, rough = (film(p, 4) for p in (plain, half))
    assert 0 < (exact - rough).square().mean().sqrt() < 0.1 * exact.std()
