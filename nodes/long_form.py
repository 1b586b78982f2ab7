"""A song of any length: one ordinary run of the guider per clip (paper section 4).

Every clip is a run of its own for core, so any guider, sampler, schedule and patch works, and nothing but
latents grows with the song.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import comfy.utils
import latent_preview
import torch
from torch import Tensor

from singer_core.render.clips import Clip, finished_frames, plan_clips
from singer_core.render.seams import cross_fade, rest_before, shared_noise_rows, steadied
from singer_core.render.store import ClipStore
from singer_core.settings import OFFICIAL, ClipNoise

from .resume import kept_clips
from .sockets import SongConditions, find_song
from .song import cut_conds, encode_references


@dataclass(frozen=True)
class LongForm:
    """How a song is cut and held steady (`SingerOptions`); ValueError where the numbers do not fit.

    keep_clips     finished clips wait on disk until the song is done
    finished_only  nothing is sampled: the song ends with the last clip of an earlier run
    """

    clip_frames: int
    motion_frames: int
    overlap: int = 0
    clip_noise: ClipNoise = "fresh"
    hold_colours: float = 0.0
    reanchor: float = 0.0
    keep_clips: bool = True
    finished_only: bool = False

    def __post_init__(self) -> None:
        OFFICIAL.but(**self.determining)

    @property
    def determining(self) -> dict[str, Any]:
        """What the latents depend on."""
        kept = ("keep_clips", "finished_only")
        return {name: value for name, value in vars(self).items() if name not in kept}


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
    drawn = _draw(noise, whole, plan, form)
    report = _progress(guider, len(plan), len(sigmas) - 1)
    references = _standing_still(song, form)
    pending: Tensor | None = None
    parts: list[Tensor] = []
    mask = latent.get("noise_mask")
    given = (drawn, int(noise.seed), sigmas, whole, mask, form.determining)
    with _conditions_kept(guider) as conds, _store(form, guider, sampler, vae, given, len(plan)) as store:
        for clip, following in zip(plan, [*plan[1:], None], strict=True):
            mm.throw_exception_if_processing_interrupted()
            samples = None if store is None else store.load(clip.index)
            if samples is None and form.finished_only:
                break
            if samples is None:
                rows = torch.arange(clip.start, clip.stop).clamp_max(frames - 1)
                sung = dataclasses.replace(
                    song, start=song.start + clip.start, references=references, first_noise=drawn[0]
                )
                guider.original_conds = cut_conds(conds, sung, rows, frames)
                samples = guider.sample(
                    drawn[clip.index],
                    whole[rows],
                    sampler,
                    sigmas,
                    denoise_mask=_mask_rows(mask, rows, frames),
                    callback=report(clip),
                    disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
                    seed=noise.seed + clip.index,
                )
                samples = cross_fade(pending, samples.to(mm.intermediate_device())).contiguous()
                if store is not None:
                    store.save(clip.index, samples)
            samples = samples.to(mm.intermediate_device())
            parts.append(samples[: len(finished_frames(clip, following, frames))])
            if following is not None:
                pending = samples[len(samples) - following.shared :]
                shown = following.carried_from(clip, form.motion_frames)
                rest = form.reanchor and form.reanchor * rest_before(
                    song.audio.activity, song.start + following.start
                )
                references = _carry(song, samples[shown.start : shown.stop], vae, form.hold_colours, rest)
    if not parts:
        raise ValueError(
            "`finished_only` is on, but no clip of this graph is finished: it never ran so far, was changed "
            "since, or came to its end. Set it off."
        )
    return torch.cat(parts)


@contextlib.contextmanager
def _conditions_kept(guider: Any) -> Iterator[dict[str, Any]]:
    """A guider's conditions, which it has again afterwards."""
    conds = guider.original_conds
    try:
        yield conds
    finally:
        guider.original_conds = conds


def _store(
    form: LongForm, *run: Any
) -> contextlib.AbstractContextManager[ClipStore] | contextlib.AbstractContextManager[None]:
    return kept_clips(*run, for_later=form.finished_only) if form.keep_clips else contextlib.nullcontext()


def _song_of(guider: Any) -> SongConditions:
    song = find_song(guider.original_conds)
    if song is None:
        raise ValueError(
            "`guider` has no conditioning of SINGER. Connect both outputs of `SINGER Conditioning` to it; "
            "for other models use `SamplerCustomAdvanced`."
        )
    return song


def _draw(noise: Any, like: Tensor, plan: list[Clip], form: LongForm) -> Tensor:
    """(clips, f, 4, h, w) float32: noise of its own for every clip, or the first one's, shuffled."""
    frames, empty = form.clip_frames, torch.zeros(1, *like.shape[1:])
    if form.clip_noise == "fresh":
        drawn = noise.generate_noise({"samples": empty.expand(len(plan) * frames, -1, -1, -1)})
        return drawn.unflatten(0, (len(plan), frames))
    first = noise.generate_noise({"samples": empty.expand(frames, -1, -1, -1)})
    generator = torch.Generator().manual_seed(noise.seed)
    torch.randn(first.shape, generator=generator)  # so that shuffling goes on behind the noise
    return torch.stack([first[rows] for rows in shared_noise_rows(plan, generator)])


def _standing_still(song: SongConditions, form: LongForm) -> Tensor:
    """Latents [portrait, frames before the first]: those given, with as many as the sampler wants."""
    portrait, carried = song.references[:1], song.references[1:]
    repeated = carried[:1].expand(max(form.motion_frames - len(carried), 0), -1, -1, -1)
    return torch.cat([portrait, repeated, carried[-form.motion_frames :]])


def _carry(song: SongConditions, samples: Tensor, vae: Any, hold: float, rest: float) -> Tensor:
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
