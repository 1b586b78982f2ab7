"""The VAE between pictures and latents, from a file or folder: `sd-vae-ft-mse`, TAESD, or patches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from torch import Tensor

from .. import constants
from ..files import read_json
from ..weights import WeightFile, open_weights
from .memory import in_batches
from .patches import PatchAutoencoder

State = dict[str, Tensor]
AnyVAE: TypeAlias = AutoencoderKL | AutoencoderTiny | PatchAutoencoder
DECODE_BATCH = 2  # pictures that an accelerator decodes at once
_PREFIXES = ("first_stage_model.", "vae.")  # whole checkpoints, and our own fixtures


class Autoencoder:
    """Pictures in, scaled latents out, and back. Without gradients."""

    def __init__(self, vae: AnyVAE) -> None:
        self.vae = vae.eval().requires_grad_(False)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.vae.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.vae.parameters()).device

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """pixels (b, 3, H, W) in [-1, 1] -> latents (b, c, H / 8, W / 8) float32, scaled for the UNet.

        The mean of the posterior: the authors draw no sample at inference.
        """
        given = pixels.to(self.device, self.dtype)
        if isinstance(self.vae, AutoencoderKL):
            return self.vae.encode(given).latent_dist.mean.float() * constants.VAE_SCALE
        found = self.vae.encode(given)
        return (found if isinstance(found, Tensor) else found.latents).float()

    @torch.no_grad()
    def decode(self, latents: Tensor, batch: int | None = None) -> Tensor:
        """latents (b, c, h, w) -> pictures (b, 3, 8 h, 8 w) float32 in [0, 1], `batch` at a time.

        By default one on a CPU and two elsewhere; half of that where memory runs out. Raises RuntimeError
        where that is too much, too.
        """
        scale = constants.VAE_SCALE if isinstance(self.vae, AutoencoderKL) else 1.0
        scaled = (latents / scale).to(self.device, self.dtype)
        if batch is None:
            batch = 1 if scaled.is_cpu else DECODE_BATCH
        pictures = in_batches(self._decoded, scaled, batch, "Decoding")
        return (pictures / 2 + 0.5).clamp(0, 1)

    def _decoded(self, latents: Tensor) -> Tensor:
        found = self.vae.decode(latents)
        return (found if isinstance(found, Tensor) else found.sample).float()


def load_autoencoder(
    path: Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Autoencoder:
    """A VAE from a diffusers folder (config.json + weights), or a file: diffusers, LDM, TAESD or patches.

    Raises FileNotFoundError, and RuntimeError where the file is no VAE of Stable Diffusion 1.5's kind.
    """
    config: dict[str, Any] | None = None
    file = path
    if path.is_dir():
        config_path = path / "config.json"
        if not config_path.is_file():
            raise FileNotFoundError(f"{path} has no config.json. Name a diffusers VAE folder or a VAE file.")
        config = read_json(config_path)
        file = _weights_of(path)
    state = {key: value.to(dtype) for key, value in _state(open_weights(file)).items()}
    vae = build_autoencoder(state, config, name=file.name)
    return Autoencoder(vae.to(device))


def build_autoencoder(state: State, config: dict[str, Any] | None = None, name: str = "the file") -> AnyVAE:
    """The VAE of these tensors; without `config` the widths are read off the shapes."""
    if "encoder.weight" in state:
        return PatchAutoencoder.of(state)
    tiny = any(key.startswith("decoder.layers.") for key in state)
    if config is None:
        config = _tiny_config(state) if tiny else _config(state, name)
    if "decoder.mid.block_1.norm1.weight" in state:
        state = convert_ldm_vae_checkpoint(state, config)
    vae_class = AutoencoderTiny if tiny else AutoencoderKL
    known = {key: value for key, value in config.items() if not key.startswith("_")}
    with torch.device("meta"):
        vae = vae_class(**known)
    expected = vae.state_dict()
    wrong = [key for key in expected if key not in state or state[key].shape != expected[key].shape]
    if wrong:
        raise RuntimeError(
            f"{name} is no complete VAE: {len(wrong)} of {len(expected)} tensors are missing or of another "
            f"shape (among them {', '.join(wrong[:3])}). Use `sd-vae-ft-mse`."
        )
    vae.load_state_dict({key: state[key] for key in expected}, assign=True)
    return vae


def _weights_of(folder: Path) -> Path:
    names = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{folder} holds neither {' nor '.join(names)}. Download the VAE's weights there."
    )


def _state(file: WeightFile) -> State:
    prefix = next((p for p in _PREFIXES if any(key.startswith(p) for key in file.shapes)), "")
    return {key[len(prefix) :]: file.tensor(key) for key in file.shapes if key.startswith(prefix)}


def _config(state: State, name: str) -> dict[str, Any]:
    """Arguments for AutoencoderKL from the shapes of diffusers' or LDM's names."""
    ldm = "decoder.mid.block_1.norm1.weight" in state
    level, layer = ("down", "block") if ldm else ("down_blocks", "resnets")
    widths: dict[int, int] = {}
    layers = 0
    for key, value in state.items():
        match = re.fullmatch(rf"encoder\.{level}\.(\d+)\.{layer}\.(\d+)\.conv1\.weight", key)
        if match:
            widths[int(match[1])] = value.shape[0]
            layers = max(layers, int(match[2]) + 1)
    if not widths or "decoder.conv_in.weight" not in state:
        raise RuntimeError(
            f"{name} is no VAE of Stable Diffusion 1.5's kind ({len(state)} tensors, among them "
            f"{', '.join(sorted(state)[:3])}). Use `sd-vae-ft-mse`."
        )
    channels = tuple(widths[i] for i in sorted(widths))
    return {
        "block_out_channels": channels,
        "layers_per_block": layers,
        "latent_channels": state["decoder.conv_in.weight"].shape[1],
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
    }


def _tiny_config(state: State) -> dict[str, Any]:
    """Arguments for AutoencoderTiny; TAESD's blocks are 64 wide, smaller ones keep its depth."""
    encoder = state["encoder.layers.0.weight"].shape[0]
    decoder, latents = state["decoder.layers.0.weight"].shape[:2]
    return {
        "encoder_block_out_channels": (encoder,) * 4,
        "decoder_block_out_channels": (decoder,) * 4,
        "latent_channels": latents,
    }
