"""Where the files of users are: ComfyUI's model folders, and three of our own beside them."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

CHECKPOINTS = "singer"
IDENTITY = "insightface"
SEPARATION = "audio_separation"
OWN = {
    CHECKPOINTS: folder_paths.supported_pt_extensions,
    IDENTITY: {".safetensors", ".onnx"},
    SEPARATION: folder_paths.supported_pt_extensions | {".onnx"},
}


def register() -> None:
    """Make our folders known. Entries of extra_model_paths.yaml stay; nothing is created on disk."""
    for name, endings in OWN.items():
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, name))
        paths, known = folder_paths.folder_names_and_paths[name]
        folder_paths.folder_names_and_paths[name] = (paths, set(known) | set(endings))


def checkpoint_names() -> list[str]:
    """Files that may hold a SINGER model: those of models/singer first."""
    names = folder_paths.get_filename_list(CHECKPOINTS)
    return names + [n for n in folder_paths.get_filename_list("diffusion_models") if n not in names]


def checkpoint_path(name: str) -> str:
    """The file behind a name of `checkpoint_names`. Raises FileNotFoundError."""
    path = folder_paths.get_full_path(CHECKPOINTS, name)
    return path or folder_paths.get_full_path_or_raise("diffusion_models", name)


def paths_of(category: str) -> list[Path]:
    """All folders of a category."""
    return [Path(path) for path in folder_paths.get_folder_paths(category)]
