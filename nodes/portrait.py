"""From a picture to what the network sees of the singer."""

from __future__ import annotations

from typing import Any

import folder_paths
from comfy_api.latest import io

from . import folders
from .library import needs_library
from .sockets import FaceLandmarksType, SingerIdentity, SingerPortraitType


class SingerIdentityLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerIdentityLoader",
            display_name="Load SINGER Identity Model",
            category="SINGER",
            description="Loads the network that reads who a face is.",
            search_aliases=["arcface", "insightface", "glintr100", "face embedding"],
            inputs=[
                io.Combo.Input(
                    "identity_model",
                    options=folder_paths.get_filename_list(folders.IDENTITY),
                    tooltip="ArcFace glintr100 (512 numbers a face) in models/insightface, as safetensors of "
                    "`singer convert` or as ONNX (needs the package onnx). 0.26 GB.",
                ),
            ],
            outputs=[
                SingerIdentity.Output(display_name="identity_model", tooltip="For `Prepare SINGER Portrait`.")
            ],
        )

    @classmethod
    @needs_library
    def execute(cls, identity_model: str) -> io.NodeOutput:
        from .face import IdentityModel

        return io.NodeOutput(
            IdentityModel(folder_paths.get_full_path_or_raise(folders.IDENTITY, identity_model))
        )


class SingerPortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        side = {"min": 64, "max": 2048, "step": 64, "default": 512}
        return io.Schema(
            node_id="SingerPortrait",
            display_name="Prepare SINGER Portrait",
            category="SINGER",
            description="Crops a portrait, masks its face and lips and reads who it is.",
            search_aliases=["face crop", "face mask", "lip mask", "arcface", "identity", "talking head"],
            inputs=[
                io.Image.Input("image", tooltip="One picture of one singer, values 0 to 1, upright."),
                FaceLandmarksType.Input(
                    "face_landmarks",
                    optional=True,
                    tooltip="478 points of `Detect Face Landmarks (MediaPipe)` on this picture, in pixels.",
                ),
                io.Mask.Input(
                    "face_mask",
                    optional=True,
                    tooltip="Face, 0 to 1, of the whole picture; instead of points.",
                ),
                io.Mask.Input(
                    "lip_mask",
                    optional=True,
                    tooltip="Lips, 0 to 1, of the whole picture; instead of points.",
                ),
                SingerIdentity.Input(
                    "identity_model",
                    optional=True,
                    tooltip="Of `Load SINGER Identity Model`; needs `face_landmarks`. Without it the "
                    "likeness is weaker.",
                ),
                io.Int.Input("width", **side, tooltip="Width of the crop in pixels, a multiple of 64."),
                io.Int.Input("height", **side, tooltip="Height of the crop in pixels, a multiple of 64."),
                io.Combo.Input(
                    "crop",
                    options=["face", "center", "squash"],
                    default="face",
                    tooltip="face: around the face; center: the middle of the picture; squash: the whole "
                    "picture stretched to the crop's size, as the authors do.",
                ),
                io.Float.Input(
                    "margin",
                    default=0.4,
                    min=0.0,
                    max=3.0,
                    step=0.05,
                    tooltip="Room around the face on each side, in face heights; for crop = face.",
                ),
                io.Int.Input(
                    "face_index",
                    default=-1,
                    min=-1,
                    max=63,
                    advanced=True,
                    tooltip="Which of several faces sings, from 0 in the landmarks' order; -1 = the only "
                    "one.",
                ),
                io.Float.Input(
                    "lip_height",
                    default=0.0,
                    min=0.0,
                    max=3.0,
                    step=0.05,
                    advanced=True,
                    tooltip="Least height of the lip area in mouth widths; 0.9 leaves room for an open "
                    "mouth, 0 = the authors'.",
                ),
            ],
            outputs=[
                SingerPortraitType.Output(
                    display_name="portrait", tooltip="Crop, masks of four scales, face box and identity."
                ),
                io.Image.Output(
                    display_name="overview",
                    tooltip="The picture with the crop, and the crop with face (green) and lips (red).",
                ),
            ],
        )

    @classmethod
    @needs_library
    def execute(
        cls,
        image: Any,
        width: int,
        height: int,
        crop: str,
        margin: float,
        face_index: int,
        lip_height: float,
        face_landmarks: Any = None,
        face_mask: Any = None,
        lip_mask: Any = None,
        identity_model: Any = None,
    ) -> io.NodeOutput:
        from .face import Face, overview, portrait_of

        face = Face(face_landmarks, face_mask, lip_mask, None if face_index < 0 else face_index)
        portrait = portrait_of(image, (height, width), face, identity_model, crop, margin, lip_height)
        return io.NodeOutput(portrait, overview(portrait))
