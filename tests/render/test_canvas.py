"""Where the frames of one or two films stand in a picture."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from singer_core.portrait.crop import CropTransform, PasteBack
from singer_core.portrait.detail import scaled
from singer_core.portrait.image import from_tensor, to_tensor
from singer_core.portrait.portrait import Portrait
from singer_core.render.canvas import FINE, bare, capped, in_one_picture, pasted, sharpened, side_by_side

H, W = 90, 200
PICTURE = torch.rand(3, H, W, generator=torch.Generator().manual_seed(0))


def portrait(left: int, top: int = 10, side: int = 64, picture=PICTURE) -> Portrait:
    """A face in the middle of a square crop."""
    region = torch.zeros(64, 64)
    region[16:48, 16:48] = 1
    crop = CropTransform((left, top, left + side, top + side), (64, 64), (H, W))
    return Portrait(torch.zeros(3, 64, 64), region, (), None, crop, picture)


def frame(seed: int) -> torch.Tensor:
    return torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(seed))


def alone(of: Portrait, shown: torch.Tensor) -> torch.Tensor:
    return PasteBack(of.original, of.crop)(shown)


def test_a_film_alone_is_bare_or_pasted():
    one, canvas = frame(1), bare((64, 64))
    assert canvas.size == (64, 64) and torch.equal(canvas.compose([one]), one)
    canvas = pasted(portrait(20))
    assert canvas.size == (H, W) and torch.equal(canvas.compose([one]), alone(portrait(20), one))


@pytest.mark.parametrize(
    ("whole", "height"),
    [
        (pasted(portrait(20, side=60)), 44),
        (in_one_picture(portrait(5), portrait(120)), 44),
        (side_by_side(pasted(portrait(20)), pasted(portrait(120))), 22),
    ],
    ids=["one", "two in one picture", "side by side"],
)
def test_a_large_picture_is_scaled_before_anything_is_pasted_into_it(whole, height, caplog):
    small, frames = capped(whole, W // 2), [frame(1), frame(2)][: whole.films]
    assert small.size == (height, 100) and f"is scaled to 100 x {height}" in caplog.text
    early, late = small.compose(frames), scaled(whole.compose(frames), small.size)
    assert 0 < (early - late).abs().mean() < 0.04


def test_pictures_side_by_side_need_one_height_before_they_are_scaled():
    low = pasted(
        dataclasses.replace(
            portrait(0), crop=CropTransform((0, 0, 64, 64), (64, 64), (H, 80)), original=PICTURE[..., :80]
        )
    )
    assert capped(side_by_side(pasted(portrait(5)), low), 100).size == (32, 100)


def test_a_small_crop_is_shown_as_sharp_as_its_picture():
    """All of a smooth picture with a fine pattern, which a frame of 64 pixels cannot show."""
    squares = torch.arange(FINE) // 3 % 2
    picture = (squares[:, None] ^ squares).float().expand(3, FINE, FINE) * 0.2 + 0.4
    whole = dataclasses.replace(portrait(0), crop=CropTransform((0, 0, FINE, FINE), (64, 64), (FINE, FINE)))
    canvas = sharpened(dataclasses.replace(whole, original=picture))
    seen = to_tensor(whole.crop.apply(from_tensor(picture)))
    assert canvas.size == (FINE, FINE)
    torch.testing.assert_close(canvas.compose([seen]), picture, atol=2 / 255, rtol=0)
    with pytest.raises(ValueError, match="no picture"):
        sharpened(dataclasses.replace(whole, original=None))


def test_a_large_picture_is_scaled_to_its_longest_side_and_this_is_said(caplog):
    large = bare((4032, 3024))
    assert capped(large, 0) is large and capped(large, 4032) is large
    small = capped(large, 1920)
    assert small.size == (1920, 1440) and small.films == 1
    assert "3024 x 4032 pixels is scaled to 1440 x 1920; longest_side = 0 turns this off" in caplog.text
    half = capped(bare((64, 64)), 32)
    expected = torch.nn.functional.interpolate(frame(1)[None], (32, 32), mode="bilinear", antialias=True)[0]
    assert torch.equal(half.compose([frame(1)]), expected)


def test_side_by_side_each_half_is_the_film_alone():
    canvas = side_by_side(bare((64, 64)), pasted_to_64())
    picture = canvas.compose([frame(1), frame(2)])
    assert canvas.size == (64, 64 + 80) and picture.shape == (3, *canvas.size)
    assert torch.equal(picture[..., :64], frame(1))
    assert torch.equal(picture[..., 64:], pasted_to_64().compose([frame(2)]))


def pasted_to_64():
    small = PICTURE[:, :64, :80]
    crop = CropTransform((8, 0, 72, 64), (64, 64), (64, 80))
    return pasted(dataclasses.replace(portrait(0), crop=crop, original=small))


def test_three_stand_side_by_side_too():
    pair = side_by_side(bare((64, 64)), bare((64, 32)))
    picture = side_by_side(pair, bare((64, 64))).compose([frame(1), frame(2)[..., :32], frame(3)])
    assert torch.equal(picture[..., 96:], frame(3)) and torch.equal(picture[..., :64], frame(1))


def test_two_apart_in_one_picture_are_as_each_alone_and_the_rest_is_the_picture():
    first, second = portrait(5), portrait(120)
    picture = in_one_picture(first, second).compose([frame(1), frame(2)])
    outside = torch.ones(H, W, dtype=torch.bool)
    for of, shown in ((first, frame(1)), (second, frame(2))):
        left, top, right, bottom = of.crop.box
        mine = (..., slice(top, bottom), slice(left, right))
        assert torch.equal(picture[mine], alone(of, shown)[mine])
        assert not torch.equal(picture[mine], PICTURE[mine])
        outside[top:bottom, left:right] = False
    assert torch.equal(picture[:, outside], PICTURE[:, outside])


def test_where_crops_overlap_each_has_the_side_of_its_own_face():
    first, second = portrait(40), portrait(80)  # faces at 72 and 112, crops share 80 to 104
    shown = [frame(1), frame(2)]
    picture = in_one_picture(first, second).compose(shown)
    one, other = (alone(of, made) for of, made in zip((first, second), shown, strict=True))
    assert torch.equal(picture[..., :90], one[..., :90])
    assert torch.equal(picture[..., 94:], other[..., 94:])
    low, high = torch.minimum(one, other) - 1e-6, torch.maximum(one, other) + 1e-6
    assert ((picture >= low) & (picture <= high)).all()


def test_the_order_of_the_singers_does_not_matter():
    first, second = portrait(40, top=4), portrait(80, top=20)
    picture = in_one_picture(first, second).compose([frame(1), frame(2)])
    swapped = in_one_picture(second, first).compose([frame(2), frame(1)])
    torch.testing.assert_close(picture, swapped)


def test_a_crop_that_shows_nothing_new_gives_the_picture_back():
    first, second = portrait(40), portrait(80)
    still = [PasteBack(PICTURE, of.crop)._crop for of in (first, second)]
    picture = in_one_picture(first, second).compose(still)
    torch.testing.assert_close(picture, PICTURE, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: side_by_side(bare((64, 64)), bare((32, 64))), "64 and 32 rows cannot stand side by side"),
        (lambda: in_one_picture(portrait(5), portrait(5)), "have the same face. Choose another `face_index`"),
        (lambda: in_one_picture(portrait(5), portrait(9, picture=1 - PICTURE)), "from different pictures"),
        (lambda: pasted(portrait(5, picture=None)), "no picture to be pasted back into"),
    ],
)
def test_what_cannot_be_composed_is_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()
