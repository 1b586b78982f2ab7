from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from singer_core.portrait.detection import detect_insightface, from_boxes
from singer_core.portrait.landmarks import (
    LIPS,
    SILHOUETTE,
    FaceLandmarks,
    choose_face,
    read_landmarks,
    write_landmarks,
)
from singer_core.portrait.masks import bounding_box


def write(path: Path, **data: Any) -> Path:
    path.write_text(json.dumps(data))
    return path


def test_index_tuples_are_distinct_points_of_the_mesh() -> None:
    assert len(set(SILHOUETTE)) == 36
    assert len(set(LIPS)) == 20
    assert not set(SILHOUETTE) & set(LIPS)
    assert max(SILHOUETTE + LIPS) < 468


def test_file_round_trip(tmp_path: Path, make_face) -> None:
    faces = [make_face(), make_face(100, 90, 20)]
    write_landmarks(tmp_path / "a.json", faces, (512, 400))
    again = read_landmarks(tmp_path / "a.json", (512, 400))
    assert len(again) == 2
    for face, other in zip(faces, again, strict=True):
        assert torch.allclose(face.points, other.points, atol=5.1e-4)


def test_fractions_and_other_sizes_scale_to_the_picture(tmp_path: Path, make_face) -> None:
    points = make_face().points
    fractions = (points / torch.tensor([512.0, 400.0])).tolist()
    path = write(tmp_path / "a.json", size=[512, 400], normalised=True, faces=[fractions])
    assert torch.allclose(read_landmarks(path)[0].points, points, atol=1e-3)
    assert torch.allclose(read_landmarks(path, (1024, 800))[0].points, points * 2, atol=1e-3)
    path = write(tmp_path / "b.json", size=[512, 400], faces=[points.tolist()])
    assert torch.allclose(read_landmarks(path, (256, 200))[0].points, points / 2, atol=1e-3)


def test_depth_is_ignored(tmp_path: Path, make_face) -> None:
    points = torch.cat([make_face().points, torch.ones(478, 1)], dim=1)
    path = write(tmp_path / "a.json", size=[512, 512], faces=[points.tolist()])
    assert torch.allclose(read_landmarks(path)[0].points, points[:, :2])


def test_landmarks_of_another_picture_are_refused(tmp_path: Path, make_face) -> None:
    write_landmarks(tmp_path / "a.json", [make_face()], (512, 512))
    with pytest.raises(
        ValueError, match=r"a\.json is for a picture of 512 x 512 pixels, this one has 512 x 600"
    ):
        read_landmarks(tmp_path / "a.json", (512, 600))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"size": [5, 5]}, 'no "faces" list'),
        ({"faces": []}, '"size" is None'),
        ({"faces": [], "size": [0, 5]}, r'"size" is \[0, 5\]'),
        ({"faces": [[[1, 2]] * 468], "size": [9, 9]}, r"face 0 has shape \(468, 2\); 478 points"),
        ({"faces": ["nonsense"], "size": [9, 9]}, "face 0 is not a list of"),
    ],
)
def test_odd_files_say_what_is_wrong(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_landmarks(write(tmp_path / "a.json", **data))


def test_files_that_are_missing_or_no_json(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No landmark file"):
        read_landmarks(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        read_landmarks(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("points", "message"),
    [(torch.zeros(468, 2), r"shape \(468, 2\)"), (torch.full((478, 2), float("inf")), "NaN or Inf")],
)
def test_odd_points_are_refused(points: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaceLandmarks(points)


def test_choosing_a_face(make_face) -> None:
    one, two = make_face(), make_face(50, 60, 10)
    assert choose_face([one], None) is one
    assert choose_face([one, two], 1) is two
    with pytest.raises(ValueError, match=r"Found 2 faces.*Set `face_index` \(0 to 1"):
        choose_face([one, two], None)
    with pytest.raises(ValueError, match="`face_index` is 2, but found 2 faces"):
        choose_face([one, two], 2)
    with pytest.raises(ValueError, match=r"Found no face.*`face_mask` and `lip_mask`"):
        choose_face([], None)


def test_boxes_become_landmarks_with_those_boxes() -> None:
    lip = np.array([(40, 80), (70, 78), (55, 95)], np.float32)
    face = from_boxes((20, 10, 90, 110), lip)
    assert bounding_box(face.silhouette) == (20, 10, 90, 110)
    assert bounding_box(face.lips) == (40, 78, 70, 95)


def test_insightface_faces_come_largest_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class FaceAnalysis:
        """What insightface returns, for two faces on a BGR picture."""

        def __init__(self, name: str, root: str) -> None:
            assert (name, root) == ("antelopev2", str(tmp_path))

        def prepare(self, ctx_id: int, det_size: tuple[int, int]) -> None:
            assert det_size == (640, 640)

        def get(self, bgr: np.ndarray) -> list[SimpleNamespace]:
            assert tuple(bgr[0, 0]) == (3, 2, 1)
            return [self._found(10, 1.0), self._found(40, 2.0)]

        def _found(self, side: float, mark: float) -> SimpleNamespace:
            mesh = np.full((106, 2), 50.0)
            mesh[0], mesh[16], mesh[32] = (48, 60), (50, 52 + side), (52 + side, 60)
            mesh[52], mesh[60] = (55, 70), (65, 78)
            bbox = np.array([50, 50, 50 + side, 50 + side])
            return SimpleNamespace(
                bbox=bbox, kps=np.full((5, 2), 60.0), landmark_2d_106=mesh, embedding=np.full(512, mark)
            )

    app = ModuleType("insightface.app")
    app.FaceAnalysis = FaceAnalysis  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "insightface", ModuleType("insightface"))
    monkeypatch.setitem(sys.modules, "insightface.app", app)
    picture = Image.new("RGB", (128, 128), (1, 2, 3))
    with pytest.raises(FileNotFoundError, match=r"No insightface models in .*antelopev2"):
        detect_insightface(picture, tmp_path)
    (tmp_path / "models" / "antelopev2").mkdir(parents=True)
    (tmp_path / "models" / "antelopev2" / "2d106det.onnx").touch()
    faces = detect_insightface(picture, tmp_path)
    assert [face.area for face in faces] == [1600, 100]
    assert bounding_box(faces[0].landmarks.silhouette) == (48, 50, 92, 92)
    assert faces[0].identity is not None
    assert faces[0].identity.tolist() == [2.0] * 512


def test_missing_insightface_has_a_remedy(monkeypatch: pytest.MonkeyPatch, photo: Image.Image) -> None:
    monkeypatch.setitem(sys.modules, "insightface.app", None)
    with pytest.raises(RuntimeError, match="pip install insightface"):
        detect_insightface(photo)
