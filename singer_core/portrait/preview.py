"""What was found in a picture, for people to look at: an overlay and files on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import torch
from einops import repeat
from PIL import Image, ImageDraw, ImageFont

from ..files import renamed_on_success, write_text
from .image import from_tensor
from .landmarks import FaceLandmarks
from .masks import LATENT_SCALE, bounding_box
from .portrait import Portrait

TINTS = {"face": (0.15, 0.75, 0.35), "lip": (0.95, 0.15, 0.3)}  # RGB
OUTLINE = (255, 200, 0)


def overlay(portrait: Portrait) -> Image.Image:
    """Two panels of the network's height: the picture with the crop's outline; the crop with its masks.

    Green is the face mask of the finest level, red the lip mask, the yellow line the face locator's region.
    """
    crop = _tinted(portrait)
    if portrait.original is None:
        return crop
    whole = from_tensor(portrait.original)
    width = max(1, round(whole.width * crop.height / whole.height))
    panel = whole.resize((width, crop.height), Image.Resampling.BILINEAR)
    scale = (width / whole.width, crop.height / whole.height)
    left, top, right, bottom = portrait.crop.box
    corners = (left * scale[0], top * scale[1], right * scale[0] - 1, bottom * scale[1] - 1)
    ImageDraw.Draw(panel).rectangle(corners, outline=OUTLINE, width=3)
    both = Image.new("RGB", (width + crop.width, crop.height))
    both.paste(panel, (0, 0))
    both.paste(crop, (width, 0))
    return both


def numbered(image: Image.Image, faces: Sequence[FaceLandmarks]) -> Image.Image:
    """A copy of the picture with a box and the `face_index` on every face."""
    shown = image.convert("RGB")
    pen = ImageDraw.Draw(shown)
    for index, face in enumerate(faces):
        left, top, right, bottom = bounding_box(face.silhouette)
        pen.rectangle((left, top, right, bottom), outline=OUTLINE, width=max(2, (right - left) // 40))
        size = max(16, (bottom - top) // 3)
        pen.text((left + size / 4, top), str(index), fill=OUTLINE, font=ImageFont.load_default(size))
    return shown


def write_preview(portrait: Portrait, folder: str | PathLike[str]) -> list[Path]:
    """Write portrait.json, crop.png, region.png, masks.png and overlay.png into `folder`; returns the paths.

    masks.png: a row per level, the columns full, face, lip; all enlarged to the size of the crop's latent.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "crop.png": from_tensor(portrait.image),
        "region.png": from_tensor(portrait.region.expand(3, -1, -1)),
        "masks.png": _mask_sheet(portrait),
        "overlay.png": overlay(portrait),
    }
    for name, picture in pictures.items():
        with renamed_on_success(folder / name) as temporary:
            picture.save(temporary, format="PNG")
    write_text(folder / "portrait.json", json.dumps(_summary(portrait), indent=1))
    return [folder / name for name in ("portrait.json", *pictures)]


def _summary(portrait: Portrait) -> dict[str, object]:
    identity = portrait.identity
    return {
        "original_size": list(portrait.crop.original_size[::-1]),  # W, H
        "crop": list(portrait.crop.box),  # left, top, right, bottom
        "size": list(portrait.crop.size[::-1]),
        "stretch": round(portrait.crop.stretch, 4),
        "identity": None if identity is None else [round(v, 6) for v in identity.tolist()],
        "mean_of_masks": [[round(v, 4) for v in level.mean(dim=1).tolist()] for level in portrait.masks],
    }


def _levels(portrait: Portrait) -> list[torch.Tensor]:
    """Per level (3, H, W), enlarged without smoothing."""
    H, W = portrait.crop.size
    enlarged = []
    for level, rows in enumerate(portrait.masks):
        h, w = (H // LATENT_SCALE) >> level, (W // LATENT_SCALE) >> level
        step = LATENT_SCALE << level
        enlarged.append(repeat(rows, "region (h w) -> region (h y) (w x)", h=h, w=w, y=step, x=step))
    return enlarged


def _tinted(portrait: Portrait) -> Image.Image:
    pixels = portrait.image.clone()
    _, face, lip = _levels(portrait)[0]
    for mask, tint in ((face, TINTS["face"]), (lip, TINTS["lip"])):
        pixels = torch.lerp(pixels, torch.tensor(tint)[:, None, None], 0.5 * mask)
    panel = from_tensor(pixels)
    box = from_tensor((portrait.region >= 0.5).float().expand(3, -1, -1)).getbbox()
    if box:
        ImageDraw.Draw(panel).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=OUTLINE, width=2)
    return panel


def _mask_sheet(portrait: Portrait) -> Image.Image:
    step = LATENT_SCALE
    rows = [torch.cat([m[::step, ::step] for m in level], dim=1) for level in _levels(portrait)]
    return from_tensor(torch.cat(rows, dim=0).expand(3, -1, -1))
