"""wav2vec2 at the video rate: the reference's features of a song, in bounded memory (numerics section 14).

    waveform -> 16 kHz mono, normalised over the file, zeros to whole clips -> conv stack -> linear
    interpolation to the video frames -> feature projection -> encoder -> hidden states 1..l

The network is transformers' `Wav2Vec2Model`; here are the interpolation, which that class does not have,
and the windows. The conv stack runs in blocks and is exact: it is local, but for a group norm over the whole
song, whose statistics are measured first. The encoder attends to the whole song up to `Windows.whole` frames,
which gives the reference's numbers; longer songs run in overlapping windows (error: docs/audio.md).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from ..files import read_json
from ..libraries import require
from ..network.memory import widest_float
from ..progress import Progress, unwatched
from ..weights import State, load_state, match_state
from .activity import hushed
from .features import (
    RATE,
    AudioFeatures,
    NormalisedSong,
    exact_fps,
    frame_count,
    normalised_song,
    padded_count,
)
from .scratch import release_pages, scratch_array
from .waveform import Waveform

if TYPE_CHECKING:
    from transformers import Wav2Vec2Model

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
WEIGHT_NAMES = ("model.safetensors", "pytorch_model.bin")
STRIDES = (5, 2, 2, 2, 2, 2, 2)  # every published wav2vec2; weights do not carry strides
HEAD_WIDTH = 64  # of the base, large and xlsr models; weights do not carry the number of heads
PUBLISHED = (12, 768)  # layers and width of wav2vec2-base-960h
LETTERS = 32  # that its head tells apart; other files of its shape have none, or those of another language
LINK = "https://huggingface.co/facebook/wav2vec2-base-960h"
_NEW_NAMES = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}
_POS_CONV = "encoder.pos_conv_embed.conv."
CONV_BLOCK = 500  # conv outputs a step: 10 s of sound, 65 MB at the widest layer of the base model

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Windows:
    """How the encoder is cut, in video frames."""

    whole: int = 7500  # up to here one pass over everything: 5 minutes at 25 fps
    size: int = 1500  # frames that a window contributes
    context: int = 250  # frames read before and behind them


class Wav2Vec2FrontEnd:
    """Features (s, l, d): the outputs of the l encoder layers for every video frame.

    model      transformers' Wav2Vec2Model, frozen, float32
    normalise  whether the encoder was trained on normalised sound (`do_normalize`); wav2vec2-base-960h was
    """

    def __init__(self, model: Wav2Vec2Model, normalise: bool = True, windows: Windows | None = None) -> None:
        self.model = model.eval().requires_grad_(False)
        self.normalise = normalise
        self.windows = windows or Windows()

    @classmethod
    def load(cls, path: str | Path, windows: Windows | None = None) -> Wav2Vec2FrontEnd:
        """From a folder with config.json and weights, or a bare .safetensors / .bin / .pt file.

        Raises FileNotFoundError, ValueError or RuntimeError as `load_wav2vec2`.
        """
        model, normalise = load_wav2vec2(Path(path))
        return cls(model, normalise, windows)

    @property
    def layers(self) -> int:
        return self.model.config.num_hidden_layers

    @property
    def width(self) -> int:
        return self.model.config.hidden_size

    def encode(
        self,
        waveform: Waveform,
        fps: float,
        clip_length: int = 16,
        device: torch.device | str | None = None,
        progress: Progress = unwatched,
    ) -> AudioFeatures:
        """Features of a song at `fps` frames per second.

        clip_length  frames are padded to a multiple of it (zeros behind the normalised sound)
        device       where the network runs; None leaves it where it is. The features come back to the CPU;
                     those of long songs lie in a temporary file.
        """
        frames = frame_count(waveform.length, waveform.rate, fps)
        total = padded_count(frames, clip_length)
        padding = padding_samples(total - frames, fps)
        song = normalised_song(hushed(waveform), padding, self.normalise)
        if device is not None:
            self.model.to(device)
        features = self.encode_song(song, total, progress)
        return AudioFeatures(features, fps, frames)

    @torch.inference_mode()
    def encode_song(
        self,
        song: NormalisedSong,
        frames: int,
        progress: Progress = unwatched,
    ) -> torch.Tensor:
        """(frames, l, d) float32 of a song stretched over `frames` frames, in one pass or in windows."""
        conv = ConvStack(self.model, song)
        out = scratch_array((frames, self.layers, self.width))
        for (start, stop), read in window_spans(frames, self.windows):
            inner = slice(start - read[0], stop - read[0])
            conv_frames = conv.at_frames(*read, frames)
            for layer, hidden in enumerate(hidden_states(self.model, conv_frames)):
                progress((start + (stop - start) * layer / self.layers) / frames)
                if layer:
                    out[start:stop, layer - 1] = hidden[0, inner].float().cpu().numpy()
            release_pages(out)
        return torch.from_numpy(out.view(np.ndarray))


class ConvStack:
    """wav2vec2's convolutions over a song, in blocks that give what one pass gives."""

    def __init__(self, model: Wav2Vec2Model, song: NormalisedSong) -> None:
        """Raises ValueError where the song is shorter than one output of the stack."""
        self._layers: Any = model.feature_extractor.conv_layers
        self._song = song
        self._device = next(model.parameters()).device
        kernels, strides = model.config.conv_kernel, model.config.conv_stride
        self.stride, self.field = 1, 1  # samples between outputs, samples that one output sees
        self.length = song.length  # of the outputs, T
        for kernel, stride in zip(kernels, strides, strict=True):
            self.field += (kernel - 1) * self.stride
            self.stride *= stride
            self.length = (self.length - kernel) // stride + 1
        if song.length < self.field:
            raise ValueError(
                f"The sound has {song.length} samples at 16 kHz; the encoder needs {self.field}."
            )
        self._norm = self._group_norm(kernels[0], strides[0])

    def outputs(self, start: int, stop: int) -> torch.Tensor:
        """Outputs start to stop of the stack, (1, stop - start, c)."""
        firsts = range(start, stop, CONV_BLOCK)
        return torch.cat([self._block(first, min(first + CONV_BLOCK, stop)) for first in firsts], dim=1)

    def at_frames(self, start: int, stop: int, frames: int) -> torch.Tensor:
        """The outputs interpolated over `frames` video frames, for frames start to stop, (1, n, c).

        All frames at once go through torch's own interpolation; a stretch of them is computed here.
        """
        if (start, stop) == (0, frames):
            return interpolate(self.outputs(0, self.length), frames)
        position = torch.arange(start, stop, dtype=torch.float64) * ((self.length - 1) / (frames - 1))
        low = position.floor().long().clamp_max(self.length - 1)
        high = (low + 1).clamp_max(self.length - 1)
        first, last = int(low[0]), int(high[-1]) + 1
        values = self.outputs(first, last)
        part = (position - low).to(values)[None, :, None]
        low, high = low.to(values.device) - first, high.to(values.device) - first
        return values[:, low] * (1 - part) + values[:, high] * part

    def _block(self, first: int, last: int) -> torch.Tensor:
        samples = self._song.block(first * self.stride, (last - 1) * self.stride + self.field)
        x = samples.to(self._device)[None, None]
        for index, layer in enumerate(self._layers):
            if index == 0 and self._norm is not None:
                gain, bias = self._norm
                x = layer.activation(layer.conv(x) * gain + bias)
            else:
                x = layer(x)
        return x.transpose(1, 2)

    def _group_norm(self, kernel: int, stride: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The first layer's norm over the whole song as gain and bias (c, 1); None without one."""
        norm = getattr(self._layers[0], "layer_norm", None)
        if not isinstance(norm, torch.nn.GroupNorm):
            return None
        count, wide = (self._song.length - kernel) // stride + 1, widest_float(self._device)
        total = power = torch.zeros((), dtype=torch.float64)
        for first in range(0, count, CONV_BLOCK * 64):
            last = min(first + CONV_BLOCK * 64, count)
            samples = self._song.block(first * stride, (last - 1) * stride + kernel).to(self._device)
            y = self._layers[0].conv(samples[None, None])[0].to(wide)
            total, power = total + y.sum(dim=1).cpu(), power + y.square().sum(dim=1).cpu()
        mean = total / count
        variance = power / count - mean.square()
        gain = norm.weight.cpu().double() * (variance.clamp_min(0) + norm.eps).rsqrt()
        bias = norm.bias.cpu().double() - mean * gain
        return gain.float()[:, None].to(self._device), bias.float()[:, None].to(self._device)


def padding_samples(frames: int, fps: float) -> int:
    """Zeros at 16 kHz that `frames` frames of padding take: 640 a frame at 25 fps."""
    ratio = exact_fps(fps)
    return round(frames * RATE * ratio.denominator / ratio.numerator)


def interpolate(features: torch.Tensor, frames: int) -> torch.Tensor:
    """(1, T, c) -> (1, frames, c), linear along time, first and last kept (align_corners)."""
    return F.interpolate(features.transpose(1, 2), size=frames, align_corners=True, mode="linear").transpose(
        1, 2
    )


def hidden_states(model: Wav2Vec2Model, features: torch.Tensor) -> Iterator[torch.Tensor]:
    """The l + 1 hidden states (1, n, d) for interpolated conv features (1, n, c), one at a time.

    What `Wav2Vec2Model(..., output_hidden_states=True).hidden_states` holds, without holding it.
    """
    encoder, stable = model.encoder, model.config.do_stable_layer_norm
    hidden = model.feature_projection(features)[0]
    hidden = hidden + encoder.pos_conv_embed(hidden)
    if not stable:
        hidden = encoder.layer_norm(hidden)
    yield hidden
    for index, layer in enumerate(encoder.layers):
        result = layer(hidden)
        hidden = result[0] if isinstance(result, tuple) else result
        final = stable and index == len(encoder.layers) - 1
        yield encoder.layer_norm(hidden) if final else hidden


def window_spans(frames: int, windows: Windows) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """(kept, read) spans of frames: the kept ones partition [0, frames), the read ones add context."""
    if frames <= windows.whole:
        yield (0, frames), (0, frames)
        return
    for start in range(0, frames, windows.size):
        stop = min(start + windows.size, frames)
        yield (start, stop), (max(start - windows.context, 0), min(stop + windows.context, frames))


def load_wav2vec2(path: Path) -> tuple[Wav2Vec2Model, bool]:
    """(model, whether its input is normalised) from a Hugging Face folder or a bare weights file.

    A bare file needs no config.json: widths, layers and kernels are read from the shapes; strides and the
    64-wide heads are those of every published model.

    Raises FileNotFoundError for a missing path, ValueError for a file type that cannot be opened safely,
    RuntimeError for weights that are not wav2vec2's.
    """
    weights = _find_weights(path)
    if weights.suffix not in SUFFIXES:
        raise ValueError(f"{weights.name} is not a weights file; {', '.join(SUFFIXES)} are accepted.")
    state, beside = rename_keys(load_state(weights)), ("config.json", "preprocessor_config.json")
    given, extractor = (_settings(path / name) if path.is_dir() else {} for name in beside)
    settings = given if "hidden_size" in given else infer_config(state)
    _warn_of_others(weights.name, settings, state)
    return build_wav2vec2(settings, state), bool(extractor.get("do_normalize", True))  # as the base models


def build_wav2vec2(settings: dict[str, Any], state: State) -> Wav2Vec2Model:
    """The model of a configuration with the weights of a state dict, eval mode, float32.

    Raises RuntimeError naming three missing keys where weights are missing or have other shapes.
    """
    package, purpose = "transformers.models.wav2vec2", "wav2vec2"
    configuration = require(f"{package}.configuration_wav2vec2", purpose, "transformers")
    modeling = require(f"{package}.modeling_wav2vec2", purpose, "transformers")
    config = configuration.Wav2Vec2Config(**settings)
    model = modeling.Wav2Vec2Model(config)
    own = model.state_dict()
    unread = {key: own[key] for key in ("masked_spec_embed",) if key in own}  # of training alone
    state = {**unread, **rename_keys(state)}
    match_state(model, state, "this wav2vec2", LINK)
    size, unused = (config.num_hidden_layers, config.hidden_size), len(state.keys() - own.keys())
    _log.info("wav2vec2: %d layers of width %d, %d tensors unused.", *size, unused)
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


def _warn_of_others(name: str, settings: dict[str, Any], state: State) -> None:
    head, shape = state.get("lm_head.weight"), (settings.get("num_hidden_layers"), settings["hidden_size"])
    if shape == PUBLISHED and (head is None or len(head) != LETTERS):
        _log.warning(
            "%s has the shape of wav2vec2-base-960h and is another, without its head of %d letters: networks "
            "trained with that one move their lips badly with this. Get %s",
            *(name, LETTERS, LINK),
        )


def _settings(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
