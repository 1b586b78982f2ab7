"""From prepared songs to their video, resumable: what `sing`, `demo`, `batch` and `duet` share."""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from ..audio.features import AudioFeatures
    from ..marks import Take
    from ..portrait.portrait import Portrait
    from ..render.canvas import Canvas
    from ..render.pipeline import OnStep, RenderedClip, SingerPipeline, Step
    from ..render.sections import Section
    from ..render.store import ClipStore
    from ..settings import RenderSettings, WorkSettings

Stores = list["ClipStore | None"]  # of each section
Moved = Callable[[int, "Step"], None]  # told of every step in a section


@dataclass(frozen=True)
class Film:
    """A song ready to be rendered, and where its finished clips go (None = nowhere).

    takes  as the user gave them, retakes and choices
    """

    pipeline: SingerPipeline
    portrait: Portrait
    audio: AudioFeatures
    weights: torch.Tensor
    seed: int
    takes: Sequence[Take]
    sections: Sequence[Section]
    work: Path | None

    @property
    def clips(self) -> list[int]:
        """How many clips each section has."""
        return [len(self.pipeline.plan(self.audio, section.span)) for section in self.sections]

    @contextlib.contextmanager
    def opened(self) -> Iterator[Stores]:
        """The store of each section, old renders deleted now that one's own are in use."""
        from ..render.store import ClipStore, clean

        if self.work is None:
            yield [None] * len(self.sections)
            return
        with contextlib.ExitStack() as stack:
            shared, song = self.pipeline.shared_key(self.portrait), (self.audio, self.seed, self.weights)
            stores: Stores = []
            for section in self.sections:
                keys = self.pipeline.clip_keys(shared, *song, section.span)
                stores.append(stack.enter_context(ClipStore(self.work, shared, keys)))
            clean(self.work)
            yield stores

    def render(
        self, section: Section, stores: Stores, on_step: OnStep | None = None
    ) -> Iterator[RenderedClip]:
        return self._render(section, stores, on_step)

    def _render(
        self, section: Section, stores: Stores, on_step: OnStep | None, takes: Sequence[Take] = ()
    ) -> Iterator[RenderedClip]:
        song, store = (self.portrait, self.audio, self.seed, self.weights), stores[section.index]
        inside = [take for take in takes if take.start in section.span]
        return self.pipeline.render(*song, on_step, store, section.span, inside)

    def earlier_takes(self, stores: Stores) -> list[Take]:
        """The takes of this song that earlier runs have left, in their order."""
        from ..render.takes import noted_takes

        found = []
        for section, store in zip(self.sections, stores, strict=True):
            if store is None:
                continue
            for take in noted_takes(store, self.audio.frames):
                given = (take, self.audio, self.weights, section.span)
                if take.start in section.span and self.pipeline.take_store(store, *given).path(0).is_file():
                    found.append(take)
        return found

    def pictures(self, stores: Stores, moved: Moved, takes: Sequence[Take]) -> Iterator[torch.Tensor]:
        """All frames in order, (3, H, W) each; `takes` are those that are shown."""
        from ..render.sections import join_sections

        def render(section: Section) -> Iterator[RenderedClip]:
            return self._render(section, stores, functools.partial(moved, section.index), takes)

        joined = join_sections(self.sections, render, self.pipeline.vae.decode)
        return itertools.chain.from_iterable(joined)


def plan_film(
    pipeline: SingerPipeline,
    portrait: Portrait,
    audio: AudioFeatures,
    weights: torch.Tensor,
    seed: int,
    takes: Sequence[Take],
    work: WorkSettings,
) -> Film:
    """What is to be done with a song; `audio` has its vocal activity where sections are asked for.

    Raises ValueError for a take that reaches over a cut between sections.
    """
    from ..render.sections import SECTION_SECONDS, Section, plan_sections
    from ..render.store import work_folder

    sections = [Section(0, 0, audio.frames, 0)]
    if work.sections and audio.activity is not None:
        sections = plan_sections(audio.activity, audio.frames, round(SECTION_SECONDS * audio.fps))
    for take, section in itertools.product(takes, sections[1:]):
        if take.start < section.start + section.shared and section.start < take.stop:
            cut = (section.start + section.shared / 2) / audio.fps
            raise ValueError(
                f"`retake`: {take.text(audio.fps)!r} reaches over the cut of --sections at {cut:.2f} s. Give "
                "the seconds before it, and those behind it."
            )
    folder = work_folder(work.work_dir) if work.keep_clips else None
    return Film(pipeline, portrait, audio, weights, seed, takes, sections, folder)


def canvas_of(film: Film, how: RenderSettings) -> Canvas:
    """How the frames of a film are shown: pasted back, or alone; the small network's sharper than it is."""
    from ..render.canvas import bare, pasted, sharpened

    if how.paste_back:
        return pasted(film.portrait)
    moves = film.pipeline.network.architecture.predicts == "motion"
    return sharpened(film.portrait) if moves else bare(film.portrait.crop.size)


def write_films(
    films: Sequence[Film], canvas: Canvas, sound: Sequence[Path], out: Path, how: RenderSettings
) -> None:
    """Render what is not finished and write the video.

    The canvas puts the frames of the films together, which are equally long; `sound` is added up.
    """
    from ..render.canvas import capped
    from ..render.video import VideoWriter
    from .progress import progress_bar

    canvas = capped(canvas, how.longest_side)
    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(film.opened()) for film in films]
        frames, fps = films[0].audio.frames, films[0].audio.fps
        if how.work.partial:
            frames = min(_finished_frames(*pair) for pair in zip(films, stores, strict=True))
        if frames == 0:
            raise ValueError(
                f"--partial: no clip of this render is finished in {films[0].work}. Give the same arguments "
                "as before, --work-dir among them."
            )
        total = sum(sum(film.clips) * film.pipeline.options.steps for film in films)
        shown = [_chosen(*pair, how.work.partial) for pair in zip(films, stores, strict=True)]
        try:
            with contextlib.ExitStack() as written, progress_bar("singing", total, "step", how.quiet) as bar:
                writers = [
                    written.enter_context(
                        VideoWriter(path, canvas.size, fps, frames=frames, audio=sound, growing=growing)
                    )
                    for path, growing in ((out, False), (how.preview, True))
                    if path is not None
                ]
                for picture in itertools.islice(_pictures(films, stores, shown, canvas, bar.set), frames):
                    for writer in writers:
                        writer.write(picture[None])
        except (KeyboardInterrupt, SystemExit):
            _say_how_to_go_on(films, stores)
            raise
        for film, kept, takes in zip(films, stores, shown, strict=True):
            _list_takes(film, kept, takes)
    print(f"Wrote {out}: {frames} frames at {fps:g} fps.", file=sys.stderr)


def _chosen(film: Film, stores: Stores, partial: bool) -> list[Take]:
    """The takes that are shown, noted so that later runs can choose them."""
    from ..marks import chosen
    from ..render.takes import note_takes

    if partial:
        return []
    shown = chosen(film.takes, film.earlier_takes(stores), film.audio.fps)
    if stores[0] is not None:
        note_takes(stores[0], film.takes)
    return shown


def _list_takes(film: Film, stores: Stores, shown: Sequence[Take]) -> None:
    from ..marks import listed

    for line in listed(film.takes, film.earlier_takes(stores), shown, film.audio.fps):
        print(f"{line}. --take FROM-TO=NUMBER shows another.", file=sys.stderr)


def _pictures(
    films: Sequence[Film],
    stores: Sequence[Stores],
    takes: Sequence[Sequence[Take]],
    canvas: Canvas,
    show: Callable[[int], None],
) -> Iterator[torch.Tensor]:
    """The video's pictures, (3, H, W) each; the films go on by turns, a clip at a time."""
    done: dict[tuple[int, int], int] = {}

    def moved(film: int, section: int, step: Step) -> None:
        done[film, section] = step.done
        show(sum(done.values()))

    parts = [
        film.pictures(kept, functools.partial(moved, index), shown)
        for index, (film, kept, shown) in enumerate(zip(films, stores, takes, strict=True))
    ]
    return map(canvas.compose, zip(*parts, strict=True))


def fill_stores(film: Film, sections: Sequence[Section]) -> None:
    """Render some sections and keep their clips, without a video."""
    with film.opened() as stores:
        for section in sections:
            for _ in film.render(section, stores):
                pass


def _finished_frames(film: Film, stores: Stores) -> int:
    """How many frames from the first on are finished and joined to what is before them."""
    sections = film.sections
    for section, following, store in zip(sections, [*sections[1:], None], stores, strict=True):
        plan = film.pipeline.plan(film.audio, section.span)
        done = 0 if store is None else store.finished()
        if done == len(plan):
            continue
        reached = plan[done].start
        if reached < section.start + section.shared:
            return section.start
        return min(reached, section.stop - (following.shared if following else 0))
    return film.audio.frames


def _say_how_to_go_on(films: Sequence[Film], stores: Sequence[Stores]) -> None:
    work = films[0].work
    if work is None:
        return
    done = sum(store.finished() for kept in stores for store in kept if store is not None)
    clips = sum(sum(film.clips) for film in films)
    print(
        f"\nsinger: {done} of {clips} clips are finished and stay in {work}. The same "
        "command goes on from there; with --partial it writes a video of them.",
        file=sys.stderr,
    )
