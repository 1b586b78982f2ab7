from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from torch.nn import functional as F
from verification.fixtures import Case, load_fixture
from verification.seeing import run_imageproc

from singer_core.portrait import masks as m
from singer_core.portrait.landmarks import FaceLandmarks

GOLDEN = Path(__file__).parents[1] / "golden" / "o_imageproc.json"
FIXTURE = load_fixture(GOLDEN)


@pytest.mark.parametrize("case", FIXTURE.cases, ids=lambda case: case.name)
def test_every_stage_equals_the_reference_exactly(case: Case) -> None:
    outputs = run_imageproc(case)
    assert set(outputs) == set(case.expected)
    for name, expected in case.expected.items():
        assert outputs[name].dtype == expected.dtype, name
        assert outputs[name].shape == expected.shape, name
        assert torch.allclose(outputs[name].float(), expected.float(), rtol=0, atol=2e-7), name


def test_a_wrong_ratio_does_not_pass_the_reference() -> None:
    case = replace(FIXTURE.cases[0], config={**FIXTURE.cases[0].config, "lip_expand_ratio": 1.8})
    difference = run_imageproc(case)["png/sep_lip"].int() - case.expected["png/sep_lip"].int()
    assert difference.abs().max() > 10


@pytest.mark.parametrize("kernel", [1, 3, 31, 51, 127])
def test_gaussian_weights_sum_to_one_and_follow_the_bell(kernel: int) -> None:
    weights = np.array(m.gaussian_kernel(kernel))
    sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8
    bell = np.exp(-((np.arange(kernel) - kernel // 2) ** 2) / (2 * sigma**2))
    assert weights.sum() == 256
    assert np.array_equal(weights, weights[::-1])
    tails = np.delete(np.abs(weights - 256 * bell / bell.sum()), kernel // 2)
    assert tails.max(initial=0) <= 1


@pytest.mark.parametrize("shape", [(64, 64), (20, 64), (5, 9)])
def test_blur_equals_scipy_with_mirrored_borders(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    weights = m.gaussian_kernel(31)
    exact = mask.astype(np.int64)
    for axis in (0, 1):
        exact = correlate1d(exact, weights, axis=axis, mode="mirror")
    assert np.array_equal(m.gaussian(mask, 31), (exact + 32768) >> 16)


@pytest.mark.parametrize("size", [(64, 64), (32, 200), (400, 50)])
def test_resize_is_linear_without_antialiasing(size: tuple[int, int]) -> None:
    mask = np.random.default_rng(2).integers(0, 256, (150, 110)).astype(np.uint8)
    tensor = torch.from_numpy(mask)[None, None].float()
    oracle = F.interpolate(tensor, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()
    assert np.abs(m.resize_linear(mask, size) - oracle).max() <= 1


def test_boxes_scale_about_their_middle() -> None:
    assert m.expand_box((40, 60, 60, 100), 2.0, (200, 200)) == (30, 40, 70, 120)


@pytest.mark.parametrize(
    ("box", "expected"),
    [((2, 90, 22, 130), (0, 70, 40, 150)), ((175, 170, 195, 196), (160, 148, 200, 200))],
)
def test_boxes_that_leave_the_picture_are_shifted_back_whole(box: m.Box, expected: m.Box) -> None:
    assert m.expand_box(box, 2.0, (200, 200)) == expected


def test_a_box_larger_than_the_picture_is_clipped_or_wraps() -> None:
    box = m.expand_box((10, 10, 90, 90), 1.5, (100, 100))
    assert box == (-20, -20, 100, 100)
    assert (m.draw_box(box, (100, 100)) == 255).all()
    wrapped = m.draw_box(box, (100, 100), wrap=True)
    assert wrapped[80:, 80:].all()
    assert not wrapped[:80].any()


def test_lip_height_grows_the_box_downwards_only(make_face) -> None:
    face: FaceLandmarks = make_face()
    plain = m.boxes_of(face.silhouette, face.lips, (512, 512), m.MaskOptions())[1]
    tall = m.boxes_of(face.silhouette, face.lips, (512, 512), m.MaskOptions(lip_height=2.0))[1]
    mouth = m.bounding_box(face.lips)
    assert tall[:3] == plain[:3]
    assert tall[3] - tall[1] == 2 * (mouth[2] - mouth[0]) > plain[3] - plain[1]
    low = m.boxes_of(face.silhouette, face.lips, (512, 512), m.MaskOptions(lip_height=0.1))[1]
    assert low == plain


def test_full_face_and_lip_share_the_frame(make_face) -> None:
    face = make_face()
    options = m.MaskOptions()
    stages = m.separate(*m.hard_masks(face.silhouette, face.lips, (512, 512), options), options)
    full, skin, lip = m.attention_masks(stages, (512, 512))[0]
    inside = torch.from_numpy(stages.separate_lip <= stages.face_blur).flatten()
    total = full + skin + lip
    assert (total[inside] - 1).abs().max() <= 1.01 / 255
    assert (total[~inside] > 1 - 1.01 / 255).all()
    assert skin[lip == 1].max() <= 0.1


@pytest.mark.parametrize("size", [(512, 512), (768, 512), (64, 320), (1024, 1024)])
def test_levels_halve_and_agree(make_face, size: tuple[int, int]) -> None:
    face = make_face()
    options = m.MaskOptions()
    stages = m.separate(*m.hard_masks(face.silhouette, face.lips, (512, 512), options), options)
    levels = m.attention_masks(stages, size)
    assert [tuple(level.shape) for level in levels] == [
        (3, (size[0] // 8 >> i) * (size[1] // 8 >> i)) for i in range(4)
    ]
    for level in levels:
        assert level.dtype == torch.float32
        assert 0 <= level.min() <= level.max() <= 1
        assert (level.mean(dim=1) - levels[0].mean(dim=1)).abs().max() < 0.01
    assert m.region_map(stages.face, size).shape == size


def test_a_mask_that_fills_the_picture_stays_full_but_not_for_the_authors() -> None:
    everything, lip = np.full((80, 80), 255, np.uint8), np.zeros((80, 80), np.uint8)
    lip[30:50, 30:50] = 255
    assert (m.separate(everything, lip, m.MaskOptions()).separate_full == 0).all()
    authors = m.separate(everything, lip, m.MaskOptions(authors_edge_cases=True))
    assert (authors.separate_full == 255).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"face_ratio": 0.1}, "`face_ratio` is 0.1"),
        ({"lip_ratio": float("nan")}, "`lip_ratio` is nan"),
        ({"lip_height": -1.0}, "`lip_height` is -1"),
    ],
)
def test_options_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        m.MaskOptions(**options)
