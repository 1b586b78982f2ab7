from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from verification.fixtures import load_fixture

from singer_core.portrait.identity import COLOUR_IDENTITY_WIDTH, identity_for
from singer_core.portrait.image import Picture, to_tensor
from singer_core.portrait.landmarks import FIVE, FaceLandmarks
from singer_core.portrait.masks import MaskOptions
from singer_core.portrait.portrait import prepare_portrait
from singer_core.portrait.preview import overlay, write_preview

FIXTURE = load_fixture(Path(__file__).parents[1] / "golden" / "o_imageproc.json")


@pytest.mark.parametrize("case", FIXTURE.cases, ids=lambda case: case.name)
def test_squash_prepares_what_the_authors_prepare(case) -> None:
    image = Image.fromarray(case.inputs["image"].numpy())
    portrait = prepare_portrait(image, landmarks=FaceLandmarks(case.inputs["landmarks"]), crop="squash")
    for level, rows in enumerate(portrait.masks):
        for name, row in zip(("full", "face", "lip"), rows, strict=True):
            assert torch.allclose(row[None], case.expected[f"s512/{name}_{level}"], rtol=0, atol=1e-6)
    region = (portrait.region[::4, ::4] * 255).round().to(torch.uint8)
    assert torch.equal(region, case.expected["s512/region_u8_every4"])


def test_squash_pixels_equal_the_reference() -> None:
    case = FIXTURE.cases[0]
    image = Image.fromarray(case.inputs["image"].numpy())
    face = FaceLandmarks(case.inputs["landmarks"])
    portrait = prepare_portrait(image, (128, 128), landmarks=face, crop="squash")
    assert torch.allclose(portrait.image * 2 - 1, case.expected["s128/pixels"], rtol=0, atol=1e-6)


def test_only_squash_keeps_the_authors_edge_cases(make_face) -> None:
    picture, face = Image.new("RGB", (200, 200)), make_face(100, 90, 85)  # its box is larger than the picture
    assert prepare_portrait(picture, landmarks=face, crop="squash").region.mean() < 0.3
    assert prepare_portrait(picture, landmarks=face, crop="center").region.mean() > 0.9
    options = MaskOptions(authors_edge_cases=False)
    assert prepare_portrait(picture, landmarks=face, crop="squash", options=options).region.mean() > 0.9


def test_squash_warns_when_it_stretches(photo, make_face, caplog: pytest.LogCaptureFixture) -> None:
    wide = photo.resize((700, 512))
    prepare_portrait(wide, landmarks=make_face(), crop="squash")
    assert "stretches the picture by 0.73" in caplog.text


def test_tiny_and_turned_faces_are_warned_of(photo, make_face, caplog: pytest.LogCaptureFixture) -> None:
    prepare_portrait(photo, landmarks=make_face())
    assert not caplog.records
    prepare_portrait(photo, landmarks=make_face(half_width=20))
    assert "The face is 52 pixels large" in caplog.text and "turned away" not in caplog.text
    points = make_face().points.clone()
    points[FIVE[2], 0] += 45  # the nose beside the eye
    prepare_portrait(photo, landmarks=FaceLandmarks(points))
    assert "turned away" in caplog.text and "upside down" not in caplog.text
    prepare_portrait(
        photo, landmarks=FaceLandmarks(torch.tensor([photo.width, photo.height]) - make_face().points)
    )
    assert "upside down (180 degrees)" in caplog.text


@pytest.mark.parametrize("size", [(512, 512), (768, 512), (320, 640)])
@pytest.mark.parametrize("crop", ["face", "center"])
def test_other_crops_keep_shapes(make_face, crop: str, size: tuple[int, int]) -> None:
    picture = Image.new("L", (1301, 907), 0)
    ImageDraw.Draw(picture).ellipse((550, 350, 750, 550), fill=255)
    portrait = prepare_portrait(picture, size, landmarks=make_face(650, 450, 160), crop=crop, margin=0.3)
    assert portrait.image.shape == (3, *size)
    rows, columns = torch.nonzero(portrait.image[0] > 0.5, as_tuple=True)
    aspect = (columns.max() - columns.min() + 1) / (rows.max() - rows.min() + 1)
    assert abs(aspect - 1) < 0.02


def test_margin_sets_how_much_of_the_frame_is_face(photo, make_face) -> None:
    for margin in (0.2, 0.4):
        portrait = prepare_portrait(photo, landmarks=make_face(250, 250, 40), margin=margin)
        left, _, right, _ = portrait.crop.box
        assert abs((right - left) / (2 * 1.3 * 40) - (1 + 2 * margin)) < 0.03


def test_masks_follow_the_face_into_the_crop(photo, make_face) -> None:
    portrait = prepare_portrait(photo, landmarks=make_face(140, 380, 30))
    lip = portrait.masks[0][2].view(64, 64)
    rows, columns = torch.nonzero(lip > 0.7, as_tuple=True)
    assert abs(columns.float().mean() - 31.5) < 1.5
    assert 34 < rows.float().mean() < 50


@pytest.mark.parametrize("at", [(0, 0), (511, 0), (5, 440), (300, 465)])
def test_a_face_cut_by_the_border_is_prepared_inside_the_picture(photo, make_face, at) -> None:
    portrait = prepare_portrait(photo, landmarks=make_face(*at, 60))
    left, top, right, bottom = portrait.crop.box
    assert left >= 0 <= top
    assert right <= 512 >= bottom
    assert portrait.region.any()
    assert all(rows.isfinite().all() for rows in portrait.masks)


def test_a_face_larger_than_the_short_side_repeats_edge_pixels(make_face) -> None:
    ramp = np.tile(np.linspace(0, 255, 400).astype(np.uint8)[:, None], (1, 100))
    portrait = prepare_portrait(Image.fromarray(ramp), landmarks=make_face(50, 200, 60), margin=0.0)
    left, top, right, bottom = portrait.crop.box
    assert right - left == bottom - top == 156
    assert left < 0
    assert right > 100
    assert (portrait.image - portrait.image[:, :, :1]).abs().max() <= 1.01 / 255


def test_masks_override_landmarks(photo, make_face) -> None:
    face, lip = torch.zeros(512, 512), torch.zeros(512, 512)
    face[100:300, 50:250], lip[240:280, 100:200] = 1, 1
    portrait = prepare_portrait(photo, landmarks=make_face(), face_mask=face, lip_mask=lip, crop="squash")
    assert torch.equal(portrait.region, face)
    weights = portrait.masks[0][2].view(64, 64)
    assert np.unravel_index(int(weights.argmax()), (64, 64))[0] in range(29, 36)


def test_masks_alone_are_enough_and_any_form_of_them(photo) -> None:
    face, lip = np.zeros((512, 512), np.uint8), np.zeros((512, 512), np.uint8)
    face[100:300, 50:250], lip[240:280, 100:200] = 255, 255
    expected = prepare_portrait(photo, face_mask=face, lip_mask=lip)
    forms = [
        (Image.fromarray(face), Image.fromarray(lip)),
        (torch.from_numpy(face)[None].float() / 255, torch.from_numpy(lip)[None].float() / 255),
        (face > 0, lip > 0),
    ]
    for one, other in forms:
        portrait = prepare_portrait(photo, face_mask=one, lip_mask=other)
        assert torch.equal(portrait.region, expected.region)
        assert all(torch.equal(a, b) for a, b in zip(portrait.masks, expected.masks, strict=True))


def test_one_mask_is_completed_by_landmarks(photo, make_face) -> None:
    lip = torch.zeros(512, 512)
    lip[140:160, 200:250] = 1
    plain = prepare_portrait(photo, landmarks=make_face())
    portrait = prepare_portrait(photo, landmarks=make_face(), lip_mask=lip)
    assert torch.equal(portrait.region, plain.region)
    assert not torch.equal(portrait.masks[0][2], plain.masks[0][2])


def test_a_mask_of_another_resolution_is_scaled(photo) -> None:
    face, lip = torch.zeros(256, 256), torch.zeros(256, 256)
    face[50:150, 25:125], lip[120:140, 50:100] = 1, 1
    small = prepare_portrait(photo, face_mask=face, lip_mask=lip, crop="squash")
    doubled = [mask.repeat_interleave(2, 0).repeat_interleave(2, 1) for mask in (face, lip)]
    large = prepare_portrait(photo, face_mask=doubled[0], lip_mask=doubled[1], crop="squash")
    assert (small.region - large.region).abs().mean() < 0.01


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(512, 512), "`face_mask` is empty"),
        (torch.ones(512, 300), "`face_mask` has 300 x 512 pixels and the picture 512 x 512"),
        (torch.full((512, 512), float("nan")), "`face_mask` holds NaN"),
        (torch.zeros(0, 0), r"`face_mask` has shape \(0, 0\)"),
        (torch.ones(2, 512, 512), r"`face_mask` has shape \(2, 512, 512\)"),
    ],
)
def test_odd_masks_are_refused(photo, make_face, mask: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_portrait(photo, landmarks=make_face(), face_mask=mask)


def test_no_face_is_an_error_with_remedies(photo, make_face) -> None:
    with pytest.raises(ValueError, match="Found no face"):
        prepare_portrait(photo, landmarks=[])
    grey = Image.new("RGB", (300, 200), (128, 128, 128))
    for masks in ({}, {"face_mask": torch.ones(200, 300)}):
        with pytest.raises(ValueError, match=r"Found no face.*`face_mask` and `lip_mask`"):
            prepare_portrait(grey, **masks)


def test_several_faces_need_an_index(photo, make_face) -> None:
    faces = [make_face(), make_face(300, 300, 30), make_face(100, 400, 20)]
    with pytest.raises(ValueError, match=r"Found 3 faces.*Set `face_index`"):
        prepare_portrait(photo, landmarks=faces)
    chosen = prepare_portrait(photo, landmarks=faces, face_index=1)
    assert chosen.crop == prepare_portrait(photo, landmarks=faces[1]).crop


def test_a_face_outside_the_picture_or_the_crop_is_refused(make_face) -> None:
    wide = Image.new("RGB", (900, 300))
    with pytest.raises(ValueError, match="lies outside the picture of 900 x 300"):
        prepare_portrait(wide, landmarks=make_face(1200, 100, 40))
    with pytest.raises(ValueError, match=r"The mouth is not in the crop \(300, 0, 600, 300\).*crop='face'"):
        prepare_portrait(wide, landmarks=make_face(100, 150, 40), crop="center")
    mask = torch.zeros(300, 900)
    mask[100:150, 50:100] = 1
    with pytest.raises(ValueError, match=r"The face is not in the crop.*crop='face'"):
        prepare_portrait(wide, face_mask=mask, lip_mask=mask, crop="center")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (500, 512)}, r"`size` is \(500, 512\); multiples of 64"),
        ({"size": (0, 64)}, "multiples of 64"),
        ({"crop": "stretch"}, "`crop` is 'stretch'"),
        ({"margin": -0.1}, "`margin` is -0.1"),
        ({"identity": torch.zeros(1, 512)}, "`identity` has shape"),
    ],
)
def test_arguments_are_checked(photo, make_face, options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_portrait(photo, landmarks=make_face(), **options)


def test_identity_is_kept_as_given(photo, make_face) -> None:
    identity = torch.arange(512.0)
    kept = prepare_portrait(photo, landmarks=make_face(), identity=identity).identity
    assert kept is not None
    assert torch.equal(kept, identity)


def test_a_network_that_would_read_an_identity_says_so_where_there_is_none(photo, make_face, caplog) -> None:
    portrait = prepare_portrait(photo, landmarks=make_face())
    with caplog.at_level(logging.WARNING):
        assert not identity_for(portrait, 512).any()
        assert "No identity" in caplog.text
        caplog.clear()
        identity_for(portrait, COLOUR_IDENTITY_WIDTH)
        assert not caplog.records


def test_the_original_and_its_alpha_are_kept(photo, make_face) -> None:
    alpha = Image.linear_gradient("L").resize(photo.size)
    portrait = prepare_portrait(Picture(photo, alpha), landmarks=make_face())
    assert portrait.original is not None
    assert portrait.alpha is not None
    assert torch.equal(portrait.original, to_tensor(photo))
    assert torch.equal(portrait.alpha, to_tensor(alpha)[0])


def test_a_tensor_is_a_picture(photo, make_face) -> None:
    by_tensor = prepare_portrait(to_tensor(photo), landmarks=make_face())
    assert torch.equal(by_tensor.image, prepare_portrait(photo, landmarks=make_face()).image)


def test_lip_height_reaches_the_lip_mask(photo, make_face) -> None:
    plain = prepare_portrait(photo, landmarks=make_face())
    tall = prepare_portrait(photo, landmarks=make_face(), options=MaskOptions(lip_height=1.5))
    assert tall.masks[0][2].mean() > 1.2 * plain.masks[0][2].mean()


def test_preview_writes_what_was_found(tmp_path: Path, photo, make_face) -> None:
    portrait = prepare_portrait(photo, (384, 256), landmarks=make_face(), identity=torch.ones(4))
    paths = write_preview(portrait, tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in paths)
    summary = json.loads((tmp_path / "new" / "portrait.json").read_text())
    assert summary["crop"] == list(portrait.crop.box)
    assert summary["identity"] == [1.0] * 4
    assert Image.open(tmp_path / "new" / "masks.png").size == (3 * 32, 4 * 48)
    panel = overlay(portrait)
    assert panel.size == (384 + 256, 384)
    assert overlay(replace(portrait, original=None)).size == (256, 384)
