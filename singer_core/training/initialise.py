"""Initial weights of a network trained from scratch; the network package itself only loads them.

What is added to the residual streams starts at zero or near it, so that the untrained network passes its
input on and every part learns from the first step.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .. import constants
from ..network.adapter import FaceLocator, SiteModules
from ..network.backbone import SingerNetwork
from ..network.layers import AudioTransformer, MotionModule, PositionalEncoding, sinusoidal_positions
from ..network.spectral import MultiScaleSpectralModule, SelfAdaptiveFilterModule

SILU_GAIN = math.sqrt(3)  # SiLU leaves about a third of the variance of small activations
BUFFER_DEVIATION = 1.0  # of the authors' MSM matrix and SFM gains (numerics section 4)


@torch.no_grad()
def init_weights(network: SingerNetwork, seed: int) -> None:
    """Fill a network with initial weights, in place; the same seed gives the same weights."""
    kind = network.device.type
    with torch.random.fork_rng([] if kind == "cpu" else [network.device], device_type=kind):
        torch.manual_seed(seed)
        for module in network.modules():
            _reset(module)
        for block in network.unet.modules():
            _quiet_block(block)
        own = network.unet.state_dict()
        network.reference_unet.load_state_dict({key: own[key] for key in network.reference_unet.state_dict()})
        _zero(network.unet.conv_out)
        init_locator(network.adapter.face_locator)
        for site in network.adapter.sites.values():
            assert isinstance(site, SiteModules)
            init_audio(site.audio)  # both start as the identity (Hallo, AnimateDiff)
            init_motion(site.motion)
        init_spectral(network)


def init_locator(locator: FaceLocator) -> None:
    """Its last layer starts at zero, before that activations roughly keep their size.

    PyTorch's default, of the authors' too, halves them in every layer, so that hardly a gradient arrives.
    """
    for layer in (locator.conv_in, *locator.blocks):
        assert isinstance(layer, nn.Conv2d)
        nn.init.normal_(layer.weight, std=SILU_GAIN / math.sqrt(layer.weight[0].numel()))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    _zero(locator.conv_out)


def _quiet_block(module: nn.Module) -> None:
    """Zero the last layer of a residual block or spatial transformer of diffusers."""
    if type(module).__name__ == "ResnetBlock2D":
        _zero(module.conv2)
    elif type(module).__name__ == "Transformer2DModel":
        _zero(module.proj_out)


def init_audio(module: AudioTransformer) -> None:
    """The convolutions behind the three attentions are zero, the way out small."""
    block: Any = module.transformer_blocks[0]
    way_out: Any = module.proj_out
    for name in block.REGIONS:
        _zero(getattr(block, f"zero_conv_{name}"))
    nn.init.normal_(way_out.weight, std=0.02)
    nn.init.zeros_(way_out.bias)


def init_motion(module: MotionModule) -> None:
    """The way out is zero; tables of positions are computed."""
    _zero(module.temporal_transformer.proj_out)
    for part in module.modules():
        if isinstance(part, PositionalEncoding):
            part.pe.copy_(sinusoidal_positions(part.pe.shape[-1]))


def init_spectral(network: SingerNetwork) -> None:
    """SFM as identity, MSM as a gain of 1 that every band shares."""
    adapter = network.adapter
    if adapter.self_adaptive_filter is not None:
        identity_filter(adapter.self_adaptive_filter)
    module = adapter.multi_scale_spectral
    if module is not None:
        nn.init.normal_(module.kernel.weight, std=_unit_response(module))
        _zero(module.gate[2])
        # Each frame adds half a gain while the gate is closed halfway.
        norm: Any = adapter.audio_projection.norm
        nn.init.constant_(norm.weight, 2.0 / constants.TRAINED_CLIP_FRAMES)


def _unit_response(module: MultiScaleSpectralModule) -> float:
    """Deviation of the kernel's entries with which a strip of white noise answers with deviation 1."""
    repeated, _, lengths, height, width = module.kernel.weight.shape
    return float((repeated * lengths * height * width / constants.SPECTRAL_BANDS) ** -0.5)


def identity_filter(module: SelfAdaptiveFilterModule) -> None:
    """Gains that undo the gate, which is one half while its last layer is zero."""
    entries = module.bands.weight[0, 0, 0].numel()
    nn.init.constant_(module.bands.weight, 2.0 / entries)
    _reset(module.gate[0])
    _zero(module.gate[2])


def authors_spectral(network: SingerNetwork, seed: int) -> None:
    """The authors' start: a random MSM matrix and random SFM gains, neither of which they train."""
    generator = torch.Generator().manual_seed(seed)

    def normal(target: Tensor) -> None:
        drawn = torch.randn(target.shape, generator=generator) * BUFFER_DEVIATION
        target.data.copy_(drawn)

    adapter = network.adapter
    if adapter.self_adaptive_filter is not None:
        normal(adapter.self_adaptive_filter.bands.weight)
    if adapter.multi_scale_spectral is not None:
        normal(adapter.multi_scale_spectral.kernel.weight)
        _reset(adapter.multi_scale_spectral.gate[2])


def _reset(module: Any) -> None:
    """PyTorch's initial weights, for a layer that has any."""
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()


def _zero(module: Any) -> None:
    for parameter in module.parameters(recurse=False):
        nn.init.zeros_(parameter)
