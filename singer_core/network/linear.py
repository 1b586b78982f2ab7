"""Linear layers that a CPU works out through oneDNN.

The same numbers up to rounding, faster where PyTorch's own matrix product keeps off the processor's widest
instructions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CpuLinear(nn.Linear):
    """`nn.Linear`; on a CPU in float32 without gradients its product is oneDNN's.

    Switch: `torch.backends.mkldnn.flags(enabled=False)` brings PyTorch's product back.
    """

    @classmethod
    def of(cls, layer: nn.Linear) -> CpuLinear:
        """A layer with the parameters of another."""
        made = cls(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        made.weight, made.bias = layer.weight, layer.bias
        return made

    def forward(self, x: Tensor) -> Tensor:
        if _through_onednn(x, self.weight):
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return F.linear(x, self.weight, self.bias)


def quickened(module: nn.Module) -> nn.Module:
    """The module with every plain `nn.Linear` in it a `CpuLinear`; weights and names stay as they are."""
    if type(module) is nn.Linear:
        return CpuLinear.of(module)
    for name, child in module.named_children():
        setattr(module, name, quickened(child))
    return module


def gated_linear(layer: nn.Module, x: Tensor) -> Tensor:
    """GEGLU (Shazeer 2020): value * GELU(gate) of (value, gate) = layer(x); (n, c) -> (n, c').

    A `CpuLinear` makes two products of it, of which the second multiplies while its numbers are in the cache.
    """
    if isinstance(layer, CpuLinear) and _through_onednn(x, layer.weight):
        product = torch.ops.mkldnn._linear_pointwise
        (value_weight, gate_weight), (value_bias, gate_bias) = layer.weight.chunk(2), layer.bias.chunk(2)
        gate = product(x, gate_weight, gate_bias, "gelu", [], "none")
        return product.binary(x, gate, value_weight, value_bias, "mul")
    value, gate = layer(x).chunk(2, dim=-1)
    return value * F.gelu(gate)


def _through_onednn(x: Tensor, weight: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return False  # the compiler chooses
    return (
        x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and torch.backends.mkldnn.is_available()
        and torch._C._get_mkldnn_enabled()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and x.numel() > 0
    )
