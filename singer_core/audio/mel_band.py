"""MelBand-RoFormer (vocal model of Kimberley Jensen) with the model class of the package bs-roformer.

Sizes are read from the weights. The spectrogram (2048, hop 441) and the chunks of 8 s are those of the public
configuration `config_vocals_mel_band_roformer_kj.yaml` of ZFTurbo's Music-Source-Separation-Training, which
also zeroes the lowest bin of the output.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from ..downloads import FILES
from ..libraries import require
from ..weights import State, load_state, match_state
from .chunks import ChunkedSeparator, Framing, linear_fades

CHUNK = 352_800  # samples: 8 s
FRAMING = Framing(chunk=CHUNK, step=CHUNK // 2, weights=linear_fades(CHUNK // 10))  # num_overlap 2
STFT = {"stft_n_fft": 2048, "stft_hop_length": 441, "stft_win_length": 2048}
_BLOCK = re.compile(r"^layers\.(\d+)\.([01])\.layers\.(\d+)\.([01])\.(.+)$")
_BLOCK_NORM = re.compile(r"^layers\.(\d+)\.([01])\.norm\.(.+)$")


def load_mel_band(path: Path, device: torch.device | str | None = None) -> ChunkedSeparator:
    """MelBand-RoFormer with the weights of `path`, as published (.ckpt) or as safetensors.

    Raises RuntimeError where the package is missing or the weights are of another model.
    """
    package = require("bs_roformer", "MelBand-RoFormer", "bs-roformer")
    link, state = FILES["mel-band-roformer"].page, package_keys(load_state(path))
    if "layers.0.1.layers.0.0.branch.to_qkv.weight" not in state:
        raise RuntimeError(f"{path.name} does not hold MelBand-RoFormer weights. Get them from {link}")
    model = package.MelBandRoformer(**infer_sizes(state))
    match_state(model, state, "MelBand-RoFormer", link)
    return mel_band_separator(model, device)


def mel_band_separator(model: torch.nn.Module, device: torch.device | str | None = None) -> ChunkedSeparator:
    """A separator on a stereo `MelBandRoformer` whose only stem is the vocals."""
    model = model.eval().requires_grad_(False).to(device)

    def vocals(chunk: torch.Tensor) -> torch.Tensor:
        return model(chunk[None].to(next(model.parameters()).device))[0]

    return ChunkedSeparator(vocals, FRAMING, module=model)


def package_keys(state: State) -> State:
    """Names of the package (1.2) for the published ones, which number the transformers of a layer from 0."""
    renamed = {}
    for key, value in state.items():
        if found := _BLOCK.match(key):
            layer, axis, depth, part, rest = found.groups()
            key = f"layers.{layer}.{int(axis) + 1}.layers.{depth}.{part}.branch.{rest}"
        elif found := _BLOCK_NORM.match(key):
            layer, axis, rest = found.groups()
            key = f"layers.{layer}.{int(axis) + 1}.norm.{rest}"
        renamed[key] = value
    return renamed


def infer_sizes(state: State) -> dict[str, Any]:
    """Arguments of `MelBandRoformer` for a state dict with the names of `package_keys`."""
    heads = state["layers.0.1.layers.0.0.branch.to_gates.weight"].shape[0]
    inner, dim = state["layers.0.1.layers.0.0.branch.to_qkv.weight"].shape
    return {
        "dim": dim,
        "depth": _count(state, "layers.{}.1.norm.gamma"),
        "stereo": True,
        "num_stems": 1,
        "time_transformer_depth": _count(state, "layers.0.1.layers.{}.0.branch.to_qkv.weight"),
        "freq_transformer_depth": _count(state, "layers.0.2.layers.{}.0.branch.to_qkv.weight"),
        "linear_transformer_depth": 0,
        "num_bands": _count(state, "band_split.to_features.{}.1.weight"),
        "dim_head": inner // (3 * heads),
        "heads": heads,
        "attn_dropout": 0.0,
        "ff_dropout": 0.0,
        "mask_estimator_depth": _count(state, "mask_estimators.0.to_freqs.0.0.{}.weight", step=2) - 1,
        "zero_dc": True,
        "add_value_residual": False,
        "num_residual_streams": 1,
        **STFT,
    }


def _count(state: State, pattern: str, step: int = 1) -> int:
    """How many of pattern(0), pattern(step), pattern(2 step), ... there are."""
    count = 0
    while pattern.format(count * step) in state:
        count += 1
    return count
