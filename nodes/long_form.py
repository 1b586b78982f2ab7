"""A song of any length: one ordinary run of the guider per clip (paper section 4).

Every clip is a run of its own for core, so any guider, sampler, schedule and patch works, and nothing but
latents grows with the song. The loop over the clips is the library's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import comfy.model_management as mm
import comfy.utils
import latent_preview
import torch
from torch import Tensor

from singer_core.render.clips import Clip
from singer_core.render.run import SongConditions
from singer_core.render.seams import shared_noise_rows, steadied
from singer_core.render.song import plan_song, render_song
from singer_core.settings import SingerOptions

from .resume import kept_clips
from .sockets import find_song
from .song import cut_conds, encode_references


def sample_song(
    noise: Any,
    guider: Any,
    sampler: Any,
    sigmas: Tensor,
    latent: dict[str, Any],
    options: SingerOptions,
    vae: Any = None,
    *,
    keep_clips: bool = True,
    finished_only: bool = False,
) -> Tensor:
    """Latents (frames, 4, h, w) of all frames.

    options        how the song is cut and held steady; all else is the guider's and the sampler's
    vae            None: frames are carried as latents
    keep_clips     finished clips wait on disk until the song is done
    finished_only  nothing is sampled: the song ends with the last clip of an earlier run
    """
    song, whole, mask = _song_of(guider), latent["samples"], latent.get("noise_mask")
    frames, steps, conds = len(whole), len(sigmas) - 1, guider.original_conds
    span = range(song.start, song.start + frames)
    plan = plan_song(span, options)
    drawn = _draw(noise, whole, plan, options)
    show = latent_preview.prepare_callback(guider.model_patcher, len(plan) * steps)

    def sample(clip: Clip, carried: Tensor | None) -> Tensor:
        def report(step: int, x0: Tensor, x: Tensor, _total: int) -> None:
            show(clip.index * steps + step, x0, x, len(plan) * steps)

        rows = torch.arange(clip.start, clip.stop).clamp_max(span.stop - 1) - song.start
        references = _standing_still(song, options.motion_frames) if carried is None else carried
        sung = dataclasses.replace(song, start=clip.start, references=references, first_noise=drawn[0])
        guider.original_conds = cut_conds(conds, sung, rows, frames)
        return guider.sample(
            drawn[clip.index],
            whole[rows],
            sampler,
            sigmas,
            denoise_mask=mask[rows] if mask is not None and len(mask) == frames else mask,
            callback=report,
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=noise.seed + clip.index,
        )

    carry = functools.partial(_carry, song, vae, options.hold_colours)
    given = (drawn, int(noise.seed), sigmas, whole, mask, options)
    store = kept_clips(guider, sampler, vae, given, len(plan), for_later=finished_only)
    parts = []
    with _conditions_kept(guider), store if keep_clips else contextlib.nullcontext() as kept:
        asked, device = None if finished_only else sample, mm.intermediate_device()
        for done in render_song(span, options, asked, carry, None, kept, song.audio.activity, device):
            mm.throw_exception_if_processing_interrupted()
            parts.append(done.latents[: done.frames])
    if not parts:
        raise ValueError(
            "`finished_only` is on, but no clip of this graph is finished: it never ran so far, was changed "
            "since, or came to its end. Set it off."
        )
    return torch.cat(parts)


@contextlib.contextmanager
def _conditions_kept(guider: Any) -> Iterator[None]:
    """The guider has its conditions again afterwards."""
    conds = guider.original_conds
    try:
        yield
    finally:
        guider.original_conds = conds


def _song_of(guider: Any) -> SongConditions:
    song = find_song(guider.original_conds)
    if song is None:
        raise ValueError(
            "`guider` has no conditioning of SINGER. Connect both outputs of `SINGER Conditioning` to it; "
            "for other models use `SamplerCustomAdvanced`."
        )
    return song


def _draw(noise: Any, like: Tensor, plan: list[Clip], options: SingerOptions) -> Tensor:
    """(clips, f, 4, h, w) float32: noise of its own for every clip, or the first one's, shuffled."""
    frames, empty = options.clip_frames, torch.zeros(1, *like.shape[1:])
    if options.clip_noise == "fresh":
        drawn = noise.generate_noise({"samples": empty.expand(len(plan) * frames, -1, -1, -1)})
        return drawn.unflatten(0, (len(plan), frames))
    first = noise.generate_noise({"samples": empty.expand(frames, -1, -1, -1)})
    generator = torch.Generator().manual_seed(noise.seed)
    torch.randn(first.shape, generator=generator)  # so that shuffling goes on behind the noise
    return torch.stack([first[rows] for rows in shared_noise_rows(plan, generator)])


def _standing_still(song: SongConditions, count: int) -> Tensor:
    """Latents [portrait, frames before the first]: those given, with as many as the sampler wants."""
    portrait, carried = song.references[:1], song.references[1:]
    repeated = carried[:1].expand(max(count - len(carried), 0), -1, -1, -1)
    return torch.cat([portrait, repeated, carried[-count:]])


def _carry(song: SongConditions, vae: Any, hold: float, samples: Tensor, rest: float) -> Tensor:
    """Latents [portrait, carried frames] for the clip after `samples` (k, 4, h, w), its last frames.

    hold, rest  as in `seams.steadied`
    """
    outside_lips = 1 - song.portrait.masks[0][2].view(song.references.shape[-2:])
    if vae is None:
        frames = steadied(samples.to(song.references), song.references[0], hold, rest, outside_lips)
        return torch.cat([song.references[:1], frames])
    pictures = vae.decode(samples).movedim(-1, 1)  # f H W C -> f C H W
    pictures = steadied(pictures, song.portrait.image.to(pictures), hold, rest, outside_lips)
    return encode_references(vae, song.portrait, pictures.movedim(1, -1), len(samples), song.brighten)
