"""Features of each video frame from a song, by wav2vec2 or by log-mel energies: one call for both.

front_end.encode(waveform, fps, clip_length=16, device=None, progress=None, cancel=None, store=None)
"""

from .frames import AudioFeatures, authors_frame_count, frame_count, padded_count
from .logmel import LogMelFrontEnd
from .wav2vec2 import Wav2Vec2FrontEnd

__all__ = [
    "AudioFeatures",
    "LogMelFrontEnd",
    "Wav2Vec2FrontEnd",
    "authors_frame_count",
    "frame_count",
    "padded_count",
]
