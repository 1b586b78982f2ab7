"""Songs in sections: every frame once, cuts where nothing is sung, joints that fade."""

from __future__ import annotations

import dataclasses
import itertools
import weakref
from collections.abc import Iterator

import pytest
import tiny
import torch

from singer_core.render.clips import Clip
from singer_core.render.conditioning import audio_tokens
from singer_core.render.pipeline import RenderedClip, SingerPipeline
from singer_core.render.seams import cross_fade
from singer_core.render.sections import Section, join_sections, plan_sections
from singer_core.settings import OFFICIAL


def song(*stretches: tuple[int, int]) -> torch.Tensor:
    """Activity of (frames, sung) stretches."""
    return torch.cat([torch.full((count,), float(sung)) for count, sung in stretches])


PHRASES = song((40, 1), (20, 0), (6, 1), (12, 0), (50, 1), (9, 0), (30, 1), (7, 0), (60, 1))


def test_songs_are_cut_in_the_middle_of_rests_that_are_long_enough():
    assert plan_sections(PHRASES, len(PHRASES), shortest=30, overlap=8) == [
        Section(0, 0, 54, 0),  # middle of 40..60 is 50
        Section(1, 46, 136, 8),  # 66..78 is too near; middle of 128..137 is 132; 167..174 too short
        Section(2, 128, 234, 8),
    ]


@pytest.mark.parametrize("shortest", [1, 8, 30, 70, 500])
@pytest.mark.parametrize("overlap", [2, 8, 20])
def test_sections_cover_the_song_and_share_silence_alone(shortest, overlap):
    sections = plan_sections(PHRASES, 230, shortest, overlap)
    assert sections[0].start == sections[0].shared == 0
    assert sections[-1].stop == 230
    for one, other in itertools.pairwise(sections):
        assert one.stop - other.start == other.shared == overlap
        assert PHRASES[other.start : one.stop].max() == 0
        assert other.start - one.start >= max(shortest, overlap) - overlap // 2
        assert one.start + one.shared <= other.start  # no frame is shared by three


@pytest.mark.parametrize("activity", [torch.ones(200), torch.zeros(12), song((100, 1), (3, 0), (100, 1))])
def test_a_song_without_a_place_to_cut_is_one_section(activity):
    assert plan_sections(activity, len(activity), 20) == [Section(0, 0, len(activity), 0)]


def clips_of(section: Section, length: int) -> list[RenderedClip]:
    """Clips whose latents are the frame's number plus 1000 per section, the pictures those + 0.5."""
    clips = []
    for start in range(section.start, section.stop, length):
        latents = (torch.arange(start, start + length) + 1000.0 * section.index).view(-1, 1, 1, 1)
        pictures = latents[: section.stop - start] + 0.5
        clip = Clip(len(clips), start, start + length, 0)
        clips.append(RenderedClip(clip, latents, pictures))
    return clips


@pytest.mark.parametrize("length", [2, 5, 8, 16, 300])
@pytest.mark.parametrize("overlap", [2, 8, 20])
def test_joined_sections_are_the_song_with_shared_frames_faded(length, overlap):
    sections = plan_sections(PHRASES, 230, 20, overlap)
    assert len(sections) > 1
    joined = join_sections(sections, lambda section: clips_of(section, length), lambda latents: latents + 0.5)
    pictures = torch.cat(list(joined)).flatten()
    expected = torch.arange(230.0) + 0.5
    for section in sections:
        expected[section.start :] += 1000.0 if section.index else 0.0
        if section.index:
            fade = 1000.0 * (torch.arange(1, overlap + 1) / (overlap + 1) - 1)
            expected[section.start : section.start + overlap] += fade
    torch.testing.assert_close(pictures, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("shortest", [20, 400], ids=["sections", "one section"])
def test_joining_holds_the_memory_of_a_few_clips(shortest):
    """Whatever the length: a slice of a clip, even an empty one, keeps all of it."""
    sections = plan_sections(PHRASES, 230, shortest, 8)
    made: list[weakref.ref] = []

    def render(section: Section) -> Iterator[RenderedClip]:
        for clip in clips_of(section, 4):
            latents = clip.latents.clone()
            made.append(weakref.ref(latents.untyped_storage()))
            yield dataclasses.replace(clip, latents=latents)

    held = []
    for _ in join_sections(sections, render, lambda latents: latents):
        held.append(sum(storage() is not None for storage in made))
    assert len(made) >= 230 // 4 and max(held) <= 2 + 8 // 4


def test_sections_of_a_pipeline_are_songs_of_their_own(tiny_network, tiny_vae):
    """Each begins at the portrait, hears its own frames and is joined in latents."""
    options = OFFICIAL.but(steps=1, clip_frames=4, motion_frames=2)
    pipeline = SingerPipeline(tiny_network, tiny_vae, options)
    audio = dataclasses.replace(tiny.audio_of(16), activity=song((5, 1), (4, 0), (7, 1)))
    portrait = tiny.portrait_of()
    sections = plan_sections(audio.activity, 14, 4, 2)
    assert [section.span for section in sections] == [range(8), range(6, 14)]
    made = [list(pipeline.render(portrait, audio, span=section.span)) for section in sections]
    pictures = torch.cat(list(join_sections(sections, lambda s: made[s.index], tiny_vae.decode)))
    assert len(pictures) == 14
    assert torch.equal(pictures[:6], torch.cat([clip.pictures for clip in made[0]])[:6])
    assert torch.equal(pictures[8:], torch.cat([clip.pictures for clip in made[1]])[2:])
    faded = cross_fade(made[0][1].latents[2:], made[1][0].latents[:2])
    assert torch.equal(pictures[6:8], tiny_vae.decode(faded))
    assert torch.equal(made[1][0].inputs.reference_latents, made[0][0].inputs.reference_latents)
    assert torch.equal(made[1][0].inputs.audio_tokens, audio_tokens(tiny_network, audio, Clip(0, 6, 10, 0)))
