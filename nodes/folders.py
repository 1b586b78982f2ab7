"""Where the files of users are: ComfyUI's model folders, and three of our own beside them."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from singer_core.downloads import ModelFile

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


def names_with(file: ModelFile) -> list[str]:
    """Files of a model folder. What a browser saved by the name on its page has its own name here."""
    names = folder_paths.get_filename_list(file.folder)
    renamed = file.target not in names and file.published_name in names
    return [file.target, *names] if renamed else names


def path_with(file: ModelFile, name: str) -> str:
    """The file behind a name of `names_with`. Raises FileNotFoundError."""
    path = folder_paths.get_full_path(file.folder, name)
    asked = file.published_name if path is None and name == file.target else name
    return path or folder_paths.get_full_path_or_raise(file.folder, asked)


def paths_of(category: str) -> list[Path]:
    """All folders of a category."""
    return [Path(path) for path in folder_paths.get_folder_paths(category)]
