from typing import Any

from torch import Tensor, nn

class UNetModel(nn.Module):
    middle_block: nn.ModuleList
    out: nn.Module

    def __init__(self, **config: object) -> None: ...
    def _forward(
        self,
        x: Tensor,
        timesteps: Tensor | None = None,
        context: Tensor | None = None,
        y: Tensor | None = None,
        control: dict[str, list[Tensor]] | None = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor: ...
