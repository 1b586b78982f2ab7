"""The card's table, and the files that `singer evaluate` reads for it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("skia")
pytest.importorskip("accelerate")

from photographs import write_faces

from builtin import films
from builtin import held_out as h
from builtin import model_card as card
from builtin.faces import read_faces


def test_rows_state_mean_spread_and_verdict():
    line = card.Row("x", ">= 1", [1.0, 3.0, float("nan")], lambda x: x >= 1, [4.0, 6.0]).markdown()
    assert line == "| x | >= 1 | 2.000 | 1.414 | 1.000 .. 3.000 | 2 | 5.000 | yes |"
    assert "**no**" in card.Row("x", ">= 1", [0.5], lambda x: x >= 1).markdown()
    assert card.Row("x", "", []).markdown().count("|") == line.count("|")


def test_a_groups_rows_take_controls_long_songs_and_wrong_portraits_apart():
    near = {"likeness_1s": 0.2, "likeness_3s": 0.3, "likeness_5s": 0.9}
    people = [{"colour_skin": 3.0, "true_colour_skin": 1.0, "sync": 0.9, "seam_excess": 0.9, **near}]
    long = [{"seam_ratio": 1.3, "true_seam_ratio": 1.0, "seam_excess": 1.3, "drift": 4.0}]
    wronged = [{"wrong": 3.5, "attention": 1.1}]
    rows = {row.name: row for row in card.rows(people, [{"sync": 0.1}], long, wronged)}
    skin = rows["colour error of skin, % of full scale"]
    assert skin.values == [pytest.approx(3)] and skin.true == [pytest.approx(1)]
    assert rows["the same under shuffled audio, lag 0"].values == [0.1]
    likeness = "distance of the face to the portrait at 1, 3 and 5 s"
    assert "| <= 0.40 | 0.300 |" in rows[f"{likeness}, median"].markdown()
    assert rows[f"{likeness}, 95 %"].markdown().endswith("**no** |")
    seams = rows["motion at seams over inside (20 s)"].markdown()
    assert seams.endswith("| <= 1.10 | 1.300 | - | 1.300 .. 1.300 | 1 | 1.000 | **no** |")
    excess = rows["the same over that of the true frames, both lengths, median"].markdown()
    assert "| <= 1.10 | 1.100 |" in excess and excess.endswith("yes |")
    drift = rows["drift, grey levels, first to last second (20 s)"].markdown()
    assert drift.endswith("| <= 3 | 4.000 | - | 4.000 .. 4.000 | 1 | - | **no** |")
    assert rows["loss with a wrong person over the right one"].markdown().endswith("yes |")
    assert rows["the same, through the reference attention alone"].markdown().endswith("**no** |")


def test_a_song_is_measured_once_and_again_where_it_is_longer(tmp_path):
    asked = []

    def person(number):
        asked.append(number)
        return {"sync": 0.5}

    for _ in range(2):
        judge = card.Judge.of(tmp_path, h.Models(None, None, "weights"), 5.0, None)
        for seconds in (5.0, 20.0):
            assert judge.found(person, 3, seconds)["sync"] == 0.5
    assert asked == [3, 3]


def test_one_group_is_photographs_alone(tmp_path):
    write_faces(tmp_path, ["0013.png"])
    world = card.Photographed(2, faces=read_faces(tmp_path, judged=True))
    assert [world.name(index)[:5] for index in range(2)] == ["photo", "photo"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two people of 1.2 s, their true films, and as `late` the same two frames later."""
    path = tmp_path_factory.mktemp("films")
    for number in (3, 4):
        show = h.performance(number, 1.2, 128)
        truth = h.true_frames(show)
        films.add_truth(path, number, show)
        late = np.concatenate([truth[:1], truth[:1], truth[:-2]])
        films.add_render(path, "late", number, lambda late=late: late, show.fps)
    return path


def test_a_film_keeps_the_brightness_of_its_frames_and_is_rendered_once(folder):
    truth = h.true_frames(h.performance(3, 1.2, 128))
    film = folder / "truth" / "003.mp4"
    kept = films.frames_of(film)
    weights = np.array([0.2126, 0.7152, 0.0722])  # BT.709: what 4:2:0 leaves whole
    assert kept.shape == truth.shape and np.abs((kept.astype(float) - truth) @ weights).mean() < 2
    again = films.add_render(folder, "late", 3, lambda: pytest.fail("was rendered again"), 25.0)
    assert again == folder / "late" / "generated" / "003.mp4"


def test_the_command_finds_late_mouths_and_nothing_late_in_the_truth(folder, capsys):
    late = films.measured(folder, "late", [3, 4])
    drawn = films.measured(folder, films.TRUE, [3, 4])
    assert [one["mouth_match_lag"] for one in late["each"]] == [2, 2]
    assert [one["mouth_match_lag"] for one in drawn["each"]] == [0, 0]
    assert drawn["metrics"]["psnr"]["mean"] == 100 and late["metrics"]["psnr"]["mean"] < 60
    assert late["pairs"] == ["003", "004"]
    assert "shv: 2 pairs at 25 fps" in capsys.readouterr().out
