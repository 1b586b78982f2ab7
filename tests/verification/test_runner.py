"""The runner: what it fails, what it admits it could not check, what it excepts, and fixtures never seen."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from verify import main

from verification.runner import verify

GOLDEN = Path(__file__).parents[1] / "golden"


def copy_fixture(name: str, folder: Path) -> tuple[Path, Path]:
    for ending in (".json", ".safetensors"):
        shutil.copy(GOLDEN / (name + ending), folder)
    return folder / f"{name}.json", folder / f"{name}.safetensors"


def edit_tensors(path: Path, edit) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def statuses(folder: Path) -> dict[str, str]:
    return {f"{row.case}/{row.tensor}": row.status for row in verify(folder)}


def exit_status(folder: Path, *options: str) -> int:
    return main([str(folder), *options])


def write_fixture(folder: Path, name: str, run: str, cases: dict, tensors: dict) -> None:
    tolerance = {"atol": 1e-5, "rtol": 1e-4}
    meta = {"official_run": run, "weights_from": None, "cases": cases, "tolerance": tolerance}
    (folder / f"{name}.json").write_text(json.dumps(meta))
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / f"{name}.safetensors")


def test_a_folder_that_passes_has_exit_status_0(tmp_path, capsys):
    copy_fixture("c_sfm", tmp_path)
    assert exit_status(tmp_path) == 0
    assert "3 pass" in capsys.readouterr().out


def test_one_wrong_value_fails_and_nothing_else(tmp_path, capsys):
    _, tensors = copy_fixture("c_sfm", tmp_path)

    def corrupt(state):
        state["case1/out/out"].view(-1)[7] += 0.01

    edit_tensors(tensors, corrupt)
    assert statuses(tmp_path) == {"case0/out": "pass", "case1/out": "FAIL", "case2/out": "pass"}
    assert exit_status(tmp_path, "--failed") == 1
    printed = capsys.readouterr().out
    assert "case1" in printed
    assert "case0" not in printed


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_fails(tmp_path, value):
    _, tensors = copy_fixture("c_sfm", tmp_path)
    edit_tensors(tensors, lambda state: state["case0/in/x"].view(-1).__setitem__(0, value))
    assert statuses(tmp_path)["case0/out"] == "FAIL"


def test_another_shape_fails(tmp_path):
    _, tensors = copy_fixture("c_sfm", tmp_path)
    edit_tensors(tensors, lambda s: s.__setitem__("case0/out/out", s["case0/out/out"][..., :1].clone()))
    [row] = [row for row in verify(tmp_path) if row.case == "case0"]
    assert row.status == "FAIL"
    assert "shape (" in row.note


def test_an_error_just_above_the_tolerance_fails_and_just_below_passes(tmp_path):
    for factor, expected in ((0.9, "pass"), (1.1, "FAIL")):
        folder = tmp_path / expected
        folder.mkdir()
        x = torch.linspace(-2, 2, 32).reshape(1, 1, 4, 8)
        wavelet = {"case0/in/x": x, **{f"case0/in/s{i}": torch.zeros(1, 1, 2, 4) for i in range(4)}}
        shifted = x + factor * (1e-5 + 1e-4 * x.abs())
        cases = {"case0": {}}
        write_fixture(folder, "x", "run_dwt", cases, {**wavelet, "case0/out/roundtrip": shifted})
        assert statuses(folder) == {"case0/roundtrip": expected}


def test_an_output_that_no_check_computes_is_not_checked(tmp_path):
    _, tensors = copy_fixture("c_sfm", tmp_path)
    edit_tensors(tensors, lambda state: state.update({"case0/out/unheard_of": torch.ones(2)}))
    assert statuses(tmp_path)["case0/unheard_of"] == "NOT CHECKED"
    assert exit_status(tmp_path) == 1


def test_an_unknown_reference_run_is_not_checked(tmp_path):
    description, _ = copy_fixture("c_sfm", tmp_path)
    meta = json.loads(description.read_text())
    description.write_text(json.dumps({**meta, "official_run": "run_magic"}))
    assert set(statuses(tmp_path).values()) == {"NOT CHECKED"}
    assert "run_magic" in next(iter(verify(tmp_path))).note
    assert exit_status(tmp_path) == 1


def test_a_missing_tensor_file_is_not_checked(tmp_path):
    _, tensors = copy_fixture("c_sfm", tmp_path)
    copy_fixture("e_imageproj", tmp_path)
    tensors.unlink()
    found = {row.fixture: row.status for row in verify(tmp_path)}
    assert found == {"c_sfm": "NOT CHECKED", "e_imageproj": "pass"}
    assert exit_status(tmp_path) == 1


def test_a_truncated_tensor_file_is_not_checked(tmp_path):
    _, tensors = copy_fixture("c_sfm", tmp_path)
    copy_fixture("e_imageproj", tmp_path)
    tensors.write_bytes(tensors.read_bytes()[:-100])
    found = {row.fixture: row.status for row in verify(tmp_path)}
    assert found == {"c_sfm": "NOT CHECKED", "e_imageproj": "pass"}


def test_a_missing_input_or_weight_is_not_checked(tmp_path):
    _, tensors = copy_fixture("c_sfm", tmp_path)
    edit_tensors(tensors, lambda state: state.pop("case0/w/fc.0.weight"))
    edit_tensors(tensors, lambda state: state.pop("case1/in/x"))
    assert statuses(tmp_path) == {
        "case0/out": "NOT CHECKED",
        "case1/out": "NOT CHECKED",
        "case2/out": "pass",
    }


def test_missing_weight_files_of_a_network_are_not_checked(tmp_path):
    copy_fixture("j_refunet", tmp_path)
    rows = list(verify(tmp_path))
    assert len(rows) == 50
    assert {row.status for row in rows} == {"NOT CHECKED"}


def test_damaged_weight_files_of_a_network_are_not_checked(tmp_path):
    copy_fixture("j_refunet", tmp_path)
    for shard in GOLDEN.glob("weights_tiny-*.safetensors"):
        (tmp_path / shard.name).write_bytes(shard.read_bytes()[:-100])
    assert {row.status for row in verify(tmp_path)} == {"NOT CHECKED"}


def test_a_case_without_outputs_is_not_checked(tmp_path):
    _, tensors = copy_fixture("c_sfm", tmp_path)
    edit_tensors(tensors, lambda state: state.pop("case0/out/out"))
    assert exit_status(tmp_path) == 1


def test_a_tensor_file_that_nothing_describes_is_not_checked(tmp_path):
    copy_fixture("c_sfm", tmp_path)
    shutil.copy(GOLDEN / "e_imageproj.safetensors", tmp_path)
    assert exit_status(tmp_path) == 1
    assert [r.fixture for r in verify(tmp_path) if r.status == "NOT CHECKED"] == ["e_imageproj"]


def test_a_damaged_description_is_not_checked(tmp_path):
    description, _ = copy_fixture("c_sfm", tmp_path)
    copy_fixture("e_imageproj", tmp_path)
    description.write_text(description.read_text()[:-40])
    assert exit_status(tmp_path) == 1


def test_other_code_paths_and_diagnostics_are_excepted_and_listed(tmp_path, capsys):
    _, tensors = copy_fixture("c_sfm", tmp_path)
    extra = {"case0/out/NOT_OFFICIAL_eval": torch.ones(1), "case0/out/debug/x/stats": torch.ones(3)}
    edit_tensors(tensors, lambda state: state.update(extra))
    found = statuses(tmp_path)
    assert found["case0/NOT_OFFICIAL_eval"] == found["case0/debug/x/stats"] == "excepted"
    assert exit_status(tmp_path) == 0
    assert "NOT_OFFICIAL_eval" in capsys.readouterr().out


def test_a_folder_that_is_missing_or_empty_is_an_error(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="no folder"):
        list(verify(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="holds no fixture"):
        list(verify(tmp_path))
    assert exit_status(tmp_path / "nothing") == 2
    assert "no folder" in capsys.readouterr().err


def test_rows_can_be_written_as_json(tmp_path, capsys):
    folder = tmp_path / "fixtures"
    folder.mkdir()
    copy_fixture("c_sfm", folder)
    exit_status(folder, "--json", str(tmp_path / "rows.json"))
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["case"], row["status"]) for row in rows] == [(f"case{i}", "pass") for i in range(3)]
    assert all(row["error"] <= 1 for row in rows)


# Fixtures of other seeds and widths, made here from the formulas of docs/numerics.md.


def haar(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
    c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    return (a + b + c + d) / 2, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2


def unhaar(ll, lh, hl, hh) -> torch.Tensor:
    x = ll.new_empty(*ll.shape[:-2], 2 * ll.shape[-2], 2 * ll.shape[-1])
    x[..., 0::2, 0::2] = (ll + lh + hl + hh) / 2
    x[..., 0::2, 1::2] = (ll - lh + hl - hh) / 2
    x[..., 1::2, 0::2] = (ll + lh - hl - hh) / 2
    x[..., 1::2, 1::2] = (ll - lh - hl + hh) / 2
    return x


def noise(*shape: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("channels", "width", "height", "seed"), [(6, 6, 4, 1), (20, 10, 8, 2), (3, 2, 6, 3)]
)
def test_an_sfm_fixture_of_other_widths_passes(tmp_path, channels, width, height, seed):
    x = noise(2, channels, 3, height, width, seed=seed)
    weight = noise(4, 1, channels, width // 2, width // 2, seed=seed + 50)
    first, last = noise(width // 2, width, seed=seed + 60), noise(width, width // 2, seed=seed + 70)
    gain = torch.einsum("nzcxy->nc", weight)
    bands = [g[None, :, None, None, None] * band for g, band in zip(gain, haar(x), strict=True)]
    gate = torch.einsum("uv,...v->...u", last, torch.einsum("vw,...w->...v", first, x).clamp_min(0))
    tensors = {
        "odd/w/weight": weight,
        "odd/w/fc.0.weight": first,
        "odd/w/fc.2.weight": last,
        "odd/in/x": x,
        "odd/out/out": unhaar(*bands) / (1 + torch.exp(-gate)),
    }
    write_fixture(tmp_path, "other", "run_sfm", {"odd": {}}, tensors)
    assert statuses(tmp_path) == {"odd/out": "pass"}


@pytest.mark.parametrize(("kernel", "frames", "seed"), [((3, 4, 5, 8, 12), 6, 1), ((1, 4, 1, 24, 4), 2, 2)])
def test_an_msm_fixture_of_other_sizes_passes(tmp_path, kernel, frames, seed):
    batch, (h, w) = 2, kernel[-2:]
    latents = noise(batch, 4, frames, h, w, seed=seed)
    audio = noise(batch, frames, 6, 10, seed=seed + 1)
    weight = noise(*kernel, seed=seed + 2, scale=0.1)
    first, last = noise(2, 4, seed=seed + 3), noise(1, 2, seed=seed + 4)
    weighed = torch.einsum("bcfhw,dcehw->bcfhw", latents, weight)
    sums = torch.stack([part.sum((-2, -1)) for part in weighed.chunk(4, 3)])  # n b c f
    hidden = torch.einsum("kc,nbcf->nbkf", first, sums).clamp_min(0)
    gains = (1 / (1 + torch.exp(-torch.einsum("ok,nbkf->nbf", last, hidden)))).sum(-1)
    plane = audio.permute(0, 3, 2, 1)
    bands = [g[:, None, None, None] * band for g, band in zip(gains, haar(plane), strict=True)]
    tensors = {
        "x/w/dct_layer.weight": weight,
        "x/w/fc.0.weight": first,
        "x/w/fc.2.weight": last,
        "x/in/x": latents,
        "x/in/audio": audio,
        "x/out/dct_sums": sums,
        "x/out/gate": gains,
        "x/out/out": unhaar(*bands).permute(0, 3, 2, 1),
    }
    write_fixture(tmp_path, "other", "run_msm", {"x": {}}, tensors)
    assert statuses(tmp_path) == {"x/dct_sums": "pass", "x/gate": "pass", "x/out": "pass"}


@pytest.mark.parametrize(("layers", "width", "tokens", "seed"), [(7, 5, 3, 1), (1, 4, 12, 2)])
def test_an_audio_projection_fixture_of_other_widths_passes(tmp_path, layers, width, tokens, seed):
    song, hidden, out = 9, 11, 14
    emb = noise(song, layers, width, seed=seed)
    sizes = {
        "proj1": (hidden, 5 * layers * width),
        "proj2": (hidden, hidden),
        "proj3": (tokens * out, hidden),
    }
    w = {
        f"{k}.weight": noise(*s, seed=seed + i, scale=s[1] ** -0.5) for i, (k, s) in enumerate(sizes.items())
    }
    w |= {f"{k}.bias": noise(s[0], seed=seed + 30 + i) for i, (k, s) in enumerate(sizes.items())}
    w |= {"norm.weight": noise(out, seed=seed + 40), "norm.bias": noise(out, seed=seed + 41)}
    windows = torch.stack(
        [torch.stack([emb[min(max(i + j, 0), song - 1)] for j in range(-2, 3)]) for i in range(song)]
    )
    x = windows.reshape(song, -1)
    for name in ("proj1", "proj2"):
        x = (torch.einsum("oi,si->so", w[f"{name}.weight"], x) + w[f"{name}.bias"]).clamp_min(0)
    x = (torch.einsum("oi,si->so", w["proj3.weight"], x) + w["proj3.bias"]).reshape(song, tokens, out)
    centred = x - x.mean(-1, keepdim=True)
    x = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    tensors = {f"c/w/{key}": value for key, value in w.items()}
    tensors |= {
        "c/in/audio_emb": emb,
        "c/out/windows": windows,
        "c/out/out": (x * w["norm.weight"] + w["norm.bias"])[None],
    }
    write_fixture(tmp_path, "other", "run_audioproj", {"c": {}}, tensors)
    assert statuses(tmp_path) == {"c/windows": "pass", "c/out": "pass"}
