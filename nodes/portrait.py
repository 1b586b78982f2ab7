"""From a picture to what the network sees of the singer."""

from __future__ import annotations

import comfy.model_management as mm
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io, ui
from PIL import Image
from torch import Tensor

from singer_core.portrait.identity import embed_face, load_identity
from singer_core.portrait.image import Picture, from_tensor, to_picture
from singer_core.portrait.landmarks import FaceLandmarks, SeveralFacesError
from singer_core.portrait.masks import MaskOptions
from singer_core.portrait.portrait import prepare_portrait
from singer_core.portrait.preview import numbered, overlay
from singer_core.settings import PortraitSettings

from . import folders
from .library import needs_library
from .sockets import (
    FaceLandmarksType,
    FoundFace,
    Landmarks,
    SingerIdentity,
    SingerPortraitType,
    to_image,
    widget,
)


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
        path = folder_paths.get_full_path_or_raise(folders.IDENTITY, identity_model)
        return io.NodeOutput(IdentityModel(path))


class SingerPortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerPortrait",
            display_name="Prepare SINGER Portrait",
            category="SINGER",
            description="Crops a portrait, masks its face and lips and reads who it is.",
            search_aliases=["face crop", "face mask", "lip mask", "arcface", "identity", "talking head"],
            inputs=[
                io.Image.Input("image", tooltip="One picture of one singer, values 0 to 1, upright."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Of core's `Load Image`, 1 = transparent: what is transparent is shown on white, "
                    "as on the command line.",
                ),
                FaceLandmarksType.Input(
                    "face_landmarks",
                    optional=True,
                    tooltip="478 points of `Detect Face Landmarks (MediaPipe)` on this picture, in pixels. "
                    "Without points and masks the node finds the face itself.",
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
                    tooltip="Of `Load SINGER Identity Model`; does not read a face that only masks tell of. "
                    "Without it the likeness is weaker.",
                ),
                _side("width", "Width of the crop in pixels, a multiple of 64."),
                _side("height", "Height of the crop in pixels, a multiple of 64."),
                *(widget(PortraitSettings, name) for name in ("crop", "margin", "face_index", "lip_height")),
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
        image: Tensor,
        width: int,
        height: int,
        crop: str,
        margin: float,
        face_index: int,
        lip_height: float,
        mask: Tensor | None = None,
        face_landmarks: Landmarks | None = None,
        face_mask: Tensor | None = None,
        lip_mask: Tensor | None = None,
        identity_model: IdentityModel | None = None,
    ) -> io.NodeOutput:
        picture = picture_of(image, mask)
        try:
            portrait = prepare_portrait(
                picture,
                (height, width),
                landmarks=None if face_landmarks is None else _faces(face_landmarks, picture.image),
                face_mask=_mask(face_mask, "face_mask"),
                lip_mask=_mask(lip_mask, "lip_mask"),
                identity=None if identity_model is None else identity_model.embed,
                face_index=None if face_index < 0 else face_index,
                crop=crop,
                margin=margin,
                options=MaskOptions(lip_height=lip_height, authors_edge_cases=crop == "squash"),
            )
        except SeveralFacesError as error:
            shown = to_image(numbered(picture.image, error.faces))
            return io.NodeOutput(None, None, ui=ui.PreviewImage(shown, cls=cls), block_execution=str(error))
        overview = to_image(overlay(portrait))
        return io.NodeOutput(portrait, overview, ui=ui.PreviewImage(overview, cls=cls))


def _side(name: str, tooltip: str) -> io.Input:
    return io.Int.Input(name, default=512, min=64, max=2048, step=64, tooltip=tooltip)


class IdentityModel:
    """The identity network, owned by a patcher and loaded right before use."""

    def __init__(self, path: str) -> None:
        self.network = load_identity(path)
        # Its layers do not cast their weights, so they are loaded whole.
        self.patcher = ModelPatcher(
            self.network, load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device()
        )

    def embed(self, picture: Image.Image, face: FaceLandmarks) -> Tensor:
        """(e,) un-normalised embedding of a face in an RGB picture."""
        mm.load_models_gpu([self.patcher], force_full_load=True)
        return embed_face(self.network, picture, face)


def picture_of(image: Tensor, mask: Tensor | None) -> Picture:
    """The picture of an IMAGE (1, H, W, c), transparent where core's MASK is 1. ValueError for several.

    Core's `Load Image` gives a mask of 64 x 64 zeros where nothing is transparent.
    """
    if len(image) != 1:
        raise ValueError(f"`image` holds {len(image)} pictures; SINGER needs one portrait. Pick one of them.")
    picture = from_tensor(image[0].permute(2, 0, 1))  # H W C -> C H W
    mask = _mask(mask, "mask")
    if mask is not None and mask.any():
        h, w = mask.shape[-2:]
        if (w, h) != picture.size:
            raise ValueError(
                f"`mask` has {w} x {h} pixels and `image` {picture.width} x {picture.height}. Connect the "
                "mask of the same `Load Image`, or none."
            )
        picture.putalpha(from_tensor((1 - mask).expand(3, h, w)).getchannel(0))
    return to_picture(picture)


def _faces(landmarks: Landmarks, picture: Image.Image) -> list[FaceLandmarks]:
    """Faces in the first frame of core's FACE_LANDMARKS."""
    size = (picture.height, picture.width)
    if tuple(landmarks["image_size"]) != size or len(landmarks["frames"]) != 1:
        h, w = landmarks["image_size"]
        raise ValueError(
            f"`face_landmarks` are of {len(landmarks['frames'])} pictures of {w} x {h} pixels, `image` is "
            f"one of {size[1]} x {size[0]}. Detect the landmarks on this picture."
        )
    return [points_of(face) for face in landmarks["frames"][0]]


def points_of(face: FoundFace) -> FaceLandmarks:
    return FaceLandmarks(torch.as_tensor(face["landmarks_xy"]))


def _mask(mask: Tensor | None, socket: str) -> Tensor | None:
    if mask is not None and mask.ndim == 3 and len(mask) != 1:
        raise ValueError(f"`{socket}` holds {len(mask)} masks; one is accepted. Pick the portrait's.")
    return mask
