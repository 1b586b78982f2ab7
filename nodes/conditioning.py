"""Portrait and song -> conditioning."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .library import needs_library
from .sockets import SingerAudio, SingerPortraitType, SingerWeights


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
                io.Int.Input(
                    "motion_frames",
                    default=2,
                    min=1,
                    max=16,
                    advanced=True,
                    tooltip="Frames before the first one that the network is shown; trained with 2.",
                ),
                io.Boolean.Input(
                    "brighten_bright",
                    default=True,
                    advanced=True,
                    tooltip="Stretch pictures without a pixel below mid-grey once more, as the authors' code "
                    "does by accident.",
                ),
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
        vae: Any,
        portrait: Any,
        singer_audio: Any,
        first_frame: int,
        length: int,
        motion_frames: int,
        brighten_bright: bool,
        weights: Any = None,
        previous_frames: Any = None,
    ) -> io.NodeOutput:
        from .song import condition_song, empty_latents, frames_from

        frames = frames_from(singer_audio, first_frame, length)
        song = condition_song(
            vae, portrait, singer_audio, first_frame, weights, previous_frames, motion_frames, brighten_bright
        )
        positive, negative = song
        return io.NodeOutput(positive, negative, {"samples": empty_latents(portrait, frames)})
