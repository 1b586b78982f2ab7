"""Videos prepared in Hallo's layout: masks and embeddings arrive as they are, bad entries are skipped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from singer_core.render.video import VideoWriter
from singer_core.training.dataset import ClipDataset
from singer_core.training.hallo import prepare_hallo

FRAMES, SIDE = 10, 64


def write_layout(folder: Path) -> Path:
    """One whole entry, one whose audio is missing, one without a lip mask."""
    with VideoWriter(folder / "a.mp4", (SIDE, SIDE), 25.0, frames=FRAMES) as writer:
        writer.write(torch.full((FRAMES, 3, SIDE, SIDE), 0.4))
    for index, name in enumerate(("box", "border", "face", "lip")):
        levels = np.zeros((SIDE, SIDE), np.uint8)
        levels[8 + 8 * index : 60, 16:40] = 200 + index
        Image.fromarray(levels).save(folder / f"{name}.png")
    torch.save(torch.arange(512.0), folder / "face.pt")
    torch.save(torch.randn(FRAMES, 2, 3), folder / "audio.pt")
    entry = {
        "video_path": "a.mp4",
        "mask_path": "box.png",
        "sep_mask_border": "border.png",
        "sep_mask_face": "face.png",
        "sep_mask_lip": "lip.png",
        "face_emb_path": "face.pt",
        "vocals_emb_base_all": "audio.pt",
    }
    lost = {**entry, "video_path": "b.mp4", "vocals_emb_base_all": "nowhere.pt"}
    short = {key: value for key, value in entry.items() if key != "sep_mask_lip"} | {"video_path": "c.mp4"}
    path = folder / "meta.json"
    path.write_text(json.dumps([entry, lost, short]))
    return path


@pytest.fixture(scope="module")
def prepared(tiny_vae, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    return target, prepare_hallo([write_layout(source)], target, (SIDE, SIDE), tiny_vae)


def test_bad_entries_are_skipped_with_the_reason(prepared):
    assert prepared[1]["a.mp4"] == "ready"
    assert "nowhere.pt is missing" in prepared[1]["b.mp4"]
    assert "lacks sep_mask_lip" in prepared[1]["c.mp4"]


def test_masks_and_embeddings_are_those_of_the_layout(prepared):
    stored = load_file(prepared[0] / "meta-000000.safetensors")
    assert torch.equal(stored["identity"], torch.arange(512.0))
    sample = ClipDataset(prepared[0], 4, 2, "union").clip(ClipDataset(prepared[0], 4, 2).items[0], 3, 0)
    assert [level.shape for level in sample.masks] == [(3, 64), (3, 16), (3, 4), (3, 1)]
    full, face, lip = sample.masks[0].unflatten(1, (8, 8))[:, 5, 3]
    assert (float(full), float(face), float(lip)) == pytest.approx(
        (201 / 255, 202 / 255, 203 / 255), abs=0.02
    )
    assert float(sample.shown[0, 20, 20]) == pytest.approx(200 / 255)
    assert sample.windows.shape == (4, 5, 2, 3)
    assert sample.lips[0, 5, 3] == 1 and sample.lips[0, 0, 0] == 0


def test_a_file_that_is_no_list_is_refused(tmp_path, tiny_vae):
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no list of videos"):
        prepare_hallo([tmp_path / "meta.json"], tmp_path / "out", (SIDE, SIDE), tiny_vae)
    with pytest.raises(FileNotFoundError, match="no list"):
        prepare_hallo([tmp_path / "none.json"], tmp_path / "out", (SIDE, SIDE), tiny_vae)
