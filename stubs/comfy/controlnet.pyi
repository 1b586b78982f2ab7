from torch import Tensor

class ControlBase:
    cond_hint_original: Tensor | None
    previous_controlnet: ControlBase | None

    def copy(self) -> ControlBase: ...
    def set_previous_controlnet(self, controlnet: ControlBase) -> ControlBase: ...
