"""The authors' numbers: every fixture in tests/golden, through the library, at its stated tolerance."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from singer_core.network.conditions import CONDITIONAL, UNCONDITIONAL, AudioTokens, Branch, ClipConditions
from singer_core.network.layers import sinusoidal_positions
from verification.fixtures import load_fixture, load_upcast
from verification.networks import fixture_network
from verification.runner import excepted, verify

GOLDEN = Path(__file__).parents[1] / "golden"
FIXTURES = {
    "a_dwt": 30,
    "b_msm": 12,
    "c_sfm": 3,
    "d_audioproj": 4,
    "e_imageproj": 4,
    "f_facelocator": 2,
    "g_refblock": 6,
    "h_motion": 6,
    "i_audioblock": 4,
    "j_refunet": 50,
    "k_denoise": 7,
    "l_pipeline": 20,
    "m_ddim": 70,
    "n_wav2vec": 24,
    "o_imageproc": 71,
}


@pytest.fixture(scope="module")
def rows():
    return list(verify(GOLDEN))


@pytest.mark.parametrize("fixture", FIXTURES)
def test_every_tensor_of_the_fixture_passes(rows, fixture):
    mine = [row for row in rows if row.fixture == fixture]
    assert not [row for row in mine if row.status not in ("pass", "excepted")]
    assert sum(row.status == "pass" for row in mine) == FIXTURES[fixture]


def test_only_diagnostics_of_the_denoiser_are_excepted(rows):
    names = [(row.fixture, row.tensor) for row in rows if row.status == "excepted"]
    assert Counter(fixture for fixture, _ in names) == {"k_denoise": 40}
    assert all(excepted(tensor) for _, tensor in names)
    assert {row.fixture for row in rows} == set(FIXTURES)


def test_positions_of_the_motion_modules_are_those_of_the_reference_weights():
    weights = load_upcast(GOLDEN / "weights_tiny-01of02.safetensors")
    weights |= load_upcast(GOLDEN / "weights_tiny-02of02.safetensors")
    tables = [value for key, value in weights.items() if key.endswith(".pe")]
    assert len(tables) >= 20
    for table in tables:
        torch.testing.assert_close(sinusoidal_positions(table.shape[-1]), table, atol=2e-6, rtol=0)


class Denoiser:
    """The guided prediction of fixture k_denoise at t = 499, with one thing changed."""

    def __init__(self) -> None:
        self.case = load_fixture(GOLDEN / "k_denoise.json").cases[0]
        self.network = fixture_network(self.case)
        self.branches: tuple[Branch, ...] = (UNCONDITIONAL, CONDITIONAL)

    def moved(self, dtype=torch.float32, sfm_strength=1.0, weights=None, **inputs) -> float:
        """max |prediction - reference| / max |reference|, the unit of sensitivity.json."""
        network = self.network if dtype == torch.float32 else fixture_network(self.case).to(dtype)
        given = {**self.case.inputs, **inputs}
        given = {k: v.to(dtype) if v.is_floating_point() else v for k, v in given.items()}
        tokens = given["ctx"][:, None]
        masks = [torch.stack([given[f"{name}_{i}"] for name in ("full", "face", "lip")]) for i in range(4)]
        with torch.no_grad():
            clip = ClipConditions(
                branches=self.branches,
                frames=4,
                audio=AudioTokens(given["audio"][0]),
                masks=tuple(masks),
                weights=torch.tensor([weights or self.case.config["motion_scale"]]),
                face=network.adapter.face_locator((given["region"].to(dtype) / 255).expand(1, 3, -1, -1)),
                reference=network.reference_features(
                    given["ref_latents"][None], tokens, rounded_to=torch.float16
                ),
                sfm_strength=sfm_strength,
            )
            got = network(given["latents"][0].transpose(0, 1), 499, tokens, clip)
        assert got.dtype == dtype
        got = got.float().unflatten(0, (2, 4)).transpose(1, 2)
        reference = self.case.expected["cfg/t499"]
        return ((got - reference).abs().max() / reference.abs().max()).item()

    def zeros(self, *names: str) -> dict[str, torch.Tensor]:
        return {key: torch.zeros_like(value) for key, value in self.case.inputs.items() if key in names}


@pytest.fixture(scope="module")
def denoiser():
    return Denoiser()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_stays_within_two_percent(denoiser, dtype):
    assert denoiser.moved(dtype) < 2e-2


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ("audio zero", lambda d: d.zeros("audio")),
        ("lip mask zero", lambda d: d.zeros(*(f"lip_{level}" for level in range(4)))),
        ("motion_scale ignored", lambda d: {"weights": (1.0, 1.0, 1.0)}),
        ("SFM bypassed", lambda d: {"sfm_strength": 0.0}),
    ],
)
def test_a_changed_path_moves_the_prediction_as_far_as_it_moves_the_authors(denoiser, change, options):
    expected = json.loads((GOLDEN / "sensitivity.json").read_text())[change]
    assert denoiser.moved(**options(denoiser)) == pytest.approx(expected, rel=1e-3)
