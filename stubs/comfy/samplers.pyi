from collections.abc import Callable, Sequence
from typing import Any

from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor

# Dictionaries into which any node puts what it likes.
Options = dict[str, Any]
Cond = dict[str, Any]

class CFGGuider:
    model_patcher: ModelPatcher
    model_options: Options
    original_conds: dict[str, list[Cond]]
    conds: dict[str, list[Cond]]  # while it samples, as is the next
    inner_model: BaseModel
    cfg: float

    def __init__(self, model_patcher: ModelPatcher) -> None: ...
    def inner_set_conds(self, conds: dict[str, list[tuple[Tensor | None, Cond]]]) -> None: ...
    def set_cfg(self, cfg: float) -> None: ...
    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: Options | None = None, seed: int | None = None
    ) -> Tensor: ...
    def sample(
        self,
        noise: Tensor,
        latent_image: Tensor,
        sampler: Sampler,
        sigmas: Tensor,
        denoise_mask: Tensor | None = None,
        callback: Callable[[int, Tensor, Tensor, int], None] | None = None,
        disable_pbar: bool = False,
        seed: int | None = None,
    ) -> Tensor: ...

class KSamplerX0Inpaint:
    inner_model: CFGGuider

    def __call__(self, x: Tensor, sigma: Tensor, **extra_args: object) -> Tensor: ...

class Sampler: ...

class KSAMPLER(Sampler):
    sampler_function: Callable[..., Tensor]
    extra_options: Options
    inpaint_options: Options

    def __init__(self, sampler_function: Callable[..., Tensor]) -> None: ...

def calc_cond_batch(
    model: BaseModel, conds: Sequence[list[Cond]], x_in: Tensor, timestep: Tensor, model_options: Options
) -> list[Tensor]: ...
