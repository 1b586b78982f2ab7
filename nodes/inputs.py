"""A user's picture and song, read as the command line reads them; or those that come with the pack."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from singer_core.audio.waveform import read_audio
from singer_core.demo import files
from singer_core.portrait.image import read_picture

from .library import needs_library
from .sockets import to_audio, to_image

SAMPLES = {"sample portrait": files.PORTRAIT, "sample song": files.SONG}


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
                    options=["sample portrait", *input_files("image")],
                    upload=io.UploadType.image,
                    tooltip="A file of ComfyUI's input folder, or the portrait that comes with the pack.",
                )
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="For `Prepare SINGER Portrait`.")],
        )

    @classmethod
    def validate_inputs(cls, image: str) -> bool | str:
        return is_there("image", image)

    @classmethod
    def fingerprint_inputs(cls, image: str) -> tuple[str, int]:
        return image, os.stat(path_of(image)).st_mtime_ns

    @classmethod
    @needs_library
    def execute(cls, image: str) -> io.NodeOutput:
        return io.NodeOutput(to_image(read_picture(path_of(image)).image))


class SingerSongLoader(io.ComfyNode):
    """Its player and its upload button come from web/song.js; where that is not served, it is a list."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerSongLoader",
            display_name="Load Song",
            category="SINGER",
            description="Loads the sound of a file as the command line does; the file may be a film, or hold "
            "cover art.",
            search_aliases=["load audio", "upload song", "mp3", "music", "example song"],
            inputs=[
                io.Combo.Input(
                    "audio",
                    options=["sample song", *input_files("audio", "video")],
                    tooltip="A file of ComfyUI's input folder, or the song that comes with the pack.",
                )
            ],
            outputs=[
                io.Audio.Output(display_name="audio", tooltip="For `Encode SINGER Audio`, and for the video.")
            ],
        )

    @classmethod
    def validate_inputs(cls, audio: str) -> bool | str:
        return is_there("audio", audio)

    @classmethod
    def fingerprint_inputs(cls, audio: str) -> tuple[str, int]:
        return audio, os.stat(path_of(audio)).st_mtime_ns

    @classmethod
    @needs_library
    def execute(cls, audio: str) -> io.NodeOutput:
        return io.NodeOutput(to_audio(read_audio(path_of(audio))))


def path_of(name: str) -> Path:
    """The file behind a name: one that comes with the pack, or one of the input folder."""
    return SAMPLES.get(name) or Path(folder_paths.get_annotated_filepath(name))


def is_there(socket: str, name: str) -> bool | str:
    """Before the queue runs: whether there is such a file."""
    if name in SAMPLES or folder_paths.exists_annotated_filepath(name):
        return True
    return f"`{socket}` is {name}, which is not in ComfyUI's input folder. Upload it, or choose the sample."


def input_files(*kinds: str) -> list[str]:
    found = sorted(path.name for path in Path(folder_paths.get_input_directory()).glob("*") if path.is_file())
    return folder_paths.filter_files_content_types(found, list(kinds))
