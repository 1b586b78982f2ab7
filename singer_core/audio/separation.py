"""Vocals and accompaniment of a song: what separates them, with which file.

separator = load_separator("kim_vocal_2", folders=[Path("models/audio_separation")])
vocals, accompaniment = separator.separate(waveform)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import get_args

import torch

from ..downloads import FILES, ModelFile
from ..files import files_below
from ..progress import Progress, unwatched
from ..settings import Separator
from .chunks import ChunkedSeparator
from .hdemucs import load_hdemucs
from .mdx_net import load_mdx_net
from .mel_band import load_mel_band
from .waveform import Waveform


class PassThrough:
    """For songs that are vocals already: everything is vocals."""

    def separate(self, waveform: Waveform, progress: Progress = unwatched) -> tuple[Waveform, Waveform]:
        silence = torch.zeros(()).expand(waveform.samples.shape)
        return waveform, Waveform(silence, waveform.rate)


@dataclass(frozen=True)
class SeparatorKind:
    """A network that separates: its weights, its package, what loads them, other names that they go by."""

    file: ModelFile
    package: str
    load: Callable[[Path, torch.device | str | None], ChunkedSeparator]
    names: tuple[str, ...] = ()


SEPARATORS: dict[str, SeparatorKind | None] = {
    "none": None,  # the song is vocals already
    "hdemucs": SeparatorKind(
        FILES["hdemucs"],
        "torchaudio",
        load_hdemucs,
        ("hdemucs_high_trained.safetensors", "hdemucs_high_musdbhq_only.pt"),
    ),
    "kim_vocal_2": SeparatorKind(FILES["kim-vocal-2"], "onnxruntime", load_mdx_net),
    "mel_band_roformer": SeparatorKind(
        FILES["mel-band-roformer"],
        "bs_roformer",
        load_mel_band,
        ("MelBandRoformer.safetensors", "vocals_mel_band_roformer.ckpt"),
    ),
}


def load_separator(
    name: str, folders: Sequence[Path], device: torch.device | str | None = None
) -> ChunkedSeparator | PassThrough:
    """A separator of `SEPARATORS` with the weights found below `folders`.

    Raises as `find_separator_file`, and RuntimeError for weights of another model or a missing package.
    """
    path = find_separator_file(name, folders)
    kind = SEPARATORS[name]
    return PassThrough() if kind is None or path is None else kind.load(path, device)


def find_separator(folders: Sequence[Path]) -> str:
    """The first separator whose file is there and whose package is installed; "none" where there is none."""
    for name in get_args(Separator):
        with contextlib.suppress(FileNotFoundError):
            kind = SEPARATORS[name]
            if kind is not None and PathFinder.find_spec(kind.package):
                find_separator_file(name, folders)
                return name
    return "none"


def find_separator_file(name: str, folders: Sequence[Path]) -> Path | None:
    """The weights of a separator, by name or content, below `folders`; None for `none`, which needs no file.

    Where torchaudio has downloaded its weights to its own cache, they are found there too.

    Raises ValueError for an unknown name, FileNotFoundError naming file, folders and link for a missing file.
    """
    if name not in SEPARATORS:
        raise ValueError(f"There is no separator {name!r}; {', '.join(SEPARATORS)} are accepted.")
    kind = SEPARATORS[name]
    if kind is None:
        return None
    file, cache = kind.file, Path(torch.hub.get_dir()) / "torchaudio" / "models"
    for folder in (*folders, cache):
        for path in files_below(Path(folder)):
            if path.name in (file.target, *kind.names) or file.is_in(path):
                return path
    searched = ", ".join(str(folder) for folder in folders) or "a folder given"
    raise FileNotFoundError(
        f"The separator {name!r} needs {file.target} ({file.size}), which is not below {searched}. "
        f"Put it into models/{file.folder}: {file.page} (terms: {file.terms})"
    )
