"""Options: their ranges, and the three modes as docs/modes.md describes them."""

from __future__ import annotations

import dataclasses

import pytest

from singer_core.settings import ENHANCED, MODES, OFFICIAL, PAPER, BandGains, SingerOptions


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 0}, "`steps` is 0; accepted: at least 1"),
        ({"steps": 1001}, "`steps` is 1001; accepted: at most 1000"),
        ({"reference_scale": -0.1}, "`reference_scale` is -0.1; accepted: 0 to 100"),
        ({"audio_scale": float("nan")}, "`audio_scale` is nan; accepted: 0 to 100"),
        ({"audio_scale": float("inf")}, "`audio_scale` is inf; accepted: 0 to 100"),
        ({"guidance_rescale": 1.01}, "`guidance_rescale` is 1.01; accepted: 0 to 1"),
        ({"clip_frames": 15}, "`clip_frames` is 15; accepted: an even number"),
        ({"clip_frames": 0}, "`clip_frames` is 0; accepted: an even number"),
        ({"motion_frames": 0}, "`motion_frames` is 0; accepted: at least 1"),
        ({"clip_frames": 32}, r"`clip_frames \+ motion_frames` is 34; accepted: at most 32"),
        ({"overlap": -1}, "`overlap` is -1; accepted: 0 to clip_frames - motion_frames"),
        ({"overlap": 15}, "`overlap` is 15; accepted: 0 to clip_frames - motion_frames"),
        ({"noise_schedule": "cosine"}, "`noise_schedule` is cosine; accepted: linear, scaled_linear"),
        ({"msm_input": "on"}, "`msm_input` is on; accepted: initial_noise, every_step"),
        ({"msm_scale": "mean"}, "`msm_scale` is mean; accepted: sum, trained_length"),
        ({"reference_rows": "all"}, "`reference_rows` is all; accepted: alternating, portrait"),
        ({"clip_noise": "old"}, "`clip_noise` is old; accepted: fresh, shared"),
        ({"hold_colours": -0.1}, "`hold_colours` is -0.1; accepted: 0 to 1"),
        ({"reanchor": 1.1}, "`reanchor` is 1.1; accepted: 0 to 1"),
        ({"restart_beyond": -1.0}, "`restart_beyond` is -1.0; accepted: 0 "),
        ({"carry": "nothing"}, "`carry` is nothing; accepted: pixels, latents"),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_is_accepted(change, said):
    with pytest.raises(ValueError, match=said):
        OFFICIAL.but(**change)


@pytest.mark.parametrize("wavelet", ["morl", "Haar", "", "db39"])
def test_a_basis_that_is_no_discrete_wavelet_is_refused_before_work_starts(wavelet):
    with pytest.raises(ValueError, match="wavelet"):
        OFFICIAL.but(wavelet=wavelet)


@pytest.mark.parametrize("field", ["sfm_strength", "band_gains", "sfm_gains"])
def test_a_factor_that_is_not_a_number_is_refused(field):
    nan = float("nan")
    with pytest.raises(ValueError, match=field):
        OFFICIAL.but(**{field: nan if field == "sfm_strength" else BandGains(hl=nan)})


@pytest.mark.parametrize(
    "change",
    [
        {"clip_frames": 30, "motion_frames": 2},
        {"clip_frames": 2, "overlap": 0},
        {"clip_frames": 16, "overlap": 14},
        {"steps": 1000},
        {"audio_scale": 0.0, "reference_scale": 100.0},
        {"sfm_strength": 0.0, "band_gains": BandGains(0, 0, 0, 0)},
    ],
)
def test_the_ends_of_the_ranges_are_accepted(change):
    assert (
        dataclasses.asdict(OFFICIAL.but(**change)).items()
        >= {k: dataclasses.asdict(v) if isinstance(v, BandGains) else v for k, v in change.items()}.items()
    )


def test_options_are_values():
    assert SingerOptions() == OFFICIAL
    assert hash(OFFICIAL.but(steps=7)) == hash(SingerOptions(steps=7))
    with pytest.raises(dataclasses.FrozenInstanceError):
        OFFICIAL.steps = 3


def test_band_gains_come_in_the_order_of_the_checkpoints():
    assert list(BandGains(ll=1, lh=2, hl=3, hh=4)) == [1, 2, 3, 4]
    assert BandGains().neutral
    assert not BandGains(hl=1.1).neutral


def test_official_is_the_authors_script():
    assert MODES["official"] is OFFICIAL
    expected = {
        "steps": 40,
        "reference_scale": 3.5,
        "audio_scale": 3.5,
        "guidance_rescale": 0.0,
        "noise_schedule": "linear",
        "msm_input": "initial_noise",
        "msm_scale": "sum",
        "reference_rows": "alternating",
        "round_reference": True,
        "brighten_bright": True,
        "clip_frames": 16,
        "motion_frames": 2,
        "carry": "pixels",
        "overlap": 0,
        "clip_noise": "fresh",
        "hold_colours": 0.0,
        "reanchor": 0.0,
        "restart_beyond": 0.0,
        "wavelet": "haar",
        "sfm_strength": 1.0,
    }
    assert {name: getattr(OFFICIAL, name) for name in expected} == expected
    assert OFFICIAL.band_gains.neutral
    assert OFFICIAL.sfm_gains.neutral


def differences(mode: SingerOptions, base: SingerOptions) -> dict[str, object]:
    fields = (field.name for field in dataclasses.fields(SingerOptions))
    return {name: getattr(mode, name) for name in fields if getattr(mode, name) != getattr(base, name)}


def test_paper_differs_from_official_as_the_table_of_modes_says():
    assert differences(PAPER, OFFICIAL) == {
        "noise_schedule": "scaled_linear",
        "msm_input": "every_step",
        "msm_scale": "trained_length",
        "reference_rows": "portrait",
        "round_reference": False,
        "brighten_bright": False,
    }


def test_enhanced_differs_from_paper_as_the_table_of_modes_says():
    changed = differences(ENHANCED, PAPER)
    assert changed.pop("overlap") > 0
    assert changed == {
        "msm_input": "expected",
        "guidance_rescale": 0.7,
        "carry": "latents",
        "reanchor": 1.0,
        "restart_beyond": 1.0,
    }


@pytest.mark.parametrize(
    ("scales", "guided"), [((1, 1), False), ((3.5, 3.5), True), ((1, 2), True), ((2, 1), True)]
)
def test_both_scales_at_one_mean_no_guidance(scales, guided):
    assert OFFICIAL.but(reference_scale=scales[0], audio_scale=scales[1]).guided is guided
