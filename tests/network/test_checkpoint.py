"""Checkpoints: what is read from keys and shapes, what is refused and how, what loading costs."""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import save_file

from singer_core.network.architecture import Architecture
from singer_core.network.checkpoint import (
    describe,
    expected_shapes,
    load_network,
    open_checkpoint,
    our_key,
    parameter_counts,
    published_key,
    read_architecture,
    spectral_report,
)

HALLO = dataclasses.replace(tiny.TINY, msm_kernel=None, sfm_width=None, heads=8)
STAGE1 = ("reference_unet", "denoising_unet", "face_locator", "imageproj")


def shapes_of(state):
    return {key: tuple(value.shape) for key, value in state.items()}


def same_weights(network, other) -> bool:
    mine, theirs = network.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


# Names


def test_the_published_network_has_the_2662_tensors_of_the_authors(golden):
    listed = json.loads((golden / "net_keys_full_flat.json").read_text())
    assert len(listed) == 2662
    assert expected_shapes(Architecture()) == {key: tuple(shape) for key, shape in listed.items()}


def test_hallo_is_the_same_without_the_spectral_modules(golden):
    listed = json.loads((golden / "net_keys_full_flat.json").read_text())
    hallo = expected_shapes(dataclasses.replace(Architecture(), msm_kernel=None, sfm_width=None))
    left_out = set(listed) - set(hallo)
    assert len(hallo) == 2656
    assert all(key.startswith(("audioembed.", "denoising_unet.hidden_spectral_w")) for key in left_out)


def test_our_names_and_the_published_ones_are_one_to_one():
    arch, dead = Architecture(), 0
    seen = set()
    for key in expected_shapes(arch):
        ours = our_key(key, arch)
        if ours is None:
            dead += 1
            assert ".motion_modules." in key
            assert key.startswith(("denoising_unet.down_blocks.3.", "denoising_unet.up_blocks.0."))
        else:
            assert published_key(ours) == key
            seen.add(ours)
    assert dead == 5 * 28  # the modules that inference never runs
    assert len(seen) == 2662 - dead


def test_a_name_of_another_model_is_no_name_of_ours():
    with pytest.raises(KeyError, match=r"model\.diffusion"):
        our_key("model.diffusion_model.out.weight", Architecture())
    with pytest.raises(KeyError, match=r"vae\.decoder"):
        published_key("vae.decoder.weight")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels": (64, 96), "layers": 2},
        {"msm_kernel": (6, 4, 14, 8, 24)},
        {"image_tokens": 7, "identity_width": 9, "image_width": 40},
        {"audio_inputs": 5 * 12 * 8, "audio_hidden": 6, "audio_tokens": 3, "audio_width": 10},
        {"face_locator": (3, 5, 7, 9)},
        {"latent_channels": 16, "msm_kernel": (1, 16, 3, 16, 16)},
        {"heads": 8, "sfm_width": 8},
        {"heads": 8, "sfm_width": None, "msm_kernel": None},
    ],
    ids=lambda changes: ",".join(changes) or "tiny",
)
def test_the_architecture_is_read_from_names_and_shapes(changes):
    arch = dataclasses.replace(tiny.TINY, **changes)
    assert read_architecture(expected_shapes(arch), {}) == arch


def test_metadata_say_the_number_of_heads_where_shapes_cannot():
    arch = dataclasses.replace(tiny.TINY, heads=16, sfm_width=2)
    assert read_architecture(expected_shapes(arch), {"singer.heads": "16"}) == arch
    assert read_architecture(expected_shapes(arch), {}).heads == 2


# Loading


def test_every_stored_value_arrives_where_it_belongs(tiny_state, tiny_network):
    loaded = tiny_network.state_dict()
    alive = {key: our_key(key, tiny.TINY) for key in tiny_state}
    assert {name for name in alive.values() if name} == set(loaded)
    assert all(torch.equal(loaded[name], tiny_state[key]) for key, name in alive.items() if name)
    assert not tiny_network.training
    assert not any(p.requires_grad for p in tiny_network.parameters())
    assert not any(p.is_meta for p in tiny_network.parameters())


def test_both_formats_give_the_same_network(tiny_state, tiny_network, tmp_path):
    file = tiny.save_checkpoint(tmp_path / "net.pth", tiny_state)
    checkpoint = open_checkpoint(file)
    assert (checkpoint.variant, checkpoint.architecture) == ("singer", tiny.TINY)
    assert same_weights(load_network(checkpoint), tiny_network)


def test_the_content_decides_on_the_format_not_the_name(tiny_state, tmp_path):
    save_file(tiny_state, tmp_path / "net.pth")
    torch.save(tiny_state, tmp_path / "net.safetensors")
    for name in ("net.pth", "net.safetensors"):
        assert open_checkpoint(tmp_path / name).variant == "singer"


def test_an_old_style_pickle_of_plain_tensors_loads(tiny_state, tiny_network, tmp_path):
    torch.save(tiny_state, tmp_path / "net.pth", _use_new_zipfile_serialization=False)
    assert same_weights(load_network(open_checkpoint(tmp_path / "net.pth")), tiny_network)


def test_hallo_loads_without_spectral_modules_and_sings(tmp_path):
    state = tiny.random_state(HALLO)
    checkpoint = open_checkpoint(tiny.save_checkpoint(tmp_path / "hallo.pth", state))
    assert (checkpoint.variant, checkpoint.architecture) == ("hallo", HALLO)
    network = load_network(checkpoint)
    assert network.adapter.multi_scale_spectral is None
    assert network.adapter.self_adaptive_filter is None
    with torch.no_grad():
        prediction = network(
            tiny.noise(4, 4, tiny.LATENT, tiny.LATENT), 500, tiny.noise(2, 1, 3, 24), tiny.clip_of()
        )
    assert prediction.isfinite().all()


@pytest.mark.parametrize("leading", [(6, 14), (1, 1), (1, 16)])
def test_an_msm_buffer_of_any_batch_and_frame_count_loads(tiny_state, tiny_network, tmp_path, leading):
    summed = tiny_state["audioembed.dct_layer.weight"].sum((0, 2))
    parts = tiny.noise(leading[0], 4, leading[1], tiny.LATENT, tiny.LATENT)
    parts += ((summed - parts.sum((0, 2))) / (leading[0] * leading[1]))[None, :, None]
    state = {**tiny_state, "audioembed.dct_layer.weight": parts}
    network = load_network(open_checkpoint(tiny.save_checkpoint(tmp_path / "net.pth", state)))
    latents = tiny.noise(4, 4, tiny.LATENT, tiny.LATENT)
    gains = (n.adapter.multi_scale_spectral.gains(latents) for n in (network, tiny_network))
    torch.testing.assert_close(*gains, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, None])
def test_weights_keep_the_dtype_of_the_file_or_take_the_one_asked_for(tiny_checkpoint, dtype):
    network = load_network(open_checkpoint(tiny_checkpoint), dtype)
    assert {p.dtype for p in network.parameters()} == {dtype or torch.float32}
    assert network.dtype == (dtype or torch.float32)


def test_loading_says_once_what_was_loaded(tiny_checkpoint, caplog):
    with caplog.at_level(logging.INFO):
        load_network(open_checkpoint(tiny_checkpoint))
    [record] = caplog.records
    # Motion modules of the lowest level: one layer down, two up, 28 tensors each.
    assert "SINGER network, torch.float32" in record.getMessage()
    assert "84 of modules that inference never runs" in record.getMessage()


# Stage-1 files


def save_stage1(folder: Path, state, without: str | None = None, ending: str = ".pth") -> Path:
    folder.mkdir(exist_ok=True)
    for part in STAGE1:
        if part == without:
            continue
        bare = {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(f"{part}.")}
        trained = {k: v for k, v in bare.items() if "audio_modules" not in k and "motion_modules" not in k}
        tiny.save_checkpoint(folder / f"{part}{ending}", trained)
    return folder


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_folder_of_stage_1_files_is_a_start_for_training(tmp_path, tiny_state, ending):
    checkpoint = open_checkpoint(save_stage1(tmp_path / "stage1", tiny_state, ending=ending))
    assert checkpoint.variant == "stage1"
    assert checkpoint.architecture.channels == tiny.TINY.channels
    for key in ("denoising_unet.conv_in.weight", "imageproj.proj.bias", "face_locator.blocks.3.weight"):
        assert torch.equal(checkpoint.file.tensor(key), tiny_state[key])
    with pytest.raises(RuntimeError, match=r"stage-1 files .*cannot sing.*net\.pth"):
        load_network(checkpoint)


@pytest.mark.parametrize("part", STAGE1)
def test_a_folder_without_one_of_the_four_files_names_it(tmp_path, tiny_state, part):
    folder = save_stage1(tmp_path / "stage1", tiny_state, without=part)
    with pytest.raises(RuntimeError, match=f"no stage-1 file of {part}"):
        open_checkpoint(folder)


# Wrong files

SD15_LDM = {
    "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
    "first_stage_model.encoder.conv_in.weight": (128, 3, 3, 3),
    "cond_stage_model.transformer.text_model.final_layer_norm.bias": (768,),
}
WRONG = {
    "a Stable Diffusion checkpoint in LDM layout": SD15_LDM,
    "a LoRA": {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (4, 320)},
    "a VAE": {"encoder.conv_in.weight": (128, 3, 3, 3), "decoder.conv_in.weight": (512, 4, 3, 3)},
    "a wav2vec2 audio encoder": {"wav2vec2.feature_extractor.conv_layers.0.conv.weight": (512, 1, 10)},
    "an AnimateDiff motion module": {
        "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": (320,)
    },
    "a bare Stable Diffusion UNet": {"down_blocks.0.resnets.0.conv1.weight": (320, 320, 3, 3)},
    "an unknown model": {"layers.0.weight": (3, 3)},
    "part of a SINGER or Hallo checkpoint": {"audioproj.proj1.weight": (512, 46080)},
}


@pytest.mark.parametrize(
    ("looks", "ending"), [(looks, (".safetensors", ".pth")[i % 2]) for i, looks in enumerate(WRONG)]
)
def test_a_wrong_file_is_named_with_counts_and_three_missing_tensors(tmp_path, golden, looks, ending):
    published = set(json.loads((golden / "net_keys_full_flat.json").read_text()))
    state = {key: torch.zeros(shape) for key, shape in WRONG[looks].items()}
    path = tiny.save_checkpoint(tmp_path / f"model{ending}", state)
    with pytest.raises(RuntimeError) as error:
        open_checkpoint(path)
    said = str(error.value)
    assert f"model{ending} looks like {looks}" in said
    names = said.split("among them ")[1].split(")")[0].split(", ")
    assert len(names) == 3
    assert set(names) <= published - set(state)
    known = len(set(state) & published)
    assert f"{2662 - known} of 2662 tensors are missing" in said
    assert f"{len(state) - known} of its {len(state)} are unknown" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "key",
    [
        "reference_unet.mid_block.attentions.0.norm.bias",
        "denoising_unet.up_blocks.2.audio_modules.1.proj_out.weight",
        "denoising_unet.down_blocks.2.motion_modules.0.temporal_transformer.norm.weight",
        "denoising_unet.hidden_spectral_weighting.weight",
        "audioembed.fc.2.weight",
        "audioproj.proj2.bias",
        "face_locator.conv_out.weight",
    ],
)
def test_one_missing_tensor_is_named(tmp_path, tiny_state, key):
    state = {name: value for name, value in tiny_state.items() if name != key}
    with pytest.raises(RuntimeError) as error:
        open_checkpoint(tiny.save_checkpoint(tmp_path / "net.safetensors", state))
    assert f"1 of {len(tiny_state)} tensors are missing (among them {key}) and 0 of" in str(error.value)


@pytest.mark.parametrize(
    "prefix",
    [
        "denoising_unet.down_blocks.0.resnets.0.conv1.weight",
        "denoising_unet.down_blocks.",
        "denoising_unet.hidden_spectral_weighting.fc.0.weight",
        "audioembed.dct_layer.weight",
        "audioproj.norm.weight",
        "audioproj.",
        "face_locator.conv_in.weight",
        "face_locator.",
        "imageproj.norm.weight",
        "imageproj.",
    ],
)
def test_missing_tensors_that_tell_the_widths_are_named_first(tmp_path, tiny_state, prefix):
    state = {name: value for name, value in tiny_state.items() if not name.startswith(prefix)}
    with pytest.raises(RuntimeError, match=r"looks like part of .* tensors are missing") as error:
        open_checkpoint(tiny.save_checkpoint(tmp_path / "net.safetensors", state))
    assert f"(among them {prefix}" in str(error.value)


@pytest.mark.parametrize(
    "key",
    [
        "denoising_unet.conv_in.weight",
        "reference_unet.mid_block.attentions.0.proj_in.weight",
        "audioproj.proj2.weight",
        "face_locator.blocks.2.weight",
        "denoising_unet.hidden_spectral_weighting.weight",
        "audioembed.fc.0.weight",
    ],
)
def test_one_wrong_shape_is_named_with_both_shapes(tmp_path, tiny_state, key):
    right = tuple(tiny_state[key].shape)
    wrong = (right[0] + 1, *right[1:])
    state = {**tiny_state, key: torch.zeros(wrong)}
    with pytest.raises(RuntimeError) as error:
        open_checkpoint(tiny.save_checkpoint(tmp_path / "net.safetensors", state))
    assert f"1 tensors have the wrong shape ({key} {wrong} instead of {right})" in str(error.value)


def test_an_extra_tensor_is_refused(tmp_path, tiny_state):
    state = {**tiny_state, "optimizer.state": torch.zeros(2)}
    with pytest.raises(RuntimeError, match=r"1 of its \d+ are unknown \(among them optimizer\.state\)"):
        open_checkpoint(tiny.save_checkpoint(tmp_path / "net.safetensors", state))


def test_a_damaged_file_of_ours_is_not_called_another_model(tiny_state):
    assert describe(shapes_of(tiny_state)) == "part of a SINGER or Hallo checkpoint"


# Reports


def test_parts_add_up_to_the_whole(tiny_checkpoint, tiny_state):
    counts = parameter_counts(open_checkpoint(tiny_checkpoint))
    assert sum(counts.values()) == sum(value.numel() for value in tiny_state.values())
    fc = tiny_state["audioembed.fc.0.weight"].numel() + tiny_state["audioembed.fc.2.weight"].numel()
    assert counts["multi-scale spectral (MSM)"] == tiny_state["audioembed.dct_layer.weight"].numel() + fc


@pytest.mark.parametrize(("weight", "trained"), [("random", False), ("smooth", True), ("small", True)])
def test_a_filter_of_white_noise_does_not_look_trained(tmp_path, weight, trained):
    arch = dataclasses.replace(tiny.TINY, heads=8, sfm_width=8)
    state = tiny.random_state(arch)
    random = tiny.noise(4, 1, 64, 4, 4)
    values = {"random": random, "smooth": 1 / 16 + 0.05 * random, "small": 0.1 * random}
    state["denoising_unet.hidden_spectral_weighting.weight"] = values[weight]
    report = spectral_report(open_checkpoint(tiny.save_checkpoint(tmp_path / "net.pth", state)))
    assert report["sfm"]["looks_trained"] is trained
    assert report["sfm"]["entry_std"] == pytest.approx(values[weight].std().item(), rel=1e-4)


def test_the_report_has_the_expected_gains_of_the_four_bands(tiny_checkpoint, tiny_network):
    report = spectral_report(open_checkpoint(tiny_checkpoint))
    expected = tiny_network.adapter.multi_scale_spectral.expected_gains(16).tolist()
    assert report["msm_expected_gains"] == pytest.approx(
        dict(zip(("LL", "LH", "HL", "HH"), expected, strict=True))
    )


# Cost

MEASURE = textwrap.dedent(
    """
    import re, sys
    from pathlib import Path
    from singer_core.network.checkpoint import load_network, open_checkpoint

    def megabytes(name):
        return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    def load(path):  # and read every page
        network = load_network(open_checkpoint(Path(path)))
        assert sum(p.view(-1)[::512].float().sum().item() for p in network.parameters()) > 0

    load(sys.argv[1])  # a small one: everything is imported and warm
    for path in sys.argv[2:]:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak
        before = megabytes("VmRSS")
        load(path)
        print(megabytes("VmHWM") - before)
    """
)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
def test_loading_half_precision_weights_takes_little_more_than_their_size(tmp_path):
    arch = dataclasses.replace(tiny.TINY, channels=(96, 160, 320, 320))
    state = {key: torch.full(shape, 0.01).half() for key, shape in expected_shapes(arch).items()}
    files = [
        tiny.save_checkpoint(tmp_path / "small.pth", tiny.random_state()),
        tiny.save_checkpoint(tmp_path / "big.safetensors", state),
        tiny.save_checkpoint(tmp_path / "big.pth", state),
    ]
    size = files[1].stat().st_size / 2**20
    assert 150 < size < 250
    del state
    command = [sys.executable, "-c", MEASURE, *map(str, files)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    peaks = [float(line) for line in result.stdout.split()]
    assert len(peaks) == 2
    assert all(size / 2 < peak < 1.15 * size for peak in peaks)
