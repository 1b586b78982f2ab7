"""The training node in a running ComfyUI: what it trains, what comes out, and who can load it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

sys.path.append(str(Path(__file__).parents[1] / "training"))  # importlib mode leaves the folder out

from clips import write_clips

from singer_core.audio.waveform import Waveform, write_wave
from singer_core.render.video import VideoWriter
from singer_core.settings import OFFICIAL

SETTINGS: dict[str, Any] = {
    "data": "clips",
    "checkpoint": "tiny.safetensors",
    "recipe": "lora",
    "steps": 2,
    "rank": 2,
    "rate": 0.5,
    "seed": 3,
    "name": "ada",
    "accumulate": 1,
    "clip_frames": 2,
    "motion_modules": False,
}


@pytest.fixture(scope="module")
def places(core, tiny_checkpoint, tmp_path_factory):
    """ComfyUI's folders: `clips` to train on, `tiny.safetensors` to begin with."""
    import folder_paths

    root = tmp_path_factory.mktemp("comfy ü")
    write_clips(root / "input" / "clips")
    for name in ("singer", "loras"):
        (root / name).mkdir()
    (root / "singer" / "tiny.safetensors").write_bytes(tiny_checkpoint.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_paths, "input_directory", str(root / "input"))
        patch.setattr(folder_paths, "output_directory", str(root / "output"))
        patch.setattr(folder_paths, "temp_directory", str(root / "temp"))
        for name in ("singer", "loras"):
            patch.setitem(folder_paths.folder_names_and_paths, name, ([str(root / name)], {".safetensors"}))
        yield root


@pytest.fixture(scope="module")
def train(places, pack):
    """`train(**changes)` -> (path of the trained file, plot)."""
    pytest.importorskip("accelerate")
    pytest.importorskip("peft")
    node = pack("training").SingerTrain

    def run(**changes: Any) -> tuple[Path, torch.Tensor]:
        with torch.inference_mode():
            path, plot = node.execute(**{**SETTINGS, **changes}).result
        return Path(path), plot

    return run


@pytest.fixture(scope="module")
def lora(train) -> tuple[Path, torch.Tensor]:
    return train()


def weights_of(pack, path: Path) -> dict[str, torch.Tensor]:
    model = pack("model").load_singer(str(path), OFFICIAL, torch.float32)
    return {key: value.clone() for key, value in model.model.state_dict().items()}


def test_a_lora_for_cores_loader_comes_out(lora, places):
    path, plot = lora
    assert list((places / "temp").glob("*.png"))  # the picture on the node
    assert path == places / "loras" / "ada_2.safetensors"
    assert plot.shape == (1, 360, 640, 3) and 0 <= plot.min() < plot.max() <= 1


def test_core_reads_all_of_the_lora_and_patches_only_what_was_trained(lora, model, caplog):
    import comfy.sd

    with caplog.at_level(logging.WARNING):
        patched, _ = comfy.sd.load_lora_for_models(model, None, load_file(lora[0]), 1.0, 0)
    assert "not loaded" not in caplog.text and "NOT LOADED" not in caplog.text
    found = set(patched.patches)
    audio = {key for key in found if ".audio." in key}
    rest = {key.removeprefix("diffusion_model.adapter.") for key in found - audio}
    assert audio and all(
        key.endswith((".to_q.weight", ".to_k.weight", ".to_v.weight", ".to_out.0.weight")) for key in audio
    )
    assert {name.split(".")[0] for name in rest} == {"multi_scale_spectral", "self_adaptive_filter"}


def test_the_patched_model_is_the_trained_network(lora, model, pack, places):
    import comfy.sd

    (run,) = (places / "output" / "singer_training").glob("ada-*")
    trained = weights_of(pack, run / "step-000002" / "network.safetensors")
    patched, _ = comfy.sd.load_lora_for_models(model, None, load_file(lora[0]), 1.0, 0)
    plain, changed = model.model.state_dict(), 0
    for key, value in trained.items():
        if key in patched.patches:
            inside = patched.patch_weight_to_device(key, return_weight=True)
            torch.testing.assert_close(inside, value, rtol=1e-4, atol=1e-6)
            changed += not torch.equal(value, plain[key])
        else:
            assert torch.equal(value, plain[key]), key
    assert changed > 0.9 * len(patched.patches)


def test_a_higher_number_of_steps_goes_on(train, lora):
    first, _ = train(steps=1, name="bo")
    second, plot = train(steps=2, name="bo")
    assert first != second
    expected, found = load_file(lora[0]), load_file(second)
    assert set(found) == set(expected)
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert not torch.equal(plot, torch.ones_like(plot))


def test_fewer_steps_than_are_done_is_an_error(train, lora):
    with pytest.raises(ValueError, match=r"`steps` is 1, but this run is at step 2.*delete"):
        train(steps=1)


def test_a_taken_name_is_an_error_before_anything_is_trained(train, lora, places):
    with pytest.raises(ValueError, match=r"ada_2.safetensors exists and is of other settings"):
        train(seed=4)
    assert len(list((places / "output" / "singer_training").glob("ada-*"))) == 1


def test_matched_writes_a_checkpoint_that_the_loader_takes(train, places, pack):
    path, _ = train(recipe="matched", name="whole")
    assert path == places / "singer" / "whole_2.safetensors"
    before, after = weights_of(pack, places / "singer" / "tiny.safetensors"), weights_of(pack, path)
    changed = {key for key, value in before.items() if not torch.equal(after[key], value)}
    assert changed and all(key.startswith("diffusion_model.adapter.") for key in changed)
    parts = {key.split(".")[2] for key in changed}
    assert parts == {"sites", "audio_projection", "multi_scale_spectral", "self_adaptive_filter"}
    stored = load_file(places / "singer" / "tiny.safetensors")
    assert {k: v.dtype for k, v in load_file(path).items()} == {k: v.dtype for k, v in stored.items()}


def test_cancelling_leaves_no_file_and_core_as_it_was(train, places):
    import comfy.model_management as mm

    mm.interrupt_current_processing(True)
    with pytest.raises(mm.InterruptProcessingException):
        train(name="cut")
    assert not list((places / "loras").glob("cut*"))
    assert not mm.processing_interrupted() and not mm.in_training
    assert train(name="cut")[0].exists()


@pytest.mark.parametrize("name", ["../ada", "a/b", "", ".hidden", "trailing."])
def test_a_name_that_is_no_plain_file_name_is_refused(train, name):
    with pytest.raises(ValueError, match=r"`name` is .*Choose a plain name"):
        train(name=name)


@pytest.mark.parametrize("data", ["..", "../input/clips", "/etc", "", "clips/deeper"])
def test_data_outside_the_input_folder_is_refused(train, data):
    with pytest.raises(ValueError, match=r"`data` is .*a folder directly in"):
        train(data=data)


def test_a_missing_folder_is_an_error(train):
    with pytest.raises(FileNotFoundError, match="no folder elsewhere"):
        train(data="elsewhere")


def test_clips_that_are_too_short_are_told(train):
    with pytest.raises(ValueError, match="has the 18 frames"):
        train(clip_frames=16, name="long")


def test_a_missing_package_is_named_with_the_command(places, pack, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(RuntimeError, match=r"needs the Python package accelerate.*pip install accelerate"):
        pack("training").SingerTrain.execute(**SETTINGS)


def test_the_folders_of_input_are_offered(places, pack):
    node = pack("training").SingerTrain
    (combo,) = (i for i in node.define_schema().inputs if i.id == "data")
    assert "clips" in combo.options
    assert node.fingerprint_inputs(**SETTINGS) == node.fingerprint_inputs(**SETTINGS)


@pytest.fixture
def videos(places) -> str:
    """A folder of one video with sound."""
    folder = places / "input" / "videos"
    folder.mkdir(exist_ok=True)
    wave = folder / "voice.wav"
    write_wave(wave, Waveform(torch.sin(torch.arange(16000) / 9)[None], 16000))
    with VideoWriter(folder / "one.mp4", (96, 96), 25.0, frames=8, audio=wave) as writer:
        writer.write(torch.full((8, 3, 96, 96), 0.5))
    wave.unlink()
    return folder.name


def detect_batch(pictures: list[np.ndarray], **_settings: Any) -> list[list[dict[str, Any]]]:
    """What core's face landmarker says of pictures with one face."""
    angle = np.linspace(0, 2 * np.pi, 478)
    points = np.stack([48 + 20 * np.cos(angle), 48 + 24 * np.sin(angle)], 1).astype(np.float32)
    face = {"landmarks_xy": points, "bbox_xyxy": np.array([28, 24, 68, 72], np.float32)}
    return [[face] for _ in pictures]


def test_videos_are_prepared_through_cores_models(train, videos, vae, places):
    identity = SimpleNamespace(embed=lambda _picture, _face: torch.ones(16))
    sockets = {
        "vae": vae,
        "face_detection_model": SimpleNamespace(detect_batch=detect_batch),
        "identity_model": identity,
    }
    path, _ = train(data=videos, name="filmed", **sockets)
    assert path.exists()
    (clips,) = (places / "output" / "singer_training").glob("clips-*/one.mp4.safetensors")
    assert load_file(clips)["latents"].shape == (8, 4, 16, 16)


def test_videos_without_their_sockets_name_them(train, videos):
    with pytest.raises(ValueError, match="connect `vae`, `face_detection_model`, `identity_model`"):
        train(data=videos, name="bare")
