"""A face -> the 512 numbers that tell the network who sings (numerics section 15, last paragraph).

The network is in iresnet.py. Small models read nine colours of the picture instead.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from ..files import files_below
from ..weights import open_weights
from .image import to_tensor
from .iresnet import IResNet, build, is_iresnet, read_onnx
from .landmarks import FaceLandmarks
from .portrait import Portrait

log = logging.getLogger(__name__)

# Eyes, nose tip, mouth corners in a 112 x 112 face: the alignment ArcFace was trained with (insightface)
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
TEMPLATE_SIDE = 112
ONNX_NAME = "glintr100.onnx"

COLOUR_IDENTITY_WIDTH = 9  # mean RGB of three regions


def find_identity_file(folders: Iterable[str | PathLike[str]]) -> Path:
    """The first IResNet below `folders`, however deep: safetensors (told by its keys), else glintr100.onnx.

    Raises FileNotFoundError that lists the folders and the files tried.
    """
    roots = [Path(folder) for folder in folders]
    tried: list[Path] = []
    for pattern in ("*.safetensors", ONNX_NAME):
        for root in roots:
            for path in files_below(root, pattern):
                if path.suffix == ".onnx" or _holds_iresnet(path):
                    return path
                tried.append(path)
    looked = (
        "; ".join(f"{root}{'' if root.is_dir() else ' (no such folder)'}" for root in roots) or "no folder"
    )
    others = f" Other files there: {', '.join(str(path) for path in tried[:10])}." if tried else ""
    raise FileNotFoundError(
        f"Found no identity network in: {looked}.{others} Put glintr100.onnx of insightface's antelopev2 "
        "pack into one of them and run `singer convert glintr100.onnx out.safetensors`, or render without."
    )


def load_identity(path: str | PathLike[str]) -> IResNet:
    """An IResNet of a safetensors or ONNX file. FileNotFoundError; RuntimeError for another network."""
    path = Path(path)
    if path.suffix == ".onnx":
        return build(read_onnx(path))
    if not path.is_file():
        raise FileNotFoundError(
            f"No identity network at {path}. Make one with `singer convert glintr100.onnx {path.name}`."
        )
    try:
        file = open_weights(path)
    except RuntimeError as error:
        raise RuntimeError(
            f"{path.name} is not a safetensors file ({error}). "
            f"Make one with `singer convert glintr100.onnx {path.name}`."
        ) from error
    network = build(file.state())
    log.info("Identity network %s: %s", path.name, network.config)
    return network


def align_face(image: Image.Image, five: NDArray[np.float32], side: int = TEMPLATE_SIDE) -> torch.Tensor:
    """Turn, scale and shift a face onto the ArcFace template.

    image    RGB picture
    five     (5, 2) pixel xy: eyes, nose tip, mouth corners, left of the image first
    returns  (3, side, side) in [0, 1]; black outside the picture

    Linear interpolation without antialiasing, as the recognition networks were trained with.
    """
    matrix = similarity(TEMPLATE * (side / TEMPLATE_SIDE), five.astype(np.float64))  # template -> picture
    steps = np.arange(side)
    x, y = np.meshgrid(steps, steps)
    at = np.stack([x, y], axis=-1) @ matrix[:, :2].T + matrix[:, 2]  # pixel centres at integers
    W, H = image.size
    grid = torch.from_numpy((2 * at + 1) / (W, H) - 1).float()
    return F.grid_sample(
        to_tensor(image)[None], grid[None], mode="bilinear", padding_mode="zeros", align_corners=False
    )[0]


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares rotation, scale and shift (2, 3) that takes `source` (n, 2) to `target` (n, 2).

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", eqs. 40-43.
    Raises ValueError where the target points coincide.
    """
    mu_s, mu_t = source.mean(axis=0), target.mean(axis=0)
    centred_s, centred_t = source - mu_s, target - mu_t
    U, D, Vt = np.linalg.svd(centred_t.T @ centred_s / len(source))
    if not D[0] > 1e-6:
        raise ValueError("The eyes, nose and mouth of the face coincide. Detect the landmarks again.")
    sign = np.array([1.0, np.sign(np.linalg.det(U @ Vt))])
    rotation = U @ np.diag(sign) @ Vt
    scale = (D * sign).sum() / (centred_s**2).sum(axis=1).mean()
    return np.column_stack([scale * rotation, mu_t - scale * rotation @ mu_s])


@torch.no_grad()
def embed_face(network: IResNet, image: Image.Image, face: FaceLandmarks) -> torch.Tensor:
    """Identity of a face in an RGB picture: (e,) float32, not normalised.

    Raises RuntimeError where the network's answer is not finite.
    """
    weight = network.fc.weight
    pixels = align_face(image, face.five, network.config.side) * 2 - 1  # (x - 127.5) / 127.5
    embedding = network(pixels[None].to(weight.device, weight.dtype))[0].float().cpu()
    if not torch.isfinite(embedding).all():
        raise RuntimeError("The identity network returned NaN or Inf. Convert the file again, in float32.")
    return embedding


def identity_for(portrait: Portrait, width: int) -> torch.Tensor:
    """The identity that a checkpoint reading `width` values is told of a portrait, (width,).

    Small models read nine colours, taken from the picture where the portrait has no identity of its own;
    others an embedding, zeros where it has none. Raises ValueError for an embedding of another width.
    """
    identity = portrait.identity
    if identity is None:
        if width == COLOUR_IDENTITY_WIDTH:
            return colour_identity(portrait.image, portrait.masks[0])
        log.warning("No identity embedding: the network gets zeros, which costs likeness.")
        return torch.zeros(width)
    if identity.shape != (width,):
        raise ValueError(
            f"The identity embedding has {tuple(identity.shape)} values; this checkpoint reads {width}. "
            "Use the embedding of ArcFace `glintr100`, or none."
        )
    return identity


def colour_identity(image: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Mean colour of the three regions of a portrait, for small models trained with it.

    image    (3, H, W) in [0, 1]
    masks    (3, h w): full, face, lip in [0, 1] at a latent size, level 0 of `Portrait.masks`; H / h a whole
             number
    returns  (9,) in [-1, 1]: RGB of the picture around the face, of the face around the lips, of the lips
    """
    side = round(masks.shape[1] / (image.shape[2] / image.shape[1])) ** 0.5
    stride = round(image.shape[1] / side)
    return mean_colours(F.avg_pool2d(image[None], stride)[0], masks)


def mean_colours(small: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The same of a picture (3, h, w) at the masks' size."""
    weights = masks / masks.sum(1, keepdim=True).clamp_min(1e-6)
    return (weights @ small.flatten(1).T * 2 - 1).flatten()


def _holds_iresnet(path: Path) -> bool:
    try:
        return is_iresnet(list(open_weights(path).shapes))
    except RuntimeError:
        return False
