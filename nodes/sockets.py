"""What our own sockets carry. Everything else travels in core's types.

SINGER_AUDIO      singer_core.audio.features.AudioFeatures
SINGER_PORTRAIT   singer_core.portrait.portrait.Portrait
SINGER_WEIGHTS    (s, 3) float32: pose, face and lip weight of each frame, 1 = as trained
SINGER_IDENTITY   nodes.face.IdentityModel
FACE_LANDMARKS    core's: {"frames": [[{"landmarks_xy": (478, 2)}, ...]], "image_size": (H, W), ...}

A CONDITIONING entry of ours is [None, {"singer": SongConditions, "singer_branch": Branch}].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

if TYPE_CHECKING:
    from torch import Tensor

    from singer_core.audio.features import AudioFeatures
    from singer_core.portrait.portrait import Portrait

SingerAudio = io.Custom("SINGER_AUDIO")
SingerPortraitType = io.Custom("SINGER_PORTRAIT")
SingerWeights = io.Custom("SINGER_WEIGHTS")
SingerIdentity = io.Custom("SINGER_IDENTITY")
FaceLandmarksType = io.Custom("FACE_LANDMARKS")


def frame_rate(tooltip: str) -> io.Float.Input:
    """The widget `fps`, frames per second."""
    return io.Float.Input("fps", default=25.0, min=1.0, max=120.0, step=0.01, tooltip=tooltip)


SONG = "singer"
BRANCH = "singer_branch"


@dataclass(frozen=True, eq=False)
class SongConditions:
    """What the frames of a run are conditioned on, before the model has seen it.

    references   (1 + carried, 4, h, w) unscaled VAE latents: the portrait, then the frames before the first
    start        frame of the song that the first latent belongs to
    weights      (s, 3), None = 1
    brighten     stretch pictures without a pixel below mid-grey, as the authors' VAE pre-processing does
    first_noise  (f, 4, h, w) noise of the song's first clip, for a locked MSM; None = the run's own
    """

    portrait: Portrait
    audio: AudioFeatures
    references: Tensor
    start: int = 0
    weights: Tensor | None = None
    brighten: bool = True
    first_noise: Tensor | None = None


def find_song(conds: Any) -> SongConditions | None:
    """The song in the conditions of a guider, {"positive": [dict, ...], ...}; None where there is none."""
    return next((cond[SONG] for part in conds.values() for cond in part if SONG in cond), None)
