from collections.abc import Callable, Sequence
from typing import Any

import torch

class ModelPatcher:
    # What it owns is whatever it was given: a `BaseModel` in a MODEL.
    model: Any
    model_options: dict[str, Any]
    patches: dict[str, object]
    object_patches: dict[str, object]
    weight_wrapper_patches: dict[str, object]
    hook_patches: dict[object, object]
    injections: dict[str, list[object]]
    wrappers: dict[str, dict[str | None, list[Callable[..., object]]]]
    callbacks: dict[str, dict[str | None, list[Callable[..., object]]]]
    cached_patcher_init: tuple[Callable[..., ModelPatcher], tuple[Any, ...]] | None

    def __init__(
        self, model: torch.nn.Module, load_device: torch.device, offload_device: torch.device
    ) -> None: ...
    def add_wrapper_with_key(self, wrapper_type: str, key: str, wrapper: Callable[..., object]) -> None: ...
    def clone(self) -> ModelPatcher: ...
    def set_model_compute_dtype(self, dtype: torch.dtype) -> None: ...
    def get_additional_models_with_key(self, key: str) -> list[ModelPatcher]: ...
    def is_dynamic(self) -> bool: ...
    def set_additional_models(self, key: str, models: Sequence[ModelPatcher]) -> None: ...

CoreModelPatcher: type[ModelPatcher]
