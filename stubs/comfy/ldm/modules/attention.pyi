from typing import Any

from torch import Tensor, nn

def optimized_attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, *, attn_precision: object = None, **options: object
) -> Tensor: ...

class CrossAttention(nn.Module):
    heads: int
    attn_precision: object
    to_q: nn.Module
    to_k: nn.Module
    to_v: nn.Module
    to_out: nn.Module

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
    ) -> Tensor: ...

class BasicTransformerBlock(nn.Module):
    attn1: CrossAttention

class SpatialTransformer(nn.Module):
    transformer_blocks: list[BasicTransformerBlock]

    def forward(
        self, x: Tensor, context: Tensor | None = None, transformer_options: dict[str, Any] | None = None
    ) -> Tensor: ...
