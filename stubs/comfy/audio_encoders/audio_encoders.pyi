from typing import Any

import torch
from comfy.model_patcher import ModelPatcher

class AudioEncoderModel:
    model: Any  # `Wav2Vec2Model` or `WhisperLargeV3`
    patcher: ModelPatcher
    load_device: torch.device

def load_audio_encoder_from_sd(sd: dict[str, torch.Tensor]) -> AudioEncoderModel | None: ...
