"""A data set from videos that Hallo's two-step preparation has processed: its json lists, masks and
embeddings.

A list holds for every video: `video_path` (square crop, 25 fps), `mask_path` (face box), `sep_mask_border`,
`sep_mask_face`, `sep_mask_lip` (union masks), `face_emb_path`, and the audio features, one row a frame, under
a name with `_emb_` such as `vocals_emb_base_all`.
"""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .. import constants
from ..files import renamed_on_success
from ..network.autoencoder import Autoencoder
from ..portrait.image import to_tensor
from ..portrait.masks import LEVELS
from ..render.video import read_frames
from .dataset import describe, write_item
from .videos import REPORT

logger = logging.getLogger(__name__)

MASKS = ("sep_mask_border", "sep_mask_face", "sep_mask_lip")  # full, face, lip


def prepare_hallo(
    lists: Sequence[Path], target: Path, size: tuple[int, int], vae: Autoencoder, batch: int = 8
) -> dict[str, str]:
    """Encode the videos of Hallo's json lists that are not encoded yet; returns video -> "ready" or why it
    was skipped.

    size   (H, W) of the network's pictures; videos and masks are scaled to it as they are
    Paths in a list that are not absolute count from the list's folder. Raises FileNotFoundError for a missing
    list,
    ValueError for one that is no list, or where `target` holds another data set.
    """
    describe(target, {"kind": "hallo", "size": list(size)})
    report: dict[str, str] = {}
    for path in lists:
        for index, entry in enumerate(_entries(path)):
            name = str(entry.get("video_path", f"{path.name}[{index}]"))
            item = target / f"{path.stem}-{index:06d}.safetensors"
            try:
                if not item.exists():
                    write_item(item, _prepare(entry, path.parent, size, vae, batch), {"video": name})
                report[name] = "ready"
            except (ValueError, FileNotFoundError) as error:
                report[name] = str(error)
                logger.warning("%s is skipped: %s", name, error)
    with renamed_on_success(target / REPORT) as temporary:
        temporary.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return report


def _entries(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no list {path}. Name the json files that Hallo's preparation wrote."
        )
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is no json file: {error}.") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(
            f"{path.name} holds no list of videos. Name a json file that Hallo's preparation wrote."
        )
    return entries


def _prepare(
    entry: Mapping[str, Any], folder: Path, size: tuple[int, int], vae: Autoencoder, batch: int
) -> dict[str, Tensor]:
    """The tensors of one video. ValueError says why it cannot be used."""
    audio_key = next((key for key in entry if "_emb_" in key and key != "face_emb_path"), None)
    needed = ("video_path", "mask_path", "face_emb_path", *MASKS)
    missing = [key for key in needed if key not in entry] + ([] if audio_key else ["*_emb_*"])
    if missing:
        raise ValueError(f"its entry lacks {', '.join(missing)}")
    assert audio_key is not None
    features = _embedding(folder / str(entry[audio_key]))
    if features.ndim != 3:
        raise ValueError(
            f"its audio features have shape {tuple(features.shape)}; (frames, layers, width) is read"
        )
    masks = [_grey(folder / str(entry[key])) for key in MASKS]
    latents, thumbnails = _encode(folder / str(entry["video_path"]), size, vae, batch)
    frames = min(len(latents), len(features))
    region = _grey(folder / str(entry["mask_path"])).resize(size[::-1], Image.Resampling.BILINEAR)
    levels = [_level(masks, (size[0] // (8 << level), size[1] // (8 << level))) for level in range(LEVELS)]
    boxes = torch.tensor([_box(masks[1], size), _box(masks[2], size)], dtype=torch.int16)
    return {
        "latents": latents[:frames].half(),
        "features": features[:frames].half(),
        "boxes": boxes.expand(frames, 2, 4),
        "thumbnails": thumbnails[:frames],
        "grey": vae.encode(torch.zeros(1, 3, *size))[0].half().cpu(),
        "identity": _embedding(folder / str(entry["face_emb_path"])).flatten(),
        "region": torch.from_numpy(np.array(region)),
        **{f"masks_{level}": masks for level, masks in enumerate(levels)},
    }


def _encode(video: Path, size: tuple[int, int], vae: Autoencoder, batch: int) -> tuple[Tensor, Tensor]:
    """Latents (s, 4, h, w) and thumbnails (s, 3, h, w) uint8 of all pictures, squashed to `size`."""
    latents: list[Tensor] = []
    thumbnails: list[Tensor] = []
    waiting: list[Tensor] = []

    def flush() -> None:
        pixels = torch.stack(waiting)
        latents.append(vae.encode(pixels * 2 - 1).cpu())
        thumbnails.append(F.avg_pool2d(pixels, constants.VAE_STRIDE).mul(255).round().byte())
        waiting.clear()

    for picture in read_frames(video):
        image = Image.fromarray(picture.permute(1, 2, 0).numpy())
        waiting.append(to_tensor(image.resize(size[::-1], Image.Resampling.BILINEAR)))
        if len(waiting) == batch:
            flush()
    if waiting:
        flush()
    if not latents:
        raise ValueError("it has no pictures")
    return torch.cat(latents), torch.cat(thumbnails)


def _embedding(path: Path) -> Tensor:
    """A tensor, or an array, of a .pt file."""
    if not path.is_file():
        raise FileNotFoundError(f"its file {path.name} is missing")
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path.name} is no file of plain tensors") from error
    return torch.as_tensor(value).float()


def _grey(path: Path) -> Image.Image:
    if not path.is_file():
        raise FileNotFoundError(f"its file {path.name} is missing")
    with Image.open(path) as image:
        return image.convert("L")


def _level(masks: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
    """Masks at a latent size (h, w) -> (3, h w) in [0, 1]."""
    rows = [np.array(mask.resize(size[::-1], Image.Resampling.BILINEAR)) for mask in masks]
    return torch.from_numpy(np.stack(rows)).float().flatten(1) / 255


def _box(mask: Image.Image, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Bounds of the brighter half of a mask in pixels of a picture of `size` (H, W)."""
    levels = np.array(mask.resize(size[::-1], Image.Resampling.BILINEAR))
    rows, columns = np.nonzero(levels >= max(int(levels.max()) // 2, 1))
    if not len(rows):
        raise ValueError("one of its masks is empty")
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
