from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from singer_core.portrait.crop import (
    LIPS_AT,
    CropTransform,
    PasteBack,
    around,
    centred,
    exactly_around,
    whole,
)
from singer_core.portrait.image import from_tensor, to_tensor
from singer_core.portrait.portrait import prepare_portrait

# width, height of the picture; the face's middle in fractions; half of its width in pixels
ODD = [
    (333, 517, (0.5, 0.4), 60),
    (1021, 257, (0.7, 0.5), 50),
    (97, 640, (0.5, 0.2), 30),
    (701, 701, (0.1, 0.1), 90),
    (1279, 853, (0.9, 0.8), 150),
    (64, 65, (0.5, 0.5), 20),
    (853, 1279, (0.3, 0.9), 33),
    (2001, 333, (0.02, 0.5), 77),
    (449, 1111, (0.95, 0.5), 120),
    (151, 149, (0.5, 0.5), 80),
]
SIZES = [(512, 512), (512, 320), (320, 512)]


def scaled(photo: Image.Image, width: int, height: int) -> Image.Image:
    """A real photograph with noise: detail at the pixel level."""
    noise = np.random.default_rng(0).integers(-40, 41, (height, width, 3))
    return Image.fromarray((np.asarray(photo.resize((width, height))) + noise).clip(0, 255).astype(np.uint8))


def paste_back(
    original: torch.Tensor, frame: torch.Tensor, crop: CropTransform, *how, **named
) -> torch.Tensor:
    return PasteBack(original, crop, *how, **named)(frame)


@pytest.mark.parametrize(("width", "height", "at", "half"), ODD)
def test_an_unchanged_crop_gives_the_picture_back(photo, make_face, width, height, at, half) -> None:
    image = scaled(photo, width, height)
    for i, size in enumerate(SIZES):
        face = make_face(at[0] * width, at[1] * height, half)
        crop = ("face", "center", "squash")[i] if at == (0.5, 0.5) else "face"
        portrait = prepare_portrait(image, size, landmarks=face, crop=crop)
        again = paste_back(portrait.original, portrait.image, portrait.crop)
        assert again.shape == portrait.original.shape
        assert (again - portrait.original).abs().max() <= 1 / 255


def test_pixels_outside_the_crop_are_untouched_whatever_the_frame(photo, make_face) -> None:
    portrait = prepare_portrait(photo, landmarks=make_face())
    frame = torch.rand(3, 512, 512, generator=torch.Generator().manual_seed(0))
    pasted = paste_back(portrait.original, frame, portrait.crop)
    left, top, right, bottom = portrait.crop.box
    outside = torch.ones(512, 512, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    assert torch.equal(pasted[:, outside], portrait.original[:, outside])
    assert (pasted - portrait.original)[:, ~outside].abs().mean() > 0.1


def test_behind_the_band_the_picture_is_the_frame() -> None:
    original = torch.zeros(3, 200, 300)
    transform = CropTransform((100, 50, 228, 178), (128, 128), (200, 300))
    frame = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(1))
    pasted = paste_back(original, frame, transform, feather=0.125, colour_match=0.0)
    assert torch.allclose(pasted[:, 66:162, 116:212], frame[:, 16:112, 16:112], atol=1e-6)


def test_the_band_rises_smoothly_from_picture_to_frame() -> None:
    transform = CropTransform((40, 40, 168, 168), (128, 128), (200, 200))
    pasted = paste_back(
        torch.zeros(3, 200, 200), torch.ones(3, 128, 128), transform, feather=0.25, colour_match=0.0
    )
    profile = pasted[0, 104, 39:105]
    assert profile[0] == 0
    assert (profile.diff() >= 0).all()
    t = (torch.arange(32) + 0.5) / 32  # a band of a quarter of 128 pixels
    assert torch.allclose(profile[1:33], 3 * t**2 - 2 * t**3, atol=1e-6)
    assert (profile[33:] == 1).all()


def test_sides_on_the_edge_of_the_picture_have_no_band() -> None:
    pasted = paste_back(
        torch.zeros(3, 96, 160),
        torch.ones(3, 64, 64),
        CropTransform((0, 0, 96, 96), (64, 64), (96, 160)),
        colour_match=0.0,
    )
    assert (pasted[:, :, :80] == 1).all()
    assert (pasted[:, :, 96:] == 0).all()
    squash = paste_back(
        torch.zeros(3, 96, 160), torch.ones(3, 64, 64), whole((96, 160), (64, 64)), colour_match=0.0
    )
    assert (squash == 1).all()


def test_colour_match_takes_a_constant_cast_out(photo, make_face) -> None:
    portrait = prepare_portrait(photo, landmarks=make_face())
    cast = torch.tensor([0.02, -0.03, 0.04])[:, None, None]
    matched = paste_back(portrait.original, portrait.image + cast, portrait.crop)
    assert (matched - portrait.original).abs().max() <= 1 / 255
    plain = paste_back(portrait.original, portrait.image + cast, portrait.crop, colour_match=0.0)
    assert (plain - portrait.original).abs().max() > 0.02


def test_detail_stays_where_nothing_moves_and_goes_where_it_does(photo) -> None:
    image = scaled(photo, 1000, 1000)
    transform = centred((1000, 1000), (256, 256))
    original = to_tensor(image)
    frame = to_tensor(transform.apply(image))
    frame[:, :128] = torch.tensor([1.0, 0.0, 1.0])[:, None, None]  # a colour that the photograph has not
    pasted = paste_back(original, frame, transform, colour_match=0.0)
    assert (pasted[:, 700:] - original[:, 700:]).abs().max() <= 1 / 255
    assert pasted[:, :440].std(dim=(1, 2)).max() < 1e-6
    soft = paste_back(original, frame, transform, colour_match=0.0, detail=False)
    assert (soft[:, 560:] - original[:, 560:]).abs().mean() > 0.02


def test_detail_moves_with_what_it_belongs_to(photo) -> None:
    image = scaled(photo, 1000, 1000)
    transform = centred((1000, 1000), (256, 256))
    elsewhere = to_tensor(image).roll((-12, 20), (1, 2))
    frame = to_tensor(transform.apply(from_tensor(elsewhere)))
    inside = (slice(None), slice(100, 900), slice(100, 900))
    errors = []
    for detail in (True, False):
        pasted = paste_back(to_tensor(image), frame, transform, 0.0, 0.0, detail)
        errors.append(float((pasted - elsewhere)[inside].abs().mean()))
    assert errors[0] < 0.25 * errors[1]


def test_many_frames_equal_one_by_one(photo, make_face) -> None:
    portrait = prepare_portrait(photo, (128, 128), landmarks=make_face())
    frames = torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    paste = PasteBack(portrait.original, portrait.crop)
    assert torch.equal(paste(frames), torch.stack([paste(frame) for frame in frames]))


def test_cut_and_apply_agree_with_pillow(photo) -> None:
    transform = CropTransform((30, 40, 130, 240), (128, 64), (512, 512))
    expected = photo.crop((30, 40, 130, 240)).resize((64, 128), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(transform.apply(photo)), np.asarray(expected))


@pytest.mark.parametrize("size", [(512, 512), (768, 512), (64, 256)])
@pytest.mark.parametrize("original", [(400, 400), (123, 999), (999, 123)])
def test_crops_contain_the_face_and_keep_its_shape(original, size) -> None:
    H, W = original
    for x, y in ((0.1, 0.1), (0.5, 0.5), (0.93, 0.2)):
        face = (int(x * W) - 20, int(y * H) - 30, int(x * W) + 20, int(y * H) + 30)
        transform = around(face, original, size, 0.4)
        left, top, right, bottom = transform.box
        seen = (max(face[0], 0), max(face[1], 0), min(face[2], W), min(face[3], H))
        assert left <= seen[0]
        assert top <= seen[1]
        assert right >= seen[2]
        assert bottom >= seen[3]
        assert abs(transform.stretch - 1) < 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [({"feather": 0.6}, "`feather` is 0.6"), ({"colour_match": 2.0}, "`colour_match` is 2")],
)
def test_options_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PasteBack(torch.zeros(3, 64, 64), whole((64, 64), (64, 64)), **options)


def test_pictures_and_frames_of_another_size_are_refused() -> None:
    transform = whole((70, 64), (64, 64))
    with pytest.raises(ValueError, match=r"picture has shape \(3, 64, 64\).*\(3, 70, 64\)"):
        PasteBack(torch.zeros(3, 64, 64), transform)
    with pytest.raises(ValueError, match=r"frame has shape \(3, 70, 64\); this crop accepts \(3, 64, 64\)"):
        paste_back(torch.zeros(3, 70, 64), torch.zeros(3, 70, 64), transform)


def test_a_crop_beside_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="lies outside the picture"):
        CropTransform((70, 0, 90, 20), (64, 64), (64, 64))


def test_an_exact_crop_has_the_mouth_at_its_place_where_there_is_no_room() -> None:
    face, lips = (10, 30, 90, 118), (40, 90, 70, 104)
    found = exactly_around(face, lips, (128, 100), (64, 64), 0.4)
    left, top, right, bottom = found.box
    assert (right - left, bottom - top) == (158, 158)
    assert (55 - left) / 158 == pytest.approx(LIPS_AT[0], abs=0.01)
    assert (97 - top) / 158 == pytest.approx(LIPS_AT[1], abs=0.01)
    assert found.apply(Image.new("RGB", (100, 128))).size == (64, 64)
