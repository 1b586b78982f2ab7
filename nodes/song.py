"""A song of any length: one ordinary run of the guider per clip (paper section 4).

Every clip is a run of its own for core, so any guider, sampler, schedule and patch works, and nothing but
latents grows with the song. The loop over the clips is the library's.

Finished clips lie on disk, so that a song that was cancelled goes on where it stopped, and a changed one
renders what hears the change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import comfy.utils
import latent_preview
import torch
from comfy.controlnet import ControlBase
from comfy.samplers import CFGGuider, Sampler
from comfy.sd import VAE
from comfy_api.latest import Input, io
from torch import Tensor

from singer_core.marks import Take, chosen, listed, read_takes
from singer_core.render.clips import Clip
from singer_core.render.conditioning import own_part
from singer_core.render.run import SongConditions
from singer_core.render.seams import Held, shared_noise_rows, steadied
from singer_core.render.song import Carry, FinishedClip, plan_song, render_song
from singer_core.render.store import ClipStore
from singer_core.render.takes import (
    Known,
    note_takes,
    noted_takes,
    plan_take,
    render_take,
    take_store,
    weights_of,
    with_takes,
)
from singer_core.settings import OFFICIAL, SingerOptions

from .conditioning import encode_references
from .keys import has_rows, kept_clips
from .library import needs_library
from .preview import Preview
from .samplers import ClipNoise
from .sockets import SONG, Cond, Conds, Noise, checked, find_song, first_of, widget

logger = logging.getLogger(__name__)

# Options of the library that say how a song is cut and held steady.
FORM = ("clip_frames", "motion_frames", "overlap", "clip_noise", "hold_colours", "reanchor")
ANY_SONG = (sys.maxsize, 1000.0)  # frames, and frames a second, before the song is known

Report = Callable[[Clip, int, Tensor, Tensor], None]  # clip, step, denoised latents, latents


class SingerSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerSampler",
            display_name="Sample SINGER Video",
            category="SINGER",
            description="Samples a song of any length clip by clip, each shown the last frames of the one "
            "before.",
            search_aliases=["long video", "ksampler", "context", "extend video", "singing"],
            inputs=[
                io.Noise.Input(
                    "noise", tooltip="Of `RandomNoise`, or `SINGER Noise` for the authors' order."
                ),
                io.Guider.Input("guider", tooltip="Of `CFGGuider` (the authors' scale is 3.5) or any other."),
                io.Sampler.Input(
                    "sampler", tooltip="Of `KSamplerSelect`, or `SINGER DDIM` for the authors'."
                ),
                io.Sigmas.Input("sigmas", tooltip="Noise levels; `simple`, 40 steps, are the authors'."),
                io.Latent.Input("latent_image", tooltip="Latents of `SINGER Conditioning`, any length."),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Decodes and encodes the frames carried between clips, as the authors do. "
                    "Without it they are carried as latents: faster.",
                ),
                *(widget(SingerOptions, name) for name in FORM),
                io.Boolean.Input(
                    "keep_clips",
                    default=True,
                    advanced=True,
                    tooltip="Keep finished clips in the system's temporary folder: after a cancel the same "
                    "graph goes on from there, and a changed song renders what changed. 1 MB a clip at 512 x "
                    "512, 2 MB of the built-in model.",
                ),
                io.Boolean.Input(
                    "finished_only",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="On: sample nothing, give the clips that a cancelled run of this graph has "
                    "finished.",
                ),
                io.String.Input(
                    "takes",
                    default="",
                    optional=True,
                    tooltip="Seconds to sing again; nothing else is rendered. 31.5-34:7 is with seed 7; "
                    "31.5-34:8 lip 1.2 once more, with the lips' weight times 1.2; 31.5-34=2 shows the "
                    "second take, 1 is the song's own. Several are separated by ; or lines.",
                ),
                widget(SingerOptions, "restart_beyond", optional=True),
                io.Vae.Input(
                    "preview_vae",
                    optional=True,
                    tooltip="Connected: the node shows the finished seconds as a video while it samples the "
                    "next. Every frame is decoded once more for it.",
                ),
                io.Audio.Input(
                    "preview_audio",
                    optional=True,
                    tooltip="Sound of that video, usually the whole song; drawn above it, coloured as far as "
                    "it is sung.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="Latents of all frames (frames, 4, h, w).")
            ],
        )

    @classmethod
    def validate_inputs(cls, takes: str | None = None) -> bool | str:
        return checked(lambda: read_takes(takes or "", *ANY_SONG))

    @classmethod
    @needs_library
    def execute(
        cls,
        noise: Noise,
        guider: CFGGuider,
        sampler: Sampler,
        sigmas: Tensor,
        latent_image: Input.Latent,
        clip_frames: int,
        motion_frames: int,
        overlap: int,
        vae: VAE | None = None,
        keep_clips: bool = True,
        finished_only: bool = False,
        takes: str = "",
        preview_vae: VAE | None = None,
        preview_audio: Input.Audio | None = None,
        **steady: Any,
    ) -> io.NodeOutput:
        options = OFFICIAL.but(
            clip_frames=clip_frames, motion_frames=motion_frames, overlap=overlap, **steady
        )
        song, whole = _song_of(guider, latent_image), latent_image["samples"]
        plan = plan_song(range(song.start, song.start + len(whole)), options)
        drawn, seed = _draw(noise, whole, plan, options), int(noise.seed)
        given = (guider.original_conds, song, options, whole, latent_image.get("noise_mask"), drawn[0])
        run = _Run(guider, sampler, sigmas, *given)
        preview = None if preview_vae is None else Preview(preview_vae, preview_audio)
        report = _shown_steps(run, len(plan), pictures=preview is None)
        sample = None if finished_only else functools.partial(run.sample, drawn, seed, report)
        carry = functools.partial(_carry, song, vae, options)
        store = run.kept_clips(vae, plan, drawn, seed) if keep_clips or finished_only else None
        with _conditions_kept(guider), store or contextlib.nullcontext() as kept:
            rest = (song.audio.activity, mm.intermediate_device())
            own = render_song(run.span, options, sample, carry, None, kept, *rest)
            shown = [] if finished_only else _chosen(run, takes, kept)
            sing = functools.partial(run.sing, carry, kept)
            clips = with_takes(own, shown, run.span, options, sing, song.audio.activity)
            if preview is not None:
                clips = preview.of(clips, whole, run.span.start, song.audio.fps, len(plan))
            with contextlib.closing(clips):  # a preview shows all that is finished, wherever cancel is heard
                samples = _joined(clips)
        return io.NodeOutput({**latent_image, "samples": samples}, ui=preview and preview.output())


def _shown_steps(run: _Run, clips: int, pictures: bool) -> Report:
    """Core's callback of every step; without its pictures, a progress bar alone."""
    total = clips * run.steps
    if pictures:
        show = latent_preview.prepare_callback(run.guider.model_patcher, total)
        return lambda clip, step, x0, x: show(clip.index * run.steps + step, x0, x, total)
    bar = comfy.utils.ProgressBar(total)
    return lambda clip, step, _x0, _x: bar.update_absolute(clip.index * run.steps + step + 1, total)


@dataclass(frozen=True, eq=False)
class _Run:
    """What a guider sings, and how: a run of it per clip.

    conds        of the guider, for all frames
    whole, mask  latents (frames, 4, h, w) of all frames, and where they may change
    first_noise  (f, 4, h, w) of the song's first clip
    """

    guider: CFGGuider
    sampler: Sampler
    sigmas: Tensor
    conds: Conds
    song: SongConditions
    options: SingerOptions
    whole: Tensor
    mask: Tensor | None
    first_noise: Tensor

    @property
    def frames(self) -> int:
        return len(self.whole)

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def span(self) -> range:
        return range(self.song.start, self.song.start + self.frames)

    def rows(self, clip: Clip) -> Tensor:
        """Frames of a clip, in the run; those behind its end are its last."""
        return torch.arange(clip.start, clip.stop).clamp_max(self.span.stop - 1) - self.song.start

    def own(self, clip: Clip, drawn: Tensor, seed: int) -> tuple[object, ...]:
        """What a clip has of its own, for its key."""
        conds = [cond for part in self.conds.values() for cond in part]
        given = [self.whole, self.mask, *(value for cond in conds for value in cond.values())]
        cut = [_rows(value, self.rows(clip), self.frames) for value in given if has_rows(value, self.frames)]
        past = self.guider.model_patcher.model.architecture.audio_past
        heard = own_part(self.song.audio, self.song.weights, self.options, clip, past)
        return seed + clip.index, drawn[clip.index], heard, cut

    def kept_clips(
        self, vae: VAE | None, plan: list[Clip], drawn: Tensor, seed: int
    ) -> contextlib.AbstractContextManager[ClipStore]:
        """The store of its clips."""
        given = (self.sigmas, self.options, None if has_rows(self.mask, self.frames) else self.mask)
        parts = (self.own(clip, drawn, seed) for clip in plan)
        return kept_clips(self.guider, self.sampler, vae, given, self.frames, parts)

    def sample(
        self,
        drawn: Tensor,
        seed: int,
        report: Report | None,
        clip: Clip,
        carried: Tensor | None,
        held: Held | None = None,
    ) -> Tensor:
        """Latents (f, 4, h, w) of a clip from its row of `drawn` (clips, f, 4, h, w)."""
        references = self.song.before(self.options.motion_frames) if carried is None else carried
        sung = dataclasses.replace(
            self.song, start=clip.start, references=references, first_noise=self.first_noise, frames=None
        )
        rows = self.rows(clip)
        self.guider.original_conds = cut_conds(self.conds, sung, rows, self.frames)
        latents, mask = self.whole[rows], _rows(self.mask, rows, self.frames)
        if held is not None:
            latents, mask = _held(held, mask)
        run = functools.partial(
            self.guider.sample,
            drawn[clip.index],
            latents,
            self.sampler,
            self.sigmas,
            denoise_mask=mask,
            callback=None if report is None else lambda step, x0, x, _total: report(clip, step, x0, x),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed + clip.index,
        )
        return _finite(self.guider, run, clip)

    def of_take(self, take: Take) -> tuple[_Run, Tensor]:
        """The same run under the take's own weights, and the noise (clips, f, 4, h, w) of its clips."""
        weights = weights_of(take, self.song.weights, len(self.song.audio.features))
        run = dataclasses.replace(self, song=dataclasses.replace(self.song, weights=weights))
        plan = plan_take(take, self.span, self.options)
        noise = ClipNoise(take.seed, self.options.clip_frames)
        return run, _draw(noise, self.whole, plan, self.options)

    def take_store(self, store: ClipStore, take: Take) -> ClipStore:
        run, drawn = self.of_take(take)
        own = functools.partial(run.own, drawn=drawn, seed=take.seed)
        return take_store(store, take, self.span, self.options, self.song.audio.activity, own)

    def sing(self, carry: Carry, store: ClipStore | None, take: Take, known: Known) -> Tensor:
        """Latents (k, 4, h, w) of the frames of a take."""
        run, drawn = self.of_take(take)
        sample = functools.partial(run.sample, drawn, take.seed, None)
        kept, activity = store and self.take_store(store, take), self.song.audio.activity
        return render_take(take, self.span, self.options, known, sample, carry, kept, activity)


def _held(held: Held, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Core's latents and mask of a clip, held in part besides what the user's mask holds."""
    free = held.freedom[:, None, None, None].to(held.latents)
    if mask is None:
        return held.latents, free.expand(-1, 1, *held.latents.shape[-2:])
    return held.latents, free * mask.reshape(-1, 1, *mask.shape[-2:]).to(free)


def _chosen(run: _Run, text: str, store: ClipStore | None) -> list[Take]:
    """The takes that are shown, noted so that later runs can choose them, and listed in the log."""
    audio, span = run.song.audio, run.span
    takes = read_takes(text, audio.frames, audio.fps)
    for take in takes:
        if take.start not in span or take.stop > span.stop:
            raise ValueError(
                f"`takes`: {take.text(audio.fps)!r} is outside of the frames of `latent_image`, which are "
                f"{span.start} to {span.stop}. Take others, or a longer `length`."
            )
    earlier: list[Take] = []
    if store is not None:
        earlier = [
            take for take in noted_takes(store, audio.frames) if take.start in span and take.stop <= span.stop
        ]
        earlier = [take for take in earlier if run.take_store(store, take).path(0).is_file()]
        note_takes(store, takes)
    shown = chosen(takes, earlier, audio.fps)
    for line in listed(takes, earlier, shown, audio.fps):
        logger.info(line)
    return shown


def _joined(song: Iterator[FinishedClip]) -> Tensor:
    parts = []
    for done in song:
        mm.throw_exception_if_processing_interrupted()
        parts.append(done.latents[: done.frames])
    if not parts:
        raise ValueError(
            "`finished_only` is on, but no clip of this graph is finished: it never ran so far, or was "
            "changed since. Set it off."
        )
    return torch.cat(parts)


def _finite(guider: CFGGuider, run: Callable[[], Tensor], clip: Clip) -> Tensor:
    """A clip's latents; where another precision than float32 gave NaN, run again in float32."""
    made = run()
    if made.isfinite().all() or guider.model_patcher.model.get_dtype_inference() == torch.float32:
        return made
    logger.warning("Clip %d came out as NaN or Inf; sampling it again in float32.", clip.index + 1)
    patcher = guider.model_patcher
    guider.model_patcher = patcher.clone()
    guider.model_patcher.set_model_compute_dtype(torch.float32)
    try:
        return run()
    finally:
        guider.model_patcher = patcher


@contextlib.contextmanager
def _conditions_kept(guider: CFGGuider) -> Iterator[None]:
    """The guider has its conditions again afterwards."""
    conds = guider.original_conds
    try:
        yield
    finally:
        guider.original_conds = conds


def _song_of(guider: CFGGuider, latent: Input.Latent) -> SongConditions:
    """The song from the first of the latents on, which may be a part of those that it was conditioned for."""
    song = find_song(guider.original_conds)
    if song is None:
        raise ValueError(
            "`guider` has no conditioning of SINGER. Connect both outputs of `SINGER Conditioning` to it; "
            "for other models use `SamplerCustomAdvanced`."
        )
    first, frames = first_of(latent), len(latent["samples"])
    whole = "batch_index" not in latent
    if (whole and frames != song.frames) or first + frames > (song.frames or 0):
        raise ValueError(
            f"`latent_image` has {frames} frames from {first} on, the conditioning of `guider` is for "
            f"{song.frames}. Connect the LATENT of the same `SINGER Conditioning`, or a part of it cut by "
            "`LatentFromBatch`."
        )
    if first == 0:
        return song
    stands = song.references[:1].expand_as(song.references)  # what comes before a part was not kept
    return dataclasses.replace(song, start=song.start + first, references=stands)


def _draw(noise: Noise, like: Tensor, plan: list[Clip], options: SingerOptions) -> Tensor:
    """(clips, f, 4, h, w) float32: noise of its own for every clip, or the first one's, shuffled."""
    frames, empty = options.clip_frames, torch.zeros(1, *like.shape[1:])
    if options.clip_noise == "fresh":
        drawn = noise.generate_noise({"samples": empty.expand(len(plan) * frames, -1, -1, -1)})
        return drawn.unflatten(0, (len(plan), frames))
    first = noise.generate_noise({"samples": empty.expand(frames, -1, -1, -1)})
    generator = torch.Generator().manual_seed(noise.seed)
    torch.randn(first.shape, generator=generator)  # so that shuffling goes on behind the noise
    return torch.stack([first[rows] for rows in shared_noise_rows(plan, generator)])


def _carry(
    song: SongConditions, vae: VAE | None, options: SingerOptions, samples: Tensor, rest: float
) -> Tensor:
    """Latents [portrait, carried frames] for the clip after `samples` (k, 4, h, w), its last frames.

    rest  as in `seams.steadied`
    """
    how = options.hold_colours, rest, options.restart_beyond, 1 - song.portrait.lips
    if vae is None:
        frames = steadied(samples.to(song.references), song.references[0], *how)
        return torch.cat([song.references[:1], frames])
    pictures = vae.decode(samples).movedim(-1, 1)  # f H W C -> f C H W
    pictures = steadied(pictures, song.portrait.image.to(pictures), *how)
    return encode_references(vae, song.portrait, pictures.movedim(1, -1), len(samples), song.brighten)


def cut_conds(conds: Conds, song: SongConditions, rows: Tensor, frames: int) -> Conds:
    """A guider's conditions for one clip.

    song    what the clip sings, in place of the whole
    rows    frames of the clip, in the run
    frames  of the run; tensors and ControlNet hints with so many rows are cut
    """
    controls: dict[int, ControlBase] = {}  # both sides share one, or core would not run them as one batch
    return {name: [_cut(cond, song, rows, frames, controls) for cond in part] for name, part in conds.items()}


def _cut(
    cond: Cond, song: SongConditions, rows: Tensor, frames: int, controls: dict[int, ControlBase]
) -> Cond:
    out = {key: _rows(value, rows, frames) for key, value in cond.items()}
    if "control" in out:
        out["control"] = _cut_control(out["control"], rows, frames, controls)
    if SONG in out:
        out[SONG] = song
    return out


def _cut_control(
    control: ControlBase, rows: Tensor, frames: int, controls: dict[int, ControlBase]
) -> ControlBase:
    """A copy of a chain of ControlNets that shows the clip's frames; one copy of each."""
    if id(control) not in controls:
        copy = controls[id(control)] = control.copy()
        copy.cond_hint_original = _rows(control.cond_hint_original, rows, frames)
        if control.previous_controlnet is not None:
            copy.set_previous_controlnet(_cut_control(control.previous_controlnet, rows, frames, controls))
    return controls[id(control)]


def _rows(value: Any, rows: Tensor, frames: int) -> Any:
    return value[rows.to(value.device)] if has_rows(value, frames) else value
