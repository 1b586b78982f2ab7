"""wav2vec2 weights from a folder or a bare file into transformers' `Wav2Vec2Model`."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .libraries import require
from .weights import State, load_state

if TYPE_CHECKING:
    from transformers import Wav2Vec2Model

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
WEIGHT_NAMES = ("model.safetensors", "pytorch_model.bin")
STRIDES = (5, 2, 2, 2, 2, 2, 2)  # every published wav2vec2; weights do not carry strides
HEAD_WIDTH = 64  # of the base, large and xlsr models; weights do not carry the number of heads
LINK = "https://huggingface.co/facebook/wav2vec2-base-960h"
_NEW_NAMES = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}
_POS_CONV = "encoder.pos_conv_embed.conv."

_log = logging.getLogger(__name__)


def load_wav2vec2(path: Path) -> tuple[Wav2Vec2Model, bool]:
    """(model, whether its input is normalised) from a Hugging Face folder or a bare weights file.

    A bare file needs no config.json: widths, layers and kernels are read from the shapes; strides and the
    64-wide heads are those of every published model.

    Raises FileNotFoundError for a missing path, ValueError for a file type that cannot be opened safely,
    RuntimeError for weights that are not wav2vec2's.
    """
    weights = _find_weights(path)
    state = rename_keys(_read_state(weights))
    given = _read_json(weights.parent / "config.json") if path.is_dir() else {}
    settings = given if "hidden_size" in given else infer_config(state)
    return build_wav2vec2(settings, state), _normalises(weights.parent if path.is_dir() else None, settings)


def build_wav2vec2(settings: dict[str, Any], state: State) -> Wav2Vec2Model:
    """The model of a configuration with the weights of a state dict, eval mode, float32.

    Raises RuntimeError naming three missing keys where weights are missing or have other shapes.
    """
    package, purpose = "transformers.models.wav2vec2", "wav2vec2"
    configuration = require(f"{package}.configuration_wav2vec2", purpose, "transformers")
    modeling = require(f"{package}.modeling_wav2vec2", purpose, "transformers")
    config = configuration.Wav2Vec2Config(**settings)
    model = modeling.Wav2Vec2Model(config)
    wanted = model.state_dict()
    state = rename_keys(state)
    missing = [key for key in wanted if key not in state and key != "masked_spec_embed"]
    wrong = [key for key, value in wanted.items() if key in state and state[key].shape != value.shape]
    if missing or wrong:
        names = ", ".join((missing + wrong)[:3])
        counts = f"{len(missing)} of {len(wanted)} tensors missing, {len(wrong)} of another shape"
        raise RuntimeError(
            f"These are not the weights of this wav2vec2: {counts} ({names}). Get them from {LINK}"
        )
    model.load_state_dict({key: state[key].float() for key in wanted if key in state}, strict=False)
    unexpected = len([key for key in state if key not in wanted])
    size = (config.num_hidden_layers, config.hidden_size)
    _log.info("wav2vec2: %d layers of width %d, %d tensors unused.", *size, unexpected)
    return model.eval()


def rename_keys(state: State) -> State:
    """Key names of `Wav2Vec2Model`: without the prefix `wav2vec2.`, weight norm under its new names."""
    renamed = {}
    for key, value in state.items():
        key = key.removeprefix("wav2vec2.")
        if key.startswith(_POS_CONV):
            end = key.removeprefix(_POS_CONV)
            key = _POS_CONV + _NEW_NAMES.get(end, end)
        renamed[key] = value
    return renamed


def infer_config(state: State) -> dict[str, Any]:
    """The configuration that a state dict (names of `rename_keys`) belongs to, or RuntimeError."""
    convs = _numbered(state, "feature_extractor.conv_layers.{}.conv.weight")
    layers = _numbered(state, "encoder.layers.{}.final_layer_norm.weight")
    v = state.get(_POS_CONV + _NEW_NAMES["weight_v"])
    if not convs or not layers or v is None:
        raise RuntimeError(f"The file does not hold wav2vec2 weights (no convolutions or layers). Get {LINK}")
    width = layers[0].shape[0]
    if len(convs) != len(STRIDES) or width % HEAD_WIDTH:
        found = f"{len(convs)} convolutions and width {width}"
        raise RuntimeError(f"A wav2vec2 with {found} needs its config.json. Give the folder that holds both.")
    per_layer_norm = "feature_extractor.conv_layers.1.layer_norm.weight" in state
    return {
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": width // HEAD_WIDTH,
        "intermediate_size": state["encoder.layers.0.feed_forward.intermediate_dense.weight"].shape[0],
        "conv_dim": [conv.shape[0] for conv in convs],
        "conv_kernel": [conv.shape[2] for conv in convs],
        "conv_stride": list(STRIDES),
        "conv_bias": "feature_extractor.conv_layers.0.conv.bias" in state,
        "num_conv_pos_embeddings": v.shape[2],
        "num_conv_pos_embedding_groups": width // v.shape[1],
        "feat_extract_norm": "layer" if per_layer_norm else "group",
        "do_stable_layer_norm": per_layer_norm,  # true of every published model
    }


def _numbered(state: State, pattern: str) -> list[torch.Tensor]:
    """Tensors whose names are the pattern with 0, 1, 2, ... until one is missing."""
    found: list[torch.Tensor] = []
    while (value := state.get(pattern.format(len(found)))) is not None:
        found.append(value)
    return found


def _find_weights(path: Path) -> Path:
    if path.is_file():
        return path
    tried = [path / name for name in WEIGHT_NAMES] if path.is_dir() else [path]
    for candidate in tried:
        if candidate.is_file():
            return candidate
    names = ", ".join(str(candidate) for candidate in tried)
    raise FileNotFoundError(f"No wav2vec2 weights: tried {names}. Get them from {LINK}")


def _read_state(path: Path) -> State:
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path.name} is not a weights file; {', '.join(SUFFIXES)} are accepted.")
    return load_state(path)


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _normalises(folder: Path | None, settings: dict[str, Any]) -> bool:
    """`do_normalize` of the folder's preprocessor; true, as of the base models, where it says nothing."""
    extractor = _read_json(folder / "preprocessor_config.json") if folder else {}
    return bool(extractor.get("do_normalize", True))
