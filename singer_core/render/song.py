"""A whole song, clip after clip: the one loop behind every render (paper section 4, numerics section 13).

    plan -> load, else sample -> cross-fade -> store -> hand out -> rest -> carry on

It knows neither network nor VAE: its caller says how a clip is sampled and what of it the next one is shown.
The latents of two clips are all that it holds, however long the song is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..settings import SingerOptions
from .clips import Clip, finished_frames, plan_clips
from .seams import cross_fade, rest_before
from .store import ClipStore

NAN_REMEDY = (
    "Check the weights with `singer info` and the input pictures, lower the guidance scales, or set float32."
)

Sample = Callable[[Clip, Tensor | None], Tensor]
Carry = Callable[[Tensor, float], Tensor]
Report = Callable[[Clip, int, Tensor], None]


@dataclass(frozen=True)
class FinishedClip:
    """Latents (f, 4, h, w) of a clip; nothing that follows changes the first `frames` of them.

    pictures  (frames, 3, H, W) of these, where they are decoded
    """

    clip: Clip
    latents: Tensor
    frames: int
    pictures: Tensor | None = None

    @property
    def stop(self) -> int:
        """The frame of the song behind the last that nothing changes."""
        return self.clip.start + self.frames


def plan_song(span: range, options: SingerOptions) -> list[Clip]:
    """The clips of these frames of a song."""
    return plan_clips(span.stop, options.clip_frames, options.overlap, span.start)


def render_song(
    span: range,
    options: SingerOptions,
    sample: Sample | None,
    carry: Carry,
    report: Report | None = None,
    store: ClipStore | None = None,
    activity: Tensor | None = None,
    device: torch.device | None = None,
    plan: Sequence[Clip] | None = None,
    carried: Tensor | None = None,
) -> Iterator[FinishedClip]:
    """The clips of these frames in order, each handed out before anything is done for the next.

    sample    (clip, what `carry` made of the one before; None = the portrait stands still) -> latents
              (f, 4, h, w); None: the song ends with the first clip that the store lacks
    carry     (the last motion_frames latents before the next clip, 0 to 1: how much the voice rests there)
              -> what the next clip is shown; asked after the clip was handed out
    report    (clip, step, latents): told that the last step of a stored clip is done
    store     has clips that are not sampled again, and gets the others
    activity  (s,) vocal activity in [0, 1] of every frame of the song, for `reanchor`
    device    where latents go on; None = where they are
    plan      clips that the frames are cut into; None = `plan_song`
    carried   what the first clip is shown; None = the portrait stands still
    Raises RuntimeError for a clip with NaN or Inf, which is not stored.
    """
    plan = plan_song(span, options) if plan is None else plan
    ending: Tensor | None = None
    for clip, following in zip(plan, [*plan[1:], None], strict=True):
        latents = None if store is None else store.load(clip.index)
        if latents is not None:
            latents = latents.to(device)
            if report is not None:
                report(clip, options.steps - 1, latents)
        elif sample is None:
            return
        else:
            latents = cross_fade(ending, _sound(clip, sample(clip, carried)).to(device)).contiguous()
            if store is not None:
                store.save(clip.index, latents)
        yield FinishedClip(clip, latents, len(finished_frames(clip, following, span.stop)))
        if following is not None:
            ending = latents[len(latents) - following.shared :]
            last = following.carried_from(clip, options.motion_frames)
            rest = rest_at(options, activity, following)
            carried = carry(latents[last.start : last.stop], rest)


def rest_at(options: SingerOptions, activity: Tensor | None, clip: Clip) -> float:
    """How far the portrait takes the place of the frames that a clip is shown, 0 to 1."""
    return options.reanchor and options.reanchor * rest_before(activity, clip.start)


def _sound(clip: Clip, latents: Tensor) -> Tensor:
    if not latents.isfinite().all():
        raise RuntimeError(
            f"Clip {clip.index + 1} (frames {clip.start} to {clip.stop}) came out as NaN or Inf. {NAN_REMEDY}"
        )
    return latents
