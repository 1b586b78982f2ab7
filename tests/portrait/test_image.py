from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from singer_core.portrait.image import (
    from_tensor,
    read_image,
    read_mask,
    read_picture,
    to_picture,
    to_tensor,
)


@pytest.fixture
def pixels() -> np.ndarray:
    """(40, 56, 3) uint8 without symmetry."""
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8)


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces its size and holds no pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_plain_png_is_read_unchanged(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture.alpha is None
    assert np.array_equal(np.asarray(picture.image), pixels)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (8, lambda a: np.rot90(a, 1))],
)
def test_exif_orientation_is_applied(tmp_path: Path, pixels: np.ndarray, orientation: int, upright) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), upright(pixels))


def test_transparent_parts_are_white_and_alpha_is_kept(tmp_path: Path, pixels: np.ndarray) -> None:
    alpha = np.zeros((40, 56), np.uint8)
    alpha[:, 28:] = 255
    Image.fromarray(np.dstack([pixels, alpha])).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert np.array_equal(np.asarray(picture.alpha), alpha)
    assert (np.asarray(picture.image)[:, :28] == 255).all()
    assert np.array_equal(np.asarray(picture.image)[:, 28:], pixels[:, 28:])


def test_opaque_alpha_counts_as_none(pixels: np.ndarray) -> None:
    picture = to_picture(Image.fromarray(np.dstack([pixels, np.full((40, 56), 255, np.uint8)])))
    assert picture.alpha is None


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "HSV", "LA", "RGBA"])
def test_every_colour_mode_becomes_rgb(pixels: np.ndarray, mode: str) -> None:
    picture = to_picture(Image.fromarray(pixels).convert(mode))
    assert picture.image.mode == "RGB"
    assert picture.image.size == (56, 40)


def test_grey_and_16_bit_grey_agree(tmp_path: Path, pixels: np.ndarray) -> None:
    grey = pixels[..., 0]
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert np.array_equal(np.asarray(read_image(tmp_path / "deep.png")), np.stack([grey] * 3, -1))


def test_cmyk_jpeg_is_close_to_its_rgb(tmp_path: Path) -> None:
    smooth = np.zeros((64, 64, 3), np.uint8)
    smooth[..., 0] = np.linspace(40, 200, 64)[None]
    Image.fromarray(smooth).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    assert np.abs(np.asarray(read_image(tmp_path / "a.jpg")).astype(int) - smooth).max() <= 6


def test_animation_gives_its_first_frame_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif").getpixel((5, 5)) == (255, 0, 0)
    assert "first frame" in caplog.text


def test_masks_are_bright_where_painted_and_black_where_transparent(tmp_path: Path) -> None:
    pixels = np.full((40, 60, 4), 255, np.uint8)
    pixels[:, :20, :3] = 0
    pixels[:, 40:, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    mask = np.asarray(read_mask(tmp_path / "a.png"))
    assert np.array_equal(mask[0], np.repeat(np.array([0, 255, 0], np.uint8), 20))
    Image.fromarray(pixels[..., :3]).save(tmp_path / "b.png")
    assert np.asarray(read_mask(tmp_path / "b.png"))[:, 20:].min() == 255


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No picture at .*none\.png"):
        read_image(tmp_path / "none.png")


def test_text_file_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(ValueError, match="not a picture"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_file_is_damaged(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"damaged|not a picture"):
        read_image(path)


@pytest.mark.parametrize("size", [(1, 1), (1, 600), (31, 400)])
def test_tiny_pictures_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} pixels; each side needs at least 32"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(("width", "height"), [(20_000, 15_000), (9_000, 9_000)])
def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "a.png").write_bytes(png_header(width, height))
    with pytest.raises(ValueError, match="megapixels; up to 67 are accepted"):
        read_image(tmp_path / "a.png")


def test_very_wide_pictures_are_accepted(tmp_path: Path) -> None:
    Image.new("L", (20_000, 64)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").size == (20_000, 64)


def test_tensor_round_trip(pixels: np.ndarray) -> None:
    tensor = to_tensor(Image.fromarray(pixels))
    assert tensor.shape == (3, 40, 56)
    assert tensor.dtype == torch.float32
    assert np.array_equal(np.asarray(from_tensor(tensor)), pixels)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [(torch.zeros(40, 56, 3), r"\(3, H, W\)"), (torch.full((3, 40, 40), float("nan")), "NaN or Inf")],
)
def test_bad_tensors(tensor: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_tensor(tensor)
