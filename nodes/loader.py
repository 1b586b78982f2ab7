"""Loading the model: a user's file, or the built-in one."""

from __future__ import annotations

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from comfy_api.latest import Input, io

from singer_core.audio.waveform import read_audio
from singer_core.demo import files
from singer_core.network.checkpoint import open_checkpoint
from singer_core.network.taesd import comfyui_state
from singer_core.portrait.image import read_picture
from singer_core.portrait.landmarks import read_landmarks
from singer_core.portrait.portrait import Portrait, prepare_portrait
from singer_core.settings import OFFICIAL, PAPER, SingerOptions
from singer_core.weights import load_state

from . import folders
from .library import needs_library
from .model import load_singer
from .sockets import SingerPortraitType, to_audio, widget

WEIGHT_DTYPES = {
    "default": None,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
    "fp8_e4m3fn": torch.float8_e4m3fn,
}
SCHEDULES = {"official": "linear", "as trained": "scaled_linear"}


class SingerModelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerModelLoader",
            display_name="Load SINGER Model",
            category="SINGER",
            description="Loads the network of SINGER or Hallo as a MODEL, with its reference network.",
            search_aliases=["hallo", "talking head", "singing", "lip sync", "audio driven", "portrait"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=folders.checkpoint_names(),
                    tooltip="`net.pth` of SINGER or Hallo or its safetensors conversion, in models/singer "
                    "(4.85 GB).",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    tooltip="Number format of the weights in memory. default: what ComfyUI prefers on this "
                    "machine; fp8 halves the memory of fp16 at some loss of quality.",
                ),
                io.Combo.Input(
                    "noise_schedule",
                    options=list(SCHEDULES),
                    default="official",
                    tooltip="official: linear, as the authors sample; as trained: scaled linear, as the "
                    "weights were trained.",
                ),
                widget(SingerOptions, "reference_rows"),
                widget(SingerOptions, "round_reference"),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="Takes latents of a portrait, (frames, 4, h, w)."
                )
            ],
        )

    @classmethod
    @needs_library
    def execute(
        cls,
        checkpoint: str,
        weight_dtype: str,
        noise_schedule: str,
        reference_rows: str,
        round_reference: bool,
    ) -> io.NodeOutput:
        options = OFFICIAL.but(
            noise_schedule=SCHEDULES[noise_schedule],
            reference_rows=reference_rows,
            round_reference=round_reference,
        )
        path = folders.checkpoint_path(checkpoint)
        return io.NodeOutput(load_singer(path, options, WEIGHT_DTYPES[weight_dtype]))


class SingerDemoLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerDemoLoader",
            display_name="Load SINGER Demo",
            category="SINGER",
            description="Gives the small built-in model with a portrait and a song, without any download.",
            search_aliases=["example", "quick start", "built-in", "try singer", "test model"],
            inputs=[],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="A small network for drawn faces of 128 x 128 pixels, in the paper's mode; "
                    "guidance 1.25, 4 steps.",
                ),
                io.Vae.Output(display_name="vae", tooltip="The VAE that the model was trained with."),
                SingerPortraitType.Output(
                    display_name="portrait", tooltip="A drawn singer whom the model never saw."
                ),
                io.Audio.Output(
                    display_name="audio",
                    tooltip="5 seconds of a synthetic song. Encode it without an audio encoder.",
                ),
            ],
        )

    @classmethod
    @needs_library
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(builtin_model(), builtin_vae(), builtin_portrait(), builtin_song())


def builtin_model() -> ModelPatcher:
    """The small network, set to what it was trained for: mode `paper`."""
    return load_singer(str(files.CHECKPOINT), PAPER)


def builtin_vae() -> VAE:
    """Its VAE. Core knows TAESD 64 channels wide; the narrow one is filled up with zeros."""
    vae = VAE(sd=comfyui_state(load_state(files.VAE)))
    vae.throw_exception_if_invalid()
    return vae


def builtin_portrait() -> Portrait:
    """The drawn singer, whole, at the network's size."""
    size = open_checkpoint(files.CHECKPOINT).architecture.trained_size
    picture = read_picture(files.PORTRAIT)
    landmarks = read_landmarks(files.LANDMARKS, picture.image.size)
    return prepare_portrait(picture, size, landmarks=landmarks, crop="squash")


def builtin_song() -> Input.Audio:
    """AUDIO of the synthetic voice."""
    return to_audio(read_audio(files.SONG))
