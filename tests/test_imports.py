"""The arrows of the library: what may import what, and what an import loads."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import singer_core

ROOT = Path(singer_core.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
# Layers from the bottom up; a module imports its own layer and those below.
LAYERS = (
    {"constants", "downloads", "ffmpeg", "files", "libraries", "marks", "processes", "progress", "weights"},
    {"settings"},
    {"network", "audio", "portrait"},
    {"render", "training", "evaluation", "demo"},
    {"cli"},
)
FORBIDDEN = ("comfy", "comfy_extras", "comfy_api", "folder_paths", "execution", "nodes", "node_helpers")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Full names of all modules that a file imports, also inside functions; relative ones resolved."""
    found: set[str] = set()
    package = name_of(path).split(".") if path.name == "__init__.py" else name_of(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def layer_of(part: str) -> int:
    """The layer of a top-level part of singer_core."""
    [layer] = [i for i, layer in enumerate(LAYERS) if part in layer]
    return layer


def test_every_part_of_the_library_has_a_layer():
    parts = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}
    assert parts <= set().union(*LAYERS)
    assert {"network", "render", "cli"} <= parts


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_imports_from_a_layer_above(path):
    parts = name_of(path).split(".")
    if len(parts) == 1:
        assert not [name for name in imports(path) if name.startswith("singer_core")]
        return
    allowed = layer_of(parts[1])
    for name in imports(path):
        if name.startswith("singer_core.") and name.split(".")[1] != "__version__":
            assert layer_of(name.split(".")[1]) <= allowed, f"{name_of(path)} imports {name}"


def imported_modules(path: Path) -> set[str]:
    """The modules of the library that a file imports; a name out of a module counts as that module."""
    names = set(map(name_of, MODULES))
    found = {name if name in names else name.rpartition(".")[0] for name in imports(path)} & names
    packages = {name.rpartition(".")[0] for name in found if name != name_of(path)}
    return found - packages - {name_of(path)}


def test_no_modules_import_each_other_in_a_circle():
    """Imports inside functions and for types included."""
    graph = {name_of(path): imported_modules(path) for path in MODULES}
    assert graph["singer_core.audio.separation"] >= {"singer_core.audio.hdemucs", "singer_core.downloads"}
    assert list(graphlib.TopologicalSorter(graph).static_order())  # else CycleError names the circle


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_knows_comfyui(path):
    assert not {name.split(".")[0] for name in imports(path)} & set(FORBIDDEN)


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_package_and_its_command_loads_nothing_heavy():
    loaded = run(
        "import sys, singer_core, singer_core.cli, singer_core.settings; print(*sys.modules)"
    ).split()
    assert not {"torch", "diffusers", "transformers", "numpy", "torchaudio"} & set(loaded)


IMPORT_ALL = """
import importlib, sys

for name in {optional}:
    sys.modules[name] = None  # importing it raises ImportError

import torch, diffusers, transformers, numpy, PIL.Image  # what they do is theirs

events = []

def watch(event, args):
    if event.startswith("socket."):
        events.append(event)
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        if "__pycache__" not in str(args[0]) and str(args[0]) != "/dev/null":
            events.append(str(args[0]))

sys.addaudithook(watch)
for name in {names}:
    importlib.import_module(name)
print(events)
"""


def test_every_module_imports_without_optional_libraries_sockets_or_written_files():
    """torchaudio and the extras `eval` and `onnx` are asked for when they are used."""
    optional = ["torchaudio", "onnx", "onnxruntime", "skimage", "matplotlib", "torchmetrics", "tensorboard"]
    optional += ["librosa", "cv2", "insightface", "mediapipe", "bitsandbytes", "accelerate", "peft"]
    names = [name_of(path) for path in MODULES if path.name != "__main__.py"]
    assert run(IMPORT_ALL.format(optional=optional, names=names)).strip() == "[]"


def test_without_torch_the_command_says_what_brings_it():
    code = (
        "import sys; sys.modules['torch'] = None; from singer_core.cli import main; sys.exit(main(['demo']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "torch" in result.stderr and 'pip install "singer-portrait[cli]"' in result.stderr
    assert "Traceback" not in result.stderr
