"""wav2vec2 at the video rate: the reference's features of a song, in bounded memory (numerics section 14).

    waveform -> 16 kHz mono, normalised over the file, zeros to whole clips -> conv stack -> linear
    interpolation to the video frames -> feature projection -> encoder -> hidden states 1..l

The network is transformers' `Wav2Vec2Model`; here are the interpolation, which that class does not have,
and the windows. The conv stack runs in blocks and is exact: it is local, but for a group norm over the whole
song, whose statistics are measured first. The encoder attends to the whole song up to `Windows.whole` frames,
which gives the reference's numbers; longer songs run in overlapping windows (error: docs/audio.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from .frames import AudioFeatures, exact_fps, frame_count, padded_count
from .job import Cancel, Progress, step
from .normalise import RATE, NormalisedSong, normalised_song
from .scratch import finished, part_file, release_pages, scratch_array
from .wav2vec2_files import load_wav2vec2
from .waveform import Waveform

if TYPE_CHECKING:
    from transformers import Wav2Vec2Model

CONV_BLOCK = 500  # conv outputs a step: 10 s of sound, 65 MB at the widest layer of the base model


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
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        store: Path | None = None,
    ) -> AudioFeatures:
        """Features of a song at `fps` frames per second.

        clip_length  frames are padded to a multiple of it (zeros behind the normalised sound)
        device       where the network runs; None leaves it where it is. The features come back to the CPU.
        store        a .npy file to write them to; without it long songs go to a temporary file
        """
        frames = frame_count(waveform.length, waveform.rate, fps)
        total = padded_count(frames, clip_length)
        song = normalised_song(waveform, padding_samples(total - frames, fps), self.normalise)
        if device is not None:
            self.model.to(device)
        features = self.encode_song(song, total, progress, cancel, store)
        return AudioFeatures(features, fps, frames)

    @torch.inference_mode()
    def encode_song(
        self,
        song: NormalisedSong,
        frames: int,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        store: Path | None = None,
    ) -> torch.Tensor:
        """(frames, l, d) float32 of a song stretched over `frames` frames, in one pass or in windows."""
        conv = ConvStack(self.model, song)
        with part_file(store) as part:
            out = scratch_array((frames, self.layers, self.width), path=part)
            for keep, read in window_spans(frames, self.windows):
                step(keep[0] / frames, progress, cancel)
                conv_frames = conv.at_frames(read[0], read[1], frames, cancel)
                inner = slice(keep[0] - read[0], keep[1] - read[0])
                for layer, hidden in enumerate(hidden_states(self.model, conv_frames)):
                    if layer:
                        out[keep[0] : keep[1], layer - 1] = hidden[0, inner].float().cpu().numpy()
                    step(keep[0] / frames, None, cancel)
                release_pages(out)
        step(1.0, progress, None)
        return torch.from_numpy(finished(out, store))


class ConvStack:
    """wav2vec2's convolutions over a song, in blocks that give what one pass gives."""

    def __init__(self, model: Wav2Vec2Model, song: NormalisedSong) -> None:
        """Raises ValueError where the song is shorter than one output of the stack."""
        self._layers: Any = model.feature_extractor.conv_layers
        self._song = song
        self._device = next(model.parameters()).device
        kernels, strides = model.config.conv_kernel, model.config.conv_stride
        self.stride, self.field = 1, 1  # samples between outputs, samples that one output sees
        for kernel, stride in zip(kernels, strides, strict=True):
            self.field += (kernel - 1) * self.stride
            self.stride *= stride
        if song.length < self.field:
            raise ValueError(
                f"The sound has {song.length} samples at 16 kHz; the encoder needs {self.field}."
            )
        self.length = _conv_length(song.length, kernels, strides)  # T
        self._norm = self._group_norm(kernels[0], strides[0])

    def outputs(self, start: int, stop: int, cancel: Cancel | None = None) -> torch.Tensor:
        """Outputs start to stop of the stack, (1, stop - start, c)."""
        blocks = []
        for first in range(start, stop, CONV_BLOCK):
            step(0.0, None, cancel)
            last = min(first + CONV_BLOCK, stop)
            blocks.append(self._block(first, last))
        return torch.cat(blocks, dim=1)

    def at_frames(self, start: int, stop: int, frames: int, cancel: Cancel | None = None) -> torch.Tensor:
        """The outputs interpolated over `frames` video frames, for frames start to stop, (1, n, c).

        All frames at once go through torch's own interpolation; a stretch of them is computed here.
        """
        if (start, stop) == (0, frames):
            return interpolate(self.outputs(0, self.length, cancel), frames)
        position = torch.arange(start, stop, dtype=torch.float64) * ((self.length - 1) / (frames - 1))
        low = position.floor().long().clamp_max(self.length - 1)
        high = (low + 1).clamp_max(self.length - 1)
        first, last = int(low[0]), int(high[-1]) + 1
        values = self.outputs(first, last, cancel)
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
        count = (self._song.length - kernel) // stride + 1
        total = power = torch.zeros((), dtype=torch.float64, device=self._device)
        for first in range(0, count, CONV_BLOCK * 64):
            last = min(first + CONV_BLOCK * 64, count)
            samples = self._song.block(first * stride, (last - 1) * stride + kernel).to(self._device)
            y = self._layers[0].conv(samples[None, None])[0].double()
            total, power = total + y.sum(dim=1), power + y.square().sum(dim=1)
        mean = total / count
        variance = power / count - mean.square()
        gain = norm.weight.double() * (variance.clamp_min(0) + norm.eps).rsqrt()
        bias = norm.bias.double() - mean * gain
        return gain.float()[:, None], bias.float()[:, None]


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


def _conv_length(samples: int, kernels: Sequence[int], strides: Sequence[int]) -> int:
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples
