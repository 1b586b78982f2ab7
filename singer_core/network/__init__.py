"""The network: SD1.5 UNet, what SINGER adds to it, and how a checkpoint fills both."""

from ..libraries import hide_unusable_torchaudio

hide_unusable_torchaudio()  # before any module here imports diffusers
