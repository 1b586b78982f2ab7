"""A student that takes in one step what a guided teacher takes many for (recipe `distill`, docs/training.md).

The teacher's time steps are cut into as many parts as the student has steps. From where a part begins, the
teacher walks through it under guidance; the student is to arrive at the same latents by one step of DDIM
without guidance: progressive distillation (Salimans & Ho 2022) with all halvings at once, of a guided teacher
(Meng et al. 2023). Both predict v, which is defined at the first step too, where there is no signal.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import constants
from ..network.backbone import SingerNetwork
from ..network.conditions import CONDITIONAL, AudioTokens, Branch, ClipConditions
from ..network.schedule import ddim
from ..render.sampler import branches_for, guide
from ..settings import SingerOptions
from .config import TrainConfig
from .dataset import Sample
from .objective import Draws, audio_tokens, clip_conditions, image_tokens, weighed


@dataclass(frozen=True)
class Conditioned:
    """A network told of a batch of clips."""

    network: SingerNetwork
    clip: ClipConditions
    tokens: Tensor
    windows: Tensor

    @classmethod
    def of(cls, network: SingerNetwork, config: TrainConfig, batch: Sample, draws: Draws) -> Conditioned:
        tokens = image_tokens(network, batch.identity)
        clip = clip_conditions(network, config, batch, draws, batch.latents, tokens)
        return cls(network, clip, tokens, batch.windows)

    def predict(self, x: Tensor, times: Tensor, branches: tuple[Branch, ...] = (CONDITIONAL,)) -> Tensor:
        """v of x (b, f, 4, h, w) at the time steps (b,), ((branch b), f, 4, h, w) float32."""
        frames = x.shape[1]
        heard = AudioTokens(audio_tokens(self.network, self.windows, x), made=None)
        clip = dataclasses.replace(self.clip, branches=branches, audio=heard)
        times = times.repeat_interleave(frames).repeat(len(branches))
        return self.network(x.flatten(0, 1), times, self.tokens, clip).unflatten(0, (-1, frames)).float()


class Distillation(nn.Module):
    """The distance between where student and teacher arrive.

    Some samples (`own_outputs`) begin their part of the path where the student's own steps lead, and some
    carry frames that the student has made, as when it sings a song. The others begin at noised clips of the
    data and carry frames of them.
    """

    times: Tensor  # of the teacher's steps
    alphas: Tensor  # share of signal at each, and after the last

    def __init__(self, config: TrainConfig, teacher: SingerNetwork) -> None:
        super().__init__()
        self.config, self.teacher = config, teacher
        self.guidance = SingerOptions(reference_scale=config.reference_scale, audio_scale=config.audio_scale)
        self.stride = config.teacher_steps // config.distilled_steps  # teacher's steps for one
        scheduler = ddim(config.noise_schedule, config.teacher_steps)
        self.register_buffer("times", scheduler.timesteps)
        shares = torch.cat([scheduler.alphas_cumprod[scheduler.timesteps], torch.ones(1)])
        self.register_buffer("alphas", shares)

    def forward(self, student: SingerNetwork, batch: Sample, draws: Draws) -> Tensor:
        """The loss of clips of twice the frames, of which the later half is learnt."""
        config = self.config
        start = draws.timesteps * config.distilled_steps // constants.TRAIN_TIMESTEPS * self.stride
        with torch.no_grad():
            batch, draws = self._carrying(student, batch, draws), draws.of_frames(-config.frames)
            x = self._beginning(student, batch, draws, start)
            target = self._taught(batch, draws, x, start)
        singer = Conditioned.of(student, config, batch, draws)
        arrived = self._moved(x, singer.predict(x, self.times[start]), start, self.stride)
        return weighed((arrived - target).square(), config.lip_weight * batch.lips).mean()

    def _moved(self, x: Tensor, v: Tensor, start: Tensor, steps: int) -> Tensor:
        """DDIM of x (b, f, 4, h, w) from the teacher's steps `start` (b,) over some of them."""
        before, after = (self.alphas[step].view(-1, 1, 1, 1, 1) for step in (start, start + steps))
        clean = before.sqrt() * x - (1 - before).sqrt() * v
        noise = (1 - before).sqrt() * x + before.sqrt() * v
        return after.sqrt() * clean + (1 - after).sqrt() * noise

    def _carrying(self, student: SingerNetwork, batch: Sample, draws: Draws) -> Sample:
        """The later half of the clips, some after frames that the student made of the earlier half."""
        frames, count = self.config.frames, self.config.motion_frames
        carried, own = batch.latents[:, frames - count : frames], draws.own_carried & ~draws.no_start
        if own.any():
            earlier, chance = batch.of_frames(frames), draws.of_frames(frames)
            made = self._sung(student, earlier, chance, chance.noise, self.config.distilled_steps)
            carried = torch.where(own.view(-1, 1, 1, 1, 1), made[:, -count:], carried)
        return dataclasses.replace(batch.of_frames(-frames), carried=carried)

    def _beginning(self, student: SingerNetwork, batch: Sample, draws: Draws, start: Tensor) -> Tensor:
        """Latents where each sample's part of the path begins: noised clips, or the student's own."""
        alphas = self.alphas[start].view(-1, 1, 1, 1, 1)
        x = alphas.sqrt() * batch.latents + (1 - alphas).sqrt() * draws.noise
        for row in (draws.own_beginning & (start > 0)).nonzero().flatten().tolist():
            sample, chance = batch.pick([row]), draws.pick([row])
            steps = int(start[row]) // self.stride
            x[row] = self._sung(student, sample, chance, chance.noise, steps)[0]
        return x

    def _sung(self, student: SingerNetwork, batch: Sample, draws: Draws, x: Tensor, steps: int) -> Tensor:
        """Noise x after the student's first steps."""
        singer = Conditioned.of(student, self.config, batch, draws)
        for step in range(steps):
            start = torch.full((len(x),), step * self.stride, device=x.device)
            x = self._moved(x, singer.predict(x, self.times[start]), start, self.stride)
        return x

    def _taught(self, batch: Sample, draws: Draws, x: Tensor, start: Tensor) -> Tensor:
        """Where the guided teacher arrives from x at the end of its part of the path."""
        teacher = Conditioned.of(self.teacher, self.config, batch, draws)
        branches = branches_for(self.guidance)
        for step in range(self.stride):
            now = start + step
            v = guide(teacher.predict(x, self.times[now], branches), self.guidance)
            x = self._moved(x, v, now, 1)
        return x
