"""Seconds of a song sung again, from the frames before them to those behind, which stay (docs/takes.md).

A take is clips of its own under another seed, so planned that the last reaches into the frames behind. What
is known is held in every diffusion step (`Held`), with a ramp at both ends: RePaint (Lugmayr et
al. 2022, arXiv 2201.09865) along time. So nothing behind a take is rendered again, and a take needs nothing
of another: each is made from the song's own clips.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..audio.activity import rests
from ..marks import Take, read_takes
from ..settings import SingerOptions
from .clips import Clip, plan_clips
from .seams import Held
from .song import Carry, FinishedClip, plan_song, render_song, rest_at
from .store import ClipStore, chained, fingerprint

log = logging.getLogger(__name__)

KNOWN = 4  # frames behind a take that its last clip sees
RAMP = 4  # frames at either end of a take that are held in part
UNEVEN = 1.5  # a right end that moves so many times as much as the take and the song do is not met
RESTING, REST = 0.1, 4  # vocal activity below which nothing is sung, and frames of it that make a rest


@dataclass(frozen=True)
class Known:
    """The song's own latents of the frames around a take: [start, start + len(latents))."""

    start: int
    latents: Tensor

    def rows(self, first: int, stop: int) -> Tensor:
        """Frames [first, stop); beyond either end the last one there repeats."""
        rows = torch.arange(first, stop) - self.start
        return self.latents[rows.clamp(0, len(self.latents) - 1)]


Sing = Callable[[Take, Known], Tensor]  # latents (take.stop - take.start, 4, h, w)
HeldSample = Callable[[Clip, Tensor | None, Held], Tensor]  # `song.Sample`, told what is known of the clip


def plan_take(take: Take, span: range, options: SingerOptions) -> list[Clip]:
    """The clips of a take: they end `KNOWN` frames behind it, and begin where that leads them."""
    length, step = options.clip_frames, options.clip_frames - options.overlap
    stop = min(take.stop + KNOWN, span.stop)
    count = 1 + max(-(-(stop - take.start - length) // step), 0)
    start = max(stop - length - (count - 1) * step, span.start)
    return plan_clips(stop, length, options.overlap, start)


def freedom(take: Take, clip: Clip, span: range) -> Tensor:
    """How free each frame of a clip is, (f,): 0 outside of the take, rising inside where the song goes on."""
    frames = torch.arange(clip.start, clip.stop)
    free = torch.full((len(frames),), torch.inf)
    if take.start > span.start:
        free = torch.minimum(free, (frames - take.start + 1) / (RAMP + 1))
    if take.stop < span.stop:
        free = torch.minimum(free, (take.stop - frames) / (RAMP + 1))
    return free.clamp(0, 1)


def weights_of(take: Take, weights: Tensor | None, frames: int) -> Tensor | None:
    """The song's motion weights (s, 3) times the take's own; None = 1."""
    if take.weights == (1.0, 1.0, 1.0):
        return weights
    return (torch.ones(frames, 3) if weights is None else weights) * torch.tensor(take.weights)


def noted_takes(store: ClipStore, frames: int) -> list[Take]:
    """The takes that were noted in the store's folder, of any song of so many frames."""
    takes = []
    for line in store.notes():
        with contextlib.suppress(ValueError):  # of a longer song
            takes += read_takes(line, frames, 1.0)
    return takes


def note_takes(store: ClipStore, takes: Iterable[Take]) -> None:
    """Have takes found by `noted_takes`, whatever becomes of this run."""
    store.note(take.text(1.0) for take in takes if take.number is None)


def take_store(
    store: ClipStore,
    take: Take,
    span: range,
    options: SingerOptions,
    activity: Tensor | None,
    own: Callable[[Clip], object],
) -> ClipStore:
    """The clips of a take in the store of its song: told by those of the song's clips that it is made from.

    span      frames of the song whose store it is
    activity  (s,) vocal activity
    own       what a clip of the take has of its own, seed and weights included
    """
    plan, song = plan_take(take, span, options), plan_song(span, options)
    first, stop = plan[0].start - options.motion_frames, plan[-1].stop
    used = [
        (key, clip)
        for key, clip in zip(store.keys, song, strict=True)
        if clip.start < stop and clip.stop > first
    ]
    made_from = [key for key, _ in used], plan[0].start - used[0][1].start
    parts = ((freedom(take, clip, span), own(clip)) for clip in plan)
    begun = fingerprint("take", made_from, rest_at(options, activity, plan[0]))
    return store.of(chained(store.shared, parts, begun))


def with_takes(
    song: Iterator[FinishedClip],
    takes: Sequence[Take],
    span: range,
    options: SingerOptions,
    sing: Sing,
    activity: Tensor | None = None,
) -> Generator[FinishedClip, None, None]:
    """The clips of a song with some frames of other takes; clips without any are handed on as they are.

    takes     in order, none overlapping another
    activity  (s,) vocal activity, which says how far a take goes whose right end is not met
    """
    left, waiting = list(takes), list[FinishedClip]()  # as the song has them
    shown: dict[int, FinishedClip] = {}  # the same with takes
    for done in song:
        if not left or done.stop <= _needed_from(left[0], options):
            yield done
            continue
        waiting.append(done)
        shown[done.clip.index] = dataclasses.replace(done, pictures=None)  # not their memory
        while left and done.stop >= plan_take(left[0], span, options)[-1].stop:
            known = Known(waiting[0].clip.start, torch.cat([part.latents[: part.frames] for part in waiting]))
            latents = sing(left[0], known)
            longer = _longer(left[0], latents, known, activity, left[1].start if left[1:] else span.stop)
            if longer is not None:
                left[0] = longer
                continue
            for part in waiting:
                shown[part.clip.index] = _replaced(shown[part.clip.index], left[0], latents)
            left.pop(0)
        while waiting and not (left and waiting[0].stop > _needed_from(left[0], options)):
            yield shown.pop(waiting.pop(0).clip.index)


def _needed_from(take: Take, options: SingerOptions) -> int:
    """The first frame of the song that a take may be made from."""
    return take.start - options.clip_frames - options.motion_frames


def _replaced(done: FinishedClip, take: Take, latents: Tensor) -> FinishedClip:
    start = done.clip.start
    first, last = max(take.start, start), min(take.stop, start + done.frames)
    if first >= last:
        return done
    whole = done.latents.clone()
    whole[first - start : last - start] = latents[first - take.start : last - take.start]
    return dataclasses.replace(done, latents=whole)


def render_take(
    take: Take,
    span: range,
    options: SingerOptions,
    known: Known,
    sample: HeldSample,
    carry: Carry,
    store: ClipStore | None = None,
    activity: Tensor | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Latents (k, 4, h, w) of the frames of a take.

    sample, carry, store, activity, device  as for `render_song`
    """

    def sung(clip: Clip, carried: Tensor | None) -> Tensor:
        return sample(clip, carried, Held(known.rows(clip.start, clip.stop), freedom(take, clip, span)))

    plan = plan_take(take, span, options)
    carried, first = None, plan[0].start
    if first > span.start:
        before = known.rows(first - options.motion_frames, first)
        carried = carry(before, rest_at(options, activity, plan[0]))
    clips = render_song(span, options, sung, carry, None, store, activity, device, plan, carried)
    return torch.cat([done.latents[: done.frames] for done in clips])[take.start - first :][: len(take.span)]


def unevenness(latents: Tensor, own: Tensor, known: Tensor) -> float:
    """How much more frames change over the right end of a take than inside of it, and than the song's did.

    latents  (k, 4, h, w) the take
    own      (k, 4, h, w) the song's own frames there
    known    (1, 4, h, w) the frame behind both
    """
    end, counts = min(RAMP + 1, len(latents)), []
    for frames in (latents, own):
        change = torch.cat([frames, known]).diff(dim=0).abs().mean(dim=(1, 2, 3))
        counts.append((float(change[-end:].mean()), float(change.mean())))
    (here, inside), (there, _) = counts
    return here / max(inside, there, 1e-9)


def _longer(take: Take, latents: Tensor, known: Known, activity: Tensor | None, limit: int) -> Take | None:
    """The take up to the next rest, where its right end is not met; None where it is, or there is no rest."""
    start, stop = take.start, take.stop
    if stop >= known.start + len(known.latents) or activity is None:
        return None
    uneven = unevenness(latents, known.rows(start, stop), known.rows(stop, stop + 1))
    if uneven <= UNEVEN:
        return None
    silent = activity[stop:limit] < RESTING
    rest = next(rests(silent, REST), None)
    if rest is None:
        log.warning("Frames %d to %d: the end moves %.1f times as much as the rest.", start, stop, uneven)
        return None
    further = stop + rest.start + REST
    log.warning(
        "Frames %d to %d: the end moves %.1f times as much as the rest; going on to the next rest, frame %d.",
        start,
        stop,
        uneven,
        further,
    )
    return dataclasses.replace(take, stop=further)
