"""Learning: data sets, the synthetic singing world, and the trainer (docs/training.md).

config.py       what a run is, from TOML or JSON
dataset.py      prepared clips on disk, and random samples of them
drawn.py, videos.py, hallo.py   three ways to prepare them: drawn people, a folder of videos, Hallo's layout
synthetic/      songs and people made of numbers, with the truth about both (docs/synthetic.md)
recipes.py, initialise.py, lora.py   what is trained, and with which starting weights
objective.py    the loss of a step; all its chance comes from seed and sample number
trainer.py, runlog.py   the loop on `accelerate`, and what it writes down
checkpoints.py  folders `step-000500`, whole or absent, from which a run goes on exactly
tiny_vae.py     the VAE of the built-in model
"""

from singer_core.compat import hide_unusable_torchaudio

hide_unusable_torchaudio()  # before any module here imports diffusers
