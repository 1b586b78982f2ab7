"""A network on overlapping chunks of a long sound, added up again: bounded memory, any length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from .job import Cancel, Progress, step
from .waveform import Waveform

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
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Run `network` over all chunks and yield (start, (channels, n)) pieces of the weighted mean, in order.

    The pieces partition the sound. With the identity as network they are the sound.
    """
    end = waveform.length + framing.tail(waveform.length)
    shape = (waveform.channels, framing.chunk)
    total, weight = torch.zeros(shape), torch.zeros(framing.chunk)
    for start in range(-framing.lead, end, framing.step):
        step((start + framing.lead) / (end + framing.lead), progress, cancel)
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
    step(1.0, progress, None)


def linear_fades(fade: int) -> WeightsOf:
    """Weights that rise over the first `fade` samples of a chunk and fall over the last ones."""

    def weights(length: int) -> torch.Tensor:
        rise = torch.arange(1, length + 1, dtype=torch.float32)
        return torch.minimum(rise, rise.flip(0)).clamp_max(fade + 1) / (fade + 1)

    return weights


def hann_weights(length: int) -> torch.Tensor:
    """The symmetric Hann window (numpy's `hanning`), zero at both ends."""
    return torch.hann_window(length, periodic=False)
