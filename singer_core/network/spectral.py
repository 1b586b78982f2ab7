"""What is new in SINGER: two modules that weigh wavelet sub-bands (paper sections 3.3 and 3.4).

The wavelet itself is `wavelet.py`; sub-bands come in the order LL, LH, HL, HH. In the audio plane (tokens x
frames) LH is detail along the frames, HL detail along the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import constants
from .layers import Toolkit
from .wavelet import Bands, analysis, synthesis


class MultiScaleSpectralModule(nn.Module):
    """Gives each Haar sub-band of the audio tokens a gain that a small network reads off the latents (MSM).

    The checkpoint's kernel is (D, 4, E, H, W), but only its sum over D and E acts. Published kernels are
    random numbers that were never trained: what was trained are the ten weights of the gate. Gains are sums
    of one sigmoid per frame, so they lie in (0, f), and there is no residual: the gains scale the tokens
    themselves.
    """

    def __init__(self, kernel: tuple[int, ...], kit: Toolkit) -> None:
        super().__init__()
        self.kernel = Kernel(kernel, kit)
        channels = kernel[1]
        self.gate = kit.gate(channels, channels // 2, 1)

    def forward(self, audio: Tensor, latents: Tensor) -> Tensor:
        """Audio tokens (f, m, d) of a clip, weighed by the gains of its latents (f, 4, h, w) -> (f, m, d)."""
        return weigh_bands(audio, self.gains(latents))

    def gains(self, latents: Tensor) -> Tensor:
        """latents (f, 4, h, w) -> the gain of each band, (4,), in (0, f). h a multiple of 4."""
        return self.open_gate(self.responses(latents)).float().sum(-1)

    def responses(self, latents: Tensor) -> Tensor:
        """Latents weighed by the kernel, summed over horizontal strips: (f, 4, h, w) -> (4 strips, 4, f).

        Strip i decides on band i. Summed in float32: a strip has 1,024 pixels of random sign.
        """
        weighed = latents.float() * self.kernel_for(latents.shape[-2:]).to(latents.device)
        strips = weighed.unflatten(2, (constants.SPECTRAL_BANDS, -1)).sum((-2, -1))
        return strips.permute(2, 1, 0).to(latents.dtype)

    def open_gate(self, responses: Tensor) -> Tensor:
        """(..., 4, n) -> (..., n), in (0, 1)."""
        return run_gate(self.gate, responses.transpose(-2, -1))[..., 0]

    def expected_gains(self, frames: int, draws: int = 4096, seed: int = 0) -> Tensor:
        """Mean of `gains` over latents that are white noise, (4,).

        Responses to white noise are independent normals of known variance, so they are drawn, not the
        latents.
        """
        deviation = self._strip_energy(self.kernel_for(self.kernel.size)).sqrt().cpu()
        normal = torch.randn(*deviation.shape, draws, generator=torch.Generator().manual_seed(seed))
        responses = (normal * deviation[..., None]).to(next(self.gate.parameters()))
        return frames * self.open_gate(responses).float().mean(-1)

    def kernel_for(self, size: tuple[int, int] | torch.Size) -> Tensor:
        """The acting kernel for latents of `size`, (4, h, w) float32.

        At other sizes than its own the kernel is resampled, and scaled so that each strip answers white noise
        with the variance it was trained with. An extension: published weights are exact at 64 x 64 only.
        """
        kernel = self.kernel.total()
        if tuple(size) == tuple(kernel.shape[-2:]):
            return kernel
        resampled = F.interpolate(kernel[None], size=tuple(size), mode="bilinear", antialias=True)[0]
        energy = self._strip_energy(resampled)
        ratio = self._strip_energy(kernel) / energy.where(energy > 0, 1)
        rows = ratio.sqrt().T.repeat_interleave(size[0] // constants.SPECTRAL_BANDS, 1)  # (4 channels, h)
        return resampled * rows[..., None]

    def _strip_energy(self, kernel: Tensor) -> Tensor:
        """(4, h, w) -> (strip, 4)."""
        return kernel.square().unflatten(1, (constants.SPECTRAL_BANDS, -1)).sum((-2, -1)).T


class Kernel(nn.Module):
    """The MSM's buffer, a leaf module so that a backbone can place it."""

    weight: Tensor

    def __init__(self, shape: tuple[int, ...], kit: Toolkit) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(shape, **kit.placement))

    @property
    def size(self) -> torch.Size:
        return self.weight.shape[-2:]

    def total(self) -> Tensor:
        """The part that acts: the sum over the axes D and E of (D, 4, E, H, W), float32."""
        return self.weight.float().sum((0, 2))


class SelfAdaptiveFilterModule(nn.Module):
    """Gain per Haar sub-band and channel on the mid-block features, times a sigmoid gate (SINGER, SFM).

    The checkpoint stores the gain as (4, 1, c, 4, 4), but only its sum over the last two axes acts. The gate
    mixes along w, which fixes w = 8 for the published weights (512-pixel frames); other widths are resampled
    to it and the gate back, an extension. There is no residual: zero gains silence the features.
    """

    def __init__(self, channels: int, width: int, kit: Toolkit) -> None:
        super().__init__()
        self.bands = BandGain((constants.SPECTRAL_BANDS, 1, channels, width // 2, width // 2), kit)
        self.gate = kit.gate(width, width // 2, width)
        self.width = width

    def forward(
        self, x: Tensor, strength: float = 1.0, band_gains: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    ) -> Tensor:
        """x ((b f), c, h, w) -> the same shape, `strength` of the way from x to the filtered x."""
        if strength == 0:
            return x
        per_channel = self.bands.total().to(x)[..., None, None]
        gains = [gain * factor for gain, factor in zip(per_channel, band_gains, strict=True)]
        filtered = self.gate_for(x) * synthesis(_scaled(analysis(x), gains), size=(x.shape[-2], x.shape[-1]))
        return filtered if strength == 1 else x.lerp(filtered, strength)

    def gate_for(self, x: Tensor) -> Tensor:
        """What the features let through, in (0, 1): (..., w) -> (..., w)."""
        if x.shape[-1] == self.width:
            return run_gate(self.gate, x)
        resampled = F.interpolate(x, size=(x.shape[-2], self.width), mode="bilinear", antialias=True)
        return F.interpolate(run_gate(self.gate, resampled), size=x.shape[-2:], mode="bilinear")


class BandGain(nn.Module):
    """The SFM's gains, a leaf module so that a backbone can place it."""

    def __init__(self, shape: tuple[int, ...], kit: Toolkit) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape, **kit.placement))

    def total(self) -> Tensor:
        """(4, c) float32: (4, 1, c, y, x) summed over all axes but bands and channels."""
        return self.weight.float().sum((1, 3, 4))


def weigh_bands(audio: Tensor, gains: Tensor, wavelet: str = "haar") -> Tensor:
    """Scale the bands of each feature's plane (tokens, frames): audio (f, m, d), gains (4,) -> (f, m, d)."""
    plane = audio.permute(2, 1, 0)
    weighed = _scaled(analysis(plane, wavelet), list(gains.to(audio)))
    return synthesis(weighed, wavelet, size=(plane.shape[-2], plane.shape[-1])).permute(2, 1, 0)


def _scaled(bands: Bands, gains: Sequence[Tensor]) -> Bands:
    return Bands(*(band * gain for band, gain in zip(bands, gains, strict=True)))


def run_gate(gate: nn.ModuleList, x: Tensor) -> Tensor:
    """Sigmoid of two bias-free linears with a ReLU between them, along the last axis."""
    return torch.sigmoid(gate[2](F.relu(gate[0](x))))
