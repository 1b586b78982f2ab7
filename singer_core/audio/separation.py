"""Vocals and accompaniment of a song, behind one small interface.

    separator = load_separator("kim_vocal_2", folders=[Path("models/audio_separation")])
    vocals, accompaniment = separator.separate(waveform)

The accompaniment is the song less the vocals, so both always sum to the song. Networks work on 44.1 kHz
stereo: other rates are resampled and back, mono is doubled, more channels go through in pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from .job import Cancel, Progress
from .overlap import Framing, Network, overlap_add
from .scratch import release_pages, scratch_array
from .waveform import Waveform, resample

FOLDER = "audio_separation"  # below the models folder
NETWORK_RATE = 44_100  # Hz, of all networks here


class Separator(Protocol):
    """Splits a song into a singer and the rest."""

    def separate(
        self, waveform: Waveform, progress: Progress | None = None, cancel: Cancel | None = None
    ) -> tuple[Waveform, Waveform]:
        """(vocals, accompaniment), both of the song's rate and shape, summing to it."""
        ...


class PassThrough:
    """For songs that are vocals already: everything is vocals."""

    def separate(
        self, waveform: Waveform, progress: Progress | None = None, cancel: Cancel | None = None
    ) -> tuple[Waveform, Waveform]:
        silence = torch.zeros(()).expand(waveform.samples.shape)
        return waveform, Waveform(silence, waveform.rate)


@dataclass(frozen=True)
class ChunkedSeparator:
    """A network that finds the vocals in chunks of 44.1 kHz stereo.

    network  (2, chunk) -> (2, chunk) vocals
    framing  chunks and weights
    scaling  (offset, gain) of a song: the network gets (x - offset) * gain, its output is divided by the gain
    module   the network's weights, for callers that move them between devices; None = there are none to move
    """

    network: Network
    framing: Framing
    scaling: Callable[[Waveform], tuple[float, float]] = lambda waveform: (0.0, 1.0)
    module: torch.nn.Module | None = None

    def separate(
        self, waveform: Waveform, progress: Progress | None = None, cancel: Cancel | None = None
    ) -> tuple[Waveform, Waveform]:
        vocals = scratch_array((waveform.channels, waveform.length))
        pairs = range(0, waveform.channels, 2)
        for index, first in enumerate(pairs):
            rows = slice(first, min(first + 2, waveform.channels))
            part = _part_of(progress, index, len(pairs))
            for start, piece in self._pair(waveform, rows, part, cancel):
                vocals[rows, start : start + piece.shape[1]] = piece.numpy()
                release_pages(vocals)
        found = Waveform(torch.from_numpy(vocals.view(np.ndarray)), waveform.rate, vocals)
        return found, _difference(waveform, found)

    @torch.inference_mode()
    def _pair(
        self, waveform: Waveform, rows: slice, progress: Progress | None, cancel: Cancel | None
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """(start, vocals of the one or two channels `rows`) at the song's own rate."""
        own = Waveform(waveform.samples[rows], waveform.rate, waveform.mapped)
        sound = resample(own, NETWORK_RATE)
        stereo = Waveform(sound.samples.expand(2, -1), sound.rate, sound.mapped)
        pieces = self._vocals(stereo, progress, cancel)
        if own.channels == 1:
            pieces = ((start, piece.mean(dim=0, keepdim=True)) for start, piece in pieces)
        if own.rate == NETWORK_RATE:
            yield from pieces
            return
        vocals = scratch_array((own.channels, sound.length))
        for start, piece in pieces:
            vocals[:, start : start + piece.shape[1]] = piece.numpy()
            release_pages(vocals)
        back = resample(Waveform(torch.from_numpy(vocals.view(np.ndarray)), NETWORK_RATE, vocals), own.rate)
        size = self.framing.step
        for start in range(0, own.length, size):
            yield start, back.block(start, min(start + size, own.length))

    def _vocals(
        self, stereo: Waveform, progress: Progress | None, cancel: Cancel | None
    ) -> Iterator[tuple[int, torch.Tensor]]:
        offset, gain = self.scaling(stereo)

        def scaled(block: torch.Tensor) -> torch.Tensor:
            return self.network((block - offset) * gain) / gain

        yield from overlap_add(stereo, scaled, self.framing, progress, cancel)


@dataclass(frozen=True)
class SeparatorFile:
    """Weights that a user fetches."""

    names: tuple[str, ...]  # accepted file names, the published one first
    link: str
    megabytes: int
    sha256: str
    terms: str


@dataclass(frozen=True)
class SeparatorKind:
    """One way to separate."""

    title: str
    file: SeparatorFile | None
    load: Callable[[Path, torch.device | str | None], Separator] | None


def _load_hdemucs(path: Path, device: torch.device | str | None) -> Separator:
    from .hdemucs import load_hdemucs

    return load_hdemucs(path, device)


def _load_mdx_net(path: Path, device: torch.device | str | None) -> Separator:
    from .mdx_net import load_mdx_net

    return load_mdx_net(path, device)


def _load_mel_band(path: Path, device: torch.device | str | None) -> Separator:
    from .mel_band import load_mel_band

    return load_mel_band(path, device)


SEPARATORS: dict[str, SeparatorKind] = {
    "none": SeparatorKind("None: the song is vocals already", None, None),
    "hdemucs": SeparatorKind(
        "Hybrid Demucs (torchaudio)",
        SeparatorFile(
            ("hdemucs_high_trained.pt", "hdemucs_high_trained.safetensors", "hdemucs_high_musdbhq_only.pt"),
            "https://download.pytorch.org/torchaudio/models/hdemucs_high_trained.pt",
            335,
            "a004b2790d73ffeaa535db458a1a79b539dfdbafbccc31f275d07e632ebd7816",
            "trained on MUSDB18-HQ and internal songs; no licence stated for the weights",
        ),
        _load_hdemucs,
    ),
    "kim_vocal_2": SeparatorKind(
        "Kim Vocal 2 (MDX-Net, the authors' choice)",
        SeparatorFile(
            ("Kim_Vocal_2.onnx",),
            "https://github.com/TRvlvr/model_repo/releases/download/all_public_uvr_models/Kim_Vocal_2.onnx",
            67,
            "ce74ef3b6a6024ce44211a07be9cf8bc6d87728cc852a68ab34eb8e58cde9c8b",
            "no licence stated for the weights",
        ),
        _load_mdx_net,
    ),
    "mel_band_roformer": SeparatorKind(
        "MelBand-RoFormer (best published quality, slow without a GPU)",
        SeparatorFile(
            ("MelBandRoformer.ckpt", "MelBandRoformer.safetensors", "vocals_mel_band_roformer.ckpt"),
            "https://huggingface.co/KimberleyJSN/melbandroformer/resolve/main/MelBandRoformer.ckpt",
            913,
            "87201f4d31afb5bc79993230fc49446918425574db48c01c405e44f365c7559e",
            "see the model page",
        ),
        _load_mel_band,
    ),
}


def find_separator_file(name: str, folders: Sequence[Path]) -> Path | None:
    """The weights of a separator, searched recursively below `folders`; None for `none`, which needs no file.

    Where torchaudio has downloaded its weights to its own cache, they are found there too.

    Raises ValueError for an unknown name, FileNotFoundError naming file, folders and link for a missing file.
    """
    file = _kind(name).file
    if file is None:
        return None
    cache = Path(torch.hub.get_dir()) / "torchaudio" / "models"
    for folder in (*folders, cache):
        for accepted in file.names:
            for path in sorted(Path(folder).rglob(accepted)):
                return path
    searched = ", ".join(str(folder) for folder in folders) or "no folder given"
    raise FileNotFoundError(
        f"The separator {name!r} needs {file.names[0]} ({file.megabytes} MB), which is not below {searched}. "
        f"Put it into models/{FOLDER}: {file.link} ({file.terms})"
    )


def download_separator(name: str, folder: Path) -> Path:
    """Fetch the weights of a separator into `folder`, checked against their hash; only on the user's word.

    Raises ValueError for a separator without a file, RuntimeError where the hash differs, OSError offline.
    """
    file = _kind(name).file
    if file is None:
        raise ValueError(f"The separator {name!r} needs no file.")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / file.names[0]
    torch.hub.download_url_to_file(file.link, str(target), hash_prefix=file.sha256, progress=False)
    return target


def load_separator(name: str, folders: Sequence[Path], device: torch.device | str | None = None) -> Separator:
    """A separator of `SEPARATORS` with the weights found below `folders`.

    Raises as `find_separator_file`, and RuntimeError for weights of another model or a missing package.
    """
    kind, path = _kind(name), find_separator_file(name, folders)
    if path is None or kind.load is None:
        return PassThrough()
    return kind.load(path, device)


def _kind(name: str) -> SeparatorKind:
    if name not in SEPARATORS:
        raise ValueError(f"There is no separator {name!r}; {', '.join(SEPARATORS)} are accepted.")
    return SEPARATORS[name]


def _difference(whole: Waveform, part: Waveform) -> Waveform:
    """whole - part, sample by sample."""
    rest = scratch_array((whole.channels, whole.length))
    start = 0
    for block in whole.blocks():
        stop = start + block.shape[1]
        rest[:, start:stop] = (block - part.block(start, stop)).numpy()
        release_pages(rest)
        start = stop
    return Waveform(torch.from_numpy(rest.view(np.ndarray)), whole.rate, rest)


def _part_of(progress: Progress | None, index: int, count: int) -> Progress | None:
    """Progress of the index-th of `count` equal parts of a job."""
    if progress is None:
        return None
    return lambda done: progress((index + done) / count)
