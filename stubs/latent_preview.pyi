from collections.abc import Callable

from comfy.model_patcher import ModelPatcher
from torch import Tensor

def prepare_callback(
    model: ModelPatcher, steps: int, x0_output_dict: dict[str, Tensor] | None = None
) -> Callable[[int, Tensor, Tensor, int], None]: ...
