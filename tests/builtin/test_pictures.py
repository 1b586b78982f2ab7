"""Pictures of many people: who is shown, where the face lies, and that seeds decide."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("skia")

from builtin import pictures
from builtin.world import Identity, Performance, Song

SIZE = 64


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Two drawn people as photographs: 0013 to judge on, 0014 to train on."""
    folder = tmp_path_factory.mktemp("faces")
    song = Song.random(1, 1.0, "pop", accompaniment=False)
    index = {}
    for number in (13, 14):
        show = Performance(Identity.random(number), song, size=256)
        Image.fromarray(show.frame(0)).save(folder / f"00{number}.jpg", quality=95)
        index[f"00{number}.jpg"] = {
            "size": [256, 256],
            "yaw": 0.0,
            "mouth": 0.0,
            "points": [[*point, 0] for point in show.landmarks(0).tolist()],
        }
    (folder / "faces.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def test_those_to_judge_on_are_not_trained_on(faces):
    assert pictures.Photographs(faces, SIZE, held_out=True).names == ["0013.jpg"]
    assert pictures.Photographs(faces, SIZE, held_out=False).names == ["0014.jpg"]
    seeds = [pictures.sources(SIZE, None, held_out)["drawn"].next for held_out in (False, True)]
    assert seeds[0] < pictures.HELD_OUT_SEED == seeds[1]


def test_the_face_takes_the_share_asked_for(faces):
    """A cut at share 0.9 equals the photograph's square around the face, scaled."""
    source = pictures.Photographs(faces, SIZE, held_out=False)
    low, high = source.points["0014.jpg"].min(0), source.points["0014.jpg"].max(0)
    side, middle = float((high - low).max()) / 0.9, (low + high) / 2
    box = tuple(np.concatenate([middle - side / 2, middle + side / 2]).tolist())
    with Image.open(faces / "0014.jpg") as image:
        expected = np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS, box))
    assert np.abs(source.cut("0014.jpg", 0.9, np.zeros(2)).astype(int) - expected).max() <= 1
