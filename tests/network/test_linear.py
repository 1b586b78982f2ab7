"""The CPU's own ways to a product: the same numbers up to rounding, and a switch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from singer_core.network.layers import attend
from singer_core.network.linear import CpuLinear, gated_linear, quickened


@pytest.mark.parametrize("shape", [(5, 24), (2, 3, 24), (0, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_cpu_linear_is_a_linear(shape, bias):
    layer = quickened(nn.Linear(24, 40, bias=bias))
    x = torch.randn(shape)
    assert type(layer) is CpuLinear
    with torch.no_grad():
        found = layer(x)
    assert torch.allclose(found, F.linear(x, layer.weight, layer.bias), atol=1e-5, rtol=1e-5)


def test_gradients_and_the_switch_take_pytorchs_product():
    layer, x = CpuLinear(24, 40), torch.randn(7, 24)
    plain = F.linear(x, layer.weight, layer.bias)
    assert torch.equal(layer(x), plain) and layer(x).requires_grad
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(layer(x), plain)


@pytest.mark.parametrize("make", [nn.Linear, CpuLinear])
def test_a_gated_linear_is_its_value_times_the_gelu_of_its_gate(make):
    layer, x = make(24, 80), torch.randn(7, 24)
    value, gate = F.linear(x.double(), layer.weight.double(), layer.bias.double()).chunk(2, -1)
    expected = value * gate * (1 + torch.erf(gate / 2**0.5)) / 2
    with torch.no_grad():
        assert torch.allclose(gated_linear(layer, x).double(), expected, atol=2e-6)
        with torch.backends.mkldnn.flags(enabled=False):
            assert torch.allclose(gated_linear(layer, x).double(), expected, atol=2e-6)
    assert gated_linear(layer, x).requires_grad


def test_subclasses_of_linear_are_left_alone():
    class Other(nn.Linear):
        pass

    layers = quickened(nn.Sequential(Other(2, 2), nn.Linear(2, 2)))
    assert [type(layer) for layer in layers] == [Other, CpuLinear]


@pytest.mark.parametrize("keys", [63, 64, 200])
@pytest.mark.parametrize("width", [4, 8, 15, 16])
def test_narrow_heads_attend_as_they_would_unpadded(width, keys):
    q, k, v = torch.randn(2, 9, 3 * width), torch.randn(2, keys, 3 * width), torch.randn(2, keys, 3 * width)
    heads = [x.double().unflatten(-1, (3, width)).transpose(1, 2) for x in (q, k, v)]
    weights = (heads[0] @ heads[1].mT / width**0.5).softmax(-1)
    expected = (weights @ heads[2]).transpose(1, 2).flatten(2)
    with torch.no_grad():
        assert torch.allclose(attend(q, k, v, 3).double(), expected, atol=2e-6)
