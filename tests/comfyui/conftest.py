"""ComfyUI in this process: core on `sys.path`, the pack loaded by file path as ComfyUI loads it.

Core is looked for in COMFYUI_PATH, above a `custom_nodes` folder that holds this pack, and in ~/ComfyUI.
Where it is missing, or this interpreter lacks what core needs, the tests are skipped with the reason;
`.ci/run` runs them in ComfyUI's own (COMFYUI_PYTHON, or `.venv` in its folder).
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # importlib mode leaves the folder out

import tiny
import torch
from server import Server, save_inputs, save_taesd
from verification.fixtures import Case, load_fixture
from verification.networks import fixture_vae, portrait_of, weights_of

from singer_core import constants
from singer_core.audio.features import AudioFeatures
from singer_core.network.autoencoder import Autoencoder
from singer_core.network.checkpoint import Checkpoint, read_architecture
from singer_core.settings import OFFICIAL
from singer_core.weights import WeightFile

PACK = Path(__file__).resolve().parents[2]
MODULE = str(PACK).replace(".", "_x_")


def find_comfyui() -> Path | None:
    """The folder of a ComfyUI checkout."""
    above = [parent.parent for parent in PACK.parents if parent.name == "custom_nodes"]
    named = [Path(os.environ["COMFYUI_PATH"])] if "COMFYUI_PATH" in os.environ else []
    for folder in (*named, *above, Path.home() / "ComfyUI"):
        if (folder / "comfy" / "model_base.py").is_file():
            return folder
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.comfyui)


@pytest.fixture(scope="session")
def comfy_folder() -> Path:
    folder = find_comfyui()
    if folder is None:
        pytest.skip("no ComfyUI: set COMFYUI_PATH to a checkout")
    return folder


@pytest.fixture(scope="session")
def core(comfy_folder) -> ModuleType:
    """Core's `nodes` module, on the CPU, with our pack loaded."""
    arguments, path = sys.argv, list(sys.path)
    sys.argv = ["main.py", "--cpu", "--use-pytorch-cross-attention"]
    sys.path.insert(0, str(comfy_folder))
    try:
        options = importlib.import_module("comfy.options")
        options.enable_args_parsing()
        importlib.import_module("comfy.sd")  # before `nodes`, or core's own imports go in circles
        core = importlib.import_module("nodes")
    except ImportError as error:
        sys.path[:] = path
        pytest.skip(f"this interpreter lacks what ComfyUI needs ({error}): run them in ComfyUI's own")
    finally:
        sys.argv = arguments
    _replace_nodes_without_a_server()
    assert asyncio.run(core.load_custom_node(str(PACK)))
    return core


def _replace_nodes_without_a_server() -> None:
    """Core keeps replacements of nodes in its server, which tests of nodes do without."""
    manager = importlib.import_module("app.node_replace_manager").NodeReplaceManager()

    async def register(_self: Any, replacement: Any) -> None:
        manager.register(replacement)

    importlib.import_module("comfy_api.latest").ComfyAPI.NodeReplacement.register = register


@pytest.fixture(scope="session")
def server(core, comfy_folder, tiny_checkpoint, tmp_path_factory) -> Iterator[Server]:
    """A running server with the pack, a small model, a VAE, a portrait and a song."""
    base = tmp_path_factory.mktemp("comfy base ü")
    running = Server(comfy_folder, base, "sing er ü", PACK)
    (base / "models/singer/tiny.safetensors").write_bytes(tiny_checkpoint.read_bytes())
    save_taesd(base / "models/vae/taesd.safetensors")
    save_inputs(base / "input")
    with running:
        yield running


@pytest.fixture(scope="session")
def pack(core) -> Any:
    """`pack("backbone")` is the module nodes/backbone.py."""
    return lambda name: importlib.import_module(f"{MODULE}.nodes.{name}".rstrip("."))


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path, monkeypatch):
    """Finished clips of one test are none of another's business."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="session")
def denoise_case(golden) -> Case:
    return load_fixture(golden / "k_denoise.json").cases[0]


@pytest.fixture(scope="session")
def pipeline_case(golden) -> Case:
    return load_fixture(golden / "l_pipeline.json").cases[0]


@pytest.fixture(scope="session")
def golden_checkpoint(denoise_case) -> Any:
    state = weights_of(denoise_case, "weights_")
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    heads = str(denoise_case.config["unet"]["attention_head_dim"])
    file = WeightFile(Path("tiny.safetensors"), shapes, {}, {}, state.__getitem__)
    return Checkpoint(file, "singer", read_architecture(shapes, {"singer.heads": heads}))


@pytest.fixture(scope="session")
def golden_model(pack, golden_checkpoint) -> Any:
    """The MODEL of the reference weights, official mode, float32."""
    return pack("model").build_singer(golden_checkpoint, OFFICIAL, torch.float32)


class LibraryVae:
    """Core's VAE interface on the library's autoencoder: core loads only those of published widths."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        self.autoencoder = autoencoder

    def spacial_compression_decode(self) -> int:
        return constants.VAE_STRIDE

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.encode(pixels.movedim(-1, 1) * 2 - 1) / constants.VAE_SCALE

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.decode(latents * constants.VAE_SCALE).movedim(1, -1)


@pytest.fixture(scope="session")
def vae(tiny_vae) -> LibraryVae:
    return LibraryVae(tiny_vae)


@pytest.fixture(scope="session")
def model(pack, tiny_checkpoint) -> Any:
    """The MODEL of `tiny.TINY`, official mode, float32. Clone it before you patch it."""
    return pack("model").load_singer(str(tiny_checkpoint), OFFICIAL, torch.float32)


@pytest.fixture(scope="session")
def golden_vae(pipeline_case) -> LibraryVae:
    return LibraryVae(fixture_vae(pipeline_case))


@pytest.fixture(scope="session")
def conditions(pack, vae) -> Any:
    """`conditions(length)` -> (positive, negative, latent) of a song of two clips of four frames."""
    return lambda length=4, **changes: conditioned(
        pack, vae, tiny.portrait_of(), tiny.audio_of(8), length, **changes
    )


@pytest.fixture(scope="session")
def golden_conditions(pack, golden_vae, pipeline_case) -> Any:
    features = pipeline_case.inputs["audio_emb"]
    song = AudioFeatures(features, fps=25.0, frames=len(features))
    return conditioned(pack, golden_vae, portrait_of(pipeline_case.inputs), song, 0)


def conditioned(pack, vae, portrait, audio, length: int, **changes: Any) -> tuple[Any, ...]:
    given = {"first_frame": 0, "length": length, "motion_frames": 2, "brighten_bright": True, **changes}
    return pack("conditioning").SingerConditioning.execute(vae, portrait, audio, **given).result
