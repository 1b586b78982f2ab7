from collections.abc import Mapping
from typing import Any

import torch

class BASE:
    unet_config: dict[str, Any]
    sampling_settings: dict[str, object]
    manual_cast_dtype: torch.dtype | None

    def __init__(self, unet_config: Mapping[str, object]) -> None: ...
    def set_inference_dtype(self, dtype: torch.dtype, manual_cast_dtype: torch.dtype | None) -> None: ...
