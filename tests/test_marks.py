"""What is said of seconds of a song: retakes, choices, weights of phrases, and errors that show the place."""

from __future__ import annotations

import pytest
import torch

from singer_core.audio.motion import motion_weights
from singer_core.marks import Mark, Take, chosen, marks_text, numbered, read_marks, read_takes
from singer_core.settings import MotionResponse


def takes_of(text: str) -> list[Take]:
    return read_takes(text, 1500, 25.0)


def test_a_take_is_seconds_and_a_seed_with_weights_if_wanted():
    assert takes_of("31.5-34:7") == [Take(788, 850, seed=7)]
    assert takes_of("0:31.5-0:34:7 lip 1.2 pose .5") == [Take(788, 850, (0.5, 1.0, 1.2), seed=7)]
    assert takes_of("\n# mine\n 1 - 2:3; 58 - 1:00.0:4;\n") == [
        Take(25, 50, seed=3),
        Take(1450, 1500, seed=4),
    ]
    assert takes_of("31.5-34=2") == [Take(788, 850, number=2)]


def test_takes_are_written_as_they_are_read():
    for text in ("31.52-34:7", "31.52-34:7 pose 0.5 lip 1.2", "31.52-34=2"):
        assert [take.text(25.0) for take in takes_of(text)] == [text]


WRONG = {
    "31.5-34": r"'31\.5-34': a take is seconds from-to and a seed, as 31\.5-34:7, or a number",
    "31.5:7": r"'31\.5:7': a take is seconds",
    "31.5-34:18446744073709551616": "the largest seed is 18446744073709551615",
    "31.5-34:7s": r"'31\.5-34:7s': a take is seconds",
    "34-31.5:7": r"'34-31\.5:7': 31\.5 is not behind 34",
    "59-62:7": r"'59-62:7': 62 is outside of the song, which has 60\.00 s",
    "61-62:7": "outside of the song",
    "31.5-31.51:7": "less than a frame",
    "31.5-34:7 lib 1.2": r"'31\.5-34:7 lib 1\.2': 'lib' is none of pose, face, lip",
    "31.5-34:7 lip": r"lip '' is no factor\. Write lip 1\.2",
    "31.5-34:7 lip -1": "lip '-1' is no factor",
    "31.5-34:7\n33-35:8": r"'33-35:8' overlaps 31\.52-34:7\. Give the same seconds, or others",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_with_a_take_is_said_in_one_line_that_shows_it(text):
    with pytest.raises(ValueError, match=f"^`takes`: .*{WRONG[text]}") as said:
        takes_of(text)
    assert "\n" not in str(said.value)


def test_the_last_take_of_the_same_seconds_is_shown_and_any_can_be_chosen():
    first, second, other = takes_of("31.5-34:7\n31.5-34:8\n10-12:9")
    assert chosen([first, second, other], [], 25.0) == [other, second]
    again = takes_of("31.5-34=2")
    assert chosen([first, second, *again], [], 25.0) == [first]
    assert chosen([first, *takes_of("31.5-34=1")], [], 25.0) == []
    assert chosen(again, [second], 25.0) == [second]
    assert chosen([first, *again], [second, first], 25.0) == [second]
    assert numbered([first], [second, first]) == {range(788, 850): [second, first]}


def test_a_take_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(
        ValueError, match=r"no take 31\.52-34=4: .* 1 \(the song's\), 2 \(31\.52-34:7\)\. Choose"
    ):
        chosen(takes_of("31.5-34:7\n31.5-34=4"), [], 25.0)


def test_marks_are_seconds_with_factors():
    assert read_marks("0:31-0:34 lip 1.2 pose 0.6\n40-41 face 0", 60.0) == [
        Mark(31.0, 34.0, (0.6, 1.0, 1.2)),
        Mark(40.0, 41.0, (1.0, 0.0, 1.0)),
    ]
    for text, said in {"0:31 lip 2": "a line begins with seconds", "31-34": "no weight is changed"}.items():
        with pytest.raises(ValueError, match=f"^`marks`: '{text}': {said}"):
            read_marks(text, 60.0)


LRC = """[ti:A song]
[00:31.00][01:10.50]and the night is long {lip 1.2 pose 0.6}
[00:34.00]
[00:40.00] nothing here
"""
SRT = """1
00:00:31,000 --> 00:00:34,000
and the night
is long {lip 1.2 pose 0.6}

2
00:00:40,000 --> 00:00:41,000
nothing here
"""


def test_lyrics_with_times_mark_the_lines_with_factors_in_braces(tmp_path):
    assert read_marks(SRT, 60.0) == [Mark(31.0, 34.0, (0.6, 1.0, 1.2))]
    assert read_marks(LRC, 80.0) == [Mark(31.0, 34.0, (0.6, 1.0, 1.2)), Mark(70.5, 80.0, (0.6, 1.0, 1.2))]
    with pytest.raises(ValueError, match="no line of the lyrics says a weight"):
        read_marks("[00:31.00] la", 60.0)
    with pytest.raises(ValueError, match=r"'\[00:31\.00\] la \{lib 2\}': 'lib' is none of"):
        read_marks("[00:31.00] la {lib 2}", 60.0)
    (tmp_path / "song.lrc").write_text(LRC)
    assert marks_text(str(tmp_path / "song.lrc")) == LRC
    assert marks_text("0-1 lip 2") == "0-1 lip 2"
    with pytest.raises(FileNotFoundError, match=r"no file none\.srt"):
        marks_text("none.srt")


def test_marks_multiply_with_all_else():
    response = MotionResponse(lip=2.0, silence=0.5, marks="0.08-0.16 lip 0.5; 0.12-0.2 pose 3")
    pose, face, lip = motion_weights(6, 25.0, response, activity=torch.tensor([1.0, 1, 1, 0, 0, 0])).T
    assert lip.tolist() == [2, 2, 1, 0.5, 1, 1]
    assert pose.tolist() == [1, 1, 1, 3, 3, 1] and face.eq(1).all()
