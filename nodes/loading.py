"""A checkpoint file -> a MODEL: core's UNets filled from it, each owned by a patcher."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from singer_core.network.architecture import Architecture
from singer_core.network.checkpoint import VARIANTS, Checkpoint, open_checkpoint, our_key
from singer_core.settings import NoiseSchedule, SingerOptions

from .backbone import ReferenceUNet, core_names, unet_config
from .model import OPTIONS, REFERENCE, SingerConfig, SingerModel, condition_run

logger = logging.getLogger(__name__)

State = dict[str, Tensor]


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
    patcher = _owned(model, model.diffusion_model, denoiser, disable_dynamic)
    companion = _reference_unet(config, checkpoint.architecture)
    patcher.set_additional_models(REFERENCE, [_owned(companion, companion, reference, disable_dynamic)])
    patcher.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "singer", condition_run)
    set_options(patcher, options)
    name, weights = checkpoint.file.path.name, config.unet_config["dtype"]
    logger.info("%s: %s, weights in %s", name, VARIANTS[checkpoint.variant], weights)
    return patcher


def options_of(patcher: ModelPatcher) -> SingerOptions | None:
    """The options of a SINGER model; None for another model."""
    return patcher.model_options["transformer_options"].get(OPTIONS)


def set_options(patcher: ModelPatcher, options: SingerOptions) -> None:
    patcher.model_options["transformer_options"][OPTIONS] = options


def split_state(checkpoint: Checkpoint) -> tuple[State, State]:
    """Tensors of (denoising UNet with adapter, reference UNet) under core's names; dead ones are left out."""
    arch = checkpoint.architecture
    names = core_names(unet_config(arch))
    denoiser: State = {}
    reference: State = {}
    for key in checkpoint.file.shapes:
        ours = our_key(key, arch)
        if ours is None:
            continue
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
    operations = comfy.ops.pick_operations(dtype, config.manual_cast_dtype)
    core: dict[str, Any] = {**unet_config(arch), "dtype": dtype, "operations": operations}
    unet = ReferenceUNet(**core, device=mm.unet_offload_device()).eval().requires_grad_(False)
    mm.archive_model_dtypes(unet)
    return unet


def _owned(owned: nn.Module, module: nn.Module, state: State, disable_dynamic: bool) -> ModelPatcher:
    """A patcher that owns `owned`, whose `module` is filled from `state`."""
    kind = ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = kind(owned, load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device())
    module.load_state_dict(state, assign=patcher.is_dynamic())
    return patcher
