"""Checks of the portrait stage: fixture `o_imageproc` (numerics sections 13 and 15)."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from singer_core.portrait import masks as m
from singer_core.portrait.image import to_tensor
from singer_core.portrait.landmarks import FaceLandmarks
from verification.fixtures import Case, Tensors


def run_imageproc(case: Case) -> Tensors:
    """Masks and pixels of one picture at every size of the case, as the authors' code makes them.

    png/*            uint8 stages before the latent levels
    s<size>/*        full / face / lip per level (1, n), pixels (3, size, size) in [-1, 1], region_u8
                     (size, size); `region_u8_every<k>` is its every k-th row and column
    """
    options = replace(
        m.MaskOptions(authors_edge_cases=True),
        face_ratio=float(case.config.get("face_expand_ratio", 1.2)),
        lip_ratio=float(case.config.get("lip_expand_ratio", 2.0)),
    )
    image = Image.fromarray(case.inputs["image"].to(torch.uint8).numpy())
    size = (image.height, image.width)
    face = FaceLandmarks(case.inputs["landmarks"])
    stages = m.separate(*m.hard_masks(face.silhouette, face.lips, size, options), options)
    outputs = {f"png/{name}": torch.from_numpy(np.array(mask)) for name, mask in _stages(stages).items()}
    for side in case.config["sizes"]:
        for name, value in _at_size(image, stages, int(side)).items():
            outputs[f"s{side}/{name}"] = value
    return {**_subsampled(outputs, case), **{k: v for k, v in outputs.items() if k in case.expected}}


def _stages(stages: m.MaskSet) -> dict[str, m.Mask]:
    return {
        "face_mask": stages.face,
        "lip_mask": stages.lip,
        "face_mask_blur": stages.face_blur,
        "sep_background": stages.separate_full,
        "sep_face": stages.separate_face,
        "sep_lip": stages.separate_lip,
    }


def _at_size(image: Image.Image, stages: m.MaskSet, side: int) -> Tensors:
    squashed = image.resize((side, side), Image.Resampling.BILINEAR)
    outputs = {
        "pixels": to_tensor(squashed) * 2 - 1,
        "region_u8": torch.from_numpy(np.array(m.region_map(stages.face, (side, side)))),
    }
    for level, rows in enumerate(m.attention_masks(stages, (side, side))):
        for name, row in zip(("full", "face", "lip"), rows, strict=True):
            outputs[f"{name}_{level}"] = row[None]
    return outputs


def _subsampled(outputs: Tensors, case: Case) -> Tensors:
    """`X_every<k>` for each such name the case expects."""
    found: Tensors = {}
    for name in case.expected:
        match = re.fullmatch(r"(.+)_every(\d+)", name)
        if match and match[1] in outputs:
            step = int(match[2])
            found[name] = outputs[match[1]][..., ::step, ::step]
    return found
