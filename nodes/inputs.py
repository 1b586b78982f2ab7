"""A user's picture, read as the command line reads it; or the one that comes with the pack."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from singer_core.demo import files
from singer_core.portrait.image import read_picture

from .library import needs_library
from .sockets import to_image

SAMPLE = "sample portrait"


class SingerPictureLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerPictureLoader",
            display_name="Load Portrait Picture",
            category="SINGER",
            description="Loads a picture as the command line does: upright, in sRGB, on white where it is "
            "transparent.",
            search_aliases=["load image", "upload portrait", "photo", "example portrait"],
            inputs=[
                io.Combo.Input(
                    "image",
                    options=[SAMPLE, *input_pictures()],
                    upload=io.UploadType.image,
                    tooltip="A file of ComfyUI's input folder, or the portrait that comes with the pack.",
                )
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="For `Prepare SINGER Portrait`.")],
        )

    @classmethod
    def validate_inputs(cls, image: str) -> bool | str:
        if image == SAMPLE or folder_paths.exists_annotated_filepath(image):
            return True
        return f"`image` is {image}, which is not in ComfyUI's input folder. Upload it, or choose the sample."

    @classmethod
    def fingerprint_inputs(cls, image: str) -> tuple[str, int]:
        return image, os.stat(path_of(image)).st_mtime_ns

    @classmethod
    @needs_library
    def execute(cls, image: str) -> io.NodeOutput:
        return io.NodeOutput(to_image(read_picture(path_of(image)).image))


def path_of(name: str) -> Path:
    """The file behind a name: the one that comes with the pack, or one of the input folder."""
    return files.PORTRAIT if name == SAMPLE else Path(folder_paths.get_annotated_filepath(name))


def input_pictures() -> list[str]:
    found = sorted(path.name for path in Path(folder_paths.get_input_directory()).glob("*") if path.is_file())
    return folder_paths.filter_files_content_types(found, ["image"])
