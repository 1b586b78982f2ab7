"""`singer demo`: the built-in singer sings the built-in song; nothing is downloaded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from ..demo import files
from ..settings import Job, ModelFiles, RenderSettings, setting
from . import sing

DESCRIPTION = """
Let the built-in model sing: 5 seconds at 25 frames a second, without any download. The model is small
(192 x 192 pixels) and sings drawn faces and photographs; docs/model_card.md says what to expect of it.
"""

EPILOG = """
example:
  singer demo
  singer demo --audio my-song.mp3 --out my-song.mp4
  singer demo --image me.jpg
"""


@dataclass(frozen=True)
class Arguments:
    image: Path | None = setting(None, "Picture of one person, instead of ours.")
    audio: Path | None = setting(None, "Sound file, instead of ours.")
    out: Path = setting(Path("singer-demo.mp4"), "Video to write.")
    how: RenderSettings = field(default_factory=RenderSettings)


def run(given: Arguments) -> int:
    how = given.how
    if given.image is None:
        look = dataclasses.replace(how.look, landmarks=files.LANDMARKS, crop="squash")
        how = dataclasses.replace(how, look=look)
    if given.audio is None:
        how = dataclasses.replace(how, sound=dataclasses.replace(how.sound, separator="none"))
    networks = ModelFiles(files.CHECKPOINT, files.VAE)
    portrait, song = given.image or files.PORTRAIT, given.audio or files.SONG
    return sing.run(Job(portrait, song, networks, how, given.out))
