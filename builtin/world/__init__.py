"""A small singing world made of numbers: songs, portraits and the truth about both, deterministic by seed.

score -> articulation -> voice + band = song; identity + song -> performance (frames, landmarks, opening).
Drawing needs `skia-python`, imported when the first frame is drawn.
"""

from .geometry import Expression
from .identity import Identity
from .measure import measured_opening
from .performance import Performance, Show
from .phonetics import STYLES, VOWELS
from .song import Song

__all__ = ["STYLES", "VOWELS", "Expression", "Identity", "Performance", "Show", "Song", "measured_opening"]
