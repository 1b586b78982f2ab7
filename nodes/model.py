"""SINGER as a MODEL of ComfyUI: a checkpoint in core's UNets, conditions of a batch, memory estimate.

What a run is conditioned on is worked out in a wrapper around the sampler: all weights are loaded then, core
has prepared its own conditions, and what is made there dies with the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import comfy.latent_formats
import comfy.model_base
import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.supported_models_base
import torch
from comfy.conds import CONDConstant, CONDCrossAttn, CONDRegular
from comfy.context_windows import IndexListContextWindow
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy.samplers import CFGGuider
from torch import Tensor, nn

from singer_core import constants
from singer_core.network.adapter import SingerAdapter
from singer_core.network.architecture import Architecture
from singer_core.network.checkpoint import VARIANTS, Checkpoint, open_checkpoint
from singer_core.network.conditions import UNCONDITIONAL, Branch, ReferenceFeatures
from singer_core.render.conditioning import framing_warning
from singer_core.render.run import RunConditions, SongConditions, make_run
from singer_core.settings import NoiseSchedule, SingerOptions, distilled_warning

from .backbone import ReferenceUNet, SingerUNet, core_names, reference_features, unet_config
from .sockets import BRANCH, SONG, STAND_IN, Cond, Options

logger = logging.getLogger(__name__)

State = dict[str, Tensor]

OPTIONS = "singer_options"  # key among the transformer options of the patcher, so that a clone has its own
REFERENCE = "singer_reference"  # key of the reference UNet among the patcher's additional models

# diffusers' name of a noise schedule -> core's, which calls diffusers' "scaled_linear" linear.
CORE_SCHEDULES: dict[NoiseSchedule, str] = {"linear": "sqrt_linear", "scaled_linear": "linear"}

# Values that live at the peak of a forward, in units of h * w * width of the first level: per row of the
# batch, and those that a run keeps (reference features, keys, values). Measured: test_memory.py.
ROW_VALUES = 32
RUN_VALUES = 136


def load_singer(
    path: str, options: SingerOptions, dtype: torch.dtype | None = None, disable_dynamic: bool = False
) -> ModelPatcher:
    """A MODEL from `net.pth` of SINGER or Hallo, or its safetensors conversion.

    options   what the MODEL starts with; its noise schedule is built in
    dtype     of the weights; None = what core prefers on this machine
    Raises FileNotFoundError, and RuntimeError for a file that is something else.
    """
    model = build_singer(open_checkpoint(Path(path)), options, dtype, disable_dynamic)
    # Core builds the model again from this where it needs one without dynamic offloading.
    model.cached_patcher_init = (load_singer, (path, options, dtype))
    return model


def build_singer(
    checkpoint: Checkpoint,
    options: SingerOptions,
    dtype: torch.dtype | None = None,
    disable_dynamic: bool = False,
) -> ModelPatcher:
    """A MODEL from an opened checkpoint."""
    if checkpoint.variant == "stage1":
        raise RuntimeError(
            f"{checkpoint.file.path.name} holds {VARIANTS['stage1']}: a start for training that cannot sing. "
            "Choose the `net.pth` of SINGER or Hallo."
        )
    denoiser, reference = split_state(checkpoint)
    config = _config(checkpoint, denoiser, options.noise_schedule, dtype)
    model = SingerModel(config, checkpoint.architecture, device=mm.unet_offload_device())
    model.distilled_steps = checkpoint.distilled_steps
    patcher = _owned(model, model.diffusion_model, denoiser, disable_dynamic)
    companion = _reference_unet(config, checkpoint.architecture)
    patcher.set_additional_models(REFERENCE, [_owned(companion, companion, reference, disable_dynamic)])
    patcher.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "singer", condition_run)
    patcher.model_options["transformer_options"][OPTIONS] = options
    name, weights = checkpoint.file.path.name, config.unet_config["dtype"]
    logger.info("%s: %s, weights in %s", name, VARIANTS[checkpoint.variant], weights)
    return patcher


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


def split_state(checkpoint: Checkpoint) -> tuple[State, State]:
    """Tensors of (denoising UNet with adapter, reference UNet) under core's names; dead ones are left out."""
    names = core_names(unet_config(checkpoint.architecture))
    denoiser: State = {}
    reference: State = {}
    for key, ours in checkpoint.names.items():
        part, _, name = ours.partition(".")
        target = reference if part == "reference_unet" else denoiser
        target[ours if part == "adapter" else names[name]] = checkpoint.file.tensor(key)
    return denoiser, reference


def _config(
    checkpoint: Checkpoint, state: State, schedule: NoiseSchedule, dtype: torch.dtype | None
) -> SingerConfig:
    config = SingerConfig(checkpoint.architecture, schedule)
    supported = config.supported_inference_dtypes
    if dtype is None:
        values = sum(tensor.numel() for tensor in state.values())
        stored = state["input_blocks.0.0.weight"].dtype
        dtype = mm.unet_dtype(model_params=values, supported_dtypes=supported, weight_dtype=stored)
    config.set_inference_dtype(dtype, mm.unet_manual_cast(dtype, mm.get_torch_device(), supported))
    return config


def _reference_unet(config: SingerConfig, arch: Architecture) -> ReferenceUNet:
    dtype = config.unet_config["dtype"]
    # Its weights follow what the denoiser computes in, which `ModelComputeDtype` may change for a run.
    operations = comfy.ops.manual_cast
    unet = ReferenceUNet(
        **unet_config(arch), dtype=dtype, operations=operations, device=mm.unet_offload_device()
    )
    unet.eval().requires_grad_(False)
    mm.archive_model_dtypes(unet)
    return unet


def _owned(owned: nn.Module, module: nn.Module, state: State, disable_dynamic: bool) -> ModelPatcher:
    """A patcher that owns `owned`, whose `module` is filled from `state`."""
    kind = ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = kind(owned, load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device())
    module.load_state_dict(state, assign=patcher.is_dynamic())
    return patcher


def latent_format(channels: int) -> comfy.latent_formats.LatentFormat:
    """SD1.5's, or of a VAE with more channels, whose latents are scaled like those."""
    if channels == constants.LATENT_CHANNELS:
        return comfy.latent_formats.SD15()
    wide = comfy.latent_formats.LatentFormat()
    wide.scale_factor, wide.latent_channels = constants.VAE_SCALE, channels
    return wide


class SingerConfig(comfy.supported_models_base.BASE):
    """Core's description of the model: SD1.5 latents, v-prediction, zero terminal signal-to-noise ratio."""

    unet_extra_config: dict[str, object] = {}  # noqa: RUF012 - core's attribute
    latent_format: comfy.latent_formats.LatentFormat
    supported_inference_dtypes = [torch.float16, torch.bfloat16, torch.float32]  # noqa: RUF012
    memory_usage_factor = 1.0

    def __init__(self, arch: Architecture, schedule: NoiseSchedule) -> None:
        super().__init__(unet_config(arch))
        self.latent_format = latent_format(arch.latent_channels)
        self.sampling_settings = {
            "beta_schedule": CORE_SCHEDULES[schedule],
            "linear_start": constants.BETA_START,
            "linear_end": constants.BETA_END,
            "timesteps": constants.TRAIN_TIMESTEPS,
            "zsnr": True,
        }


class SingerModel(comfy.model_base.BaseModel):
    """v-predicting denoiser of (f, 4, h, w) latents; `condition_run` tells it what to sing."""

    distilled_steps: int = 0

    def __init__(self, config: SingerConfig, arch: Architecture, device: torch.device | None = None) -> None:
        v_prediction = comfy.model_base.ModelType.V_PREDICTION
        super().__init__(config, v_prediction, device=device, unet_model=partial(SingerUNet, arch))
        self.architecture = arch

    def resize_cond_for_context_window(
        self,
        cond_key: str,
        cond_value: CONDRegular,
        window: IndexListContextWindow,
        *_rest: object,
        **_named: object,
    ) -> CONDRegular | None:
        """Core's context windows: the window's frames, behind its anchor where it has one."""
        if cond_key != RUN:
            return cond_value if cond_key == BRANCHES else None
        anchor = getattr(window, "causal_anchor_index", None)
        anchors = [] if anchor is None or anchor < 0 else [anchor]
        return CONDConstant(cond_value.cond.window([*anchors, *window.index_list]))

    def memory_required(self, input_shape: Sequence[int], cond_shapes: object = None) -> float:
        """Bytes beside the weights, for latents ((branch f), 4, h, w).

        Core asks with the batch of the whole latents; what is longer than a clip is not run at once.
        """
        rows = min(input_shape[0], 2 * constants.MOTION_POSITIONS)
        unit = input_shape[-2] * input_shape[-1] * self.architecture.channels[0]
        size = mm.dtype_size(self.get_dtype_inference())
        return (ROW_VALUES * rows + RUN_VALUES) * unit * size


# Names under which core hands our conditions to `SingerUNet._forward`.
RUN, BRANCHES = "singer_run", "singer_branches"


class BranchCond(CONDConstant):
    """Which branch each chunk of a batch is: a list that grows as core joins chunks. Never a tensor."""

    def can_concat(self, other: CONDRegular) -> bool:
        return isinstance(other, BranchCond)

    def concat(self, others: Sequence[CONDRegular]) -> list[Branch]:
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
        found = reference_features(self.reference.model, latents[0], tokens[:, 0], rounded_to)
        return found.read_by(self.architecture, latents)


def condition_run(
    executor: Callable[..., Tensor],
    guider: CFGGuider,
    sigmas: Tensor,
    extra_args: object,
    callback: object,
    noise: Tensor,
    *rest: object,
    **named: object,
) -> Tensor:
    """Core's SAMPLER_SAMPLE wrapper: gives every condition of the run what the network needs.

    Conditions that share a song share all that is made of it, so core runs them as one batch.
    """
    found = [(cond, branch_of(name, cond, noise)) for name, conds in guider.conds.items() for cond in conds]
    guided = UNCONDITIONAL in [branch for _, branch in found]
    made: dict[int, RunConditions] = {}
    for cond, branch in found:
        song: SongConditions = cond[SONG]
        if id(song) not in made:
            arch = guider.model_patcher.model.architecture
            if song.start == 0 and (words := framing_warning(arch, song.portrait)):
                logger.warning("SINGER: %s", words)
            made[id(song)] = _make(guider, song, noise, guided)
        cond["model_conds"] = {**cond["model_conds"], **_conds(made[id(song)], branch)}
    first = any(cond[SONG].start == 0 for cond, _ in found)  # of a song's clips
    scales = (guider.cfg, getattr(guider, "reference_scale", guider.cfg))
    made_for = guider.model_patcher.model.distilled_steps
    if first and (words := distilled_warning(made_for, len(sigmas) - 1, scales != (1.0, 1.0))):
        logger.warning("SINGER: %s", words)
    return executor(guider, sigmas, extra_args, callback, noise, *rest, **named)


def branch_of(name: str, cond: Cond, latents: Tensor) -> Branch:
    """The branch of a condition, whatever core's nodes did to it. Raises ValueError where that means nothing.

    name  of its input of the guider
    """
    if SONG not in cond:
        raise ValueError(
            f"The conditioning `{name}` does not come from `SINGER Conditioning`. A SINGER model "
            "needs both its outputs."
        )
    h, w = latents.shape[-2:]
    if tuple(cond.get("area") or (h, w))[:2] != (h, w):
        raise ValueError(
            f"The conditioning `{name}` is for a part of the picture; SINGER's portrait is the whole of it. "
            "Remove `ConditioningSetArea`; `ConditioningSetMask` with `set_cond_area` = default does it."
        )
    # Not `cond["cross_attn"]`: where one side has an area, core gives the other a copy of the wrong entry.
    stand_in: Tensor = cond["model_conds"]["c_crossattn"].cond
    if not stand_in.any():
        return UNCONDITIONAL
    if not torch.equal(stand_in.to(cond[STAND_IN]), cond[STAND_IN]):
        raise ValueError(
            f"The conditioning `{name}` is a mixture, of `ConditioningAverage` or `ConditioningConcat`; "
            "portraits and songs have no sum. Remove the node; `SINGER Guider` and `SINGER Motion Weights` "
            "set strengths."
        )
    return cond[BRANCH]


def _conds(run: RunConditions, branch: Branch) -> dict[str, CONDRegular]:
    return {
        "c_crossattn": CONDCrossAttn(run.tokens[int(branch.portrait)]),
        RUN: CONDConstant(run),
        BRANCHES: BranchCond([branch]),
    }


def _make(guider: CFGGuider, song: SongConditions, noise: Tensor, guided: bool) -> RunConditions:
    patcher: ModelPatcher = guider.model_patcher
    (reference,) = patcher.get_additional_models_with_key(REFERENCE)
    network = ManagedNetwork(patcher.model, reference, noise.device)
    options: SingerOptions = guider.model_options["transformer_options"][OPTIONS]
    if not guided:
        options = options.but(reference_scale=1.0, audio_scale=1.0)
    return make_run(
        network,
        options,
        song,
        noise,
        windowed=_is_windowed(guider.model_options),
        keeps_keys=not patcher.hook_patches,  # hooks change weights between steps
    )


def _is_windowed(options: Options) -> bool:
    """Whether context windows will cut the frames: core's, or AnimateDiff-Evolved's."""
    other = options["transformer_options"].get("ADGS")
    return options.get("context_handler") is not None or (
        other is not None and other.is_using_sliding_context()
    )
