"""The built-in model with its portrait and song, as core's types: nothing is downloaded."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from comfy_api.latest import Input

from singer_core.audio.waveform import read_audio
from singer_core.demo import files
from singer_core.network.checkpoint import open_checkpoint
from singer_core.network.taesd import comfyui_state
from singer_core.portrait.image import read_picture
from singer_core.portrait.landmarks import read_landmarks
from singer_core.portrait.portrait import Portrait, prepare_portrait
from singer_core.settings import PAPER
from singer_core.weights import load_state

from .model import load_singer
from .sockets import to_audio


def builtin_model() -> ModelPatcher:
    """The small network, set to what it was trained for: mode `paper`."""
    return load_singer(str(files.CHECKPOINT), PAPER)


def builtin_vae() -> VAE:
    """Its VAE. Core knows TAESD 64 channels wide; the narrow one is filled up with zeros."""
    vae = VAE(sd=comfyui_state(load_state(files.VAE)))
    vae.throw_exception_if_invalid()
    return vae


def builtin_portrait() -> Portrait:
    """The drawn singer, whole, at the network's size."""
    size = open_checkpoint(files.CHECKPOINT).architecture.trained_size
    picture = read_picture(files.PORTRAIT)
    landmarks = read_landmarks(files.LANDMARKS, picture.image.size)
    return prepare_portrait(picture, size, landmarks=landmarks, crop="squash")


def builtin_song() -> Input.Audio:
    """AUDIO of the synthetic voice."""
    return to_audio(read_audio(files.SONG))
