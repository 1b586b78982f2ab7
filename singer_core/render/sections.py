"""Songs cut where the voice rests: sections that are rendered each on its own, and joined without a seam.

Sections need nothing of each other, so they can be rendered in any order, by several processes, and a mistake
of one does not reach the next. Each begins at the portrait. Neighbours render the same few frames in the
middle of the rest, which are cross-faded in latents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..audio.activity import rests
from .pipeline import RenderedClip
from .seams import cross_fade

SECTION_SECONDS = 8.0  # shorter sections are joined to the next
SECTION_OVERLAP = 8  # frames, 0.3 s
RESTING = 0.1  # vocal activity below which a frame is silent


@dataclass(frozen=True)
class Section:
    """Frames [start, stop) of the song; the first `shared` are the last ones of the section before."""

    index: int
    start: int
    stop: int
    shared: int

    @property
    def span(self) -> range:
        return range(self.start, self.stop)


def plan_sections(
    activity: Tensor, frames: int, shortest: int, overlap: int = SECTION_OVERLAP
) -> list[Section]:
    """Sections that cover [0, frames), neighbours sharing `overlap` frames in which nothing is sung.

    activity  (s,) vocal activity in [0, 1] of every frame
    shortest  frames between two cuts at least; not below `overlap`
    overlap   even; rests shorter than it are no places to cut

    A song that never rests, or not long enough, is one section.
    """
    cuts, begin, shortest = [], 0, max(shortest, overlap)
    for rest in rests(activity[:frames] < RESTING, overlap):
        middle = (rest.start + rest.stop) // 2
        if middle - begin >= shortest and frames - middle >= shortest:
            cuts.append(middle)
            begin = middle
    starts = [0, *(cut - overlap // 2 for cut in cuts)]
    stops = [*(cut + overlap // 2 for cut in cuts), frames]
    return [
        Section(index, start, stop, overlap if index else 0)
        for index, (start, stop) in enumerate(zip(starts, stops, strict=True))
    ]


def join_sections(
    sections: Sequence[Section],
    render: Callable[[Section], Iterable[RenderedClip]],
    decode: Callable[[Tensor], Tensor],
) -> Iterator[Tensor]:
    """Pictures (k, 3, H, W) of the whole song in order, at the memory of a clip and an overlap.

    render  the clips of a section (`SingerPipeline.render` with its span)
    decode  latents (k, 4, h, w) -> pictures (k, 3, H, W)
    """
    ending: Tensor | None = None
    for section, following in zip(sections, [*sections[1:], None], strict=True):
        position, head, tail = section.start, [], []
        body = range(section.start + section.shared, section.stop - (following.shared if following else 0))
        for clip in render(section):
            count = len(clip.pictures)
            first, last = (min(max(edge - position, 0), count) for edge in (body.start, body.stop))
            if first > 0:  # not even an empty slice of the others: it would keep their memory
                head.append(clip.latents[:first])
            if last < count:
                tail.append(clip.latents[last:count])
            position += count
            if position >= body.start and ending is not None:
                yield decode(cross_fade(ending, torch.cat(head)))
                ending = None
            if last > first:
                yield clip.pictures[first:last]
        ending = torch.cat(tail) if tail else None
