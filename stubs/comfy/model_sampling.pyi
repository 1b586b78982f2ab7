from torch import Tensor

class ModelSamplingDiscrete:
    sigmas: Tensor

    @property
    def sigma_max(self) -> Tensor: ...
    def timestep(self, sigma: Tensor) -> Tensor: ...
