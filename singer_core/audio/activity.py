"""Loudness per video frame, vocal activity of a separated stem, and levelling of quiet verses."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from .decoding import BLOCK_FRAMES
from .features import AudioFeatures, exact_fps, frame_count
from .waveform import Waveform, collect

SILENCE_DB = -100.0  # what digital silence counts as, re full scale
VOICE_FLOOR_DB = -60.0  # what stays below is no voice: hiss, bleed, digital silence
THRESHOLD_DB = 24.0  # a frame this far below the loud ones is half active
SOFTNESS_DB = 8.0  # width of the ramp from 0 to 1
BRIDGE_SECONDS = 0.24  # shorter pauses belong to the phrase: consonants, breath
BURST_SECONDS = 0.12  # shorter sounds are bleed of drums
LEVEL_SECONDS = 3.0  # window of the levelling: about a phrase
LEVEL_RANGE_DB = 12.0  # the most that levelling changes
MIX_DB = 20.0  # what a separator takes from a voice alone, its echo and noise, lies further below it
HUSH_RATE, HUSH_FRAMES = 50, 25  # of half a second and more below the floor, 20 ms a frame, nothing is heard

log = logging.getLogger(__name__)


def loudness_curve(waveform: Waveform, fps: float, frames: int | None = None) -> torch.Tensor:
    """Mean power of all channels in every video frame, dB re full scale, (frames,); -100 for digital silence.

    frames   as many as wanted, silence behind the sound; None takes the sound's own count
    """
    count = frame_count(waveform.length, waveform.rate, fps) if frames is None else frames
    ratio = exact_fps(fps)
    edges = [index * waveform.rate * ratio.denominator // ratio.numerator for index in range(count + 1)]
    power = torch.zeros(count)
    for first in range(0, count, 256):
        last = min(first + 256, count)
        block = waveform.block(edges[first], edges[last]).square().mean(dim=0)
        sums = F.pad(block.double().cumsum(dim=0), (1, 0))
        marks = torch.tensor(edges[first : last + 1]) - edges[first]
        ends = torch.tensor(edges[first + 1 : last + 1]).clamp_max(waveform.length)
        samples = (ends - torch.tensor(edges[first:last])).clamp_min(1)  # the last frame may be cut short
        power[first:last] = (sums[marks].diff() / samples).float()
    return 10 * power.clamp_min(10 ** (SILENCE_DB / 10)).log10()


def hushed(sound: Waveform) -> Waveform:
    """The sound as a singer hears it: zeros where it stays below the floor for half a second or more.

    Features are normalised over the song, which would lift the hiss of a silent stem to the level of a voice.
    """
    silent = loudness_curve(sound, HUSH_RATE) <= VOICE_FLOOR_DB
    quiet = list(rests(silent, HUSH_FRAMES))
    if silent.all():
        log.warning(
            "The voice stays below %g dB and counts as silence: the mouth stays closed.", VOICE_FLOOR_DB
        )
    if not quiet:
        return sound

    def heard() -> Iterator[np.ndarray]:
        for index, block in enumerate(sound.blocks()):
            for rest in quiet:
                edges = (edge * sound.rate // HUSH_RATE for edge in (rest.start, rest.stop))
                first, last = (max(edge - index * BLOCK_FRAMES, 0) for edge in edges)
                block[:, first:last] = 0
            yield block.numpy().T

    return collect(heard(), sound.channels, sound.rate, lambda: sound.length)


def rests(silent: torch.Tensor, shortest: int) -> Iterator[range]:
    """Stretches of at least `shortest` frames that are silent; (s,) bool."""
    position = 0
    for is_silent, group in itertools.groupby(silent.tolist()):
        count = sum(1 for _ in group)
        if is_silent and count >= shortest:
            yield range(position, position + count)
        position += count


def vocal_activity(vocals: Waveform, fps: float, frames: int | None = None) -> torch.Tensor:
    """How much of each video frame is sung, (frames,) in [0, 1], from the separated stem.

    A frame counts by its loudness relative to the loud frames of the stem (95th percentile): 0 where it is 28
    dB below or less, 1 from 20 dB below up. Bursts under 0.12 s (bleed of drums) go, pauses under 0.24 s are
    bridged.
    """
    level = loudness_curve(vocals, fps, frames)
    audible = level[level > VOICE_FLOOR_DB]
    if audible.numel() == 0:
        return torch.zeros_like(level)
    threshold = audible.quantile(0.95) - THRESHOLD_DB
    active = ((level - threshold) / SOFTNESS_DB + 0.5).clamp(0, 1)
    opened = _widest(_narrowest(active, BURST_SECONDS * fps), BURST_SECONDS * fps)
    return _narrowest(_widest(opened, BRIDGE_SECONDS * fps), BRIDGE_SECONDS * fps)


def is_mix(vocals: Waveform, rest: Waveform) -> bool:
    """Whether a song has music besides its voice: less than `MIX_DB` below it where it sings, or no voice."""
    voice, music = (10 ** (loudness_curve(part, 25.0) / 10) for part in (vocals, rest))
    sung = vocal_activity(vocals, 25.0) > 0.5
    return not sung.any() or bool(music.mean() > voice[sung].mean() * 10 ** (-MIX_DB / 10))


def with_activity(features: AudioFeatures, vocals: Waveform) -> AudioFeatures:
    """The features with the activity of the stem they were made from; 0 in the padding."""
    activity = vocal_activity(vocals, features.fps, features.frames)
    padding = features.features.shape[0] - features.frames
    return replace(features, activity=F.pad(activity, (0, padding)))


def level_vocals(vocals: Waveform, strength: float = 1.0) -> Waveform:
    """Bring quiet phrases to the loudness of the stem as a whole, so that the encoder hears them as well.

    A gain that varies over about 3 s, gated: only frames with voice are measured, and stretches without any
    keep their level. At most +-12 dB; the peak stays at or below full scale.

    strength  0 changes nothing, 1 levels fully
    Raises ValueError for a strength outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}; 0 (no levelling) to 1 (full) is accepted.")
    fps = 25.0  # of the gain curve, not of the video
    gain_db = _levelling_gain(vocals, fps) * strength
    position = np.arange(len(gain_db)) + 0.5

    def levelled() -> Iterator[np.ndarray]:
        for index, block in enumerate(vocals.blocks()):
            at = (np.arange(block.shape[1]) + index * BLOCK_FRAMES) * (fps / vocals.rate)
            gain = 10 ** (np.interp(at, position, gain_db.numpy()) / 20)
            yield (block.numpy() * gain).astype(np.float32).T

    return collect(levelled(), vocals.channels, vocals.rate, lambda: vocals.length)


def _levelling_gain(vocals: Waveform, fps: float) -> torch.Tensor:
    """Gain in dB for every frame that brings the local gated loudness to that of the stem."""
    power = 10 ** (loudness_curve(vocals, fps) / 10)
    voiced = (vocal_activity(vocals, fps) > 0.5).float()
    if voiced.sum() == 0:
        return torch.zeros_like(power)
    target = (power * voiced).sum() / voiced.sum()
    half = round(LEVEL_SECONDS * fps / 2)
    window = torch.hann_window(2 * half + 1, periodic=False)[None, None]
    local_power = F.conv1d((power * voiced)[None, None], window, padding=half)[0, 0]
    local_voice = F.conv1d(voiced[None, None], window, padding=half)[0, 0]
    gain = 10 * (target / (local_power / local_voice.clamp_min(1e-3)).clamp_min(1e-12)).log10()
    share = (local_voice / window.sum() * 4).clamp_max(1)  # fades to no change where hardly anything is sung
    return gain.clamp(-LEVEL_RANGE_DB, LEVEL_RANGE_DB) * share


def _widest(curve: torch.Tensor, length: float) -> torch.Tensor:
    """Maximum over a window of about `length` frames (dilation)."""
    half = int(length / 2)
    return F.max_pool1d(curve[None], 2 * half + 1, stride=1, padding=half)[0]


def _narrowest(curve: torch.Tensor, length: float) -> torch.Tensor:
    """Minimum over a window of about `length` frames (erosion)."""
    return -_widest(-curve, length)
