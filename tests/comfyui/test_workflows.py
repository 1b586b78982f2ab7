"""The example workflows on a real server, with small models under the published names."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from pathlib import Path

import pytest
import tiny
import torch
from graphs import Prompt, node
from make_workflows import CORE_VERSION, MODELS, PACK_NAME, WORKFLOWS, graphs_of, placeholders
from PIL import Image
from safetensors.torch import load_file, save_file
from server import Server, save_taesd
from test_server import outputs, succeeded

from singer_core import constants
from singer_core.demo import files
from singer_core.downloads import FILES
from singer_core.render.video import probe_video

pytestmark = pytest.mark.slow
PACK = Path(__file__).resolve().parents[2]
SONG_FRAMES = 125  # of song.wav
PUBLISHED = dataclasses.replace(tiny.TINY, audio_inputs=constants.AUDIO_WINDOW * 12 * 768)  # wav2vec2-base's

# Stands for MediaPipe's landmarker, whose weights are not ours to ship: the points of the drawn singer.
POINTS_PACK = """
import json
from comfy_api.latest import ComfyExtension, io

class TestFacePoints(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        out = [io.Custom("FACE_LANDMARKS").Output()]
        return io.Schema(node_id="TestFacePoints", inputs=[io.Image.Input("image")], outputs=out)

    @classmethod
    def execute(cls, image):
        with open({path!r}, encoding="utf-8") as file:
            face = json.load(file)["faces"][0]
        size = tuple(image.shape[1:3])
        return io.NodeOutput({{"frames": [[{{"landmarks_xy": face}}]], "image_size": size}})

class Points(ComfyExtension):
    async def get_node_list(self):
        return [TestFacePoints]

async def comfy_entrypoint():
    return Points()
"""


@pytest.fixture(scope="module")
def server(core, comfy_folder, tmp_path_factory):
    base = tmp_path_factory.mktemp("workflows")
    running = Server(comfy_folder, base, "singer", PACK)
    placeholders(base)
    models = base / "models"
    tiny.save_checkpoint(models / "singer/net.pth", tiny.random_state(PUBLISHED))
    save_taesd(models / "vae/vae-ft-mse-840000-ema-pruned.safetensors")
    (models / "audio_encoders/wav2vec2-base-960h.safetensors").unlink()
    save_wav2vec2(models / "audio_encoders/model.safetensors")  # as a browser saves it
    save_lora(models / "loras/style_sd15.safetensors")
    points = base / "custom_nodes/points"
    points.mkdir()
    text = POINTS_PACK.format(path=str(files.LANDMARKS))
    (points / "__init__.py").write_text(text, encoding="utf-8")
    with running:
        yield running


def save_wav2vec2(path: Path) -> None:
    """Random weights of wav2vec2-base: core knows two widths only, this is the smaller."""
    import comfy.ops
    from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model

    flags = {"conv_norm": False, "conv_bias": False, "do_normalize": False, "do_stable_layer_norm": False}
    with torch.inference_mode(False):
        model = Wav2Vec2Model(
            **flags, embed_dim=768, num_heads=12, num_layers=12, operations=comfy.ops.disable_weight_init
        )
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, value in model.state_dict().items():
        drawn = torch.randn(value.shape, generator=generator) * 0.02
        state[name] = (drawn + float("norm" in name and name.endswith("weight"))).half()
    save_file(state, path)


def save_lora(path: Path) -> None:
    name, width = (
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
        PUBLISHED.channels[0],
    )
    lora = {
        f"{name}.lora_up.weight": tiny.noise(width, 2),
        f"{name}.lora_down.weight": tiny.noise(2, width, seed=1),
    }
    save_file(lora, path)


SMALLER = {
    "KSampler": {"steps": 2},
    "BasicScheduler": {"steps": 2},
    "SingerPortrait": {"width": 128, "height": 128},
}


def small(name: str) -> Prompt:
    """A workflow's prompt: fewer steps, smaller pictures, and points in place of the landmarker."""
    prompt = copy.deepcopy(WORKFLOWS[name].prompt())
    for drawn in prompt.values():
        drawn["inputs"].update(SMALLER.get(drawn["class_type"], {}))
    if "5" in prompt and prompt["5"]["class_type"] == "MediaPipeFaceLandmarker":
        prompt["5"] = node("TestFacePoints", image=["3", 0])
        del prompt["4"]
    return prompt


def videos(server: Server, name: str) -> list[Path]:
    return outputs(server, f"video/{name}*.mp4")


def test_the_quick_start_needs_no_file_of_the_user(server):
    prompt = copy.deepcopy(WORKFLOWS["01_quickstart"].prompt())
    prompt["3"]["inputs"]["length"] = 32  # the browser's test runs all of it
    assert succeeded(server.run(prompt))
    (video,) = videos(server, "singer_quickstart")
    found = probe_video(video)
    assert (found.frames, found.fps, found.size, found.has_audio) == (32, 25.0, (512, 512), True)


def test_every_stage_on_cores_own_sampler(server):
    assert succeeded(server.run(small("02_stages")))
    (video,) = videos(server, "singer_stages")
    found = probe_video(video)
    assert (found.frames, found.fps, found.size, found.has_audio) == (16, 25.0, (128, 128), True)


def test_a_full_song_is_pasted_back_into_its_picture(server):
    assert succeeded(server.run(small("03_full_song")))
    (video,) = videos(server, "singer_song")
    found, portrait = probe_video(video), Image.open(files.PORTRAIT)
    assert (found.frames, found.size) == (SONG_FRAMES, (portrait.height, portrait.width))
    assert found.has_audio and abs(found.seconds - SONG_FRAMES / 25) < 0.05


def test_spectral_settings_change_the_video(server):
    assert succeeded(server.run(small("04_spectral_playground")))
    (plain,), (weighed,) = (videos(server, f"singer_{kind}") for kind in ("plain", "weighed"))
    assert probe_video(plain).frames == probe_video(weighed).frames == 16
    assert plain.read_bytes() != weighed.read_bytes()
    plots = [Image.open(path).size for path in (server.base / "temp").glob("*.png")]
    assert (640, 750) in plots


def test_a_lora_freeu_and_a_scaler_combine(server):
    assert succeeded(server.run(small("05_combine")))
    (video,) = videos(server, "singer_combined")
    found = probe_video(video)
    assert (found.frames, found.size, found.has_audio) == (16, (256, 256), True)
    assert "lora key not loaded" not in server.said()


def test_parity_saves_latents_of_the_whole_song(server):
    assert succeeded(server.run(small("06_parity")))
    (path,) = outputs(server, "latents/singer_parity*.latent")
    latents = load_file(path)["latent_tensor"]
    assert latents.shape == (SONG_FRAMES, 4, 16, 16) and torch.isfinite(latents).all()


def workflow_of(name: str) -> dict:
    return json.loads((PACK / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_node_says_which_pack_it_is_of(name):
    """So that a manager can install what is missing."""
    workflow = workflow_of(name)
    folded = {graph["id"] for graph in graphs_of(workflow)[1:]}
    version = re.search(r'^version = "(.+)"', (PACK / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    for graph in graphs_of(workflow):
        for drawn in (one for one in graph["nodes"] if one["type"] not in folded):
            ours = drawn["type"].startswith("Singer")
            said = (drawn["properties"]["cnr_id"], drawn["properties"]["ver"])
            assert said == ((PACK_NAME, version[1]) if ours else ("comfy-core", CORE_VERSION)), drawn["type"]


def test_the_stages_need_three_files_and_nothing_of_the_user():
    prompt = WORKFLOWS["02_stages"].prompt()
    values = [value for one in prompt.values() for value in one["inputs"].values() if isinstance(value, str)]
    assert sorted(value for value in values if value.endswith((".safetensors", ".pth"))) == [
        "net.pth",
        "vae-ft-mse-840000-ema-pruned.safetensors",
        "wav2vec2-base-960h.safetensors",
    ]
    assert not [one["class_type"] for one in prompt.values() if one["class_type"].startswith("LoadI")]
    linked = [
        link["name"] for n in workflow_of("02_stages")["nodes"] for link in n["properties"].get("models", [])
    ]
    assert len(linked) == len(set(linked)) == 3


def test_the_downloader_stores_what_the_workflows_load():
    for name, (folder, key) in MODELS.items():
        if key is not None:
            assert (FILES[key].folder, FILES[key].target) == (folder, name)


def test_models_that_the_editor_can_fetch_are_linked():
    """As the frontend's `isModelDownloadable` wants it: a link of Hugging Face, a name it knows."""
    for path in sorted((PACK / "workflows").glob("0[2-6]*.json")):
        drawn = json.loads(path.read_text(encoding="utf-8"))["nodes"]
        links = [link for n in drawn for link in n["properties"].get("models", [])]
        assert {link["directory"] for link in links} >= {"singer", "vae", "audio_encoders"}
        for link in links:
            assert link["url"].startswith("https://huggingface.co/") and "/resolve/main/" in link["url"]
            assert link["name"].endswith((".safetensors", ".pth"))
        for n in drawn:
            for link in n["properties"].get("models", []):
                assert link["name"] in n["widgets_values"]
