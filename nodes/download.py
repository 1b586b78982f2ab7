"""Fetching model files, when a user asks for it by queueing the node."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from singer_core.downloads import FILES, ModelFile, download

from .library import needs_library, progress_bar

NAMES = [name for name, file in FILES.items() if file.repository]


class SingerDownload(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerDownload",
            display_name="Download SINGER Files",
            category="SINGER",
            description="Fetches one published model file into the folder where ComfyUI looks for it.",
            search_aliases=["huggingface", "model download", "net.pth", "wav2vec2", "weights"],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "file",
                    options=NAMES,
                    tooltip="What to fetch: " + "; ".join(f"{n}: {FILES[n].size}" for n in NAMES) + ".",
                ),
                io.Boolean.Input(
                    "accept_terms",
                    default=False,
                    tooltip="On: you accept the terms of the file's authors. Off: the node only says them.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="path", tooltip="Where it lies. Press R to see it in lists.")
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, accept_terms: bool) -> tuple[str, bool]:
        """Runs again where the file has been deleted."""
        return file, _found(FILES[file]) is not None

    @classmethod
    @needs_library
    def execute(cls, file: str, accept_terms: bool) -> io.NodeOutput:
        known = FILES[file]
        if not accept_terms:
            raise ValueError(
                f"`accept_terms` is off. {known.target} ({known.size}, {known.purpose}) is under these "
                f"terms: {known.terms}. Read {known.page}, switch `accept_terms` on and queue again."
            )
        there = _found(known)
        folder = folder_paths.get_folder_paths(known.folder)[0] if there is None else there
        return io.NodeOutput(str(download(file, Path(folder), progress_bar())))


def _found(file: ModelFile) -> Path | None:
    """The folder of its kind that holds the file already."""
    folders = [Path(folder) for folder in folder_paths.get_folder_paths(file.folder)]
    return next((folder for folder in folders if (folder / file.target).is_file()), None)
