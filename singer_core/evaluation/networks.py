"""Metrics that need weights of the user's: features for FID and FVD, SyncNet for LSE, faces for identity.

Nothing is fetched. Every function raises `NotComputedError` saying which file goes where, or what to install.
"""

from __future__ import annotations

import contextlib
import functools
import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..portrait.detection import detect_insightface
from ..portrait.identity import embed_face, find_identity_file, load_identity
from ..portrait.landmarks import FaceLandmarks
from ..weights import load_state
from .footage import Floats, Footage, batched, windows
from .metric import NotComputedError, needed_file, needed_package
from .mouth import FaceTrack

INCEPTION = "inception-2015-12-05.pt"  # TorchScript, pool features (n, 2048); what clean-fid reads too
I3D = "i3d_torchscript.pt"  # TorchScript, Kinetics-400 logits (n, 400), of StyleGAN-V
I3D_STATE = "i3d_pretrained_400.pt"  # the same network's weights, as the package cd-fvd reads them
I3D_SIDE = 224
WINDOW = 16  # frames that I3D sees at once
SYNCNET, S3FD = "syncnet_v2.model", "sfd_face.pth"
INCEPTION_BATCH = 16
IDENTITY_FRAMES = 32  # of a video, evenly spread


def load_script(folder: Path, name: str, source: str) -> Any:
    """A TorchScript network of `folder`. Raises NotComputedError; RuntimeError for a file of another kind."""
    path = needed_file(folder, name, source)
    try:
        return torch.jit.load(path, map_location="cpu").eval()
    except RuntimeError as error:
        raise RuntimeError(f"{path} is not a TorchScript file. Fetch {name} of {source} again.") from error


def load_i3d(folder: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """I3D of a folder: clips (1, 3, f, H, W) in [-1, 1] -> logits (1, 400). Raises as `load_script`."""
    if (folder / I3D).is_file() or not (folder / I3D_STATE).is_file():
        script = load_script(folder, I3D, f"I3D of StyleGAN-V; or {I3D_STATE}, with pip install cd-fvd")
        return functools.partial(script.to(device), rescale=False, resize=False, return_features=True)
    network = needed_package("cdfvd.third_party.i3d.pytorch_i3d", "cd-fvd").InceptionI3d(400, in_channels=3)
    network.load_state_dict(load_state(folder / I3D_STATE))
    return network.eval().to(device)


@torch.no_grad()
def inception_features(footage: Footage, network: Any, device: torch.device) -> Floats:
    """(s, 2048) features of every frame; the network scales the pictures itself."""
    network, batches = network.to(device), batched(footage.pictures(), INCEPTION_BATCH)
    rows = [network(batch.to(device), return_features=True).cpu().double() for batch in batches]
    return torch.cat(rows).numpy()


@torch.no_grad()
def i3d_features(footage: Footage, network: Callable[[Tensor], Tensor], device: torch.device) -> Floats:
    """(n, 400) logits of every 16-frame window, without overlap. Raises NotComputedError for fewer frames."""
    rows: list[Tensor] = []
    for clip in windows(footage, WINDOW):
        scaled = F.interpolate(clip.float(), (I3D_SIDE, I3D_SIDE), mode="bilinear", align_corners=False)
        batch = (scaled / 127.5 - 1).movedim(1, 0)[None]  # f c H W -> 1 c f H W
        logits = network(batch.to(device))
        rows.append(logits.cpu().double().reshape(1, -1))
    if not rows:
        raise NotComputedError(f"{footage.name} has {footage.frames} frames; {WINDOW} make one window")
    return torch.cat(rows).numpy()


def film_features(key: str, film: Footage, folder: Path, device: torch.device) -> Floats:
    """Features of a video for "fid" or "fvd". Raises NotComputedError without the network's file."""
    if key == "fid":
        script = load_script(folder, INCEPTION, "Inception of the FID authors")
        return inception_features(film, script, device)
    return i3d_features(film, load_i3d(folder, device), device)


def syncnet_errors(video: Path, sound: Path, folder: Path, device: torch.device) -> tuple[float, float]:
    """(LSE-C, LSE-D) of a video file with the sound of another file, mean over the face tracks found.

    By the package syncnet-python: 25 fps, 16 kHz, windows of 5 frames, offsets +-15.
    """
    missing = [name for name in (SYNCNET, S3FD) if not (folder / name).is_file()]
    if missing:
        raise NotComputedError(f"put {' and '.join(missing)} in {folder}", lacking=True)
    package = needed_package("syncnet_python", "syncnet-python")
    files = {"syncnet_weights": str(folder / SYNCNET), "s3fd_weights": str(folder / S3FD)}
    with tempfile.TemporaryDirectory(prefix="singer-") as scratch, contextlib.redirect_stdout(io.StringIO()):
        try:
            pipeline = package.SyncNetPipeline(files, device=str(device))
            found = pipeline.inference(str(video), str(sound), cache_dir=str(Path(scratch) / "work"))
        except FileNotFoundError as error:  # the package runs `ffmpeg`
            raise NotComputedError(f"install the program ffmpeg ({error})", lacking=True) from error
        except RuntimeError as error:  # weights of another network, or what its steps could not read
            raise NotComputedError(f"syncnet-python failed: {error}") from error
    confidences, distances = found[1], found[2]
    if not confidences:
        raise NotComputedError("SyncNet's detector finds no face of over 100 pixels for over 50 frames")
    return float(np.mean(confidences)), float(np.mean(distances))


def identity_cosine(
    footage: Footage,
    faces: FaceTrack | None,
    portrait: Image.Image,
    portrait_face: FaceLandmarks | None,
    folder: Path,
) -> Floats:
    """(n,) cosines of the faces in up to 32 frames to the face of the portrait.

    faces, portrait_face   where they are; None = insightface looks for them
    """
    try:
        network = load_identity(find_identity_file([folder]))
    except FileNotFoundError as error:
        remedy = f"put an identity network (singer convert glintr100.onnx identity.safetensors) in {folder}"
        raise NotComputedError(remedy, lacking=True) from error
    wanted = footage.spread(IDENTITY_FRAMES)
    own = embed_face(network, portrait, portrait_face or _find(portrait))
    cosines = []
    for index, picture in enumerate(footage.pictures()):
        if index in wanted:
            image = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
            face = _find(image) if faces is None else faces.face(index)
            cosines.append(float(F.cosine_similarity(own, embed_face(network, image, face), dim=0)))
    return np.array(cosines)


def _find(image: Image.Image) -> FaceLandmarks:
    """The largest face of a picture."""
    try:
        found: Sequence[Any] = detect_insightface(image)
    except (RuntimeError, FileNotFoundError) as error:
        raise NotComputedError(
            "give landmarks of the video's frames and of the portrait (--landmarks, --reference-landmarks), "
            f"or let insightface find the faces: {error}",
            lacking=True,
        ) from error
    if not found:
        raise NotComputedError("insightface finds no face in the portrait or in one of the frames")
    return found[0].landmarks
