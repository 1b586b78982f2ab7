"""Sampling: the authors' noise and sampler, split guidance, and whole songs."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from singer_core.settings import SamplingSettings, SingerOptions

from .library import needs_library
from .widgets import widget

# Options of the library that say how a song is cut and held steady.
FORM = ("clip_frames", "motion_frames", "overlap", "clip_noise", "hold_colours", "reanchor")


class SingerNoise(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerNoise",
            display_name="SINGER Noise",
            category="SINGER",
            description="Draws noise in the order of the authors' script, so that the same seed gives the "
            "same.",
            search_aliases=["random noise", "seed", "parity"],
            inputs=[
                widget(SamplingSettings, "seed", "noise_seed", control_after_generate=True),
                widget(
                    SingerOptions,
                    "clip_frames",
                    tooltip="Frames of a clip, as in the sampler: each clip is drawn channel by channel.",
                ),
            ],
            outputs=[io.Noise.Output(display_name="noise", tooltip="For any sampler with a NOISE socket.")],
        )

    @classmethod
    @needs_library
    def execute(cls, noise_seed: int, clip_frames: int) -> io.NodeOutput:
        from .samplers import ClipNoise

        return io.NodeOutput(ClipNoise(noise_seed, clip_frames))


class SingerDDIM(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerDDIM",
            display_name="SINGER DDIM",
            category="SINGER",
            description="The authors' sampler: DDIM from a noise level without any signal. Use it with the "
            "scheduler `simple`.",
            search_aliases=["ddim", "sampler", "parity", "zero snr"],
            inputs=[],
            outputs=[
                io.Sampler.Output(display_name="sampler", tooltip="Deterministic, for v-prediction models.")
            ],
        )

    @classmethod
    @needs_library
    def execute(cls) -> io.NodeOutput:
        from .samplers import ddim_sampler

        return io.NodeOutput(ddim_sampler())


class SingerGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerGuider",
            display_name="SINGER Guider",
            category="SINGER",
            description="Guides towards the portrait and towards the song by scales of their own.",
            search_aliases=["cfg", "guidance", "dual cfg", "audio cfg"],
            inputs=[
                io.Model.Input("model", tooltip="A SINGER or Hallo model."),
                io.Conditioning.Input("positive", tooltip="Of `SINGER Conditioning`."),
                io.Conditioning.Input("negative", tooltip="Of `SINGER Conditioning`."),
                widget(SingerOptions, "reference_scale"),
                widget(SingerOptions, "audio_scale"),
                widget(SingerOptions, "guidance_rescale", "rescale"),
            ],
            outputs=[io.Guider.Output(display_name="guider", tooltip="For samplers with a GUIDER socket.")],
        )

    @classmethod
    @needs_library
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        reference_scale: float,
        audio_scale: float,
        rescale: float,
    ) -> io.NodeOutput:
        from .guider import SplitGuider

        return io.NodeOutput(SplitGuider(model, positive, negative, reference_scale, audio_scale, rescale))


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
        from .long_form import LongForm, sample_song

        form = LongForm(
            clip_frames,
            motion_frames,
            overlap,
            clip_noise,
            hold_colours,
            reanchor,
            keep_clips or finished_only,
            finished_only,
        )
        samples = sample_song(noise, guider, sampler, sigmas, latent_image, form, vae)
        return io.NodeOutput({**latent_image, "samples": samples})
