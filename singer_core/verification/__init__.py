"""Run reference fixtures through the public library and compare every output tensor."""

from ..compat import hide_unusable_torchaudio

hide_unusable_torchaudio()  # before any module here imports diffusers
