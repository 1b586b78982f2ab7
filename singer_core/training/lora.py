"""Low-rank adaptation, through `peft`: factors beside the attention of some modules.

The rest of the network stays as it is, but for the MSM's gate and the SFM, which are small and train in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..network.checkpoint import Checkpoint, published_key
from ..weights import WeightFile

if TYPE_CHECKING:  # diffusers
    from ..network.backbone import SingerNetwork

LAYERS = r"(to_q|to_k|to_v|to_out\.0)"
_FACTOR = ".lora_"
_BASE = ".base_layer."


def add_factors(network: SingerNetwork, modules: str, rank: int, seed: int) -> None:
    """Put low-rank factors, which start as no change, on the attention within some modules.

    modules  a regular expression of their names
    Raises RuntimeError without peft.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise RuntimeError("Low-rank factors need peft. Install it: `pip install peft`.") from error
    pattern = rf"({modules})\.{LAYERS}"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=pattern), network)


def is_factor(name: str) -> bool:
    """Whether a parameter is one of the factors."""
    return _FACTOR in name


def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """The network's state dict with the factors multiplied out and added to their layers."""
    state = network.state_dict()
    merged = {name.replace(_BASE, "."): value for name, value in state.items() if not is_factor(name)}
    for name, module in network.named_modules():
        layer: Any = module
        if hasattr(layer, "get_delta_weight") and hasattr(layer, "base_layer"):
            weight = layer.base_layer.weight
            merged[f"{name}.weight"] = weight + layer.get_delta_weight("default").to(weight)
    return merged


def loadable_factors(factors: WeightFile, start: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    """What a run of factors trained, under the names that ComfyUI's LoRA loaders know.

    Factors are a pair for each layer; their scale is 1, as `add_factors` sets it. Gate of the MSM and SFM,
    which train in full, are stored as the difference from `start`.
    """
    for name in factors.shapes:
        value, layer = factors.tensor(name), f"diffusion_model.{name}"
        if name.startswith("unet."):  # core has these layers under other names, and knows diffusers'
            layer, factor = name.removeprefix("unet.").split(_FACTOR)
            yield f"lora_unet_{layer.replace('.', '_')}{_FACTOR}{factor.replace('default.', '')}", value
        elif is_factor(name):
            yield layer.replace(".default.", "."), value
        else:
            before = start.file.tensor(published_key(name)).float()
            yield f"{layer.removesuffix('.weight')}.diff", value - before
