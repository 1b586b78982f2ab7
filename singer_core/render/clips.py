"""How a song is cut into clips: integers only (paper section 4, numerics section 13)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Clip:
    """Frames [start, stop) of the song, of which the first `shared` are those the previous clip ends with."""

    index: int
    start: int
    stop: int
    shared: int

    def carried_from(self, previous: Clip, count: int) -> range:
        """Positions in the previous clip of the `count` frames right before this one."""
        end = self.start - previous.start
        return range(end - count, end)


def plan_clips(stop: int, length: int, overlap: int = 0, start: int = 0) -> list[Clip]:
    """Clips of `length` frames that cover [start, stop), neighbours sharing `overlap`.

    All have the full length; the last may reach beyond `stop`, where it is padded.
    """
    clips = [Clip(0, start, start + length, 0)]
    while clips[-1].stop < stop:
        first = clips[-1].stop - overlap
        clips.append(Clip(len(clips), first, first + length, overlap))
    return clips


def finished_frames(clip: Clip, following: Clip | None, stop: int) -> range:
    """Positions in a clip before frame `stop` that nothing will change: without what the next cross-fades."""
    return range(min(following.start if following else clip.stop, stop) - clip.start)
