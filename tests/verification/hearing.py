"""Fixture check of what the network hears: wav2vec2 features at the video rate (numerics section 14)."""

from __future__ import annotations

import math

import torch

from singer_core.audio.features import (
    RATE,
    NormalisedSong,
    normalised_song,
    padded_count,
)
from singer_core.audio.wav2vec2 import (
    ConvStack,
    Wav2Vec2FrontEnd,
    build_wav2vec2,
    hidden_states,
    padding_samples,
)
from singer_core.audio.waveform import Waveform
from verification.fixtures import Case, Tensors

FPS = 25  # of the reference run, where the case does not say otherwise
STRIDE = 16  # of `normalized_strided`


def authors_frame_count(samples: int, rate: int, fps: float) -> int:
    """Frames in the floats of the authors' script: 0.28 s at 25 fps are 8 frames, not 7."""
    return math.ceil(samples / rate * fps)


def run_w2v(case: Case) -> Tensors:
    """Every output of a `run_w2v` case, with whole-clip padding and (`_nopad`) without.

    The frame count is the float formula of the authors' script (`authors_frame_count`).
    """
    front_end = Wav2Vec2FrontEnd(build_wav2vec2(case.config["w2v"], case.weights))
    fps, clip_length = case.config.get("fps", FPS), case.config["clip_length"]
    waveform = Waveform(case.inputs["wave"].reshape(1, -1), RATE)
    frames = authors_frame_count(waveform.length, RATE, fps)
    total = padded_count(frames, clip_length)
    bare = normalised_song(waveform)
    song = normalised_song(waveform, padding_samples(total - frames, fps))
    with torch.inference_mode():
        conv = ConvStack(front_end.model, song).at_frames(0, total, total)
        hidden = list(hidden_states(front_end.model, conv))
    return {
        "audio_emb": front_end.encode_song(song, total),
        "audio_emb_nopad": front_end.encode_song(bare, frames),
        "audio_length": torch.tensor(frames),
        "audio_length_nopad": torch.tensor(frames),
        "conv_interp": conv,
        "hidden_state_0": hidden[0],
        "last_hidden_state": hidden[-1],
        "normalized_strided": _strided(bare, case.expected.get("normalized_strided")),
    }


def _strided(song: NormalisedSong, expected: torch.Tensor | None) -> torch.Tensor:
    """The normalised samples at the stride that gives as many as expected."""
    values = song.block(0, song.waveform.length)
    count = len(values[::STRIDE]) if expected is None else expected.numel()
    stride = STRIDE if len(values[::STRIDE]) == count else -(-len(values) // count)
    return values[::stride]
