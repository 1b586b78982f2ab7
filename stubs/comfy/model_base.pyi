import enum
from collections.abc import Callable
from typing import Any

import torch
from comfy.model_sampling import ModelSamplingDiscrete
from comfy.supported_models_base import BASE
from torch import Tensor

class ModelType(enum.Enum):
    V_PREDICTION = 2

class BaseModel(torch.nn.Module):
    diffusion_model: Any  # what `unet_model` makes
    model_sampling: ModelSamplingDiscrete

    def __init__(
        self,
        model_config: BASE,
        model_type: ModelType,
        device: torch.device | None,
        unet_model: Callable[..., torch.nn.Module],
    ) -> None: ...
    def get_dtype_inference(self) -> torch.dtype: ...
    def process_latent_in(self, latent: Tensor) -> Tensor: ...
