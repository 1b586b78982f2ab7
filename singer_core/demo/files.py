"""Where the built-in files lie. `python -m builtin` and `python -m builtin.demo_material` make them again.

CHECKPOINT  a small SINGER of 192 x 192 pixels, half precision (docs/model_card.md)
VAE         its autoencoder, of patches (network/patches.py)
PORTRAIT    a drawn singer that the model never saw, 512 x 512, with LANDMARKS of the 478-point face mesh
SONG        5 seconds of a synthetic voice, 16 kHz mono, that the model never heard
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent

CHECKPOINT = FOLDER / "singer-small.safetensors"
VAE = FOLDER / "vae-small.safetensors"
PORTRAIT = FOLDER / "portrait.png"
LANDMARKS = FOLDER / "portrait.json"
SONG = FOLDER / "song.wav"
