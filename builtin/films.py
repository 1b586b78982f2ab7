"""Renders of held-out people as video files, in the layout that `singer evaluate --protocol` reads.

    FOLDER/truth/NUMBER.mp4          the true frames, with the voice
    FOLDER/vocals/NUMBER.wav         the voice
    FOLDER/landmarks/NUMBER.json     the face of the portrait, from which the lip box follows
    FOLDER/WAY/generated/NUMBER.mp4  a render; links to the three folders above lie beside it

Films are H.264 without loss but for the colours' 4:2:0. A film that is there is not rendered again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from singer_core.audio.waveform import Waveform, write_wave
from singer_core.cli import main as singer
from singer_core.portrait.landmarks import FaceLandmarks, write_landmarks
from singer_core.render.video import VideoWriter, read_frames

from . import held_out as h
from .world import Show

LOSSLESS = 0  # crf of H.264
SHARED = ("truth", "vocals", "landmarks")
ENDINGS = (".mp4", ".wav", ".json")
TRUE = "true"  # the way whose videos are the truth itself


def name_of(number: int) -> str:
    return f"{number:03d}"


def add_truth(folder: Path, number: int, show: Show) -> Path:
    """The files of a performance that every way of singing it shares; returns the true film."""
    film, sound, face = (
        folder / part / f"{name_of(number)}{ending}" for part, ending in zip(SHARED, ENDINGS, strict=True)
    )
    if film.is_file():
        return film
    for path in (film, sound, face):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_wave(sound, Waveform(torch.from_numpy(show.song.vocals)[None], show.song.rate))
    write_landmarks(face, [FaceLandmarks(torch.from_numpy(show.landmarks(0)))], (show.size, show.size))
    return write_film(film, h.true_frames(show), show.fps, sound)


def add_render(folder: Path, way: str, number: int, render: Callable[[], h.Frames], fps: float) -> Path:
    """The film of what `render` gives, made only where it is not there."""
    film = folder / way / "generated" / f"{name_of(number)}.mp4"
    if not film.is_file():
        film.parent.mkdir(parents=True, exist_ok=True)
        write_film(film, render(), fps, folder / "vocals" / f"{name_of(number)}.wav")
    return film


def write_film(path: Path, frames: h.Frames, fps: float, sound: Path) -> Path:
    size = (frames.shape[1], frames.shape[2])
    options: dict[str, Any] = {"frames": len(frames), "audio": sound, "crf": LOSSLESS, "rounding": True}
    with VideoWriter(path, size, fps, **options) as writer:
        writer.write(torch.from_numpy(frames).movedim(3, 1).float() / 255)
    return path


def frames_of(path: Path) -> h.Frames:
    return np.stack([picture.movedim(0, 2).numpy() for picture in read_frames(path)])


def measured(folder: Path, way: str, numbers: Sequence[int], *options: str) -> dict[str, Any]:
    """What `singer evaluate --protocol shv` says of some people's films of one way: its table, and `each`,
    the metrics of every person in their order."""
    place = folder / way
    place.mkdir(parents=True, exist_ok=True)
    for part in SHARED:
        _link(place / part, folder / part)
    if way == TRUE:
        _link(place / "generated", folder / "truth")
    names = [name_of(number) for number in numbers]
    (place / "test.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    command = ["evaluate", "--protocol", "shv", str(place), "--json", str(place / "table.json")]
    status = singer([*command, "--html", str(place / "table.html"), *options])
    if status:
        raise SystemExit(f"`singer {' '.join(command)}` ended with {status}.")
    table = json.loads((place / "table.json").read_text(encoding="utf-8"))
    pairs = [json.loads((place / "results" / f"{name}.json").read_text(encoding="utf-8")) for name in names]
    each = [{key: entry["value"] for key, entry in pair["metrics"].items()} for pair in pairs]
    return {**table, "each": each}


def _link(path: Path, target: Path) -> None:
    if not path.exists():
        path.symlink_to(target.resolve(), target_is_directory=True)
