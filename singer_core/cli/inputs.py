"""Steps that several commands share: the portrait, the song, where to compute."""

from __future__ import annotations

import dataclasses
import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import constants
from ..downloads import model_folders

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from ..audio.front_end import FrontEnd
    from ..audio.waveform import Waveform
    from ..network.checkpoint import Checkpoint
    from ..portrait.landmarks import FaceLandmarks
    from ..portrait.portrait import Embed, Portrait
    from ..settings import PortraitSettings, SongSettings


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


def check_outputs(out: Path, preview: Path | None, song: Path) -> None:
    """Raises what `check_output` does, and ValueError where a video would replace the song or the other."""
    from ..render.video import check_output

    for path in (out, preview):
        if path is not None and check_output(path).exists() and path.samefile(song):
            raise ValueError(f"{path} is the song itself, which the video would replace. Give another --out.")
    if preview is not None and preview.resolve() == out.resolve():
        raise ValueError(f"{out} is to be the video and its preview, too. Give another --preview.")


def read_song(path: Path, sound: SongSettings, device: torch.device) -> Song:
    """Read a song; separate and level its vocals."""
    from ..audio.activity import level_vocals
    from ..audio.waveform import read_audio

    name = sound.separator or _found_separator(sound)
    if name == "none":
        vocals = read_audio(path, constants.AUDIO_RATE, mono=True)
        song = Song(vocals, vocals)
    else:
        song = _separated(path, name, sound, device)
    if sound.levelling:
        song = dataclasses.replace(song, vocals=level_vocals(song.vocals, sound.levelling))
    return song


def _found_separator(sound: SongSettings) -> str:
    from ..audio.separation import find_separator

    return find_separator(model_folders(sound.models))


def _separated(path: Path, name: str, sound: SongSettings, device: torch.device) -> Song:
    """The song and its voice; where no separator was named, a song that is a voice alone stays as it is."""
    from ..audio.activity import is_mix
    from ..audio.separation import load_separator
    from ..audio.waveform import read_audio, resample, to_mono
    from .progress import progress_bar

    separator = load_separator(name, model_folders(sound.models), device)
    whole = read_audio(path)
    with progress_bar("separating vocals", 100, "%") as bar:
        stem, rest = separator.separate(whole, progress=bar.set_part)
    mix, vocals = (resample(to_mono(x), constants.AUDIO_RATE) for x in (whole, stem))
    if sound.separator is None:
        mixed = is_mix(stem, rest)
        found = f"a mix: {name} took the voice out" if mixed else f"a voice alone, as {name} found"
        print(f"singer: {path.name} is {found}; --separator none turns this off.", file=sys.stderr)
        if not mixed:
            return Song(mix, mix)
    return Song(vocals, mix, rest)


def read_front_end(checkpoint: Checkpoint, wav2vec2: Path | None) -> FrontEnd:
    """What turns the song into the features that the checkpoint reads; ValueError where that is not given."""
    from ..audio.front_end import choose_front_end
    from ..audio.wav2vec2 import Wav2Vec2FrontEnd

    encoder = None if wav2vec2 is None else Wav2Vec2FrontEnd.load(wav2vec2)
    remedy = "Give --wav2vec2 with a folder or file of wav2vec2-base-960h."
    return choose_front_end(checkpoint, encoder, str(wav2vec2), remedy)


def read_portrait(
    path: Path, look: PortraitSettings, size: tuple[int, int], identity_width: int | None = None
) -> Portrait:
    """Read a picture and prepare it for frames of `size` (H, W)."""
    from ..portrait.image import read_mask, read_picture
    from ..portrait.masks import MaskOptions
    from ..portrait.portrait import prepare_portrait

    picture, index = read_picture(path), None if look.face_index < 0 else look.face_index
    faces, identities = _faces(look, picture.image)
    masks: dict[str, Image | None] = {
        name: read_mask(file) if file else None
        for name, file in (("face_mask", look.face_mask), ("lip_mask", look.lip_mask))
    }
    detected = identities[index or 0] if identities else None
    portrait = prepare_portrait(
        picture,
        size,
        landmarks=faces,
        face_index=index,
        identity=_identity(look.identity) if look.identity else detected,
        crop=look.crop,
        margin=look.margin,
        options=MaskOptions(lip_height=look.lip_height, authors_edge_cases=look.crop == "squash"),
        **masks,
    )
    identity = portrait.identity
    if identity is not None and identity_width is not None and identity.shape != (identity_width,):
        raise ValueError(
            f"The identity has {identity.numel()} values; this checkpoint reads {identity_width}. "
            "Use ArcFace `glintr100`, or none."
        )
    return portrait


def _faces(
    look: PortraitSettings, image: Image
) -> tuple[list[FaceLandmarks] | None, list[torch.Tensor | None]]:
    """The faces of a file or a detector, and what the detector knows of their identities."""
    from ..portrait.detection import detect_insightface
    from ..portrait.landmarks import read_landmarks

    if look.landmarks:
        return read_landmarks(look.landmarks, image.size), []
    if look.detector == "insightface":
        found = detect_insightface(image, look.insightface)
        return [face.landmarks for face in found], [face.identity for face in found]
    return None, []


def _identity(path: Path) -> torch.Tensor | Embed:
    """The embedding in a file, or what a network makes of a face: of the file, or found in the folder."""
    from ..portrait.identity import embed_face, find_identity_file, load_identity

    embedding = None if path.is_dir() else _read_embedding(path)
    if embedding is not None:
        return embedding
    network = load_identity(find_identity_file([path]) if path.is_dir() else path)
    return functools.partial(embed_face, network)


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
