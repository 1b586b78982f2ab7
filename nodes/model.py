"""SINGER as a MODEL of ComfyUI: configuration, conditions of a batch, memory estimate.

What a run is conditioned on is worked out in a wrapper around the sampler: all weights are loaded then, core
has prepared its own conditions, and what is made there dies with the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.supported_models_base
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from singer_core import constants
from singer_core.network.adapter import SingerAdapter
from singer_core.network.architecture import Architecture
from singer_core.network.conditions import UNCONDITIONAL, Branch, ReferenceFeatures
from singer_core.settings import OFFICIAL, NoiseSchedule, SingerOptions

from .backbone import SingerUNet, reference_features, unet_config
from .run import RunConditions, make_run
from .sockets import BRANCH, SONG, SongConditions

REFERENCE = "singer_reference"  # key of the reference UNet among the patcher's additional models
OPTIONS = "singer_options"  # key of the SingerOptions in the patcher's transformer options

# diffusers' name of a noise schedule -> core's, which calls diffusers' "scaled_linear" linear.
CORE_SCHEDULES: dict[NoiseSchedule, str] = {"linear": "sqrt_linear", "scaled_linear": "linear"}

# Values that live at the peak of a forward, in units of h * w * width of the first level: per row of the
# batch, and those that a run keeps (reference features, keys, values). Measured: test_memory.py.
ROW_VALUES = 32
RUN_VALUES = 136


class SingerConfig(comfy.supported_models_base.BASE):
    """Core's description of the model: SD1.5 latents, v-prediction, zero terminal signal-to-noise ratio."""

    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012 - core's attribute
    latent_format = comfy.latent_formats.SD15
    supported_inference_dtypes = [torch.float16, torch.bfloat16, torch.float32]  # noqa: RUF012
    memory_usage_factor = 1.0

    def __init__(self, arch: Architecture, schedule: NoiseSchedule) -> None:
        super().__init__(unet_config(arch))
        self.sampling_settings = {
            "beta_schedule": CORE_SCHEDULES[schedule],
            "linear_start": constants.BETA_START,
            "linear_end": constants.BETA_END,
            "timesteps": constants.TRAIN_TIMESTEPS,
            "zsnr": True,
        }


class SingerModel(comfy.model_base.BaseModel):
    """v-predicting denoiser of (f, 4, h, w) latents; `condition_run` tells it what to sing."""

    def __init__(self, config: SingerConfig, arch: Architecture, device: torch.device | None = None) -> None:
        v_prediction = comfy.model_base.ModelType.V_PREDICTION
        super().__init__(config, v_prediction, device=device, unet_model=partial(SingerUNet, arch))
        self.architecture = arch

    def resize_cond_for_context_window(
        self, cond_key: str, cond_value: Any, window: Any, *_rest: Any, **_named: Any
    ) -> Any:
        """Core's context windows: the window's frames, behind its anchor where it has one."""
        if cond_key != RUN:
            return cond_value if cond_key == BRANCHES else None
        anchor = getattr(window, "causal_anchor_index", None)
        anchors = [] if anchor is None or anchor < 0 else [anchor]
        return comfy.conds.CONDConstant(cond_value.cond.window([*anchors, *window.index_list]))

    def memory_required(self, input_shape: Any, cond_shapes: Any = None) -> float:
        """Bytes beside the weights, for latents ((branch f), 4, h, w).

        Core asks with the batch of the whole latents; what is longer than a clip is not run at once.
        """
        rows = min(input_shape[0], 2 * constants.MOTION_POSITIONS)
        unit = input_shape[-2] * input_shape[-1] * self.architecture.channels[0]
        size = comfy.model_management.dtype_size(self.get_dtype_inference())
        return (ROW_VALUES * rows + RUN_VALUES) * unit * size


# Names under which core hands our conditions to `SingerUNet._forward`.
RUN, BRANCHES = "singer_run", "singer_branches"


class BranchCond(comfy.conds.CONDConstant):
    """Which branch each chunk of a batch is: a list that grows as core joins chunks. Never a tensor."""

    def can_concat(self, other: Any) -> bool:
        return isinstance(other, BranchCond)

    def concat(self, others: Any) -> list[Branch]:
        return [branch for cond in (self, *others) for branch in cond.cond]


@dataclass(frozen=True, eq=False)
class ManagedNetwork:
    """A loaded model and its reference UNet, with the face of the library's `SingerNetwork`."""

    model: SingerModel
    reference: ModelPatcher
    device: torch.device

    @property
    def adapter(self) -> SingerAdapter:
        return self.model.diffusion_model.adapter

    @property
    def architecture(self) -> Architecture:
        return self.model.architecture

    @property
    def dtype(self) -> torch.dtype:
        return self.model.get_dtype_inference()

    def scaled(self, latents: Tensor) -> Tensor:
        return self.model.process_latent_in(latents)

    def reference_features(
        self, latents: Tensor, tokens: Tensor, *, rounded_to: torch.dtype | None = None
    ) -> ReferenceFeatures:
        return reference_features(self.reference.model, latents[0], tokens[:, 0], rounded_to)


def condition_run(
    executor: Any,
    guider: Any,
    sigmas: Tensor,
    extra_args: Any,
    callback: Any,
    noise: Tensor,
    *rest: Any,
    **named: Any,
) -> Any:
    """Core's SAMPLER_SAMPLE wrapper: gives every condition of the run what the network needs.

    Conditions that share a song share all that is made of it, so core runs them as one batch.
    """
    made: dict[int, RunConditions] = {}
    for name, conds in guider.conds.items():
        for cond in conds:
            song: SongConditions | None = cond.get(SONG)
            if song is None:
                raise ValueError(
                    f"The conditioning `{name}` does not come from `SINGER Conditioning`. A SINGER model "
                    "needs both its outputs."
                )
            if id(song) not in made:
                made[id(song)] = _make(guider, song, noise)
            cond["model_conds"] = {**cond["model_conds"], **_conds(made[id(song)], cond[BRANCH])}
    return executor(guider, sigmas, extra_args, callback, noise, *rest, **named)


def _conds(run: RunConditions, branch: Branch) -> dict[str, comfy.conds.CONDRegular]:
    return {
        "c_crossattn": comfy.conds.CONDCrossAttn(run.tokens[int(branch.portrait)]),
        RUN: comfy.conds.CONDConstant(run),
        BRANCHES: BranchCond([branch]),
    }


def _make(guider: Any, song: SongConditions, noise: Tensor) -> RunConditions:
    patcher: ModelPatcher = guider.model_patcher
    (reference,) = patcher.get_additional_models_with_key(REFERENCE)
    network = ManagedNetwork(patcher.model, reference, noise.device)
    branches = [cond[BRANCH] for conds in guider.conds.values() for cond in conds if BRANCH in cond]
    options: SingerOptions = guider.model_options["transformer_options"].get(OPTIONS, OFFICIAL)
    if UNCONDITIONAL not in branches:
        options = options.but(reference_scale=1.0, audio_scale=1.0)
    return make_run(
        network,
        options,
        song,
        noise,
        windowed=guider.model_options.get("context_handler") is not None,
        keeps_keys=not patcher.hook_patches,  # hooks change weights between steps
    )
