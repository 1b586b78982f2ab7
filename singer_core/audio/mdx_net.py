"""Kim_Vocal_2, the vocal separator of the authors' script: an MDX-Net as ONNX, run by onnxruntime.

The network maps spectrograms, real and imaginary parts of both channels as (1, 4, dim_f, dim_t). Numbers: the
entry 970b3f9492014d18fefeedfe4773cb42 of Ultimate Vocal Remover's public `model_data_new.json` (n_fft 7680,
dim_f 3072, dim_t 2^8, compensate 1.009). Framing: that of python-audio-separator, which the authors call
with its defaults (hop 1024, overlap 0.25, lowest three bins silenced, peak at most 0.9).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange

from ..downloads import FILES
from ..libraries import require
from .chunks import ChunkedSeparator, Framing, hann_weights
from .waveform import Waveform

PEAK = 0.9  # louder songs are scaled down to it
Run = Callable[[torch.Tensor], torch.Tensor]  # (1, 4, dim_f, dim_t) -> the same


@dataclass(frozen=True)
class MdxSpec:
    """The spectrograms of an MDX-Net."""

    n_fft: int = 7680
    hop: int = 1024
    dim_f: int = 3072  # bins that the network sees; those above stay silent
    dim_t: int = 256  # spectra
    silent_bins: int = 3  # lowest bins, zeroed
    compensation: float = 1.009  # gain of the output
    overlap: float = 0.25

    @property
    def chunk(self) -> int:
        """Samples of `dim_t` centred spectra."""
        return self.hop * (self.dim_t - 1)

    def framing(self) -> Framing:
        """n_fft / 2 zeros in front; behind, zeros up to whole chunks without their n_fft / 2 at both ends."""
        trim = self.n_fft // 2
        inner = self.chunk - 2 * trim
        return Framing(
            chunk=self.chunk,
            step=int((1 - self.overlap) * self.chunk),
            weights=hann_weights,
            lead=trim,
            tail=lambda length: inner + trim - length % inner,
        )


def load_mdx_net(path: Path, device: torch.device | str | None = None) -> ChunkedSeparator:
    """Kim_Vocal_2 from its ONNX file.

    Raises RuntimeError where onnxruntime is missing or the file holds another network.
    """
    return mdx_separator(onnx_run(path, MdxSpec(), device), MdxSpec())


def mdx_separator(run: Run, spec: MdxSpec) -> ChunkedSeparator:
    """A separator on a function that maps spectrograms (1, 4, dim_f, dim_t)."""

    def vocals(chunk: torch.Tensor) -> torch.Tensor:
        spectrogram = to_spectrogram(chunk, spec)
        spectrogram[:, :, : spec.silent_bins] = 0
        return from_spectrogram(run(spectrogram), spec) * spec.compensation

    return ChunkedSeparator(vocals, spec.framing(), _peak_gain)


def to_spectrogram(chunk: torch.Tensor, spec: MdxSpec) -> torch.Tensor:
    """(2, chunk) -> (1, 4, dim_f, dim_t): real left, imaginary left, real right, imaginary right."""
    window = torch.hann_window(spec.n_fft)
    spectra = torch.stft(chunk, spec.n_fft, spec.hop, window=window, center=True, return_complex=True)
    parts = torch.view_as_real(spectra[:, : spec.dim_f])
    return rearrange(parts, "side bins times part -> 1 (side part) bins times")


def from_spectrogram(spectrogram: torch.Tensor, spec: MdxSpec) -> torch.Tensor:
    """(1, 4, dim_f, dim_t) -> (2, chunk)."""
    parts = rearrange(spectrogram, "1 (side part) bins times -> side part bins times", part=2)
    parts = F.pad(parts, (0, 0, 0, spec.n_fft // 2 + 1 - spec.dim_f))
    window = torch.hann_window(spec.n_fft)
    return torch.istft(
        torch.complex(parts[:, 0], parts[:, 1]), spec.n_fft, spec.hop, window=window, center=True
    )


def onnx_run(path: Path, spec: MdxSpec, device: torch.device | str | None = None) -> Run:
    """The function of an ONNX file, on the GPU where `device` is one and onnxruntime has it."""
    onnxruntime = require("onnxruntime", "Kim_Vocal_2", "onnxruntime")
    errors = require("onnxruntime.capi.onnxruntime_pybind11_state", "Kim_Vocal_2", "onnxruntime")
    kind = torch.device(device or "cpu").type.upper()  # providers are named like torch devices
    wanted = dict.fromkeys((f"{kind}ExecutionProvider", "CPUExecutionProvider"))
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    link = FILES["kim-vocal-2"].page
    try:
        session = onnxruntime.InferenceSession(str(path), providers=providers)
    except (errors.Fail, errors.InvalidArgument, errors.InvalidProtobuf) as error:
        raise RuntimeError(f"{path.name} is not an ONNX network. Get it again: {link}") from error
    source = session.get_inputs()[0]
    if list(source.shape[1:]) != [4, spec.dim_f, spec.dim_t]:
        right = f"(1, 4, {spec.dim_f}, {spec.dim_t})"
        raise RuntimeError(f"{path.name} takes {source.shape}; Kim_Vocal_2 takes {right}. Get {link}")
    return lambda spectrogram: torch.from_numpy(session.run(None, {source.name: spectrogram.numpy()})[0])


def _peak_gain(waveform: Waveform) -> tuple[float, float]:
    """(0, gain) that brings the peak of a loud song to `PEAK`."""
    peak = max(float(block.abs().max()) for block in waveform.blocks())
    return 0.0, PEAK / peak if peak > PEAK else 1.0
