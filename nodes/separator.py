"""A vocal separator under core's memory management."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management as mm
from comfy.model_patcher import ModelPatcher

from singer_core.audio.separation import load_separator
from singer_core.audio.waveform import Waveform

from . import folders

CHUNK_BYTES = 2 << 30  # activations of one chunk of the largest of them, MelBand-RoFormer


class ManagedSeparator:
    """The library's separator, its network owned by a patcher and loaded right before use.

    Kim_Vocal_2 has no network of torch: onnxruntime keeps it, on core's device where it can.
    """

    def __init__(self, name: str) -> None:
        device = mm.get_torch_device()
        at_once = device if name == "kim_vocal_2" else None
        self.separator = load_separator(name, folders.paths_of(folders.SEPARATION), at_once)
        module = getattr(self.separator, "module", None)
        self.patcher = None if module is None else ModelPatcher(module, device, mm.unet_offload_device())

    def separate(self, song: Waveform, progress: Callable[[float], None]) -> tuple[Waveform, Waveform]:
        """(vocals, accompaniment)."""
        if self.patcher is not None:
            # Layers of others do not cast their weights, so they are loaded whole.
            mm.load_models_gpu([self.patcher], memory_required=CHUNK_BYTES, force_full_load=True)
        return self.separator.separate(song, progress)
