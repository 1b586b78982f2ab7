"""A SINGER network small enough for a test: random weights under the published names, and what it is fed.

Everything is random but nothing is zero: parameters that training starts at zero are random too, so every
path of the network counts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from singer_core import constants
from singer_core.audio.features import AudioFeatures
from singer_core.network.architecture import Architecture
from singer_core.network.checkpoint import expected_shapes
from singer_core.network.conditions import (
    CONDITIONAL,
    UNCONDITIONAL,
    AudioTokens,
    Branch,
    ClipConditions,
    ReferenceFeatures,
)
from singer_core.network.layers import sinusoidal_positions
from singer_core.portrait.crop import whole
from singer_core.portrait.portrait import Portrait

SIDE = 64  # pixels: the SFM is two wide there, as in the architecture
LATENT = SIDE // 8
FRAMES = 4
FEATURES = (2, 3)  # layers and width of the audio features of a frame

TINY = Architecture(
    channels=(32, 32, 64),
    layers=1,
    heads=2,
    image_width=24,
    image_tokens=3,
    identity_width=16,
    audio_inputs=constants.AUDIO_WINDOW * FEATURES[0] * FEATURES[1],
    audio_hidden=20,
    audio_tokens=8,
    audio_width=24,
    face_locator=(4, 6, 8, 10),
    msm_kernel=(2, 4, 3, LATENT, LATENT),
    sfm_width=SIDE // 32,
)


Box = tuple[int, int, int, int]  # left, top, right, bottom


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_state(arch: Architecture = TINY, seed: int = 0) -> dict[str, Tensor]:
    """A complete checkpoint in the published layout: name -> random tensor of a sensible scale."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: _random_tensor(key, shape, generator) for key, shape in sorted(expected_shapes(arch).items())
    }


def _random_tensor(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if key.endswith(".pe"):
        return sinusoidal_positions(shape[-1])
    value = torch.randn(shape, generator=generator)
    if key.endswith("hidden_spectral_weighting.weight"):
        return (1 + 0.3 * value) / (shape[-1] * shape[-2])
    if key.endswith("dct_layer.weight"):
        return value / (shape[-1] * shape[-2]) ** 0.5
    if len(shape) == 1:
        return 0.1 * value + (0.0 if key.endswith("bias") else 1.0)
    return value / value[0].numel() ** 0.5


def save_checkpoint(path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    """Write the state as the name's ending says: .safetensors, otherwise PyTorch's own format."""
    if path.suffix == ".safetensors":
        save_file(state, path, {"format": "pt", **(metadata or {})})
    else:
        torch.save(state, path)
    return path


def random_vae(seed: int = 0, width: int = 8) -> AutoencoderKL:
    """A VAE of stride 8, all of one width; 32 is the least for a file without a config."""
    levels = 4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoencoderKL(
            block_out_channels=(width,) * levels,
            norm_num_groups=min(width, 32),
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=1,
            latent_channels=constants.LATENT_CHANNELS,
        ).eval()


def portrait_of(height: int = SIDE, width: int = SIDE, seed: int = 0) -> Portrait:
    """Noise as a picture, soft random masks on every level, a box in the middle as the face."""
    generator = torch.Generator().manual_seed(seed)
    masks = tuple(
        torch.rand(3, (height // side) * (width // side), generator=generator) for side in (8, 16, 32, 64)
    )
    region = torch.zeros(height, width)
    region[height // 4 : height // 2, width // 4 : width // 2] = 1
    return Portrait(
        image=torch.rand(3, height, width, generator=generator),
        region=region,
        masks=masks,
        identity=torch.randn(TINY.identity_width, generator=generator),
        crop=whole((height, width), (height, width)),
    )


def write_portrait(folder: Path, size: tuple[int, int], face: Box, lip: Box) -> None:
    """portrait.png of `size` (H, W) with its painted masks face.png and lip.png."""
    picture = (noise(*size, 3).clamp(-2, 2) * 40 + 128).byte().numpy()
    Image.fromarray(picture).save(folder / "portrait.png")
    for name, (left, top, right, bottom) in (("face", face), ("lip", lip)):
        mask = np.zeros(size, np.uint8)
        mask[top:bottom, left:right] = 255
        Image.fromarray(mask).save(folder / f"{name}.png")


def audio_of(frames: int, clip_frames: int = FRAMES, seed: int = 0) -> AudioFeatures:
    """Random features of a song of so many frames, padded to whole clips."""
    padded = -(-frames // clip_frames) * clip_frames
    return AudioFeatures(noise(padded, *FEATURES, seed=seed), constants.FPS, frames)


def clip_of(
    *branches: Branch,
    batch: int = 1,
    frames: int = FRAMES,
    passes: int = 1,
    size: tuple[int, int] = (LATENT, LATENT),
    seed: int = 0,
    arch: Architecture = TINY,
) -> ClipConditions:
    """Random conditions of `batch` clips with two carried frames, everything differing from row to row."""
    h, w = size
    rows = batch * frames
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    cells = [(h >> level) * (w >> level) for level in range(arch.levels)]
    features = {site.name: draw(passes, batch, 3, cells[site.level], site.channels) for site in arch.sites()}
    return ClipConditions(
        branches=branches or (UNCONDITIONAL, CONDITIONAL),
        frames=frames,
        audio=AudioTokens(draw(rows, arch.audio_tokens, arch.audio_width)),
        masks=tuple(torch.rand(3, rows, n, generator=generator) for n in cells),
        weights=1 + 0.3 * draw(rows, 3),
        face=draw(rows, arch.channels[0], h, w),
        reference=ReferenceFeatures(features),
    )
