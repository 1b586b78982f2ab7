"""The two spectral modules of SINGER as patches of the MODEL, and a look at what they do."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .library import needs_library
from .sockets import SingerAudio

MSM_INPUTS = ["initial_noise", "every_step", "expected", "locked", "off"]
WAVELETS = ["haar", "db2", "db4", "sym4", "coif1", "bior2.2"]
GAIN = {"default": 1.0, "min": 0.0, "max": 4.0, "step": 0.01}


class SingerSpectralWeighting(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerSpectralWeighting",
            display_name="SINGER Multi-scale Spectral Weighting",
            category="SINGER",
            description="Chooses how the multi-scale spectral module weighs the song's wavelet bands.",
            search_aliases=["msm", "wavelet", "equalizer", "articulation", "audio strength"],
            inputs=[
                io.Model.Input("model", tooltip="A SINGER or Hallo model."),
                io.Combo.Input(
                    "mode",
                    options=MSM_INPUTS,
                    default="initial_noise",
                    tooltip="What the band gains are read off. initial_noise: each clip's noise, as the "
                    "authors' script; every_step: the latents of each step, as the paper; expected: their "
                    "mean, equal for all clips; locked: the first clip's noise for all; off: gains of 1.",
                ),
                io.Combo.Input(
                    "scale",
                    options=["sum", "trained_length"],
                    default="sum",
                    tooltip="sum: gains add up over the clip's frames, as the authors'; trained_length: as "
                    "if the clip had the 14 frames of training.",
                ),
                io.Float.Input("ll", **GAIN, tooltip="Factor on overall articulation; 1 = as it is."),
                io.Float.Input("lh", **GAIN, tooltip="Factor on change from frame to frame; 1 = as it is."),
                io.Float.Input("hl", **GAIN, tooltip="Factor on contrast between tokens; 1 = as it is."),
                io.Float.Input("hh", **GAIN, tooltip="Factor on both details together; 1 = as it is."),
                io.Combo.Input(
                    "wavelet",
                    options=WAVELETS,
                    default="haar",
                    advanced=True,
                    tooltip="Basis of the bands. The weights were trained with haar.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model with these band gains.")],
        )

    @classmethod
    @needs_library
    def execute(
        cls, model: Any, mode: str, scale: str, ll: float, lh: float, hl: float, hh: float, wavelet: str
    ) -> io.NodeOutput:
        from .patching import with_weighting

        return io.NodeOutput(with_weighting(model, mode, scale, (ll, lh, hl, hh), wavelet))


class SingerSelfAdaptiveFilter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerSelfAdaptiveFilter",
            display_name="SINGER Self-adaptive Filter",
            category="SINGER",
            description="Sets the strength of the self-adaptive filter on the network's deepest features.",
            search_aliases=["sfm", "wavelet", "filter", "sharpness"],
            inputs=[
                io.Model.Input("model", tooltip="A SINGER model; Hallo has no such filter."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip="0 bypasses the filter, 1 is as trained.",
                ),
                io.Float.Input("ll", **GAIN, tooltip="Factor on the shape band; 1 = as trained."),
                io.Float.Input("lh", **GAIN, tooltip="Factor on vertical detail; 1 = as trained."),
                io.Float.Input("hl", **GAIN, tooltip="Factor on horizontal detail; 1 = as trained."),
                io.Float.Input("hh", **GAIN, tooltip="Factor on diagonal detail; 1 = as trained."),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model with this filter.")],
        )

    @classmethod
    @needs_library
    def execute(
        cls, model: Any, strength: float, ll: float, lh: float, hl: float, hh: float
    ) -> io.NodeOutput:
        from .patching import with_filter

        return io.NodeOutput(with_filter(model, strength, (ll, lh, hl, hh)))


class SingerSpectralPlot(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerSpectralPlot",
            display_name="Plot SINGER Spectrum",
            category="SINGER",
            description="Draws the song's features, its wavelet bands and the gains of the spectral module.",
            search_aliases=["wavelet", "spectrogram", "msm", "visualize audio"],
            inputs=[
                SingerAudio.Input("singer_audio", tooltip="The encoded song."),
                io.Model.Input("model", optional=True, tooltip="Adds the expected gain of each band."),
                io.Int.Input(
                    "first_frame", default=0, min=0, max=1_000_000, tooltip="First frame that is drawn."
                ),
                io.Int.Input(
                    "length", default=100, min=2, max=1000, tooltip="How many frames are drawn (25 a second)."
                ),
            ],
            outputs=[io.Image.Output(display_name="plot", tooltip="Picture of features, bands and gains.")],
        )

    @classmethod
    @needs_library
    def execute(cls, singer_audio: Any, first_frame: int, length: int, model: Any = None) -> io.NodeOutput:
        from .plot import spectrum_plot

        return io.NodeOutput(spectrum_plot(singer_audio, first_frame, length, model))
