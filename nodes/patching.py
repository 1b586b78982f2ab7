"""The options of a MODEL: they lie in its patcher, so that a clone has its own."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher

from singer_core.settings import SingerOptions

OPTIONS = "singer_options"  # key among the patcher's transformer options


def options_of(model: ModelPatcher) -> SingerOptions:
    """The options of a SINGER model. Raises ValueError for another model."""
    options = model.model_options["transformer_options"].get(OPTIONS)
    if options is None:
        raise ValueError("`model` is not a SINGER model. Connect `Load SINGER Model`.")
    return options


def with_options(model: ModelPatcher, options: SingerOptions) -> ModelPatcher:
    """A clone of the model that runs under other options."""
    clone = model.clone()
    clone.model_options["transformer_options"][OPTIONS] = options
    return clone
