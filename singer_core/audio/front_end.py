"""Which features a network hears by: one rule for the command line and the nodes."""

from __future__ import annotations

from ..network.checkpoint import Checkpoint
from .logmel import LogMelFrontEnd
from .wav2vec2 import Wav2Vec2FrontEnd

FrontEnd = Wav2Vec2FrontEnd | LogMelFrontEnd


def choose_front_end(
    checkpoint: Checkpoint, encoder: Wav2Vec2FrontEnd | None, name: str, remedy: str
) -> FrontEnd:
    """What turns the song into the features that the checkpoint reads.

    The published width means wav2vec2, any other log-mel energies, unless an encoder is given.

    name    of the encoder, as the user knows it
    remedy  how the user gives one
    Raises ValueError where wav2vec2 is needed and not given, or has other widths.
    """
    file, needed = checkpoint.file.path.name, checkpoint.architecture.frame_features
    if encoder is not None and encoder.layers * encoder.width != needed:
        raise ValueError(
            f"{name} has {encoder.layers} layers of {encoder.width} values; {file} reads {needed} values a "
            "frame. Use the encoder it was trained with (published weights: wav2vec2-base-960h)."
        )
    if encoder is not None:
        return encoder
    if checkpoint.architecture.reads_wav2vec2:
        raise ValueError(f"{file} reads wav2vec2 features. {remedy}")
    layers = int(checkpoint.file.metadata.get("singer.audio_layers", 0)) or next(
        n for n in (4, 3, 2, 1) if needed % n == 0
    )
    return LogMelFrontEnd(layers, needed // layers)
