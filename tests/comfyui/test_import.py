"""What loading the pack does to a running ComfyUI: next to nothing."""

from __future__ import annotations

import json
import mimetypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PACK = Path(__file__).resolve().parents[2]

# Core reads every pack's pyproject.toml, so that part of it is loaded before we look.
PROGRAM = """
import asyncio, json, sys, sysconfig, time
for name in {blocked}:
    sys.modules[name] = None
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, {comfy!r})
import comfy.options
comfy.options.enable_args_parsing()
import comfy.sd, nodes
from comfy_config import config_parser
config_parser.extract_node_configuration({pack!r})
before, seen, start = set(sys.modules), [], time.process_time()
sys.addaudithook(lambda event, given: seen.append((event, str(given[0]))) if given else None)
assert asyncio.run(nodes.load_custom_node({pack!r}))
middle = time.process_time()
sum(range(10**7))
own = ({pack!r}, sysconfig.get_path("stdlib"))
opened = [path for event, path in seen if event == "open" and not path.isdigit()]
print(json.dumps({{
    "nodes": sorted(name for name in nodes.NODE_CLASS_MAPPINGS if name.startswith("Singer")),
    "opened": [path for path in opened if not path.startswith(own)],
    "loading": (middle - start) / (time.process_time() - middle),
    "calls": sorted({{event for event, _ in seen}}),
    "modules": sorted({{name.split(".")[0] for name in set(sys.modules) - before}} - sys.stdlib_module_names),
}}))
"""


# The quick start, as far as its samples, on what is left of the blocked packages.
SAMPLING = """
import importlib, torch
def node(file, kind):
    return getattr(importlib.import_module({pack!r}.replace(".", "_x_") + ".nodes." + file), kind)
with torch.inference_mode():
    model, vae, portrait, song = node("loader", "SingerDemoLoader").execute().result
    (audio,) = node("audio", "SingerAudioEncode").execute(song, 25.0, 0.0, 4, 32).result
    given = node("conditioning", "SingerConditioning").execute(vae, portrait, audio, 0, 2, 2, False).result
    (out,) = nodes.common_ksampler(model, 1, 1, 1.5, "euler", "simple", *given)
assert torch.isfinite(out["samples"]).all() and "diffusers.models" not in sys.modules
"""


def loaded(comfy: Path, blocked: tuple[str, ...] = (), then: str = "") -> dict[str, Any]:
    """What a fresh interpreter saw that loaded core, then the pack, without the `blocked` packages.

    then  a program to go on with
    """
    program = PROGRAM + then
    done = subprocess.run(
        [sys.executable, "-c", program.format(comfy=str(comfy), pack=str(PACK), blocked=blocked)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def seen(core, comfy_folder) -> dict[str, Any]:
    return loaded(comfy_folder)


def test_loading_connects_to_nothing_and_reads_no_file_but_its_own(seen):
    kinds = set(mimetypes.knownfiles)  # core looks pictures up by them, for its own `Load Image` too
    assert set(seen["opened"]) <= kinds
    assert not {"socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.mkdir"} & set(seen["calls"])
    assert [name for name in seen["modules"] if name != "singer_core"] == [str(PACK).replace(".", "_x_")]


def test_loading_is_quick(seen, comfy_folder):
    """At most 0.3 s on a machine that adds up ten million numbers in 0.1 s, however busy it is."""
    assert seen["loading"] < 3 or loaded(comfy_folder)["loading"] < 3


def test_the_pack_loads_with_cores_own_requirements_alone(core, comfy_folder):
    ours = ("diffusers", "pywt", "imageio_ffmpeg", "librosa", "onnx", "onnxruntime", "matplotlib")
    assert len(loaded(comfy_folder, blocked=ours)["nodes"]) == 23


def test_the_model_runs_on_the_packages_of_requirements(core, comfy_folder):
    """Beyond core's own these are pywavelets and imageio-ffmpeg."""
    loaded(comfy_folder, blocked=("diffusers", "librosa", "onnx", "onnxruntime", "matplotlib"), then=SAMPLING)
