"""Hybrid Demucs: torchaudio's model class on chunks of ten seconds.

Normalisation and chunking follow torchaudio's hybrid Demucs tutorial: the song less its mean, over its
deviation; segments of 10 s, cross-faded (here over 1 s instead of 0.1 s).
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import torch

from ..downloads import FILES
from ..weights import load_state, match_state
from .chunks import NETWORK_RATE, ChunkedSeparator, Framing, linear_fades
from .waveform import Waveform

SOURCES = ("drums", "bass", "other", "vocals")  # of torchaudio's HDEMUCS_HIGH bundles
SECONDS, FADE_SECONDS = 10, 1
FRAMING = Framing(
    chunk=SECONDS * NETWORK_RATE,
    step=(SECONDS - FADE_SECONDS) * NETWORK_RATE,
    weights=linear_fades(FADE_SECONDS * NETWORK_RATE),
)


def load_hdemucs(path: Path, device: torch.device | str | None = None) -> ChunkedSeparator:
    """Hybrid Demucs with the weights of `path` (.pt or .safetensors).

    Raises RuntimeError where torchaudio is missing or the weights are of another model.
    """
    model = hdemucs_module().hdemucs_high(list(SOURCES))
    match_state(model, load_state(path), "Hybrid Demucs (high)", FILES["hdemucs"].page)
    return hdemucs_separator(model, device)


def hdemucs_separator(model: torch.nn.Module, device: torch.device | str | None = None) -> ChunkedSeparator:
    """A separator on an `HDemucs` model with the sources `SOURCES`."""
    model = model.eval().requires_grad_(False).to(device)

    def vocals(chunk: torch.Tensor) -> torch.Tensor:
        return model(chunk[None].to(next(model.parameters()).device))[0, SOURCES.index("vocals")]

    return ChunkedSeparator(vocals, FRAMING, _mean_and_deviation, model)


def hdemucs_module() -> Any:
    """The module of torchaudio with `HDemucs`.

    Where torchaudio was built for another torch and cannot be imported, its model file, which needs torch
    alone, is loaded by itself.

    Raises RuntimeError with the remedy where torchaudio is not installed.
    """
    try:
        import torchaudio.models as models
    except (ImportError, OSError) as error:
        found = PathFinder.find_spec("torchaudio")  # also where `hide_unusable_torchaudio` has hidden it
        if found is None or not found.submodule_search_locations:
            raise RuntimeError(
                "Hybrid Demucs needs torchaudio. Install it: pip install torchaudio"
            ) from error
    else:
        return models
    return _load_alone(Path(found.submodule_search_locations[0]) / "models" / "_hdemucs.py")


def _load_alone(path: Path) -> Any:
    name = "singer_core_torchaudio_hdemucs"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _mean_and_deviation(waveform: Waveform) -> tuple[float, float]:
    """(mean, 1 / deviation) of the mono mix of the song."""
    total = power = 0.0
    for block in waveform.blocks():
        mono = block.double().mean(dim=0)
        total, power = total + float(mono.sum()), power + float(mono.square().sum())
    mean = total / waveform.length
    variance = max(power / waveform.length - mean * mean, 0.0)
    return mean, 1.0 / max(variance**0.5, 1e-8)
