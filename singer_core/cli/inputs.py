"""Arguments and steps that several commands share: the portrait, the song, where to compute."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import constants

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from ..audio.waveform import Waveform
    from ..portrait.landmarks import FaceLandmarks
    from ..portrait.portrait import Portrait

SEPARATOR_CHOICES = ("none", "hdemucs", "kim_vocal_2", "mel_band_roformer")


def add_portrait_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("portrait")
    group.add_argument(
        "--size",
        type=_size,
        metavar="N|WxH",
        help="size of the rendered crop, multiples of 64 (default: as the checkpoint was trained)",
    )
    group.add_argument(
        "--landmarks",
        type=Path,
        metavar="FILE",
        help="JSON with the 478-point face mesh of each face (docs/portrait.md)",
    )
    group.add_argument(
        "--detector",
        choices=("none", "insightface"),
        default="none",
        help="find the face without --landmarks; insightface must be installed, with its models",
    )
    group.add_argument(
        "--insightface",
        type=Path,
        metavar="DIR",
        help="its models are in DIR/models (default ~/.insightface)",
    )
    group.add_argument(
        "--face-index", type=int, metavar="N", help="which face, where there are several (from 0)"
    )
    group.add_argument(
        "--face-mask", type=Path, metavar="FILE", help="picture, white on the face; instead of its box"
    )
    group.add_argument(
        "--lip-mask", type=Path, metavar="FILE", help="picture, white on the lips; instead of their box"
    )
    group.add_argument(
        "--crop",
        choices=("face", "center", "squash"),
        default="face",
        help="what is rendered: a rectangle around the face (default), the largest one of that shape, or the "
        "whole picture squashed, as the authors do",
    )
    group.add_argument(
        "--margin",
        type=float,
        default=0.4,
        metavar="X",
        help="with --crop face: space on each side, in longer sides of the face box (default 0.4)",
    )
    group.add_argument(
        "--lip-height",
        type=float,
        default=0.0,
        metavar="X",
        help="least height of the lip box in mouth widths; 0.9 suits singing (default 0: as trained)",
    )
    group.add_argument(
        "--identity",
        type=Path,
        metavar="FILE",
        help="the face's ArcFace embedding (.npy, .json or .safetensors), an IResNet network "
        "(.safetensors or .onnx) that computes it, or a folder to look for one in; default: no identity",
    )


def add_song_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("song")
    group.add_argument(
        "--fps",
        type=float,
        default=constants.FPS,
        metavar="X",
        help="frames per second of the video (default 25, as trained)",
    )
    group.add_argument(
        "--separator",
        choices=SEPARATOR_CHOICES,
        default="none",
        help="take the vocals out of the mix first (default none: the song is vocals already)",
    )
    group.add_argument(
        "--models",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder searched for the separator's file, recursively; may be given again",
    )
    group.add_argument(
        "--level-vocals",
        type=float,
        default=0.0,
        metavar="X",
        help="0 to 1: how far quiet phrases are brought to the level of the others (default 0)",
    )


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("computing")
    group.add_argument("--device", default="auto", help="auto (default), cpu, or a torch device")
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "float16", "bfloat16"),
        default="auto",
        help="of the network; auto is float32 on a CPU, else float16 as the authors'",
    )


def _size(text: str) -> tuple[int, int]:
    """`512` or `512x768` (width x height) -> (H, W)."""
    width, _, height = text.lower().partition("x")
    try:
        size = int(height or width), int(width)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size; write 512 or 512x768 (width x height)"
        ) from None
    if any(side < constants.SIZE_MULTIPLE or side % constants.SIZE_MULTIPLE for side in size):
        raise argparse.ArgumentTypeError(
            f"{text!r}: both sides must be multiples of {constants.SIZE_MULTIPLE}"
        )
    return size


@dataclass(frozen=True)
class Song:
    """A song as the network hears it.

    vocals  mono 16 kHz, separated and levelled as asked
    mix     mono 16 kHz, for beats and loudness
    rest    what a separator took away, as the file has it; None where none ran
    """

    vocals: Waveform
    mix: Waveform
    rest: Waveform | None = None


def read_song(path: Path, args: argparse.Namespace, device: torch.device) -> Song:
    """Read a song; separate and level its vocals."""
    from ..audio.activity import level_vocals
    from ..audio.separation import load_separator
    from ..audio.waveform import read_audio, resample, to_mono
    from .progress import progress_bar

    if args.separator == "none":
        rest = None
        mix = vocals = read_audio(path, constants.AUDIO_RATE, mono=True)
    else:
        separator = load_separator(args.separator, args.models, device)
        whole = read_audio(path)
        with progress_bar("separating vocals", 100, "%") as bar:
            stem, rest = separator.separate(whole, progress=bar.set_part)
        mix, vocals = (resample(to_mono(x), constants.AUDIO_RATE) for x in (whole, stem))
    if args.level_vocals:
        vocals = level_vocals(vocals, args.level_vocals)
    return Song(vocals, mix, rest)


def read_portrait(
    path: Path, args: argparse.Namespace, size: tuple[int, int], identity_width: int | None = None
) -> Portrait:
    """Read a picture and prepare it for frames of `size` (H, W) by the portrait arguments."""
    from ..portrait.image import read_mask, read_picture
    from ..portrait.masks import MaskOptions
    from ..portrait.portrait import prepare_portrait

    picture = read_picture(path)
    faces, identities = _faces(args, picture.image)
    masks: dict[str, Image | None] = {
        name: read_mask(file) if file else None
        for name, file in (("face_mask", args.face_mask), ("lip_mask", args.lip_mask))
    }
    embedding = None
    if args.identity:
        embedding = _identity(args.identity, picture.image, faces, args.face_index)
    elif identities:
        embedding = identities[args.face_index or 0]
    if embedding is not None and identity_width is not None and embedding.shape != (identity_width,):
        raise ValueError(
            f"The identity has {embedding.numel()} values; this checkpoint reads {identity_width}. "
            "Use ArcFace `glintr100`, or none."
        )
    return prepare_portrait(
        picture,
        size,
        landmarks=faces,
        face_index=args.face_index,
        identity=embedding,
        crop=args.crop,
        margin=args.margin,
        options=MaskOptions(lip_height=args.lip_height, authors_edge_cases=args.crop == "squash"),
        **masks,
    )


def _faces(
    args: argparse.Namespace, image: Image
) -> tuple[list[FaceLandmarks] | None, list[torch.Tensor | None]]:
    """The faces of a file or a detector, and what the detector knows of their identities."""
    from ..portrait.detection import detect_insightface
    from ..portrait.landmarks import read_landmarks

    if args.landmarks:
        return read_landmarks(args.landmarks, image.size), []
    if args.detector == "insightface":
        found = detect_insightface(image, args.insightface)
        return [face.landmarks for face in found], [face.identity for face in found]
    return None, []


def _identity(
    path: Path, image: Image, faces: list[FaceLandmarks] | None, face_index: int | None
) -> torch.Tensor:
    """The embedding in a file, or the one that a network computes: of the file, or found in the folder."""
    from ..portrait.identity import embed_face, find_identity_file, load_identity
    from ..portrait.landmarks import choose_face

    embedding = None if path.is_dir() else _read_embedding(path)
    if embedding is not None:
        return embedding
    if faces is None:
        raise ValueError(f"{path.name} computes the identity from landmarks. Give --landmarks as well.")
    network = load_identity(find_identity_file([path]) if path.is_dir() else path)
    return embed_face(network, image, choose_face(faces, face_index))


def _read_embedding(path: Path) -> torch.Tensor | None:
    """The vector in a .npy, .json or .safetensors file; None where the file is a network."""
    import json

    import numpy as np
    import torch

    from ..weights import open_weights

    if not path.is_file():
        raise FileNotFoundError(f"There is no identity file {path}. Check the path, or leave --identity out.")
    if path.suffix == ".onnx":
        return None
    try:
        if path.suffix == ".npy":
            return torch.from_numpy(np.load(path, allow_pickle=False)).float().flatten()
        if path.suffix == ".json":
            return torch.tensor(json.loads(path.read_text(encoding="utf-8")), dtype=torch.float32).flatten()
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path.name} holds no list of numbers ({error}).") from error
    file = open_weights(path)
    return file.tensor(next(iter(file.shapes))).float().flatten() if len(file.shapes) == 1 else None


def choose_device(name: str) -> torch.device:
    """`auto` is the accelerator that torch finds, else the CPU."""
    import torch

    if name != "auto":
        try:
            device = torch.device(name)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise ValueError(f"--device {name} cannot be used: {reason}. Use cpu or auto.") from error
        return device
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    import torch

    if name != "auto":
        return getattr(torch, name)
    return torch.float32 if device.type == "cpu" else torch.float16
