"""Sampling whole songs."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from singer_core.settings import OFFICIAL, SingerOptions

from .library import needs_library
from .widgets import widget

# Options of the library that say how a song is cut and held steady.
FORM = ("clip_frames", "motion_frames", "overlap", "clip_noise", "hold_colours", "reanchor")


class SingerSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerSampler",
            display_name="Sample SINGER Video",
            category="SINGER",
            description="Samples a song of any length clip by clip, each shown the last frames of the one "
            "before.",
            search_aliases=["long video", "ksampler", "context", "extend video", "singing"],
            inputs=[
                io.Noise.Input(
                    "noise", tooltip="Of `RandomNoise`, or `SINGER Noise` for the authors' order."
                ),
                io.Guider.Input("guider", tooltip="Of `CFGGuider` (the authors' scale is 3.5) or any other."),
                io.Sampler.Input(
                    "sampler", tooltip="Of `KSamplerSelect`, or `SINGER DDIM` for the authors'."
                ),
                io.Sigmas.Input("sigmas", tooltip="Noise levels; `simple`, 40 steps, are the authors'."),
                io.Latent.Input("latent_image", tooltip="Latents of `SINGER Conditioning`, any length."),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Decodes and encodes the frames carried between clips, as the authors do. "
                    "Without it they are carried as latents: faster.",
                ),
                *(widget(SingerOptions, name) for name in FORM),
                io.Boolean.Input(
                    "keep_clips",
                    default=True,
                    advanced=True,
                    tooltip="Keep finished clips in the system's temporary folder until the song is done: "
                    "after a cancel the same graph goes on from there. 1 MB a clip at 512 x 512.",
                ),
                io.Boolean.Input(
                    "finished_only",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="On: sample nothing, give the clips that a cancelled run of this graph has "
                    "finished. They are kept.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="Latents of all frames (frames, 4, h, w).")
            ],
        )

    @classmethod
    @needs_library
    def execute(
        cls,
        noise: Any,
        guider: Any,
        sampler: Any,
        sigmas: Any,
        latent_image: Any,
        clip_frames: int,
        motion_frames: int,
        overlap: int,
        vae: Any = None,
        clip_noise: str = "fresh",
        hold_colours: float = 0.0,
        reanchor: float = 0.0,
        keep_clips: bool = True,
        finished_only: bool = False,
    ) -> io.NodeOutput:
        from .long_form import sample_song

        options = OFFICIAL.but(
            clip_frames=clip_frames,
            motion_frames=motion_frames,
            overlap=overlap,
            clip_noise=clip_noise,
            hold_colours=hold_colours,
            reanchor=reanchor,
        )
        samples = sample_song(
            noise,
            guider,
            sampler,
            sigmas,
            latent_image,
            options,
            vae,
            keep_clips=keep_clips or finished_only,
            finished_only=finished_only,
        )
        return io.NodeOutput({**latent_image, "samples": samples})
