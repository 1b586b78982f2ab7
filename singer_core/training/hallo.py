"""A data set from what Hallo's two-step preparation has made of videos: json lists, masks and embeddings.

A list holds for every video: `video_path` (square crop, 25 fps), `mask_path` (face box), `sep_mask_border`,
`sep_mask_face`, `sep_mask_lip` (union masks), `face_emb_path`, and the audio features, one row a frame, under
a name with `_emb_` such as `vocals_emb_base_all`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..files import read_json
from ..portrait.image import to_tensor
from ..portrait.masks import LEVELS
from ..render.video import read_frames
from ..weights import load_plain
from .dataset import describe
from .videos import Job, PictureEncoder, Prepared, encode, prepare_all

MASKS = ("sep_mask_border", "sep_mask_face", "sep_mask_lip")  # full, face, lip


def prepare_hallo(
    lists: Sequence[Path], target: Path, size: tuple[int, int], vae: PictureEncoder, batch: int = 8
) -> dict[str, str]:
    """Encode the videos of Hallo's json lists that are not encoded yet, see `prepare_all`.

    size   (H, W) of the network's pictures; videos and masks are scaled to it as they are
    Paths in a list that are not absolute count from the list's folder. Raises FileNotFoundError for a missing
    list, ValueError for one that is no list, or where `target` holds another data set.
    """
    describe(target, {"kind": "hallo", "size": list(size)})
    jobs: list[Job] = []
    for path in lists:
        for index, entry in enumerate(_entries(path)):
            name = str(entry.get("video_path", f"{path.name}[{index}]"))
            item = target / f"{path.stem}-{index:06d}.safetensors"
            jobs.append((name, item, partial(_prepare, entry, path.parent, size, vae, batch)))
    return prepare_all(jobs, target)


def _entries(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no list {path}. Name the json files that Hallo's preparation wrote."
        )
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(
            f"{path.name} holds no list of videos. Name a json file that Hallo's preparation wrote."
        )
    return entries


def _prepare(
    entry: Mapping[str, Any], folder: Path, size: tuple[int, int], vae: PictureEncoder, batch: int
) -> Prepared:
    """The item of one video. ValueError says why it cannot be used."""
    audio_key = next((key for key in entry if "_emb_" in key and key != "face_emb_path"), "*_emb_*")
    missing = [
        key for key in ("video_path", "mask_path", "face_emb_path", *MASKS, audio_key) if key not in entry
    ]
    if missing:
        raise ValueError(f"its entry lacks {', '.join(missing)}")
    files = {key: folder / str(value) for key, value in entry.items()}
    features = _embedding(files[audio_key])
    if features.ndim != 3:
        raise ValueError(
            f"its audio features have shape {tuple(features.shape)}; (frames, layers, width) is read"
        )
    masks = [_grey(files[key]) for key in MASKS]
    tensors = encode(_pictures(files["video_path"], size), vae, batch)
    frames = min(len(tensors["latents"]), len(features))
    boxes = torch.tensor([_box(masks[1], size), _box(masks[2], size)], dtype=torch.int16)
    levels = [_level(masks, (size[0] // (8 << level), size[1] // (8 << level))) for level in range(LEVELS)]
    item = {
        "latents": tensors["latents"][:frames],
        "features": features[:frames].half(),
        "boxes": boxes.expand(frames, 2, 4),
        "thumbnails": tensors["thumbnails"][:frames],
        "grey": tensors["grey"],
        "identity": _embedding(files["face_emb_path"]).flatten(),
        "region": torch.from_numpy(np.array(_scaled(_grey(files["mask_path"]), size))),
        **{f"masks_{level}": masks for level, masks in enumerate(levels)},
    }
    return Prepared([item])


def _pictures(video: Path, size: tuple[int, int]) -> Iterator[Tensor]:
    """All pictures of a video, squashed to `size`."""
    for picture in read_frames(video):
        yield to_tensor(_scaled(Image.fromarray(picture.permute(1, 2, 0).numpy()), size))


def _scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size[::-1], Image.Resampling.BILINEAR)


def _embedding(path: Path) -> Tensor:
    """A tensor, or an array, of a .pt file."""
    if not path.is_file():
        raise FileNotFoundError(f"its file {path.name} is missing")
    try:
        return torch.as_tensor(load_plain(path)).float()
    except RuntimeError as error:
        raise ValueError(f"{path.name} is no file of plain tensors") from error


def _grey(path: Path) -> Image.Image:
    if not path.is_file():
        raise FileNotFoundError(f"its file {path.name} is missing")
    with Image.open(path) as image:
        return image.convert("L")


def _level(masks: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
    """Masks at a latent size (h, w) -> (3, h w) in [0, 1]."""
    rows = [np.array(_scaled(mask, size)) for mask in masks]
    return torch.from_numpy(np.stack(rows)).float().flatten(1) / 255


def _box(mask: Image.Image, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Bounds of the brighter half of a mask in pixels of a picture of `size` (H, W)."""
    levels = np.array(_scaled(mask, size))
    rows, columns = np.nonzero(levels >= max(int(levels.max()) // 2, 1))
    if not len(rows):
        raise ValueError("one of its masks is empty")
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
