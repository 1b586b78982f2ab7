"""The two spectral modules of SINGER as patches of the MODEL, and a look at what they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io, ui

from singer_core import constants
from singer_core.audio.features import AudioFeatures
from singer_core.evaluation.song_plot import band_picture
from singer_core.render.sampler import SpectralWeighting
from singer_core.settings import BandGains, MsmInput, MsmScale, SingerOptions

from .library import needs_library
from .model import options_of, with_options
from .sockets import SingerAudio, to_image, widget

AS_TRAINED = "as trained"  # keeps how the model is run
WAVELETS = ["haar", "db2", "db4", "sym4", "coif1", "bior2.2"]


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
                _choice("msm_input", "mode", get_args(MsmInput)),
                _choice("msm_scale", "scale", get_args(MsmScale)),
                _gain("ll", "Factor on overall articulation; 1 = as it is."),
                _gain("lh", "Factor on change from frame to frame; 1 = as it is."),
                _gain("hl", "Factor on contrast between tokens; 1 = as it is."),
                _gain("hh", "Factor on both details together; 1 = as it is."),
                _choice("wavelet", "wavelet", WAVELETS),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model with these band gains.")],
        )

    @classmethod
    @needs_library
    def execute(
        cls,
        model: ModelPatcher,
        mode: str,
        scale: str,
        ll: float,
        lh: float,
        hl: float,
        hh: float,
        wavelet: str,
    ) -> io.NodeOutput:
        options = options_of(model)
        chosen = {"msm_input": mode, "msm_scale": scale, "wavelet": wavelet}
        changed = options.but(
            band_gains=_times(options.band_gains, (ll, lh, hl, hh)),
            **{name: value for name, value in chosen.items() if value != AS_TRAINED},
        )
        return io.NodeOutput(with_options(model, changed))


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
                widget(SingerOptions, "sfm_strength", "strength"),
                _gain("ll", "Factor on the shape band; 1 = as trained."),
                _gain("lh", "Factor on vertical detail; 1 = as trained."),
                _gain("hl", "Factor on horizontal detail; 1 = as trained."),
                _gain("hh", "Factor on diagonal detail; 1 = as trained."),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model with this filter.")],
        )

    @classmethod
    @needs_library
    def execute(
        cls, model: ModelPatcher, strength: float, ll: float, lh: float, hl: float, hh: float
    ) -> io.NodeOutput:
        options = options_of(model)
        if model.model.architecture.sfm_width is None:
            raise ValueError(
                "`model` is a Hallo network, which has no self-adaptive filter. Connect a SINGER model, or "
                "remove this node."
            )
        changed = options.but(
            sfm_strength=options.sfm_strength * strength,
            sfm_gains=_times(options.sfm_gains, (ll, lh, hl, hh)),
        )
        return io.NodeOutput(with_options(model, changed))


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
    def execute(
        cls, singer_audio: AudioFeatures, first_frame: int, length: int, model: ModelPatcher | None = None
    ) -> io.NodeOutput:
        frames = singer_audio.frames
        if first_frame >= frames:
            raise ValueError(
                f"`first_frame` is {first_frame}; the song has {frames} frames. Choose a lower one."
            )
        shown = singer_audio.features[first_frame : min(first_frame + length, frames)]
        picture = band_picture(shown, first_frame, None if model is None else _expected_gains(model))
        plot = to_image(picture)
        return io.NodeOutput(plot, ui=ui.PreviewImage(plot, cls=cls))


def _choice(field: str, id: str, values: Sequence[str]) -> io.Input:
    """A combo of an option, which may stay as the model has it."""
    words = SingerOptions.__dataclass_fields__[field].metadata["help"]
    tooltip = f"{AS_TRAINED}: as the model's loader says. {words}"
    return widget(
        SingerOptions, field, id, options=[AS_TRAINED, *values], default=AS_TRAINED, tooltip=tooltip
    )


def _gain(band: str, tooltip: str) -> io.Input:
    return io.Float.Input(band, default=1.0, min=0.0, max=4.0, step=0.01, tooltip=tooltip)


def _times(gains: BandGains, factors: tuple[float, ...]) -> BandGains:
    return BandGains(*(gain * factor for gain, factor in zip(gains, factors, strict=True)))


def _expected_gains(model: ModelPatcher) -> list[float]:
    """Expected gain of each band for a clip of 16 frames under the model's options."""
    options = options_of(model)
    if options.msm_input != "off":
        options = options.but(msm_input="expected")
    weighting = SpectralWeighting(model.model.diffusion_model.adapter, options)
    gains = weighting.gains(torch.zeros(constants.CLIP_FRAMES, 1))
    return list(options.band_gains) if gains is None else gains.tolist()
