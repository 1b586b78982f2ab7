"""From latents to a video with sound, of one singer or two."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .library import needs_library
from .sockets import SingerPortraitType, frame_rate


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
                *_widgets(),
            ],
            outputs=[_output()],
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
        from .film import Film, canvas_of, write_film

        samples = latent["samples"]
        canvas = canvas_of(samples, vae, portrait)
        return io.NodeOutput(write_film([samples], canvas, vae, Film(fps, crf, audio_start), audio))


class SingerDuetVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerDuetVideo",
            display_name="SINGER Duet Video",
            category="SINGER",
            description="Puts two singers into one video: side by side, or both back into one picture.",
            search_aliases=["duet", "two singers", "two faces", "side by side", "stitch videos", "dialogue"],
            inputs=[
                io.Latent.Input("first", tooltip="Latents of the first singer, (frames, 4, h, w): the left."),
                io.Latent.Input(
                    "second", tooltip="Latents of the second, as many; sampled with a stem of their own."
                ),
                io.Vae.Input("vae", tooltip="The VAE that both portraits were encoded with."),
                io.Audio.Input("audio", optional=True, tooltip="Sound of the video: the mix of both voices."),
                SingerPortraitType.Input(
                    "first_portrait",
                    optional=True,
                    tooltip="Connected: the first singer is pasted back into the original picture. Two "
                    "portraits of one picture sing in it together.",
                ),
                SingerPortraitType.Input(
                    "second_portrait", optional=True, tooltip="The same for the second singer."
                ),
                *_widgets(),
            ],
            outputs=[_output()],
        )

    @classmethod
    @needs_library
    def execute(
        cls,
        first: Any,
        second: Any,
        vae: Any,
        fps: float,
        audio_start: float,
        crf: int,
        audio: Any = None,
        first_portrait: Any = None,
        second_portrait: Any = None,
    ) -> io.NodeOutput:
        from .film import Film, canvas_of_two, write_film

        latents = [first["samples"], second["samples"]]
        canvas = canvas_of_two(latents, vae, first_portrait, second_portrait)
        return io.NodeOutput(write_film(latents, canvas, vae, Film(fps, crf, audio_start), audio))


def _widgets() -> list[io.Input]:
    return [
        frame_rate("Frames per second, as in `Encode SINGER Audio`."),
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
    ]


def _output() -> io.Output:
    return io.Video.Output(display_name="video", tooltip="H.264 with AAC, for `Save Video`.")
