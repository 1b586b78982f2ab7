"""Portrait and song -> conditioning."""

from __future__ import annotations

import comfy.model_management as mm
import torch
from comfy.sd import VAE
from comfy_api.latest import io
from torch import Tensor

from singer_core.audio.features import AudioFeatures
from singer_core.network.conditions import CONDITIONAL, UNCONDITIONAL, Branch
from singer_core.portrait.portrait import Portrait
from singer_core.render.run import SongConditions
from singer_core.settings import SingerOptions

from .library import needs_library
from .sockets import (
    BRANCH,
    SONG,
    STAND_IN,
    TIMING,
    Conditioning,
    SingerAudio,
    SingerPortraitType,
    SingerWeights,
    Timing,
    widget,
)

STAND_IN_WIDTH = 768  # of SD1.5's text tokens, with which core's nodes may mix it


class SingerConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerConditioning",
            display_name="SINGER Conditioning",
            category="SINGER",
            description="Tells the model who sings and what, and makes empty latents for it.",
            search_aliases=["audio conditioning", "talking head", "image to video", "singing portrait"],
            inputs=[
                io.Vae.Input("vae", tooltip="VAE of SD1.5; sd-vae-ft-mse for the published models."),
                SingerPortraitType.Input("portrait", tooltip="Of `Prepare SINGER Portrait`."),
                SingerAudio.Input("singer_audio", tooltip="Of `Encode SINGER Audio`."),
                SingerWeights.Input(
                    "weights", optional=True, tooltip="Pose, face and lip weight per frame; without it all 1."
                ),
                io.Image.Input(
                    "previous_frames",
                    optional=True,
                    tooltip="Frames right before the first one, of the portrait's size: the last ones are "
                    "shown to the network. Without it the portrait stands still.",
                ),
                io.Int.Input(
                    "first_frame",
                    default=0,
                    min=0,
                    max=10_000_000,
                    tooltip="Frame of the song to start with (25 a second).",
                ),
                io.Int.Input(
                    "length",
                    default=0,
                    min=0,
                    max=10_000_000,
                    tooltip="Number of frames; 0 = to the end of the song. KSampler takes an even number up "
                    "to 30, `Sample SINGER Video` any.",
                ),
                widget(
                    SingerOptions,
                    "motion_frames",
                    advanced=True,
                    tooltip="Frames before the first one that the network is shown; trained with 2.",
                ),
                widget(SingerOptions, "brighten_bright"),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="With portrait and song."),
                io.Conditioning.Output(display_name="negative", tooltip="Without either."),
                io.Latent.Output(display_name="latent", tooltip="Empty latents (frames, 4, h, w)."),
            ],
        )

    @classmethod
    @needs_library
    def execute(
        cls,
        vae: VAE,
        portrait: Portrait,
        singer_audio: AudioFeatures,
        first_frame: int,
        length: int,
        motion_frames: int,
        brighten_bright: bool,
        weights: Tensor | None = None,
        previous_frames: Tensor | None = None,
    ) -> io.NodeOutput:
        frames = frames_from(singer_audio, first_frame, length)
        carried = _last(previous_frames, portrait, motion_frames)
        references = encode_references(vae, portrait, carried, motion_frames, brighten_bright)
        song = SongConditions(
            portrait, singer_audio, references, first_frame, weights, brighten_bright, frames=frames
        )
        zeros = torch.zeros_like(references[:1], device=mm.intermediate_device(), dtype=torch.float32)
        samples = zeros.expand(frames, -1, -1, -1)  # in the memory of one frame
        latent = {"samples": samples, TIMING: Timing(singer_audio.fps, first_frame)}
        return io.NodeOutput(_entry(song, CONDITIONAL), _entry(song, UNCONDITIONAL), latent)


def frames_from(audio: AudioFeatures, first: int, length: int) -> int:
    """How many frames of the song to make. Raises ValueError where they lie outside it."""
    left = audio.frames - first
    if left <= 0:
        raise ValueError(f"`first_frame` is {first}; the song has {audio.frames} frames. Choose a lower one.")
    if length > left + left % 2:
        raise ValueError(
            f"`length` is {length}; from frame {first} on the song has {left} frames. Set 0 for all of them."
        )
    return length or left


def encode_references(
    vae: VAE, portrait: Portrait, carried: Tensor | None, motion_frames: int, brighten: bool
) -> Tensor:
    """Unscaled latents (1 + motion_frames, c, h, w) of [portrait, carried frames].

    carried  IMAGE (motion_frames, H, W, 3); None = the portrait, standing still
    """
    picture = portrait.image.permute(1, 2, 0)[None]  # C H W -> 1 H W C
    if carried is None:
        return _encode(vae, picture, brighten).expand(1 + motion_frames, -1, -1, -1)
    return _encode(vae, torch.cat([picture, carried.to(picture)]), brighten)


def _entry(song: SongConditions, branch: Branch) -> Conditioning:
    """One condition, whose stand-in no other song and portrait have."""
    own = 1 + song.audio.features.float().abs().mean() + song.references.float().abs().mean().cpu()
    stand_in = torch.full((1, 1, STAND_IN_WIDTH), float(own) if branch.audio else 0.0)
    return [(stand_in, {SONG: song, BRANCH: branch, STAND_IN: stand_in})]


def _encode(vae: VAE, pixels: Tensor, brighten: bool) -> Tensor:
    """IMAGE (k, H, W, 3) -> latents (k, 4, h, w)."""
    if brighten and pixels.min() >= 0.5:
        pixels = pixels * 2 - 1  # taken for [-1, 1] by the authors' pre-processing (numerics section 13)
    return vae.encode(pixels)


def _last(previous: Tensor | None, portrait: Portrait, count: int) -> Tensor | None:
    if previous is None:
        return None
    size = (portrait.image.shape[1], portrait.image.shape[2])
    if tuple(previous.shape[1:3]) != size or len(previous) < count:
        raise ValueError(
            f"`previous_frames` are {len(previous)} pictures of {previous.shape[2]} x {previous.shape[1]}; "
            f"at least {count} of the portrait's {size[1]} x {size[0]} are needed. Connect decoded frames of "
            "this portrait, before paste-back."
        )
    return previous[-count:, ..., :3]
