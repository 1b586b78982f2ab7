"""IMAGE, MASK and FACE_LANDMARKS of ComfyUI -> the library's portrait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import numpy as np
import torch
from comfy.model_patcher import ModelPatcher
from PIL import Image
from torch import Tensor

from singer_core.portrait.identity import embed_face, load_identity
from singer_core.portrait.image import from_tensor, to_tensor
from singer_core.portrait.landmarks import FaceLandmarks, choose_face
from singer_core.portrait.masks import MaskOptions
from singer_core.portrait.portrait import Portrait, prepare_portrait
from singer_core.portrait.preview import overlay


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


@dataclass(frozen=True, eq=False)
class Face:
    """What says where the face is: core's FACE_LANDMARKS, or MASKs (1, H, W), and which of several."""

    landmarks: Any
    face_mask: Tensor | None
    lip_mask: Tensor | None
    index: int | None


def portrait_of(
    image: Tensor,
    size: tuple[int, int],
    face: Face,
    identity_model: IdentityModel | None,
    crop: str,
    margin: float,
    lip_height: float,
) -> Portrait:
    """A portrait of `size` (H, W) from an IMAGE (1, H0, W0, 3). Raises ValueError naming the socket."""
    if len(image) != 1:
        raise ValueError(f"`image` holds {len(image)} pictures; SINGER needs one portrait. Pick one of them.")
    picture = from_tensor(image[0, ..., :3].permute(2, 0, 1))  # H W C -> C H W
    faces = None if face.landmarks is None else _faces(face.landmarks, picture)
    return prepare_portrait(
        picture,
        size,
        landmarks=faces,
        face_mask=_mask(face.face_mask, "face_mask"),
        lip_mask=_mask(face.lip_mask, "lip_mask"),
        identity=_identity(identity_model, picture, faces, face.index),
        face_index=face.index,
        crop=crop,
        margin=margin,
        options=MaskOptions(lip_height=lip_height, authors_edge_cases=crop == "squash"),
    )


def overview(portrait: Portrait) -> Tensor:
    """IMAGE (1, H, W, 3) of what was found."""
    return to_tensor(overlay(portrait)).permute(1, 2, 0)[None]


def _faces(landmarks: Any, picture: Image.Image) -> list[FaceLandmarks]:
    """Faces in the first frame of core's FACE_LANDMARKS."""
    size = (picture.height, picture.width)
    if tuple(landmarks["image_size"]) != size or len(landmarks["frames"]) != 1:
        h, w = landmarks["image_size"]
        raise ValueError(
            f"`face_landmarks` are of {len(landmarks['frames'])} pictures of {w} x {h} pixels, `image` is "
            f"one of {size[1]} x {size[0]}. Detect the landmarks on this picture."
        )
    return [FaceLandmarks(torch.from_numpy(_points(face))) for face in landmarks["frames"][0]]


def _points(face: Any) -> np.ndarray:
    return np.asarray(face["landmarks_xy"], dtype=np.float32)


def _mask(mask: Tensor | None, socket: str) -> Tensor | None:
    if mask is not None and mask.ndim == 3 and len(mask) != 1:
        raise ValueError(f"`{socket}` holds {len(mask)} masks; one is accepted. Pick the portrait's.")
    return mask


def _identity(
    model: IdentityModel | None, picture: Image.Image, faces: list[FaceLandmarks] | None, index: int | None
) -> Tensor | None:
    if model is None:
        return None
    if faces is None:
        raise ValueError(
            "`identity_model` needs `face_landmarks`, which align the face. Connect them, or disconnect the "
            "identity model."
        )
    return model.embed(picture, choose_face(faces, index))
