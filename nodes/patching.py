"""Options of a MODEL, changed on a clone of it."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher

from singer_core.settings import BandGains, SingerOptions

from .loading import options_of, set_options

Gains = tuple[float, float, float, float]


def with_weighting(
    model: ModelPatcher, msm_input: str, msm_scale: str, gains: Gains, wavelet: str
) -> ModelPatcher:
    """The model with another MSM mode; gains multiply those it has."""
    options = _options(model)
    changed = options.but(
        msm_input=msm_input,
        msm_scale=msm_scale,
        band_gains=_times(options.band_gains, gains),
        wavelet=wavelet,
    )
    return _with(model, changed)


def with_filter(model: ModelPatcher, strength: float, gains: Gains) -> ModelPatcher:
    """The model with another SFM strength; strength and gains multiply those it has."""
    options = _options(model)
    if model.model.architecture.sfm_width is None:
        raise ValueError(
            "`model` is a Hallo network, which has no self-adaptive filter. Connect a SINGER model, or "
            "remove this node."
        )
    changed = options.but(
        sfm_strength=options.sfm_strength * strength, sfm_gains=_times(options.sfm_gains, gains)
    )
    return _with(model, changed)


def _options(model: ModelPatcher) -> SingerOptions:
    options = options_of(model)
    if options is None:
        raise ValueError("`model` is not a SINGER model. Connect `Load SINGER Model`.")
    return options


def _with(model: ModelPatcher, options: SingerOptions) -> ModelPatcher:
    clone = model.clone()
    set_options(clone, options)
    return clone


def _times(gains: BandGains, factors: Gains) -> BandGains:
    return BandGains(*(gain * factor for gain, factor in zip(gains, factors, strict=True)))
