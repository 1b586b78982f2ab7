"""What one clip is conditioned on, and which part of it each guidance branch of a batch sees.

Rows of a batch are ordered (branch, b, f): all frames of the unconditional branch, then those of the next.
All conditions are given once, for one branch; `Branch` says who reads them. They are locals of one clip:
whatever does not change over the diffusion steps (keys and values) is computed at its first use and forgotten
with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .. import constants
from .architecture import Architecture
from .warp import PortraitWarp

KeysValues = tuple[Tensor, Tensor]
MakeKeys = Callable[[Tensor], KeysValues]
# Keys and values made so far; None where they must be made anew each time (gradient checkpointing).
Made = dict[object, KeysValues]


@dataclass(frozen=True)
class Branch:
    """One guidance branch: does it see the portrait, does it hear the song?

    `half` is its place in the authors' batch [unconditional, conditional], which fixes the rows of the
    reference pass that it reads (numerics section 8).
    """

    portrait: bool
    audio: bool
    half: int


UNCONDITIONAL = Branch(portrait=False, audio=False, half=0)
PORTRAIT_ONLY = Branch(portrait=True, audio=False, half=1)
CONDITIONAL = Branch(portrait=True, audio=True, half=1)


@dataclass(frozen=True)
class AudioTokens:
    """Audio tokens of a clip, ((b f), m, d), after the audio projection and the MSM."""

    tokens: Tensor
    made: Made | None = field(default_factory=dict, repr=False, compare=False)

    def keys(self, layer: object, make: MakeKeys) -> KeysValues:
        """Keys and values of the tokens in one attention layer, ((b f), m, c) each."""
        return _once(self.made, id(layer), lambda: make(self.tokens))


@dataclass(frozen=True)
class ReferenceFeatures:
    """What the reference UNet says of the portrait and the carried frames, per spatial transformer ("site").

    features  site -> (p, b, 1 + carried, n, c): normed tokens of [portrait, carried frames...]. p is the
              number of token passes: 1 = under the image tokens of the portrait; 2 = the authors'
              [unconditional, conditional] passes, between which the frames of a clip alternate.
    blind     whether a branch without portrait goes without the carried frames too, which show the same face
    base      (b, 4, h, w) latents of the portrait, where the network predicts how it moves
    """

    features: dict[str, Tensor]
    blind: bool = False
    base: Tensor | None = None
    made: Made | None = field(default_factory=dict, repr=False, compare=False)

    def keys(self, site: str, make: MakeKeys, half: int, frames: int) -> KeysValues:
        """Keys and values of the portrait for each frame of the branch at `half`, ((b f), n, c) each."""
        k, v = _once(self.made, site, lambda: make(self.features[site][:, :, 0].flatten(0, 1)))
        return self._per_frame(k, half, frames), self._per_frame(v, half, frames)

    def read_by(self, arch: Architecture, latents: Tensor) -> ReferenceFeatures:
        """As a network of that architecture uses them; latents (b, 1 + carried, 4, h, w)."""
        base = latents[:, 0] if arch.predicts == "motion" else None
        return replace(self, blind=arch.carried_input == "with_portrait", base=base)

    @property
    def passes(self) -> int:
        return len(next(iter(self.features.values())))

    def _per_frame(self, x: Tensor, half: int, frames: int) -> Tensor:
        """((p b), n, c) -> ((b f), n, c): frame k of the branch reads pass (half * f + k) mod p."""
        x = x.unflatten(0, (self.passes, -1))
        if self.passes == 1:
            return x[0].repeat_interleave(frames, 0)
        read = [x[(half * frames + k) % self.passes] for k in range(frames)]
        return torch.stack(read, dim=1).flatten(0, 1)

    def carried(self, site: str, branches: tuple[Branch, ...], size: torch.Size) -> Tensor:
        """Features of the carried frames for each branch, ((branch b), carried, c, h, w)."""
        x = torch.cat([self._seen(site, branch)[:, 1:] for branch in branches])
        return x.transpose(2, 3).unflatten(3, size)

    def _seen(self, site: str, branch: Branch) -> Tensor:
        x = self.features[site][branch.half % self.passes]
        return torch.zeros_like(x) if self.blind and not branch.portrait else x


@dataclass(frozen=True)
class ClipConditions:
    """Everything a forward needs beyond latents, time and image tokens.

    branches   in the order of the batch
    frames     f; frame count and mid width must be even for the wavelets
    audio      AudioTokens
    masks      per level (level 0 = full latent size) (3, 1 or (b f), n): full, face, lip in [0, 1]
    weights    (1 or (b f), 3): pose, face and lip weight, 1 = as trained
    face       (1 or (b f), c, h, w) face-locator features, added to the UNet's first convolution
    reference  ReferenceFeatures; None = dropped, as in 5 % of the training samples
    pictures   whether each frame is a picture by itself: audio and motion modules do not run
    sfm_*      strength of the SFM (0 bypasses it, 1 is as trained) and factors on its bands LL, LH, HL, HH
    """

    branches: tuple[Branch, ...]
    frames: int
    audio: AudioTokens
    masks: tuple[Tensor, ...]
    weights: Tensor
    face: Tensor
    reference: ReferenceFeatures | None
    sfm_strength: float = 1.0
    sfm_gains: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    pictures: bool = False

    def runs(self, x: Tensor, flag: str) -> Iterator[tuple[Tensor, bool]]:
        """x cut where the branches' `flag` ("portrait" or "audio") changes: (rows, flag)."""
        rows = len(x) // len(self.branches)
        for start, stop, value in _equal_runs([getattr(branch, flag) for branch in self.branches]):
            yield x[start * rows : stop * rows], value

    def reference_keys(self, site: str, make: MakeKeys) -> list[KeysValues | None]:
        """Per branch, the portrait's keys and values; None for a branch that does not see it."""
        reference = self.reference
        if reference is None:
            return [None] * len(self.branches)
        return [
            reference.keys(site, make, branch.half, self.frames) if branch.portrait else None
            for branch in self.branches
        ]

    def carried(self, site: str, x: Tensor) -> Tensor:
        """Features to go in front of the clip at a site with features x: ((branch b), carried, c, h, w)."""
        if self.reference is None:
            count = constants.DROPPED_REFERENCE_MOTION_FRAMES
            return x.new_zeros(len(x) // self.frames, count, *x.shape[1:])
        return self.reference.carried(site, self.branches, x.shape[-2:])

    def face_rows(self) -> Tensor:
        """Face-locator features for every row of the batch; zeros where the portrait is not seen."""
        return self._to_who_sees(self.face.expand(len(self.audio.tokens), -1, -1, -1))

    def velocity(self, warp: PortraitWarp, output: Tensor, noisy: Tensor, timestep: Tensor | float) -> Tensor:
        """v of the frames, from ((branch b f), c + MOTION, h, w) of a network that predicts motion.

        noisy  the latents that it was shown, for every branch or the same for all
        """
        times = torch.as_tensor(timestep, device=output.device).long().reshape(-1)  # no read of one alone
        noise = noise_shares(output.device).to(output)[times].view(-1, 1, 1, 1)
        shown = noisy.repeat(len(output) // len(noisy), 1, 1, 1)
        base = None if self.reference is None else self.reference.base
        portrait = torch.zeros_like(shown[:1]) if base is None else self._to_who_sees(base.to(output))
        frames = warp(portrait, output)
        return ((1 - noise.square()).clamp_min(0).sqrt() * shown - frames) / noise

    def _to_who_sees(self, portrait: Tensor) -> Tensor:
        """What is of the portrait, (k, ...), for all branches: ((branch k), ...), zeros where unseen."""
        unseen = torch.zeros_like(portrait)
        return torch.cat([portrait if branch.portrait else unseen for branch in self.branches])


def noise_shares(device: torch.device | None = None) -> Tensor:
    """How much noise noisy latents hold at each training time step, (1000,), the last of them nothing else.

    Of the schedule `scaled_linear` with zero terminal signal (Lin et al. 2024, "Common diffusion noise
    schedules and sample steps are flawed", algorithm 1).
    """
    first, last = constants.BETA_START**0.5, constants.BETA_END**0.5
    betas = torch.linspace(first, last, constants.TRAIN_TIMESTEPS, dtype=torch.float32, device=device) ** 2
    signal = (1 - betas).cumprod(0).sqrt()
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    return (1 - signal**2).sqrt()


def _equal_runs(flags: list[bool]) -> Iterator[tuple[int, int, bool]]:
    start = 0
    for stop in range(1, len(flags) + 1):
        if stop == len(flags) or flags[stop] != flags[start]:
            yield start, stop, flags[start]
            start = stop


def _once(made: Made | None, key: object, make: Callable[[], KeysValues]) -> KeysValues:
    if made is None:
        return make()
    if key not in made:
        made[key] = make()
    return made[key]
