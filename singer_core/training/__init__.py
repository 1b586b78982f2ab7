"""Learning: data sets, the synthetic singing world, and the trainer."""

from singer_core.compat import hide_unusable_torchaudio

hide_unusable_torchaudio()  # before any module here imports diffusers
