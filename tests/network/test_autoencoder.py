"""The VAE: scales, ranges, and the layouts in which its file comes."""

from __future__ import annotations

import shutil

import pytest
import tiny
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file

from singer_core.network.autoencoder import Autoencoder, build_autoencoder, load_autoencoder

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def tiny_vae_folder(tmp_path_factory):
    """Wide enough for files without a config."""
    folder = tmp_path_factory.mktemp("vae")
    tiny.random_vae(width=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny_vae(tiny_vae_folder):
    return load_autoencoder(tiny_vae_folder)


@pytest.fixture(scope="module")
def state(tiny_vae_folder):
    return load_file(tiny_vae_folder / WEIGHTS)


def decoded(vae: Autoencoder) -> torch.Tensor:
    return vae.decode(tiny.noise(1, 4, 4, 4))


def to_ldm(state: dict[str, torch.Tensor], layers: int = 1, levels: int = 4) -> dict[str, torch.Tensor]:
    """The names of the original latent-diffusion code, which most VAE files carry."""
    plain = {"conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut", "group_norm": "norm"}
    attention = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    out = {}
    for key, value in state.items():
        name = key
        for side, ours, theirs in (("encoder", "down_blocks", "down"), ("decoder", "up_blocks", "up")):
            for i in range(levels):
                j = i if side == "encoder" else levels - 1 - i
                name = name.replace(f"{side}.{ours}.{i}.resnets.", f"{side}.{theirs}.{j}.block.")
                name = name.replace(f"{side}.{ours}.{i}.downsamplers.0.", f"{side}.{theirs}.{j}.downsample.")
                name = name.replace(f"{side}.{ours}.{i}.upsamplers.0.", f"{side}.{theirs}.{j}.upsample.")
        name = name.replace("mid_block.resnets.0.", "mid.block_1.").replace(
            "mid_block.resnets.1.", "mid.block_2."
        )
        name = name.replace("mid_block.attentions.0.", "mid.attn_1.")
        for ours, theirs in {**plain, **(attention if "attn_1" in name else {})}.items():
            name = name.replace(f".{ours}.", f".{theirs}.")
        if "attn_1" in name and name.endswith("weight") and value.ndim == 2:
            value = value[..., None, None]
        out[name] = value
    return out


def test_latents_are_an_eighth_of_the_picture_and_scaled_for_the_unet(tiny_vae):
    pixels = tiny.noise(2, 3, 64, 128).clamp(-1, 1)
    latents = tiny_vae.encode(pixels)
    assert latents.shape == (2, 4, 8, 16)
    posterior = tiny_vae.vae.encode(pixels).latent_dist
    torch.testing.assert_close(latents, 0.18215 * posterior.mean)  # its mean: no sample is drawn


def test_pictures_lie_in_zero_to_one_and_undo_the_scale(tiny_vae):
    latents = 3 * tiny.noise(2, 4, 4, 8)
    pictures = tiny_vae.decode(latents)
    assert pictures.shape == (2, 3, 32, 64)
    raw = tiny_vae.vae.decode(latents / 0.18215).sample
    torch.testing.assert_close(pictures, (raw / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0)


def test_the_batch_of_decoding_does_not_show(tiny_vae):
    latents = tiny.noise(5, 4, 4, 4)
    torch.testing.assert_close(
        tiny_vae.decode(latents, batch=2), tiny_vae.decode(latents, batch=1), atol=1e-5, rtol=0
    )


def test_a_single_file_a_folder_and_a_prefixed_file_give_the_same_vae(tiny_vae, state, tmp_path):
    for name, prefix in (("bare", ""), ("ours", "vae."), ("whole", "first_stage_model.")):
        path = tmp_path / f"{name}.safetensors"
        save_file({prefix + key: value for key, value in state.items()}, path)
        assert torch.equal(decoded(load_autoencoder(path)), decoded(tiny_vae))


def test_a_file_in_the_layout_of_latent_diffusion_gives_the_same_vae(tiny_vae, state, tmp_path):
    save_file({key: value.contiguous() for key, value in to_ldm(state).items()}, tmp_path / "ldm.safetensors")
    torch.testing.assert_close(decoded(load_autoencoder(tmp_path / "ldm.safetensors")), decoded(tiny_vae))


def test_a_tiny_autoencoder_scales_nothing(tmp_path):
    torch.manual_seed(0)
    small = AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4).eval()
    save_file(small.state_dict(), tmp_path / "taesd.safetensors")
    vae = load_autoencoder(tmp_path / "taesd.safetensors")
    pixels = tiny.noise(1, 3, 64, 64).clamp(-1, 1)
    with torch.no_grad():
        torch.testing.assert_close(vae.encode(pixels), small.encode(pixels).latents)
        raw = small.decode(tiny.noise(1, 4, 4, 4)).sample
    torch.testing.assert_close(decoded(vae), (raw / 2 + 0.5).clamp(0, 1))


def test_the_type_of_the_weights_is_the_one_asked_for(tiny_vae_folder):
    vae = load_autoencoder(tiny_vae_folder, torch.bfloat16)
    assert vae.dtype == torch.bfloat16
    assert decoded(vae).dtype == torch.float32


def test_an_incomplete_file_names_what_is_missing(state):
    cut = {key: value for key, value in state.items() if key != "decoder.mid_block.resnets.0.conv1.bias"}
    with pytest.raises(
        RuntimeError, match=r"no complete VAE: 1 of \d+ .*decoder\.mid_block\.resnets\.0\.conv1\.bias"
    ):
        build_autoencoder(cut)


def test_another_model_is_not_taken_for_a_vae(tiny_checkpoint):
    with pytest.raises(RuntimeError, match=r"net\.safetensors is no VAE .*sd-vae-ft-mse"):
        load_autoencoder(tiny_checkpoint)


def test_a_folder_without_config_or_weights_says_so(tiny_vae_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_autoencoder(tmp_path)
    shutil.copy(tiny_vae_folder / "config.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=WEIGHTS):
        load_autoencoder(tmp_path)
