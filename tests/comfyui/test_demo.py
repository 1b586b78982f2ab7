"""The built-in model: what its loader hands on, against the library's own reading of the same files."""

from __future__ import annotations

import pytest
import torch

from singer_core.demo import files
from singer_core.network.autoencoder import load_autoencoder
from singer_core.portrait.identity import identity_for
from singer_core.portrait.image import Picture, read_picture, to_tensor
from singer_core.portrait.portrait import prepare_portrait
from singer_core.render.clips import Clip
from singer_core.render.conditioning import audio_tokens, portrait_conditions
from singer_core.settings import PAPER


@pytest.fixture(scope="module")
def demo(pack):
    return pack("loader").SingerDemoLoader.execute().result


@pytest.fixture(scope="module")
def heard(pack, demo):
    return pack("audio").SingerAudioEncode.execute(demo[3], 25.0, 0.0, 4, 32).result[0]


def test_the_model_is_set_to_what_it_was_trained_for(pack, demo):
    model = demo[0]
    assert pack("model").options_of(model) == PAPER
    assert model.model.model_config.sampling_settings["beta_schedule"] == "linear"  # core's scaled_linear
    assert model.model.architecture.trained_size == tuple(demo[2].image.shape[-2:])


def test_the_vae_is_the_librarys(demo):
    """In core's units: latents are unscaled there, pictures channels last."""
    vae, own = demo[1], load_autoencoder(files.VAE)
    pixels = demo[2].image[None]
    latents = vae.encode(pixels.movedim(1, -1))
    expected = own.encode(pixels * 2 - 1)
    torch.testing.assert_close(latents * 0.18215, expected, rtol=1e-3, atol=2e-3)
    pictures = vae.decode(latents).movedim(-1, 1)
    torch.testing.assert_close(pictures, own.decode(expected), rtol=1e-3, atol=2e-3)
    assert -10 * (pictures - pixels).square().mean().log10() > 30  # dB


def test_features_without_an_encoder_are_those_that_it_reads(demo, heard):
    assert tuple(heard.features.shape[1:]) == (4, 32)
    assert heard.features[0].numel() == demo[0].model.architecture.frame_features


def test_it_knows_a_portrait_by_its_colours(pack, demo, heard):
    model, _, portrait, _ = demo
    network = managed(pack, model)
    tokens = portrait_conditions(network, portrait).tokens
    colours = identity_for(portrait, 9)
    assert portrait.identity is None and colours.abs().max() > 0.1
    adapter = model.model.diffusion_model.adapter
    torch.testing.assert_close(tokens[1], adapter.image_projection(colours[None]))
    assert audio_tokens(network, heard, Clip(0, 0, 16, 0)).shape == (16, 8, 64)


def test_ones_own_picture_is_cropped_as_on_the_command_line(pack, demo):
    """Where the picture has no room, too: this model learnt mouths at one place."""
    picture = read_picture(files.PORTRAIT)
    tight = Picture(picture.image.crop((0, 150, *picture.image.size)))
    image = to_tensor(tight.image).permute(1, 2, 0)[None]
    portrait = pack("loader").SingerDemoLoader.execute(image).result[2]
    expected = prepare_portrait(tight, portrait.image.shape[-2:], crop="exact")
    torch.testing.assert_close(portrait.image, expected.image)
    assert tuple(portrait.image.shape[-2:]) == demo[0].model.architecture.trained_size


def test_ones_own_song_goes_to_all_that_hears_the_songs_socket(pack):
    """One wire to change: the encoder, the preview and the video must not hear different songs."""
    song = {"waveform": torch.zeros(1, 1, 16_000), "sample_rate": 16_000}
    assert pack("loader").SingerDemoLoader.execute(audio=song).result[3] is song


def managed(pack, model):
    module = pack("model")
    (reference,) = model.get_additional_models_with_key(module.REFERENCE)
    return module.ManagedNetwork(model.model, reference, torch.device("cpu"))


def test_a_clip_of_it_shows_the_singer(core, pack, demo, heard):
    model, vae, portrait, _ = demo
    node = pack("conditioning").SingerConditioning
    positive, negative, latent = node.execute(vae, portrait, heard, 0, 4, 2, False).result
    (out,) = core.common_ksampler(model, 1, 1, 1.0, "euler", "simple", positive, negative, latent)
    pictures = vae.decode(out["samples"]).movedim(-1, 1)
    error = (pictures - portrait.image).square().mean()
    assert -10 * error.log10() > 20  # dB: random weights give less than 8
