"""From prepared songs to their video, resumable: what `sing`, `demo`, `batch` and `duet` share."""

from __future__ import annotations

import argparse
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
    from ..portrait.portrait import Portrait
    from ..render.canvas import Canvas
    from ..render.pipeline import OnStep, RenderedClip, SingerPipeline
    from ..render.sections import Section
    from ..render.store import ClipStore


def add_work_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "long songs", "finished clips are kept until the video is written; the same command goes on from them"
    )
    group.add_argument(
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="where finished clips are kept, up to 64 KB a frame (default: singer-* in the temporary folder)",
    )
    group.add_argument("--no-resume", action="store_true", help="use no finished clips and keep none")
    group.add_argument(
        "--partial", action="store_true", help="render nothing: write a video of the clips that are finished"
    )
    group.add_argument(
        "--sections",
        action="store_true",
        help="cut the song where the voice rests and render the sections independently (docs/long_songs.md)",
    )


@dataclass(frozen=True)
class Film:
    """A song ready to be rendered, and where its finished clips go (None = nowhere)."""

    pipeline: SingerPipeline
    portrait: Portrait
    audio: AudioFeatures
    weights: torch.Tensor
    seed: int
    sections: Sequence[Section]
    work: Path | None

    @property
    def clips(self) -> list[int]:
        """How many clips each section has."""
        return [len(self.pipeline.plan(self.audio, section.span)) for section in self.sections]

    @property
    def steps(self) -> int:
        """Diffusion steps of the whole song."""
        return sum(self.clips) * self.pipeline.options.steps

    @contextlib.contextmanager
    def opened(self) -> Iterator[list[ClipStore | None]]:
        """The store of each section."""
        from ..render.store import ClipStore, fingerprint

        with contextlib.ExitStack() as stack:
            stores: list[ClipStore | None] = [None] * len(self.sections)
            if self.work is not None:
                key = self.pipeline.store_key(self.portrait, self.audio, self.seed, self.weights)
                for section, clips in zip(self.sections, self.clips, strict=True):
                    part = fingerprint(key, section.start, section.stop)
                    stores[section.index] = stack.enter_context(ClipStore(self.work, part, clips))
            yield stores

    def render(
        self, section: Section, store: ClipStore | None, on_step: OnStep | None
    ) -> Iterator[RenderedClip]:
        return self.pipeline.render(
            self.portrait, self.audio, self.seed, self.weights, on_step, store, section.span
        )

    def frames(
        self, stores: Sequence[ClipStore | None], moved: Callable[[int], None]
    ) -> Iterator[torch.Tensor]:
        """All frames in order, (3, H, W) each; `moved` is told the steps done."""
        from ..render.sections import join_sections

        steps, clips = self.pipeline.options.steps, self.clips

        def render(section: Section) -> Iterator[RenderedClip]:
            before = sum(clips[: section.index]) * steps
            return self.render(section, stores[section.index], lambda step: moved(before + step.done))

        for pictures in join_sections(self.sections, render, self.pipeline.vae.decode):
            yield from pictures


def plan_film(
    pipeline: SingerPipeline,
    portrait: Portrait,
    audio: AudioFeatures,
    weights: torch.Tensor,
    args: argparse.Namespace,
) -> Film:
    """What `args` ask to be done with a song.

    `audio` has its vocal activity where --sections is given. Raises ValueError on arguments that exclude
    each other.
    """
    from ..render.sections import SECTION_SECONDS, Section, plan_sections
    from ..render.store import work_folder

    if args.partial and args.no_resume:
        raise ValueError(
            "--partial is made of the finished clips that --no-resume ignores. Give one of them."
        )
    sections = [Section(0, 0, audio.frames, 0)]
    if args.sections and audio.activity is not None:
        sections = plan_sections(audio.activity, audio.frames, round(SECTION_SECONDS * audio.fps))
    work = None if args.no_resume else work_folder(args.work_dir)
    return Film(pipeline, portrait, audio, weights, args.seed, sections, work)


def canvas_of(film: Film, args: argparse.Namespace) -> Canvas:
    """How the frames of a film are shown: alone, or pasted back where `args` ask for it."""
    from ..render.canvas import bare, pasted

    return pasted(film.portrait) if args.paste_back else bare(film.portrait.crop.size)


def write_film(film: Film, out: Path, args: argparse.Namespace) -> None:
    """Render what is not finished and write the video; its clips are deleted when it is complete."""
    write_films([film], canvas_of(film, args), [args.song], out, args)


def write_films(
    films: Sequence[Film], canvas: Canvas, sound: Sequence[Path], out: Path, args: argparse.Namespace
) -> None:
    """The same for films of equal length whose frames the canvas puts together; `sound` is added up."""
    from ..render.video import VideoWriter
    from .progress import progress_bar

    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(film.opened()) for film in films]
        _clear_out(films[0].work)
        frames, fps = films[0].audio.frames, films[0].audio.fps
        if args.partial:
            frames = min(_finished_frames(*pair) for pair in zip(films, stores, strict=True))
        if frames == 0:
            raise ValueError(
                f"--partial: no clip of this render is finished in {films[0].work}. Give the same arguments "
                "as before, --work-dir among them."
            )
        total = sum(film.steps for film in films)
        try:
            with (
                VideoWriter(out, canvas.size, fps, frames=frames, audio=sound) as writer,
                progress_bar("singing", total, "step", args.quiet) as bar,
            ):
                pictures = _pictures(films, stores, canvas, bar.set)
                for picture in itertools.islice(pictures, frames) if args.partial else pictures:
                    writer.write(picture[None])
        except (KeyboardInterrupt, SystemExit):
            _say_how_to_go_on(films, stores)
            raise
        if not args.partial:
            _remove(films, stores, args)
    print(f"Wrote {out}: {frames} frames at {fps:g} fps.", file=sys.stderr)


def _pictures(
    films: Sequence[Film],
    stores: Sequence[list[ClipStore | None]],
    canvas: Canvas,
    moved: Callable[[int], None],
) -> Iterator[torch.Tensor]:
    """The video's pictures, (3, H, W) each; the films go on by turns, a clip at a time."""
    done = [0] * len(films)

    def film_moved(index: int, steps: int) -> None:
        done[index] = steps
        moved(sum(done))

    parts = [
        film.frames(kept, functools.partial(film_moved, index))
        for index, (film, kept) in enumerate(zip(films, stores, strict=True))
    ]
    return map(canvas.compose, zip(*parts, strict=True))


def fill_stores(film: Film, sections: Sequence[Section]) -> None:
    """Render some sections and keep their clips, without a video."""
    with film.opened() as stores:
        _clear_out(film.work)
        for section in sections:
            for _ in film.render(section, stores[section.index], None):
                pass


def _clear_out(work: Path | None) -> None:
    """Delete old renders; one's own are in use by now."""
    from ..render.store import clean

    if work is not None:
        clean(work)


def _finished_frames(film: Film, stores: Sequence[ClipStore | None]) -> int:
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


def _say_how_to_go_on(films: Sequence[Film], stores: Sequence[list[ClipStore | None]]) -> None:
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


def _remove(
    films: Sequence[Film], stores: Sequence[list[ClipStore | None]], args: argparse.Namespace
) -> None:
    for store in (store for kept in stores for store in kept if store is not None):
        store.remove()
    work = films[0].work
    if work is not None and args.work_dir is None:
        with contextlib.suppress(OSError):  # other renders are in it
            work.rmdir()
