"""What both sides of the benchmark get: random weights in the published layout, inputs of one clip."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2Model

from singer_core import constants
from singer_core.network.architecture import Architecture
from singer_core.network.checkpoint import expected_shapes
from singer_core.network.layers import sinusoidal_positions
from singer_core.weights import open_weights

REGIONS = ("full", "face", "lip")
REGION_WEIGHTS = (1.0, 0.8, 1.3)  # three different ones, so that a mix-up shows in the difference

VAE_WIDTHS = {"tiny": (32, 32, 32, 32), "small": (32, 64, 64, 64), "full": (128, 256, 512, 512)}
SONG_RATE, AUDIO_SECONDS = 16_000, 2.56  # of the noise that audio encoders hear

SPREAD = 0.5  # of matrices and kernels; at 1 the random layers amplify rounding errors from step to step


def _scaled(channels: tuple[int, ...], layers: int, heads: int, width: int, audio: int) -> Architecture:
    """A network of other widths whose latents are 8 * heads wide, as the authors' SFM demands."""
    size = constants.VAE_STRIDE * heads
    return Architecture(
        channels=channels,
        layers=layers,
        heads=heads,
        image_width=width,
        identity_width=64,
        audio_inputs=constants.AUDIO_WINDOW * 3 * audio,
        audio_hidden=audio,
        audio_tokens=8,
        audio_width=audio,
        msm_kernel=(1, constants.LATENT_CHANNELS, constants.TRAINED_CLIP_FRAMES, size, size),
        sfm_width=heads,
    )


WIDTHS = {
    "tiny": _scaled((32, 32, 64, 64), layers=1, heads=4, width=32, audio=24),
    "small": _scaled((64, 128, 256, 256), layers=2, heads=4, width=96, audio=96),
    "full": Architecture(),
}


def random_tensor(name: str, shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    """A value for a published tensor that keeps activations near 1 and leaves no path silent."""
    if name.endswith(".pe"):
        return sinusoidal_positions(shape[-1])
    value = torch.randn(shape, generator=random)
    if len(shape) == 1:
        return value * 0.1 + (1.0 if name.endswith("weight") else 0.0)
    if name.endswith(("dct_layer.weight", "hidden_spectral_weighting.weight")):
        return value / shape[-1]
    return value * SPREAD / (value[0].numel() ** 0.5)


def random_vae(width: str) -> AutoencoderKL:
    """A VAE of random weights; at full width it has the published widths."""
    widths = VAE_WIDTHS[width]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoencoderKL(
            block_out_channels=widths,
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            layers_per_block=2,
            latent_channels=constants.LATENT_CHANNELS,
        ).eval()


def random_encoder() -> Wav2Vec2Model:
    """wav2vec2-base with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Wav2Vec2Model(Wav2Vec2Config()).eval()


def write_weights(
    path: Path, tensors: Iterator[tuple[str, Tensor]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Write a float32 safetensors file one tensor at a time, as the full network fills most memories.

    tensors come in the order of `shapes`. Layout: 8 bytes header length, JSON header, values.
    """
    header, stop = dict[str, Any](), 0
    for name, shape in shapes.items():
        start, stop = stop, stop + 4 * torch.Size(shape).numel()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, stop]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for _name, tensor in tensors:
            stream.write(tensor.float().contiguous().numpy().tobytes())


def write_random_weights(path: Path, arch: Architecture, seed: int = 0) -> None:
    """A checkpoint of random numbers in the published layout."""
    shapes, random = expected_shapes(arch), torch.Generator().manual_seed(seed)
    write_weights(
        path, ((name, random_tensor(name, shape, random)) for name, shape in shapes.items()), shapes
    )


def write_given_weights(path: Path, files: list[Path]) -> None:
    """The tensors of one checkpoint, or of the parts of a split one, as float32."""
    parts = [open_weights(file) for file in files]
    where = {name: part for part in parts for name in part.shapes}
    shapes = {name: part.shapes[name] for name, part in where.items()}
    write_weights(path, ((name, part.tensor(name)) for name, part in where.items()), shapes)


def clip_inputs(arch: Architecture, frames: int, seed: int = 1) -> dict[str, Tensor]:
    """Random inputs of one clip, in the layout of the authors' code.

    latents (1, 4, f, h, w); ref_latents (3, 4, h, w): portrait and two carried frames; identity (1, e);
    windows (1, f, k, 1, l * d); region (H, W) uint8; {full, face, lip}_{level} (1, n) in [0, 1];
    region_weights (3,); song (1, samples) at SONG_RATE
    """
    random = torch.Generator().manual_seed(seed)
    size = constants.VAE_STRIDE * (arch.sfm_width or constants.SFM_WIDTH)
    box = torch.zeros(size * constants.VAE_STRIDE, size * constants.VAE_STRIDE, dtype=torch.uint8)
    box[box.shape[0] // 4 : -box.shape[0] // 4, box.shape[1] // 4 : -box.shape[1] // 4] = 255
    given = {
        "latents": torch.randn(1, constants.LATENT_CHANNELS, frames, size, size, generator=random),
        "ref_latents": torch.randn(3, constants.LATENT_CHANNELS, size, size, generator=random),
        "identity": torch.randn(1, arch.identity_width, generator=random),
        "windows": torch.randn(1, frames, constants.AUDIO_WINDOW, 1, arch.frame_features, generator=random),
        "region": box,
        "region_weights": torch.tensor(REGION_WEIGHTS),
        "song": torch.randn(1, round(AUDIO_SECONDS * SONG_RATE), generator=random) / 8,
    }
    for name, level in itertools.product(REGIONS, range(arch.levels)):
        given[f"{name}_{level}"] = torch.rand(1, (size >> level) ** 2, generator=random)
    return given


def authors_config(arch: Architecture) -> dict[str, Any]:
    """What the constructors of the authors' classes need for this architecture."""
    if arch.msm_kernel is None or arch.sfm_width is None:
        raise ValueError(
            "The checkpoint has no MSM or SFM (Hallo): the authors' code needs a SINGER checkpoint."
        )
    depth, channels, span, *size = arch.msm_kernel
    return {
        "unet": {
            "block_out_channels": list(arch.channels),
            "layers_per_block": arch.layers,
            "attention_head_dim": arch.heads,
            "cross_attention_dim": arch.image_width,
            "sample_size": size[0],
        },
        "additional": {"audio_attention_dim": arch.audio_width},
        "imageproj": {
            "cross_attention_dim": arch.image_width,
            "clip_embeddings_dim": arch.identity_width,
            "clip_extra_context_tokens": arch.image_tokens,
        },
        "audioproj": {
            "seq_len": constants.AUDIO_WINDOW,
            "blocks": 1,
            "channels": arch.frame_features,
            "intermediate_dim": arch.audio_hidden,
            "output_dim": arch.audio_width,
            "context_tokens": arch.audio_tokens,
        },
        "msm": [depth, span, channels, *size],
        "face_locator": {
            "conditioning_embedding_channels": arch.channels[0],
            "block_out_channels": list(arch.face_locator),
        },
    }
