"""A song of any length: one ordinary run of the guider per clip (paper section 4).

Every clip is a run of its own for core, so any guider, sampler, schedule and patch works, and nothing but
latents grows with the song.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import comfy.utils
import latent_preview
import torch
from torch import Tensor

from singer_core.options import OFFICIAL
from singer_core.render.clips import Clip, finished_frames, plan_clips
from singer_core.render.pipeline import cross_fade

from .sockets import SongConditions, find_song
from .song import cut_conds, encode_references


@dataclass(frozen=True)
class LongForm:
    """How a song is cut; ValueError where the numbers do not fit the network."""

    clip_frames: int
    motion_frames: int
    overlap: int = 0

    def __post_init__(self) -> None:
        OFFICIAL.but(clip_frames=self.clip_frames, motion_frames=self.motion_frames, overlap=self.overlap)


def sample_song(
    noise: Any,
    guider: Any,
    sampler: Any,
    sigmas: Tensor,
    latent: dict[str, Any],
    form: LongForm,
    vae: Any = None,
) -> Tensor:
    """Latents (frames, 4, h, w) of all frames; `vae` None carries frames as latents."""
    song = _song_of(guider)
    whole, frames = latent["samples"], len(latent["samples"])
    plan = plan_clips(frames, form.clip_frames, form.overlap)
    drawn = _draw(noise, whole, len(plan) * form.clip_frames)
    report = _progress(guider, len(plan), len(sigmas) - 1)
    references, first_noise = _standing_still(song, form), drawn[: form.clip_frames]
    pending: Tensor | None = None
    parts: list[Tensor] = []
    conds = guider.original_conds
    try:
        for clip, following in zip(plan, [*plan[1:], None], strict=True):
            mm.throw_exception_if_processing_interrupted()
            rows = torch.arange(clip.start, clip.stop).clamp_max(frames - 1)
            sung = dataclasses.replace(
                song, start=song.start + clip.start, references=references, first_noise=first_noise
            )
            guider.original_conds = cut_conds(conds, sung, rows, frames)
            samples = guider.sample(
                drawn[clip.index * form.clip_frames :][: form.clip_frames],
                whole[rows],
                sampler,
                sigmas,
                denoise_mask=_mask_rows(latent.get("noise_mask"), rows, frames),
                callback=report(clip),
                disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
                seed=noise.seed + clip.index,
            ).to(mm.intermediate_device())
            samples = cross_fade(pending, samples)
            parts.append(samples[: len(finished_frames(clip, following, frames))])
            if following is not None:
                pending = samples[len(samples) - following.shared :]
                shown = following.carried_from(clip, form.motion_frames)
                references = _carry(song, samples[shown.start : shown.stop], vae)
    finally:
        guider.original_conds = conds
    return torch.cat(parts)


def _song_of(guider: Any) -> SongConditions:
    song = find_song(guider.original_conds)
    if song is None:
        raise ValueError(
            "`guider` has no conditioning of SINGER. Connect both outputs of `SINGER Conditioning` to it; "
            "for other models use `SamplerCustomAdvanced`."
        )
    return song


def _draw(noise: Any, like: Tensor, frames: int) -> Tensor:
    """(frames, 4, h, w) float32: every clip has noise of its own, also where clips overlap."""
    return noise.generate_noise({"samples": torch.zeros(frames, *like.shape[1:])})


def _standing_still(song: SongConditions, form: LongForm) -> Tensor:
    """Latents [portrait, frames before the first]: those given, with as many as the sampler wants."""
    portrait, carried = song.references[:1], song.references[1:]
    repeated = carried[:1].expand(max(form.motion_frames - len(carried), 0), -1, -1, -1)
    return torch.cat([portrait, repeated, carried[-form.motion_frames :]])


def _carry(song: SongConditions, samples: Tensor, vae: Any) -> Tensor:
    """Latents [portrait, carried frames] for the clip after `samples` (k, 4, h, w), its last frames."""
    if vae is None:
        return torch.cat([song.references[:1], samples.to(song.references)])
    return encode_references(vae, song.portrait, vae.decode(samples), len(samples), song.brighten)


def _progress(guider: Any, clips: int, steps: int) -> Callable[[Clip], Callable[..., None]]:
    """One progress bar with previews for all clips: a callback for each."""
    show = latent_preview.prepare_callback(guider.model_patcher, clips * steps)

    def for_clip(clip: Clip) -> Callable[..., None]:
        def callback(step: int, x0: Tensor, x: Tensor, _total: int) -> None:
            show(clip.index * steps + step, x0, x, clips * steps)

        return callback

    return for_clip


def _mask_rows(mask: Tensor | None, rows: Tensor, frames: int) -> Tensor | None:
    return mask[rows] if mask is not None and len(mask) == frames else mask
