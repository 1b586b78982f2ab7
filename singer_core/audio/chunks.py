"""A network on overlapping chunks of a long sound, added up again: bounded memory, any length.

Vocal separators are such networks. They work on 44.1 kHz stereo: other rates are resampled and back, mono is
doubled, more channels go through in pairs. The accompaniment is the song less the vocals, so both always sum
to the song.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ..progress import Progress, unwatched
from .scratch import release_pages, scratch_array
from .waveform import Waveform, resample

NETWORK_RATE = 44_100  # Hz, of all separators

Network = Callable[[torch.Tensor], torch.Tensor]  # (2, chunk) -> (2, chunk)
WeightsOf = Callable[[int], torch.Tensor]  # length -> (length,) weights of a chunk's samples, not all zero


@dataclass(frozen=True)
class Framing:
    """How a sound is cut. Samples before its start and behind its end are zeros.

    chunk    samples that the network reads at once
    step     samples between the starts of neighbouring chunks, at most `chunk`
    weights  weights of the samples of a chunk, by its length within the padded sound
    lead     zeros before the sound
    tail     zeros behind a sound of the given length
    """

    chunk: int
    step: int
    weights: WeightsOf
    lead: int = 0
    tail: Callable[[int], int] = lambda length: 0


def overlap_add(
    waveform: Waveform,
    network: Network,
    framing: Framing,
    progress: Progress = unwatched,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Run `network` over all chunks and yield (start, (channels, n)) pieces of the weighted mean, in order.

    The pieces partition the sound. With the identity as network they are the sound.
    """
    end = waveform.length + framing.tail(waveform.length)
    shape = (waveform.channels, framing.chunk)
    total, weight = torch.zeros(shape), torch.zeros(framing.chunk)
    for start in range(-framing.lead, end, framing.step):
        progress((start + framing.lead) / (end + framing.lead))
        length = min(framing.chunk, end - start)
        chunk_weights = framing.weights(length)
        output = network(waveform.block(start, start + framing.chunk))
        total[:, :length] += output[:, :length].float().cpu() * chunk_weights
        weight[:length] += chunk_weights
        first, last = max(start, 0), min(start + framing.step, waveform.length)
        if first < last:
            inner = slice(first - start, last - start)
            yield first, total[:, inner] / weight[inner]
        total = torch.cat([total[:, framing.step :], torch.zeros(shape[0], framing.step)], dim=1)
        weight = torch.cat([weight[framing.step :], torch.zeros(framing.step)])
    progress(1.0)


def linear_fades(fade: int) -> WeightsOf:
    """Weights that rise over the first `fade` samples of a chunk and fall over the last ones."""

    def weights(length: int) -> torch.Tensor:
        rise = torch.arange(1, length + 1, dtype=torch.float32)
        return torch.minimum(rise, rise.flip(0)).clamp_max(fade + 1) / (fade + 1)

    return weights


def hann_weights(length: int) -> torch.Tensor:
    """The symmetric Hann window (numpy's `hanning`), zero at both ends."""
    return torch.hann_window(length, periodic=False)


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

    def separate(self, waveform: Waveform, progress: Progress = unwatched) -> tuple[Waveform, Waveform]:
        """(vocals, accompaniment), both of the song's rate and shape, summing to it."""
        vocals = scratch_array((waveform.channels, waveform.length))
        pairs = range(0, waveform.channels, 2)
        for index, first in enumerate(pairs):
            rows = slice(first, min(first + 2, waveform.channels))

            def report(done: float, before: int = index) -> None:
                progress((before + done) / len(pairs))

            for start, piece in self._pair(waveform, rows, report):
                vocals[rows, start : start + piece.shape[1]] = piece.numpy()
                release_pages(vocals)
        found = Waveform(torch.from_numpy(vocals.view(np.ndarray)), waveform.rate, vocals)
        return found, _difference(waveform, found)

    @torch.inference_mode()
    def _pair(
        self, waveform: Waveform, rows: slice, progress: Progress
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """(start, vocals of the one or two channels `rows`) at the song's own rate."""
        own = Waveform(waveform.samples[rows], waveform.rate, waveform.mapped)
        sound = resample(own, NETWORK_RATE)
        stereo = Waveform(sound.samples.expand(2, -1), sound.rate, sound.mapped)
        pieces = self._vocals(stereo, progress)
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

    def _vocals(self, stereo: Waveform, progress: Progress) -> Iterator[tuple[int, torch.Tensor]]:
        offset, gain = self.scaling(stereo)

        def scaled(block: torch.Tensor) -> torch.Tensor:
            return self.network((block - offset) * gain) / gain

        yield from overlap_add(stereo, scaled, self.framing, progress)


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
