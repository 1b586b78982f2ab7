class LatentFormat:
    scale_factor: float
    latent_channels: int

class SD15(LatentFormat):
    def __init__(self, scale_factor: float = ...) -> None: ...
