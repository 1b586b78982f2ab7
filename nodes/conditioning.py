"""Portrait and song -> conditioning."""

from __future__ import annotations

from comfy.sd import VAE
from comfy_api.latest import io
from torch import Tensor

from singer_core.audio.features import AudioFeatures
from singer_core.portrait.portrait import Portrait
from singer_core.settings import SingerOptions

from .library import needs_library
from .sockets import SingerAudio, SingerPortraitType, SingerWeights
from .song import condition_song, empty_latents, frames_from
from .widgets import widget


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
        positive, negative = condition_song(
            vae, portrait, singer_audio, first_frame, weights, previous_frames, motion_frames, brighten_bright
        )
        return io.NodeOutput(positive, negative, {"samples": empty_latents(portrait, frames)})
