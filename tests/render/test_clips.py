"""How a song is cut: partitions of its frames, whatever its length."""

from __future__ import annotations

import itertools

import pytest

from singer_core.render.clips import Clip, finished_frames, plan_clips

CASES = [
    (frames, length, overlap)
    for frames in (1, 15, 16, 17, 100, 4500)
    for length, overlap in ((16, 0), (16, 1), (16, 4), (16, 14), (4, 2), (2, 0), (30, 15))
]


def paired(plan):
    return zip(plan, [*plan[1:], None], strict=True)


@pytest.mark.parametrize(("frames", "length", "overlap"), CASES)
def test_finished_frames_of_the_clips_are_the_song_in_order_each_once(frames, length, overlap):
    plan = plan_clips(frames, length, overlap)
    shown = [
        clip.start + i for clip, following in paired(plan) for i in finished_frames(clip, following, frames)
    ]
    assert shown == list(range(frames))


@pytest.mark.parametrize(("frames", "length", "overlap"), CASES)
def test_all_clips_are_of_one_length_and_neighbours_share_the_overlap(frames, length, overlap):
    plan = plan_clips(frames, length, overlap)
    assert [clip.index for clip in plan] == list(range(len(plan)))
    assert {clip.stop - clip.start for clip in plan} == {length}
    assert plan[0].start == plan[0].shared == 0
    for one, other in itertools.pairwise(plan):
        assert one.stop - other.start == other.shared == overlap


@pytest.mark.parametrize(("frames", "length", "overlap"), CASES)
def test_no_clip_is_superfluous(frames, length, overlap):
    plan = plan_clips(frames, length, overlap)
    assert plan[-1].stop >= frames
    assert all(clip.stop < frames for clip in plan[:-1])
    assert all(len(finished_frames(clip, following, frames)) >= 1 for clip, following in paired(plan))


@pytest.mark.parametrize("frames", [1, 15, 16, 17, 100, 4500])
def test_without_overlap_there_are_as_many_clips_as_the_authors_render(frames):
    assert len(plan_clips(frames, 16)) == -(-frames // 16)


@pytest.mark.parametrize(("frames", "length", "overlap"), CASES)
def test_carried_frames_are_those_right_before_the_next_clip_and_are_finished(frames, length, overlap):
    for clip, following in paired(plan_clips(frames, length, overlap)):
        count = min(2, length - overlap)
        if following is None:
            continue
        carried = following.carried_from(clip, count)
        assert [clip.start + i for i in carried] == list(range(following.start - count, following.start))
        assert set(carried) <= set(finished_frames(clip, following, frames))


def test_the_two_clips_of_the_documentation():
    assert plan_clips(17, 16) == [Clip(0, 0, 16, 0), Clip(1, 16, 32, 0)]
    assert plan_clips(17, 16, 4) == [Clip(0, 0, 16, 0), Clip(1, 12, 28, 4)]
