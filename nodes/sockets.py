"""What goes in and out of nodes: what sockets carry, our own and core's, and widgets made from settings.

SINGER_AUDIO      singer_core.audio.features.AudioFeatures
SINGER_PORTRAIT   singer_core.portrait.portrait.Portrait
SINGER_WEIGHTS    (s, 3) float32: pose, face and lip weight of each frame, 1 = as trained
SINGER_IDENTITY   nodes.portrait.IdentityModel
FACE_LANDMARKS    core's: `Landmarks`

A CONDITIONING entry of ours is [stand-in, {"singer": SongConditions, "singer_branch": Branch}].
The stand-in (1, 1, width) is what core's nodes calculate with, in place of a text's tokens; no network reads
it. It tells what they did: zeros are the unconditional side, any other than the entry's "singer_stand_in" is
a mixture.
A LATENT of ours has "singer_timing": `Timing` beside its samples (frames, 4, h, w).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, Protocol, TypedDict, get_args, get_origin

import numpy as np
from comfy_api.latest import Input, io
from PIL import Image
from torch import Tensor

from singer_core.audio.waveform import Waveform, check_waveform
from singer_core.portrait.image import to_tensor
from singer_core.render.run import SongConditions
from singer_core.settings import typed_fields

SingerAudio = io.Custom("SINGER_AUDIO")
SingerPortraitType = io.Custom("SINGER_PORTRAIT")
SingerWeights = io.Custom("SINGER_WEIGHTS")
SingerIdentity = io.Custom("SINGER_IDENTITY")
FaceLandmarksType = io.Custom("FACE_LANDMARKS")
FaceDetectionType = io.Custom("FACE_DETECTION_MODEL")


def widget(settings: type, name: str, id: str | None = None, **changes: object) -> io.Input:
    """The widget of a field of the library's settings, from which it has default, range and words.

    id       its name in the node, where that is another
    changes  arguments of the widget that this node wants otherwise, such as `tooltip` or `options`
    """
    [(field, hint)] = [pair for pair in typed_fields(settings) if pair[0].name == name]
    given = {"default": field.default, "tooltip": field.metadata["help"]}
    given |= zip(("min", "max", "step"), field.metadata["slider"], strict=False)
    if get_origin(hint) is Literal:
        given["options"] = list(get_args(hint))
    if field.metadata.get("expert"):
        given["advanced"] = True
    given |= changes
    kind = (
        io.Combo
        if "options" in given
        else {bool: io.Boolean, int: io.Int, float: io.Float, str: io.String}[hint]
    )
    return kind.Input(id or name, **given)


SONG = "singer"
BRANCH = "singer_branch"
STAND_IN = "singer_stand_in"
TIMING: Final = "singer_timing"

# Core's dictionaries, into which any node puts what it likes.
Cond = dict[str, Any]
Options = dict[str, Any]
Conditioning = list[tuple[Tensor | None, Cond]]
Conds = dict[str, list[Cond]]  # of a guider: {"positive": [dict, ...], ...}


class Noise(Protocol):
    """What NOISE carries."""

    @property
    def seed(self) -> int: ...
    def generate_noise(self, input_latent: Input.Latent) -> Tensor: ...


def find_song(conds: Conds) -> SongConditions | None:
    """The song in the conditions of a guider; None where there is none."""
    return next((cond[SONG] for part in conds.values() for cond in part if SONG in cond), None)


class Timing(NamedTuple):
    """When latents are to be seen: frames a second, and the first one's number in the song."""

    fps: float
    first: int


def timing_of(latent: Input.Latent) -> Timing | None:
    """Of latents that `SINGER Conditioning` began, or a part of them; None where nothing is known."""
    timing: Timing | None = latent.get(TIMING)
    return timing and timing._replace(first=timing.first + first_of(latent))


def first_of(latent: Input.Latent) -> int:
    """Which of the latents that a part was cut from is its first; core's nodes note it.

    Raises ValueError where others than its neighbours follow.
    """
    index, frames = latent.get("batch_index") or [0], len(latent["samples"])
    if len(index) > 1 and list(index) != list(range(index[0], index[0] + frames)):
        raise ValueError(
            f"The latents are frames {', '.join(map(str, index[:6]))} ... of others, not one after another. "
            "Cut them with `LatentFromBatch` in one piece."
        )
    return index[0]


class FoundFace(TypedDict):
    """A face of core's landmarker: points (478, 2) and box (4,) in pixels of the picture."""

    landmarks_xy: np.ndarray
    bbox_xyxy: np.ndarray


class Landmarks(TypedDict):
    """FACE_LANDMARKS: the faces of each picture, and the pictures' (H, W)."""

    frames: list[list[FoundFace]]
    image_size: tuple[int, int]


def checked(read: Callable[[], object]) -> bool | str:
    """What core's `validate_inputs` answers before anything runs: True, or what is wrong with a text."""
    try:
        read()
    except ValueError as error:
        return str(error)
    return True


def to_image(picture: Image.Image) -> Tensor:
    """A picture as core's IMAGE, (1, H, W, 3) in [0, 1]."""
    return to_tensor(picture).permute(1, 2, 0)[None]  # C H W -> 1 H W C


def to_waveform(audio: Input.Audio | None, socket: str) -> Waveform:
    """The sound of an AUDIO socket. Raises ValueError where there is none, or several."""
    if audio is None or audio["waveform"].numel() == 0:
        raise ValueError(f"`{socket}` is empty. Load a song with sound.")
    samples = audio["waveform"]
    if len(samples) != 1:
        raise ValueError(f"`{socket}` holds {len(samples)} sounds; one is accepted. Send them one by one.")
    return check_waveform(Waveform(samples[0].float().cpu(), int(audio["sample_rate"])), f"`{socket}`")


def to_audio(waveform: Waveform) -> Input.Audio:
    """What an AUDIO socket carries, in memory."""
    return {"waveform": waveform.block(0, waveform.length)[None], "sample_rate": waveform.rate}
