from collections.abc import Callable, Sequence

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

class VAE:
    first_stage_model: nn.Module
    latent_channels: int
    downscale_ratio: int
    upscale_ratio: int
    patcher: ModelPatcher
    device: torch.device
    memory_used_decode: Callable[[Sequence[int], torch.dtype], float]
    memory_used_encode: Callable[[Sequence[int], torch.dtype], float]

    def __init__(self, sd: dict[str, Tensor], *, dtype: torch.dtype | None = None) -> None: ...
    def decode(self, samples_in: Tensor) -> Tensor: ...
    def encode(self, pixel_samples: Tensor) -> Tensor: ...
    def spacial_compression_decode(self) -> int: ...
    def throw_exception_if_invalid(self) -> None: ...
