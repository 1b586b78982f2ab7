"""Pictures as users have them -> upright 8-bit sRGB, transparency kept aside.

Not here: faces (landmarks.py), crops (crop.py).
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import ExifTags, Image, ImageChops, UnidentifiedImageError

log = logging.getLogger(__name__)

MIN_SIDE = 32  # below this a face has too few pixels for the 64 x 64 masks to mean anything
MAX_PIXELS = 1 << 26  # 67 megapixels: 0.8 GB as float32, and below Pillow's own decompression-bomb warning
BACKGROUND = (255, 255, 255)  # what transparent parts are shown on

# EXIF's orientation -> what turns such a picture upright
_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """An upright RGB picture and, where the file has transparency, its alpha channel (mode L, same size)."""

    image: Image.Image
    alpha: Image.Image | None = None


def read_image(path: str | PathLike[str]) -> Image.Image:
    """The picture in `path` as upright RGB; `read_picture` gives the alpha channel as well."""
    return read_picture(path).image


def read_picture(path: str | PathLike[str]) -> Picture:
    """Decode a picture file of any Pillow format and colour mode.

    The EXIF orientation is applied, colours of another profile become sRGB, the first frame of an animation
    is used (with a warning), transparent parts are shown on white. Raises FileNotFoundError for a missing
    file; ValueError for a file that is no picture, is damaged, has more than `MAX_PIXELS` pixels or a side
    shorter than `MIN_SIDE`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No picture at {path}. Give the path of a PNG, JPEG or WebP file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `_check_size` is stricter
            image = Image.open(path)
        with image:
            _check_size(image, path.name)
            if getattr(image, "is_animated", False):
                log.warning("%s is an animation; its first frame is used.", path.name)
                image.seek(0)
            image.load()
            return to_picture(_in_srgb(_upright(image)))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path.name} is not a picture Pillow can read. Use PNG, JPEG or WebP.") from error
    except Image.DecompressionBombError as error:
        raise ValueError(_too_large(path.name, "more than 178")) from error
    except (OSError, SyntaxError, EOFError) as error:  # what Pillow's decoders raise on damaged data
        raise ValueError(f"{path.name} is damaged ({error}). Save it again.") from error


def read_mask(path: str | PathLike[str]) -> Image.Image:
    """A mask file as 8-bit grey, 255 inside: the brightness of the picture, black where it is transparent."""
    picture = read_picture(path)
    grey = picture.image.convert("L")
    return grey if picture.alpha is None else ImageChops.multiply(grey, picture.alpha)


def to_picture(image: Image.Image) -> Picture:
    """Any Pillow colour mode -> RGB and alpha. 16-bit grey keeps its upper 8 bits; floats raise."""
    _check_size(image, "The picture")
    if image.mode == "RGB" and "transparency" not in image.info:
        return Picture(image.copy())
    if image.mode == "F":
        raise ValueError("The picture holds floats; 8- or 16-bit pictures are accepted. Save it as PNG.")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray((values >> (8 if values.max() > 255 else 0)).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        base = Image.new("RGBA", rgba.size, (*BACKGROUND, 255))
        alpha = rgba.getchannel("A")
        flat = Image.alpha_composite(base, rgba).convert("RGB")
        return Picture(flat, alpha if alpha.getextrema() != (255, 255) else None)
    return Picture(image.convert("RGB"))


def to_tensor(image: Image.Image) -> torch.Tensor:
    """RGB or L picture -> (c, H, W) float32 in [0, 1]."""
    pixels = np.array(image, dtype=np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return rearrange(torch.from_numpy(pixels), "H W c -> c H W").contiguous().float() / 255


def from_tensor(pixels: torch.Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] -> RGB picture, rounded to 8 bits; a fourth channel is alpha: shown on white.

    Raises ValueError for another shape or NaN.
    """
    if pixels.ndim != 3 or pixels.shape[0] not in (3, 4):
        raise ValueError(f"A picture tensor has shape {tuple(pixels.shape)}; (3, H, W) is accepted.")
    if not torch.isfinite(pixels).all():
        raise ValueError("The picture tensor holds NaN or Inf; values in [0, 1] are accepted.")
    levels = (pixels.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8)
    image = Image.fromarray(rearrange(levels, "c H W -> H W c").contiguous().numpy())
    return image if image.mode == "RGB" else to_picture(image).image


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF says; damaged EXIF says nothing."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except (SyntaxError, ValueError, TypeError, LookupError, struct.error) as error:
        log.warning("The picture's EXIF is damaged and is ignored: %s", error)
        return image
    return image if turn is None else image.transpose(turn)


def _in_srgb(image: Image.Image) -> Image.Image:
    """The picture's colours in sRGB; a profile that cannot be read is ignored, with a warning."""
    profile = image.info.get("icc_profile")
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK", "L"):
        return image
    from PIL import ImageCms  # a compiled library of its own

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError) as error:
        log.warning("The picture's colour profile is ignored: %s", error)
        return image
    return converted or image


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise ValueError(
            f"{name} is {width} x {height} pixels; each side needs at least {MIN_SIDE}. Use a larger picture."
        )
    if width * height > MAX_PIXELS:
        raise ValueError(_too_large(name, f"{width} x {height} = {width * height / 1e6:.0f}"))


def _too_large(name: str, megapixels: str) -> str:
    return (
        f"{name} has {megapixels} megapixels; up to {MAX_PIXELS / 1e6:.0f} are accepted. "
        "Scale it down: the network sees 512 pixels."
    )
