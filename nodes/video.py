"""From latents to a video with sound."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .library import needs_library
from .sockets import SingerPortraitType


class SingerVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerVideo",
            display_name="SINGER Video",
            category="SINGER",
            description="Decodes latents while writing them to a video with the song, in constant memory.",
            search_aliases=["create video", "vae decode", "save video", "paste back", "mux audio"],
            inputs=[
                io.Latent.Input("latent", tooltip="Latents of all frames (frames, 4, h, w)."),
                io.Vae.Input("vae", tooltip="The VAE that the portrait was encoded with."),
                io.Audio.Input("audio", optional=True, tooltip="Sound of the video, usually the whole song."),
                SingerPortraitType.Input(
                    "portrait",
                    optional=True,
                    tooltip="Connected: every frame is pasted back into the original picture.",
                ),
                io.Float.Input(
                    "fps",
                    default=25.0,
                    min=1.0,
                    max=120.0,
                    step=0.01,
                    tooltip="Frames per second, as in `Encode SINGER Audio`.",
                ),
                io.Float.Input(
                    "audio_start",
                    default=0.0,
                    min=0.0,
                    max=100_000.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Seconds of the sound that are skipped: first_frame / fps of the conditioning.",
                ),
                io.Int.Input(
                    "crf",
                    default=18,
                    min=0,
                    max=51,
                    advanced=True,
                    tooltip="H.264 quality: 0 = lossless, 18 = looks lossless, 51 = worst.",
                ),
            ],
            outputs=[io.Video.Output(display_name="video", tooltip="H.264 with AAC, for `Save Video`.")],
        )

    @classmethod
    @needs_library
    def execute(
        cls,
        latent: Any,
        vae: Any,
        fps: float,
        audio_start: float,
        crf: int,
        audio: Any = None,
        portrait: Any = None,
    ) -> io.NodeOutput:
        from .film import Film, write_film

        return io.NodeOutput(write_film(latent["samples"], vae, Film(fps, crf, audio_start), audio, portrait))
