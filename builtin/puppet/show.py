"""A photographed person sings a song: the drawn world's movements, its frames and labels."""

from __future__ import annotations

from functools import cached_property

from ..world.performance import Show
from ..world.song import Song
from .photograph import PLAIN, Photograph, Variation
from .puppet import Puppet


class PuppetShow(Show):
    """As `Performance`, of a photograph under a variation."""

    def __init__(
        self,
        photo: Photograph,
        song: Song,
        fps: float = 25.0,
        size: int = 128,
        variation: Variation = PLAIN,
    ) -> None:
        super().__init__(song, fps, size)
        self.photo, self.variation = photo, variation

    @cached_property
    def person(self) -> Puppet:
        return Puppet(self.photo, self.size, self.variation)
