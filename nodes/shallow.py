"""DeepCache (Ma et al. 2024) on core's UNet: between whole steps only its outermost blocks run.

Nothing of the UNet is written again, and nothing of it is changed. A cached step runs core's own forward on a
view of the UNet that has the first input blocks, the last output blocks, and between them the features that
entered those output blocks at the last whole step. The features are a run's: a wrapper around core's sampler
makes their place, and they die with it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from comfy.ldm.modules.diffusionmodules.openaimodel import TimestepEmbedSequential, UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from torch import Tensor, nn

from .loading import options_of

KEY = "singer_deep_cache"  # of our wrappers, and of a run's `DeepCache` in its transformer options

Options = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Which steps are whole and which blocks run at the others.

    blocks  how many input blocks, and as many output blocks, a cached step runs
    first   highest noise level of a cached step; `last` is the lowest
    """

    interval: int
    blocks: int
    first: float
    last: float


@dataclass
class DeepCache:
    """What one run keeps: features by branches, rows and number of the call within a step."""

    plan: Plan
    features: dict[object, Tensor] = field(default_factory=dict)
    sigma: float | None = None
    step: int = -1
    calls: int = 0

    def enter(self, sigma: float) -> None:
        """Note a call of the network at a noise level; another level is another step."""
        if sigma != self.sigma:
            self.sigma, self.step, self.calls = sigma, self.step + 1, 0
        self.calls += 1

    def may_reuse(self) -> bool:
        within = self.sigma is not None and self.plan.last <= self.sigma <= self.plan.first
        return within and self.step % self.plan.interval > 0


def with_deep_cache(
    model: ModelPatcher, interval: int, level: int, start_percent: float, end_percent: float
) -> ModelPatcher:
    """The model with deep features reused between every `interval`-th step; another cache is replaced.

    Raises ValueError for another model, and where the network has no level below `level`.
    """
    if options_of(model) is None:
        raise ValueError("`model` is not a SINGER model. Connect `Load SINGER Model`.")
    arch = model.model.architecture
    if level >= arch.levels:
        raise ValueError(
            f"`level` is {level}; this network has {arch.levels} levels, of which at most {arch.levels - 1} "
            "can run without the others. Lower it."
        )
    if start_percent > end_percent:
        raise ValueError(
            f"`start_percent` is {start_percent}, behind `end_percent` {end_percent}. Swap them."
        )
    clone = model.clone()
    for kind in (WrappersMP.SAMPLER_SAMPLE, WrappersMP.DIFFUSION_MODEL):
        clone.remove_wrappers_with_key(kind, KEY)
    if interval == 1:
        return clone
    to_sigma = model.get_model_object("model_sampling").percent_to_sigma
    plan = Plan(interval, level * (arch.layers + 1), to_sigma(start_percent), to_sigma(end_percent))
    clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, partial(_run, plan))
    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, _forward)
    return clone


def _run(
    plan: Plan, executor: Any, guider: Any, sigmas: Tensor, extra_args: Any, *rest: Any, **named: Any
) -> Any:
    """Core's SAMPLER_SAMPLE wrapper: an empty cache for the run."""
    if guider.model_options.get("context_handler") is not None:
        raise ValueError(
            "`SINGER Deep Cache` keeps the features of one clip; context windows run many at each step. "
            "Remove one of the two, or sample with `Sample SINGER Video`."
        )
    model_options = extra_args["model_options"]
    options = {**model_options["transformer_options"], KEY: DeepCache(plan)}
    extra_args = {**extra_args, "model_options": {**model_options, "transformer_options": options}}
    return executor(guider, sigmas, extra_args, *rest, **named)


def _forward(
    executor: Any,
    x: Tensor,
    timesteps: Tensor,
    context: Tensor,
    y: Any,
    control: Any,
    transformer_options: Options,
    **named: Any,
) -> Tensor:
    """Core's DIFFUSION_MODEL wrapper: the whole network, or the view of it."""
    cache: DeepCache | None = transformer_options.get(KEY)
    unet: UNetModel = executor.class_obj
    if cache is None:
        return executor(x, timesteps, context, y, control, transformer_options, **named)
    cache.enter(transformer_options["sigmas"].max().item())
    key = (tuple(named.get("singer_branches", ())), len(x), cache.calls)
    if cache.may_reuse() and key in cache.features:
        view = _view(unet, cache.plan.blocks, cache.features[key])
        shorter = WrapperExecutor.new_class_executor(view._forward, view, executor.wrappers, executor.idx + 1)
        control = _outer_control(control, cache.plan.blocks)
        options = _without_middle(transformer_options)
        return shorter.execute(x, timesteps, context, y, control, options, **named)
    entrance = ("output", len(unet.output_blocks) - cache.plan.blocks)
    options = _with_patch(transformer_options, partial(_keep, cache, key, entrance))
    return executor(x, timesteps, context, y, control, options, **named)


def _keep(
    cache: DeepCache, key: object, entrance: tuple[str, int], h: Tensor, skip: Tensor, options: Options
) -> tuple[Tensor, Tensor]:
    """Core's `output_block_patch`: keep what enters the outermost output blocks; later patches may write on
    it."""
    if options["block"] == entrance:
        cache.features[key] = h.clone()
    return h, skip


class Recalled(nn.Module):
    """Gives the features it was made with, whatever comes in."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features

    def forward(self, _x: Tensor) -> Tensor:
        return self.features


def _view(unet: UNetModel, blocks: int, features: Tensor) -> UNetModel:
    """The outermost blocks of the UNet around the features; shares every weight, registers nothing."""
    view = copy.copy(unet)
    view.__dict__["_modules"] = dict(unet._modules)
    view.input_blocks = unet.input_blocks[:blocks]
    view.middle_block = TimestepEmbedSequential(Recalled(features))
    view.output_blocks = unet.output_blocks[-blocks:]
    return view


def _outer_control(control: Any, blocks: int) -> Any:
    """ControlNet's residuals for the view; core takes them from the lists' ends."""
    if control is None:
        return None
    return {**control, "middle": [], "output": list(control.get("output", []))[:blocks]}


def _with_patch(options: Options, patch: Any) -> Options:
    patches = options.get("patches", {})
    first = [patch, *patches.get("output_block_patch", [])]
    return {**options, "patches": {**patches, "output_block_patch": first}}


def _without_middle(options: Options) -> Options:
    patches = {k: v for k, v in options.get("patches", {}).items() if k != "middle_block_after_patch"}
    return {**options, "patches": patches}
