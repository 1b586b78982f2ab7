"""Which parameters a run trains, and with which starting weights (numerics section 17)."""

from __future__ import annotations

import copy
import dataclasses
import logging
from typing import Any

import torch
from torch import nn

from .. import constants
from ..network.architecture import Architecture
from ..network.backbone import SingerNetwork
from ..network.checkpoint import Checkpoint, load_network, open_checkpoint
from . import lora
from .config import TrainConfig
from .initialise import authors_spectral, identity_filter, init_weights

logger = logging.getLogger(__name__)

SITES = "adapter.sites."
AUDIO_PROJECTION = "adapter.audio_projection."
MSM = "adapter.multi_scale_spectral."
MSM_GATE = "adapter.multi_scale_spectral.gate."
SFM = "adapter.self_adaptive_filter."

# Parameters that a stage trains, by the start of their names.
AUTHORS_CLIPS = (SITES, AUDIO_PROJECTION, MSM_GATE)
MATCHED_CLIPS = (SITES, AUDIO_PROJECTION, MSM, SFM)
PICTURES = ("unet.", "reference_unet.", "adapter.face_locator.", "adapter.image_projection.")
LORA_FULL = (MSM_GATE, SFM)  # beside the low-rank factors


def starting_network(config: TrainConfig) -> SingerNetwork:
    """The network that a run begins with, float32 on the CPU: fresh, from `config.start`, or both.

    Where `architecture` differs from that of `start`, a fresh network takes over what fits: pictures of
    another size want another SFM, a file of Hallo or of stage 1 lacks modules.
    Raises RuntimeError and FileNotFoundError as `open_checkpoint`, ValueError where too little fits.
    """
    if config.start is None:
        return _fresh_network(config)
    checkpoint = open_checkpoint(config.start)
    if config.recipe == "distill":
        _check_teacher(checkpoint)
    arch = config.architecture
    if arch is not None and _as_trained(arch, config) != _as_trained(checkpoint.architecture, config):
        network = _fresh_network(config)
        _take_over(network, checkpoint)
        return network
    network = load_network(checkpoint, torch.float32)
    network.architecture = _as_trained(network.architecture, config)
    if config.recipe == "matched" and checkpoint.variant == "singer":
        _warn_untrained_filter(checkpoint, network)
    return network


def _check_teacher(checkpoint: Checkpoint) -> None:
    """ValueError where a network cannot be distilled."""
    name, steps = checkpoint.file.path.name, checkpoint.distilled_steps
    if steps:
        raise ValueError(
            f"`start` {name} is distilled already, for {steps} steps. Name the network that it was made of."
        )
    if checkpoint.variant == "stage1":
        raise ValueError(
            f"`start` {name} has no audio and motion modules: it sings nothing that could be learnt. Name a "
            "network that has learnt to sing (stage 2)."
        )


def teacher_of(network: SingerNetwork, config: TrainConfig) -> SingerNetwork:
    """A frozen copy of a network before it learns; it shares the tensors that the run does not train."""
    prefixes = trained_prefixes(config)
    tensors = (*network.named_parameters(), *network.named_buffers())
    shared = {id(tensor): tensor for name, tensor in tensors if not name.startswith(prefixes)}
    return copy.deepcopy(network, shared).eval().requires_grad_(False)


def _fresh_network(config: TrainConfig) -> SingerNetwork:
    assert config.architecture is not None  # TrainConfig checked it
    network = SingerNetwork(_as_trained(config.architecture, config))
    init_weights(network, config.seed)
    if config.recipe == "authors":
        authors_spectral(network, config.seed)
    return network


def _take_over(network: SingerNetwork, checkpoint: Checkpoint) -> None:
    """Give a network the tensors of a checkpoint that have its names and shapes.

    Half of its own UNet's at least: ValueError with the first that differs.
    """
    own, file = network.state_dict(), checkpoint.file
    names = {
        key: name
        for key, name in checkpoint.names.items()
        if name in own and own[name].shape == file.shapes[key]
    }
    fitting = {names[key]: value for key, value in file.moved(names, torch.float32)}
    missing = [name for name in own if name not in fitting]
    pictures = [name for name in own if name.startswith("unet.")]
    if 2 * sum(name in fitting for name in pictures) < len(pictures):
        raise ValueError(
            f"`architecture` shares {len(fitting)} of {len(own)} tensors with {file.path.name}; the "
            f"first that differs is {missing[0]}. Accepted: half of the UNet's or more. Take its widths, or "
            "leave `architecture` out."
        )
    network.load_state_dict(fitting, strict=False)
    modules = sorted({".".join(name.split(".")[:2]) for name in missing})
    logger.info("%s: %d tensors; fresh: %s", file.path.name, len(fitting), ", ".join(modules))


def _as_trained(arch: Architecture, config: TrainConfig) -> Architecture:
    """The recipe `matched` trains a branch without portrait that does not see the carried frames either."""
    return dataclasses.replace(arch, carried_input="with_portrait") if config.recipe == "matched" else arch


def _warn_untrained_filter(checkpoint: Checkpoint, network: SingerNetwork) -> None:
    filter_ = network.adapter.self_adaptive_filter
    if filter_ is None:
        return
    entries = filter_.bands.weight
    if entries[0, 0, 0].numel() > 1 and 0.95 < float(entries.std()) < 1.05:
        logger.warning(
            "%s: the SFM was never trained (entries with a deviation of 1); it starts as the identity",
            checkpoint.file.path.name,
        )
        identity_filter(filter_)


def trained_prefixes(config: TrainConfig) -> tuple[str, ...]:
    """Starts of the names of the parameters that the run trains."""
    if config.has_factors:
        return LORA_FULL
    if config.stage == 1:
        return PICTURES
    if config.trainable == "all":
        return (*PICTURES, *MATCHED_CLIPS)
    return AUTHORS_CLIPS if config.recipe == "authors" else MATCHED_CLIPS


def prepare_parameters(network: SingerNetwork, config: TrainConfig) -> dict[str, nn.Parameter]:
    """Freeze everything but what the run trains; returns that by name.

    The recipe `matched` makes a parameter of the MSM's matrix, a buffer in the authors' code; runs of factors
    add theirs. Parts whose rate is 0 stay as they are.
    """
    module = network.adapter.multi_scale_spectral
    if module is not None and config.recipe == "matched" and config.stage == 2:
        _make_parameter(module.kernel, "weight")
    network.requires_grad_(False)
    if config.has_factors:
        lora.add_factors(network, _factored(config), config.lora_rank, config.seed)
    prefixes, trained = trained_prefixes(config), dict[str, nn.Parameter]()
    for name, parameter in network.named_parameters():
        wanted = name.startswith(prefixes) or lora.is_factor(name)
        if wanted and rate_factor(name, config) and not never_reached(name, network.architecture):
            parameter.requires_grad_(True)
            trained[name] = parameter
    return trained


def _factored(config: TrainConfig) -> str:
    """Which modules get factors, as a regular expression: where a singer differs, or where time steps do."""
    if config.recipe == "distill":
        return r"unet\..*|adapter\.sites\..*"
    return rf"adapter\.sites\.\w+\.{'(audio|motion)' if config.lora_motion else 'audio'}\..*"


def never_reached(name: str, arch: Architecture) -> bool:
    """Whether a parameter of the reference UNet comes after the last features that are read of it."""
    last_block, last_layer = f"up_blocks.{arch.levels - 1}", arch.layers
    attention = f"reference_unet.{last_block}.attentions.{last_layer}."
    if not name.startswith(attention):
        return False
    return not name.startswith(
        (f"{attention}norm.", f"{attention}proj_in.", f"{attention}transformer_blocks.0.norm1.")
    )


def _make_parameter(module: nn.Module, name: str) -> None:
    """Turn a buffer into a parameter of the same name."""
    if name in module._parameters:
        return
    value: Any = module._buffers.pop(name)
    module.register_parameter(name, nn.Parameter(value))


def rate_factor(name: str, config: TrainConfig) -> float:
    """What the learning rate of a parameter is multiplied with."""
    rates = config.rates
    if name.startswith((MSM, SFM)):
        return rates.spectral
    if name.startswith(SITES):
        return rates.motion if ".motion." in name else rates.audio
    return rates.audio if name.startswith(AUDIO_PROJECTION) else rates.spatial


def parameter_groups(trained: dict[str, nn.Parameter], config: TrainConfig) -> list[dict[str, object]]:
    """Optimizer groups, with the factor on the learning rate as `factor`.

    The authors decay every value; otherwise vectors (norms, biases) are left alone.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        decays = config.recipe == "authors" or parameter.ndim > 1
        key = (rate_factor(name, config), config.weight_decay if decays else 0.0)
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": groups[factor, decay], "weight_decay": decay, "factor": factor}
        for factor, decay in sorted(groups, reverse=True)
    ]


def memory_estimate(config: TrainConfig, network: SingerNetwork, trained: int) -> dict[str, float]:
    """Bytes of a run, roughly: {"weights", "training", "activations", "total"}.

    Weights and, for what is trained, gradient and optimizer state (8 bytes, 2 with 8-bit Adam) and the
    average. The activations are an estimate from the number of values that each site keeps per latent pixel.
    """
    arch = network.architecture
    values = sum(x.numel() for x in (*network.parameters(), *network.buffers()))
    optimizer, average = 2 if config.eight_bit_adam else 8, 4 if config.ema else 0
    side = 64 if arch.sfm_width is None else arch.sfm_width * constants.VAE_STRIDE
    kept = 4 if config.gradient_checkpointing else 90
    of_frame = sum((side >> site.level) ** 2 * site.channels * kept for site in arch.sites())
    frames = config.batch * (config.frames if config.stage == 2 else 1)
    found = {
        "weights": 4.0 * values,
        "training": float(trained * (4 + optimizer + average)),
        "activations": float(frames * of_frame * (2 if config.precision != "no" else 4)),
    }
    return {**found, "total": sum(found.values())}
