"""Loading the model: a user's file, or the built-in one."""

from __future__ import annotations

import comfy.model_management as mm
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from comfy_api.latest import Input, io
from torch import Tensor

from singer_core import constants
from singer_core.audio.waveform import read_audio
from singer_core.demo import files
from singer_core.network.checkpoint import open_checkpoint
from singer_core.network.patches import PatchAutoencoder
from singer_core.portrait.image import read_picture
from singer_core.portrait.landmarks import read_landmarks
from singer_core.portrait.portrait import Portrait, prepare_portrait
from singer_core.settings import OFFICIAL, PAPER, PortraitSettings, SingerOptions
from singer_core.weights import load_state

from . import folders
from .library import needs_library
from .model import load_singer
from .portrait import picture_of
from .sockets import SingerPortraitType, to_audio, widget

WEIGHT_DTYPES = {
    "default": None,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
    "fp8_e4m3fn": torch.float8_e4m3fn,
}
PIXEL_BYTES = 2 * 3 * 4  # what a pixel of the built-in VAE needs: three float32, before and after scaling
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
            description="Gives the small built-in model with a portrait and a song, yours or ours, without "
            "any download.",
            search_aliases=["example", "quick start", "built-in", "try singer", "test model"],
            inputs=[
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="Your own portrait instead of ours: one face from the front, mouth closed, with "
                    "room around the head. It is cropped as this model needs it.",
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="Your own song instead of ours, for all that hears the output `audio`.",
                ),
                widget(PortraitSettings, "face_index", optional=True, advanced=True),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="A small network for faces of 192 x 192 pixels, drawn or photographed, in the "
                    "paper's mode; 1 step, no guidance.",
                ),
                io.Vae.Output(display_name="vae", tooltip="The VAE that the model was trained with."),
                SingerPortraitType.Output(
                    display_name="portrait", tooltip="Yours, or a drawn singer whom the model never saw."
                ),
                io.Audio.Output(
                    display_name="audio",
                    tooltip="Yours, or 5 seconds of a synthetic song. Encode it without an audio encoder.",
                ),
            ],
        )

    @classmethod
    @needs_library
    def execute(
        cls, image: Tensor | None = None, audio: Input.Audio | None = None, face_index: int = -1
    ) -> io.NodeOutput:
        portrait = builtin_portrait(image, None if face_index < 0 else face_index)
        model = load_singer(str(files.CHECKPOINT), PAPER)
        return io.NodeOutput(model, builtin_vae(), portrait, audio or to_audio(read_audio(files.SONG)))


def builtin_vae() -> VAE:
    """The built-in model's VAE: core's for pictures without one, whose network gives way to the patches."""
    network = PatchAutoencoder.of({name: x.float() for name, x in load_state(files.VAE).items()})
    network = network.rescaled(1 / constants.VAE_SCALE).eval()
    vae = VAE(sd={"pixel_space_vae": torch.ones(())}, dtype=torch.float32)
    vae.first_stage_model, vae.latent_channels = network, network.channels
    vae.downscale_ratio = vae.upscale_ratio = constants.VAE_STRIDE
    vae.memory_used_encode = lambda shape, _: shape[-2] * shape[-1] * PIXEL_BYTES
    vae.memory_used_decode = lambda shape, _: shape[-2] * shape[-1] * constants.VAE_STRIDE**2 * PIXEL_BYTES
    vae.patcher = ModelPatcher(network, load_device=vae.device, offload_device=mm.vae_offload_device())
    return vae


def builtin_portrait(image: Tensor | None = None, face_index: int | None = None) -> Portrait:
    """Whom IMAGE (1, H, W, 3) shows, the face where the network looks for it; of None the drawn singer."""
    size = open_checkpoint(files.CHECKPOINT).architecture.trained_size
    if image is not None:
        return prepare_portrait(picture_of(image, None), size, face_index=face_index, crop="exact")
    picture = read_picture(files.PORTRAIT)
    landmarks = read_landmarks(files.LANDMARKS, picture.image.size)
    return prepare_portrait(picture, size, landmarks=landmarks, crop="squash")
