"""Everything the network needs to know about the portrait: what the SINGER_PORTRAIT socket carries."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..settings import Crop, PortraitSettings
from . import crop as crops
from . import masks as m
from .finder import SHIPPED, find_faces, load_finder
from .image import Picture, from_tensor, to_picture, to_tensor
from .landmarks import FaceLandmarks, choose_face

logger = logging.getLogger(__name__)

MARGIN = PortraitSettings.margin  # at 0.4 the face fills 56 % of the frame; Hallo's advice is 50-70 %
SMALL_FACE = 96  # pixels of a face's longer side; smaller ones are soft at the network's size
PROFILE = 0.45  # |turn| from which a face counts as turned away; 0.3 is about 25 degrees
TILTED = 45  # degrees from which a picture counts as not upright
NETWORK_STEP = 64  # image pixels per pixel of the UNet's deepest level

MaskLike = torch.Tensor | np.ndarray | Image.Image
ImageLike = Image.Image | Picture | torch.Tensor
Embed = Callable[[Image.Image, FaceLandmarks], torch.Tensor]  # picture, face -> (e,) its identity


@dataclass(frozen=True, eq=False)
class Portrait:
    """A prepared portrait. Floating tensors are float32 on the CPU.

    image     (3, H, W) in [0, 1]: the crop at the network's size
    region    (H, W) in [0, 1]: face box, input of the face locator
    masks     per UNet level l (level 0 first) a (3, h_l w_l) in [0, 1], rows full, face, lip; h_l = H/8/2^l
    identity  (e,) un-normalised face embedding; None = no identity, the network gets zeros
    crop      where `image` lies in the original picture
    original  (3, H0, W0) in [0, 1], or None where paste-back is not wanted
    alpha     (H0, W0) in [0, 1] transparency of the original, None = opaque
    """

    image: torch.Tensor
    region: torch.Tensor
    masks: tuple[torch.Tensor, ...]
    identity: torch.Tensor | None
    crop: crops.CropTransform
    original: torch.Tensor | None = None
    alpha: torch.Tensor | None = None

    @property
    def lips(self) -> torch.Tensor:
        """(h, w) in [0, 1]: where the mouth is, a value for each latent."""
        return self.masks[0][2].view(*(side // m.LATENT_SCALE for side in self.image.shape[-2:]))

    def locator_input(self, kind: str) -> torch.Tensor:
        """Input of a face locator, (1, 3, H, W): `region` for "face", `image` in [-1, 1] for "portrait"."""
        if kind == "portrait":
            return self.image[None] * 2 - 1
        return self.region.expand(1, 3, -1, -1)


def prepare_portrait(
    image: ImageLike,
    size: tuple[int, int] = (512, 512),
    *,
    landmarks: FaceLandmarks | Sequence[FaceLandmarks] | None = None,
    face_mask: MaskLike | None = None,
    lip_mask: MaskLike | None = None,
    identity: torch.Tensor | Embed | None = None,
    face_index: int | None = None,
    crop: str = "face",
    margin: float = MARGIN,
    options: m.MaskOptions | None = None,
) -> Portrait:
    """Crop a picture and make its masks for frames of `size` (H, W), multiples of 64.

    image                RGB picture, `Picture`, or (3, H0, W0) in [0, 1]
    landmarks            faces found on the whole picture; several need `face_index`. None = those of
                         the finder that ships, where not both masks are given
    face_mask, lip_mask  (H0, W0), floats in [0, 1] or uint8: used as they are instead of the landmarks' boxes
    identity             (e,) embedding of the face, or what makes it of picture and face; None = none
    crop                 "face": around the face with `margin` (in longer sides of the face box) on each side;
                         "exact": as large, and the lips at one place, even where the picture has no room and
                         its edges repeat;
                         "center": the largest rectangle of the right shape; "squash": the whole picture,
                         stretched to `size`, as the authors do
    options              mask shapes; None = `MaskOptions()`, with the authors' edge cases for "squash"

    Raises ValueError where there is no face or several, where a mask does not fit the picture or is empty,
    where the face lies outside the picture or the crop, and where an identity is to be made of a face that
    only masks tell of.
    """
    picture = _as_picture(image)
    _check(size, crop, margin)
    options = options or m.MaskOptions(authors_edge_cases=crop == "squash")
    original_size = (picture.image.height, picture.image.width)
    user_face, user_lip = (
        _user_mask(v, n, original_size) for v, n in ((face_mask, "face_mask"), (lip_mask, "lip_mask"))
    )
    face = _face(picture.image, landmarks, face_index, user_face, user_lip)
    transform = _transform(crop, margin, size, original_size, face, user_face, user_lip)
    hard = _hard_masks(face, user_face, user_lip, transform, options)
    stages = m.separate(*hard, options)
    return Portrait(
        image=to_tensor(transform.apply(picture.image)),
        region=torch.from_numpy(np.array(m.region_map(stages.face, size))).float() / 255,
        masks=m.attention_masks(stages, size),
        identity=_identity(identity, picture.image, face),
        crop=transform,
        original=to_tensor(picture.image),
        alpha=None if picture.alpha is None else to_tensor(picture.alpha)[0],
    )


def _as_picture(image: ImageLike) -> Picture:
    if isinstance(image, Picture):
        return image
    return to_picture(from_tensor(image) if isinstance(image, torch.Tensor) else image)


def _check(size: tuple[int, int], crop: str, margin: float) -> None:
    if min(size) < NETWORK_STEP or any(side % NETWORK_STEP for side in size):
        raise ValueError(f"`size` is {size}; multiples of {NETWORK_STEP} are accepted, such as (512, 512).")
    if crop not in get_args(Crop):
        raise ValueError(f"`crop` is {crop!r}; {', '.join(get_args(Crop))} are accepted.")
    if not 0 <= margin <= 10:
        raise ValueError(f"`margin` is {margin}; 0 to 10 longer sides of the face box are accepted.")


def _identity(
    identity: torch.Tensor | Embed | None, image: Image.Image, face: FaceLandmarks | None
) -> torch.Tensor | None:
    if identity is None:
        return None
    if not isinstance(identity, torch.Tensor):
        if face is None:
            raise ValueError(
                "The identity is read from a face that landmarks align, and there are masks alone. Give "
                "landmarks, too, or leave the identity out."
            )
        identity = identity(image, face)
    if identity.ndim != 1 or not torch.isfinite(identity).all():
        raise ValueError(
            f"`identity` has shape {tuple(identity.shape)} or holds NaN; one finite vector is accepted."
        )
    return identity.detach().cpu().float()


def _user_mask(mask: MaskLike | None, name: str, size: tuple[int, int]) -> m.Mask | None:
    """(H0, W0) uint8, scaled where it has the picture's shape at another resolution."""
    if mask is None:
        return None
    levels = _levels(mask, name)
    if levels.shape != size:
        if abs(levels.shape[0] * size[1] - levels.shape[1] * size[0]) > 0.01 * levels.shape[0] * size[1]:
            raise ValueError(
                f"`{name}` has {levels.shape[1]} x {levels.shape[0]} pixels and the picture "
                f"{size[1]} x {size[0]}, another shape. Draw the mask on the whole picture."
            )
        levels = np.asarray(Image.fromarray(levels).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    if levels.max() < 128:
        raise ValueError(f"`{name}` is empty. Paint the area white, or leave it out to use landmarks.")
    return levels


def _levels(mask: MaskLike, name: str) -> m.Mask:
    if isinstance(mask, Image.Image):
        mask = mask.convert("L")
    array = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]  # ComfyUI's MASK: (1, H, W)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"`{name}` has shape {array.shape}; one mask (H, W) is accepted.")
    if array.dtype == np.uint8:
        return array
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"`{name}` holds NaN or Inf; values from 0 to 1 are accepted.")
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)


def _face(
    image: Image.Image,
    landmarks: FaceLandmarks | Sequence[FaceLandmarks] | None,
    face_index: int | None,
    face_mask: m.Mask | None,
    lip_mask: m.Mask | None,
) -> FaceLandmarks | None:
    """The chosen face; None where both masks are given and landmarks do not name one."""
    both = face_mask is not None and lip_mask is not None
    faces = [landmarks] if isinstance(landmarks, FaceLandmarks) else list(landmarks or ())
    if both and (not faces or (len(faces) > 1 and face_index is None)):
        return None
    if landmarks is None:
        faces = [found.landmarks for found in find_faces(image, load_finder(SHIPPED))]
    face = choose_face(faces, face_index)
    if not _mouth_inside(face, (0, 0, *image.size)):
        raise ValueError(
            f"The mouth of the face lies outside the picture of {image.width} x {image.height}. SINGER needs "
            "a visible mouth, and landmarks of this picture, upright and uncropped."
        )
    _warn_of_poor_views(face)
    return face


def _warn_of_poor_views(face: FaceLandmarks) -> None:
    """Portraits that a model for frontal faces cannot do well."""
    side = float(np.ptp(face.silhouette, axis=0).max())
    if side < SMALL_FACE:
        logger.warning(
            "The face is %.0f pixels large; %d and more give a sharp one. Take a larger picture.",
            side,
            SMALL_FACE,
        )
    if abs(face.turn) > PROFILE:
        logger.warning(
            "The face is turned away; the network sings frontal ones best. Take a frontal picture."
        )
    if face.tilt > TILTED:
        logger.warning(
            "The face lies on its side or upside down (%.0f degrees). Turn the picture upright.", face.tilt
        )


def _mouth_inside(face: FaceLandmarks, box: m.Box) -> bool:
    """Whether the middle of the lips lies in `box`."""
    left, top, right, bottom = m.bounding_box(face.lips)
    return box[0] <= (left + right) / 2 < box[2] and box[1] <= (top + bottom) / 2 < box[3]


def _transform(
    crop: str,
    margin: float,
    size: tuple[int, int],
    original_size: tuple[int, int],
    face: FaceLandmarks | None,
    face_mask: m.Mask | None,
    lip_mask: m.Mask | None,
) -> crops.CropTransform:
    if crop == "squash":
        transform = crops.whole(original_size, size)
        if not 0.99 < transform.stretch < 1.01:
            logger.warning(
                "crop=squash stretches the picture by %.2f horizontally; crop=face keeps shapes.",
                transform.stretch,
            )
        return transform
    if crop == "center":
        return crops.centred(original_size, size)
    box = _box(face_mask, None if face is None else face.silhouette)
    if crop == "exact":
        lips = _box(lip_mask, None if face is None else face.lips)
        return crops.exactly_around(box, lips, original_size, size, margin)
    return crops.around(box, original_size, size, margin)


def _box(mask: m.Mask | None, points: NDArray[np.float32] | None) -> m.Box:
    """Around what the user painted, else around the points."""
    if mask is None:
        assert points is not None  # `_face` raised otherwise
        return m.bounding_box(points)
    rows, columns = np.nonzero(mask >= 128)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def _hard_masks(
    face: FaceLandmarks | None,
    face_mask: m.Mask | None,
    lip_mask: m.Mask | None,
    transform: crops.CropTransform,
    options: m.MaskOptions,
) -> tuple[m.Mask, m.Mask]:
    """(h, w) uint8 face and lip masks of the crop at the picture's resolution."""
    boxes: tuple[m.Mask, m.Mask] | tuple[None, None] = (None, None)
    if face is not None:
        if not _mouth_inside(face, transform.box):
            raise ValueError(f"The mouth is not in the crop {transform.box}. Use crop='face'.")
        inside = face.moved(transform.box[0], transform.box[1])
        boxes = m.hard_masks(inside.silhouette, inside.lips, transform.cut_size, options)
    masks = []
    for name, user, box in zip(("face", "lip"), (face_mask, lip_mask), boxes, strict=True):
        mask = box if user is None else np.asarray(transform.cut(Image.fromarray(user)))
        assert mask is not None  # `_face` raised otherwise
        if not mask.any():
            raise ValueError(
                f"The {name} is not in the crop {transform.box}. Use crop='face' or a larger margin."
            )
        masks.append(mask)
    return masks[0], masks[1]
