"""What keeps a long song steady from clip to clip: on plain tensors, for any sampler.

Each of these is an option of `SingerOptions` and off in `official`. Frames come as latents (k, 4, h, w) or
as pictures (k, 3, H, W); "the portrait" is the portrait's latents or picture of the same kind.

    shared_noise_rows   every clip starts from the frames of one noise, shuffled     clip_noise = "shared"
    cross_fade          frames that two clips share                                   overlap
    hold_statistics     colour and contrast of carried frames                         hold_colours
    rest_before, towards_portrait   start afresh where the voice rests                reanchor
    departure           start afresh where a clip went astray                         restart_beyond
    steadied            all of it that is done to carried frames
    Held                frames that are known already                              takes
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .clips import Clip

logger = logging.getLogger(__name__)

REST_FRAMES = 4  # frames on either side of a boundary that must be silent


@dataclass(frozen=True)
class Held:
    """What is known of a clip's frames: latents (f, 4, h, w), and how free each frame is, (f,) in [0, 1]."""

    latents: Tensor
    freedom: Tensor

    def joined(self, latents: Tensor, noised: Callable[[Tensor], Tensor] = lambda known: known) -> Tensor:
        """`latents` where frames are free, elsewhere what is known, `noised` to the level of the step."""
        known = noised(self.latents.to(latents))
        return known.lerp(latents, self.freedom.to(latents)[:, None, None, None])


def shared_noise_rows(plan: Sequence[Clip], generator: torch.Generator) -> list[Tensor]:
    """For every clip, which frame of the first clip's noise each of its frames starts from, (f,) each.

    FreeNoise (Qiu et al. 2023, arXiv 2310.15169): frames that leave the window come back at its other end,
    shuffled. So frames that two clips share have one noise, and each clip has every frame of it exactly once.
    """
    rows = torch.arange(plan[0].stop - plan[0].start)
    found = [rows]
    for clip in plan[1:]:
        new = len(rows) - clip.shared
        rows = torch.cat([rows[new:], rows[:new][torch.randperm(new, generator=generator)]])
        found.append(rows)
    return found


def cross_fade(ending: Tensor | None, beginning: Tensor) -> Tensor:
    """The later of two overlapping clips, (f, ...), its start blended with the other's `ending`."""
    if ending is None or not len(ending):
        return beginning
    shared = len(ending)
    ramp = torch.arange(1, shared + 1, device=beginning.device) / (shared + 1)
    ramp = ramp.view(-1, *[1] * (beginning.ndim - 1))
    return torch.cat([ending.lerp(beginning[:shared], ramp), beginning[shared:]])


def hold_statistics(frames: Tensor, portrait: Tensor, strength: float, where: Tensor | None = None) -> Tensor:
    """Frames whose mean and deviation are moved to the portrait's, channel by channel (AdaIN).

    frames    (k, c, h, w), treated as one: differences between them stay
    portrait  (c, h, w)
    strength  0 leaves the frames, 1 moves all the way
    where     (h', w') weight of each place in the statistics, resized; None = everywhere alike. Leave the
              mouth out: an open one is dark, which is no drift
    """
    share = _share(frames, where)
    mean, deviation = _statistics(frames, share)
    wanted_mean, wanted_deviation = _statistics(portrait[None].to(frames), share)
    moved = (frames - mean) * (wanted_deviation / deviation.clamp_min(1e-6)) + wanted_mean
    return frames.lerp(moved, strength)


def departure(frames: Tensor, portrait: Tensor, where: Tensor | None = None) -> float:
    """How far frames (k, c, h, w) are from the portrait (c, h, w) in colour or sharpness, 0 = not at all.

    The larger of two numbers over all channels: how far their means lie from the portrait's, in deviations of
    the portrait; and how many times their neighbours differ twice or half as much as the portrait's (log2).

    where  as in `hold_statistics`
    """
    still, share = portrait[None].to(frames), _share(frames, where)
    (mean, _), (own, deviation) = _statistics(frames, share), _statistics(still, share)
    colour = (mean - own).norm() / deviation.norm().clamp_min(1e-6)
    sharpness = (_roughness(frames, share) / _roughness(still, share)).log2().abs()
    return float(torch.maximum(colour, sharpness))


def _roughness(frames: Tensor, share: Tensor) -> Tensor:
    """Mean difference of neighbours to the right and below."""
    across, down = (frames.diff(dim=dim).abs() * share.narrow(dim, 1, share.shape[dim] - 1) for dim in (2, 3))
    return (across.sum() + down.sum()).clamp_min(1e-6) / len(frames)


def _share(frames: Tensor, where: Tensor | None) -> Tensor:
    """(1, 1, h, w) weight of each place, 1 together."""
    share = frames.new_ones(1, 1, *frames.shape[-2:])
    if where is not None:
        share = F.interpolate(where[None, None].to(frames), frames.shape[-2:])
    return share / share.sum()


def _statistics(frames: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and deviation of each channel, (1, c, 1, 1); share (1, 1, h, w) sums to 1."""
    mean = (frames * share).sum((2, 3), keepdim=True).mean(0, keepdim=True)
    variance = ((frames - mean).square() * share).sum((2, 3), keepdim=True).mean(0, keepdim=True)
    return mean, variance.sqrt()


def steadied(
    frames: Tensor,
    portrait: Tensor,
    hold: float,
    rest: float,
    beyond: float = 0.0,
    where: Tensor | None = None,
) -> Tensor:
    """Carried frames (k, c, h, w) as the next clip is shown them.

    The portrait where they went astray; else by `hold_statistics`, then `towards_portrait`.

    portrait    (c, h, w)
    hold, rest  0 to 1: how far colours are brought to the portrait's, how far the portrait takes their place
    beyond      the `departure` beyond which the portrait stands in for the frames; 0 = none
    where       as in `hold_statistics`
    """
    if beyond and not (far := departure(frames, portrait, where)) <= beyond:
        logger.warning(
            "A clip ended %.2f from the portrait (`restart_beyond`): the next begins there again.", far
        )
        return portrait[None].to(frames).expand_as(frames)
    if hold:
        frames = hold_statistics(frames, portrait, hold, where)
    return towards_portrait(frames, portrait, rest) if rest else frames


def rest_before(activity: Tensor | None, start: int, reach: int = REST_FRAMES) -> float:
    """How much the voice rests around frame `start`: 1 = silent for `reach` frames on both sides, 0 = sung.

    activity  (s,) vocal activity in [0, 1] of every frame; None = unknown, which counts as sung
    """
    if activity is None:
        return 0.0
    around = activity[max(start - reach, 0) : start + reach]
    return 1 - float(around.max()) if len(around) else 1.0


def towards_portrait(frames: Tensor, portrait: Tensor, share: float) -> Tensor:
    """Carried frames (k, c, h, w) that end at the portrait (c, h, w), a cross-fade over the k frames.

    share  how far the last of them goes, 0 to 1
    """
    count = len(frames)
    ramp = torch.arange(1, count + 1, device=frames.device).view(-1, 1, 1, 1) * (share / count)
    return frames.lerp(portrait[None].to(frames).expand_as(frames), ramp.to(frames))
