"""`singer duet`: two portraits, two stems, one video."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..settings import Job, ModelFiles, RenderSettings, SingerSettings, required, setting
from . import inputs, sing
from .arguments import changed
from .film import Film, canvas_of, write_films

if TYPE_CHECKING:
    from ..render.canvas import Canvas

DESCRIPTION = """
Render two singers of one song, each with the stem of their own voice: where a stem is silent, its singer is.
The two are shown side by side; with --paste-back and twice the same picture, both sing in that picture.

All options hold for both singers; --second changes one for the second. Stopped and run again, the same
command goes on, as with `singer sing`.
"""

EPILOG = """
examples:
  singer duet ann.png ann.wav bob.png bob.wav --landmarks ann.json --second landmarks=bob.json \\
      --mix song.mp3 --checkpoint net.pth --vae vae.safetensors --wav2vec2 wav2vec2-base-960h --out duet.mp4
  singer duet both.png ann.wav both.png bob.wav --landmarks faces.json --face-index 0 --second face-index=1 \\
      --paste-back --checkpoint net.pth --vae vae.safetensors --wav2vec2 wav2vec2-base-960h --out duet.mp4

`singer sing --help` describes modes, presets and files.
"""


@dataclass(frozen=True)
class Arguments:
    portrait: Path = required(
        "Picture of the first singer: on the left.", positional=True, metavar="PORTRAIT"
    )
    song: Path = required(
        "The first singer's voice, silent where the other sings alone.", positional=True, metavar="STEM"
    )
    second_portrait: Path = required(
        "Picture of the second singer; may be the same file.", positional=True, metavar="PORTRAIT2"
    )
    second_song: Path = required("The second singer's voice.", positional=True, metavar="STEM2")
    files: ModelFiles = field(default_factory=ModelFiles)
    how: RenderSettings = field(default_factory=RenderSettings)
    mix: Path | None = setting(
        None, "Sound of the video: the song that both voices are from (default: the two stems together)."
    )
    second: tuple[str, ...] = setting(
        (),
        "A setting of the second singer alone, such as landmarks=bob.json; may be given again.",
        metavar="NAME=VALUE",
    )
    out: Path = setting(Path("duet.mp4"), "Video to write: .mp4, .mov or .mkv.")


def run(given: Arguments) -> int:
    from ..audio.waveform import probe_audio

    given = dataclasses.replace(given, how=_of_stems(given.how))
    singers = [Job(given.portrait, given.song, given.files, given.how, given.out), second_singer(given)]
    if given.mix:
        probe_audio(given.mix)
        inputs.check_outputs(given.out, given.how.preview, given.mix)
    device = inputs.choose_device(given.how.compute.device)
    songs = [inputs.read_song(one.song, one.how.sound, device) for one in singers]
    length, loaded = max(song.vocals.length for song in songs), sing.Loaded()
    films = [
        sing.prepare(one, loaded, lasting(song, length)) for one, song in zip(singers, songs, strict=True)
    ]
    rates = [film.audio.fps for film in films]
    if rates[0] != rates[1]:
        raise ValueError(
            f"The singers have {rates[0]:g} and {rates[1]:g} frames a second; a video has one rate. "
            "Give --fps without --second."
        )
    sound = [given.mix] if given.mix else [one.song for one in singers]
    write_films(films, _canvas(given, films), sound, given.out, given.how)
    return 0


def lasting(song: inputs.Song, length: int) -> inputs.Song:
    """The song with silence behind it, `length` samples of both sounds."""
    from ..audio.waveform import Waveform

    vocals, mix = (Waveform(x.block(0, length), x.rate) for x in (song.vocals, song.mix))
    return inputs.Song(vocals, mix)


def _of_stems(how: RenderSettings) -> RenderSettings:
    """Stems are voices already, unless a separator is asked for."""
    sound = dataclasses.replace(how.sound, separator=how.sound.separator or "none")
    return dataclasses.replace(how, sound=sound)


def second_singer(given: Arguments) -> Job:
    """What the second singer sings, and how.

    Raises ValueError for a setting that `--second` does not know, and where the first singer's face would be
    looked for in another picture.
    """
    how = dataclasses.replace(given.how, plot=None)
    how = changed(how, SingerSettings, [f"--{word}" for word in given.second], "singer duet")
    named = {word.partition("=")[0].replace("_", "-") for word in given.second}
    for name in ("landmarks", "face-mask", "lip-mask"):
        file = getattr(given.how.look, name.replace("-", "_"))
        if file and name not in named and not _one_picture(given):
            raise ValueError(
                f"--{name} {file} is of {given.portrait}, and the second singer is {given.second_portrait}. "
                f"Give the latter's, too: --second {name}=FILE."
            )
    return Job(given.second_portrait, given.second_song, given.files, how, given.out)


def _one_picture(given: Arguments) -> bool:
    return given.portrait.resolve() == given.second_portrait.resolve()


def _canvas(given: Arguments, films: Sequence[Film]) -> Canvas:
    """Side by side, or both back in the picture that they have in common."""
    from ..render.canvas import in_one_picture, side_by_side

    first, second = films
    if given.how.paste_back and _one_picture(given):
        return in_one_picture(first.portrait, second.portrait)
    return side_by_side(*(canvas_of(film, given.how) for film in films))
