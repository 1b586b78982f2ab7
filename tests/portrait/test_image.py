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


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_exif_is_ignored(tmp_path: Path, pixels: np.ndarray) -> None:
    exif, rng = Image.Exif(), np.random.default_rng(0)
    exif.update({0x010F: "Maker", 0x0112: 6, 0x011A: (72, 1), 0x8769: {36864: b"0230", 37386: (35, 10)}})
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    whole = (tmp_path / "a.jpg").read_bytes()
    block = whole.index(exif.tobytes()[6:])
    for _ in range(300):
        mutated = bytearray(whole)
        for at in rng.integers(8, len(exif.tobytes()) - 6, 4):
            mutated[block + at] = rng.choice([0, 1, 255])
        (tmp_path / "b.jpg").write_bytes(mutated)
        assert sorted(read_image(tmp_path / "b.jpg").size) == [40, 56]


# Primaries adapted to D50 (Adobe RGB (1998), ROMM RGB / ProPhoto), with their gamma
PROFILES = {
    "Adobe RGB": (
        [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)],
        2.2,
    ),
    "ProPhoto": ([(0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491)], 1.8),
}
SRGB = np.array([(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)]).T


def icc_profile(name: str) -> bytes:
    """A display profile of three primaries and a gamma (ICC.1, version 2)."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    primaries, gamma = PROFILES[name]
    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249)}
    for colour, xyz in zip("rgb", primaries, strict=True):
        tags[f"{colour}XYZ".encode()] = b"XYZ \0\0\0\0" + fixed(*xyz)
        tags[f"{colour}TRC".encode()] = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    text = name.encode() + b"\0"
    tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78 + -len(text) % 4)
    start, table, body = 132 + 12 * len(tags), b"", b""
    for sign, data in tags.items():
        table += sign + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = struct.pack(">I", start + len(body))
    head = size + b"test\x02\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("name", PROFILES)
def test_colours_of_other_profiles_become_srgb(tmp_path: Path, name: str, mode: str) -> None:
    colours = np.array([(210, 60, 50), (128, 128, 128), (190, 140, 110), (60, 90, 160)])
    primaries, gamma = PROFILES[name]
    part = colours / 255
    light = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4) @ SRGB.T
    encoded = (light @ np.linalg.inv(np.array(primaries)).clip(-9, 9)).clip(0, 1) ** (1 / gamma) * 255
    stored = np.repeat(np.repeat(encoded.round().astype(np.uint8)[None], 40, 0), 10, 1)
    image = Image.fromarray(stored)
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "a.png", icc_profile=icc_profile(name))
    read = np.asarray(read_image(tmp_path / "a.png"))[20, 5::10].astype(int)
    assert np.abs(read - colours).max() <= 3


def test_profiles_that_mean_nothing_are_ignored(tmp_path: Path, pixels: np.ndarray, caplog) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=b"no profile")
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), pixels)
    assert "profile is ignored" in caplog.text


def test_transparent_parts_of_tensors_are_white(pixels: np.ndarray) -> None:
    alpha = np.zeros((40, 56), np.uint8)
    alpha[:, 28:] = 255
    image = from_tensor(torch.from_numpy(np.dstack([pixels, alpha])).permute(2, 0, 1) / 255)
    assert (np.asarray(image)[:, :28] == 255).all()
    assert np.array_equal(np.asarray(image)[:, 28:], pixels[:, 28:])


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
