"""Core's wav2vec2, with the face that the library's front end knows from transformers.

Both are the same network with the same parameter names; what differs is where activations and sizes stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import comfy.model_management as mm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Kernels and strides of every wav2vec2 (Baevski et al. 2020, section 4.2); core builds them in.
KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
PASS_BYTES = 1 << 30  # of one block of convolutions or one encoder window


def loaded_encoder(audio_encoder: Any) -> CoreWav2Vec2:
    """Load an AUDIO_ENCODER to its device. Raises ValueError where it is no wav2vec2."""
    model = audio_encoder.model
    if not hasattr(model, "feature_projection"):
        raise ValueError(
            f"`audio_encoder` is a {type(model).__name__}; SINGER hears through wav2vec2. Load "
            "wav2vec2-base-960h with `Load Audio Encoder`."
        )
    mm.load_models_gpu([audio_encoder.patcher], memory_required=PASS_BYTES)
    return CoreWav2Vec2(model, audio_encoder.load_device)


class CoreWav2Vec2:
    """A loaded `comfy.audio_encoders.wav2vec2.Wav2Vec2Model`, seen as transformers' class of that name."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        encoder, layers = model.encoder, list(model.feature_extractor.conv_layers)
        self.config = SimpleNamespace(
            num_hidden_layers=len(encoder.layers),
            hidden_size=encoder.layer_norm.weight.shape[0],
            conv_kernel=KERNELS,
            conv_stride=STRIDES,
            do_stable_layer_norm=encoder.do_stable_layer_norm,
        )
        self.feature_extractor = SimpleNamespace(conv_layers=[_first_layer(layers[0], device), *layers[1:]])
        self.feature_projection = lambda x: (model.feature_projection(x),)
        self.encoder = encoder
        self._device = device

    def parameters(self) -> Iterator[Tensor]:
        """One tensor on the device that computes; weights may lie elsewhere until they are used."""
        yield torch.empty(0, device=self._device)

    def eval(self) -> CoreWav2Vec2:
        return self

    def requires_grad_(self, _requires: bool) -> CoreWav2Vec2:
        return self


class _FirstLayer:
    """The first convolution with its norm, whose statistics the front end takes over the whole song."""

    def __init__(self, layer: nn.Module, norm: nn.Module) -> None:
        self.conv, self.layer_norm, self.activation, self._layer = layer.conv, norm, F.gelu, layer

    def __call__(self, x: Tensor) -> Tensor:
        return self._layer(x)


def _first_layer(layer: nn.Module, device: torch.device) -> _FirstLayer:
    norm = layer.layer_norm
    if isinstance(norm, nn.GroupNorm):
        own = nn.GroupNorm(norm.num_groups, norm.num_channels, norm.eps, device=device)
        own.load_state_dict({"weight": norm.weight, "bias": norm.bias})
        norm = own
    return _FirstLayer(layer, norm)
