"""The node that fetches files, in a running ComfyUI and against a hub of our own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hub import Hub

DATA = bytes(range(256)) * 4_000  # 1 MB
NET = "yl2333/SINGER/net.pth"


@pytest.fixture
def hub(monkeypatch):
    with Hub({NET: DATA}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)
        yield server


@pytest.fixture
def node(core, pack):
    return pack("download").SingerDownload


@pytest.fixture
def models(core, monkeypatch, tmp_path) -> Path:
    """Two folders of ComfyUI for networks: the first is where new files go."""
    import folder_paths

    places = ([str(tmp_path / "singer"), str(tmp_path / "shared")], {".pth", ".safetensors"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "singer", places)
    return tmp_path


def test_nothing_is_fetched_before_the_terms_are_accepted(node, hub, models):
    with pytest.raises(ValueError, match=r"`accept_terms` is off.*4.85 GB.*terms: none stated. Read https"):
        node.execute("singer", False)
    assert hub.asked == [] and not list(models.iterdir())


def test_a_file_lands_where_the_loader_looks(node, hub, models, pack):
    (path,) = node.execute("singer", True).result
    assert Path(path) == models / "singer" / "net.pth" and Path(path).read_bytes() == DATA
    assert pack("folders").checkpoint_path("net.pth") == path


def test_a_file_in_another_folder_of_its_kind_is_kept(node, hub, models):
    (models / "shared").mkdir()
    (models / "shared" / "net.pth").write_bytes(DATA)
    (path,) = node.execute("singer", True).result
    assert Path(path) == models / "shared" / "net.pth"
    assert hub.ranges() == []


def test_cancelling_keeps_what_has_arrived_and_the_next_run_goes_on(node, hub, models, monkeypatch):
    import comfy.model_management as mm

    looks: list[int] = []

    def third_look() -> None:
        looks.append(1)
        if len(looks) == 3:
            raise mm.InterruptProcessingException

    monkeypatch.setattr(mm, "throw_exception_if_processing_interrupted", third_look)
    with pytest.raises(mm.InterruptProcessingException):
        node.execute("singer", True)
    (path,) = node.execute("singer", True).result
    assert Path(path).read_bytes() == DATA
    assert hub.ranges()[1] is not None and [p.name for p in Path(path).parent.iterdir()] == ["net.pth"]


def test_progress_goes_to_the_editor(node, hub, models, monkeypatch):
    import comfy.utils

    seen: list[float] = []
    bar = SimpleNamespace(update_absolute=lambda value, *_rest: seen.append(value))
    monkeypatch.setattr(comfy.utils, "ProgressBar", lambda _total: bar)
    node.execute("singer", True)
    assert len(seen) > 5 and seen == sorted(seen) and seen[-1] == 1000


def test_a_refused_file_is_explained_in_the_node(node, hub, models):
    hub.status[NET] = (403, "GatedRepo")
    with pytest.raises(PermissionError, match=r"Accept them on https://huggingface.co/yl2333/SINGER"):
        node.execute("singer", True)


def test_a_deleted_file_is_fetched_again(node, hub, models):
    before = node.fingerprint_inputs("singer", True)
    (path,) = node.execute("singer", True).result
    there = node.fingerprint_inputs("singer", True)
    Path(path).unlink()
    assert there != before == node.fingerprint_inputs("singer", True)


def test_only_files_that_can_be_fetched_are_offered(node, pack):
    from singer_core.downloads import FILES

    offered = set(pack("download").NAMES)
    assert offered == set(FILES) - {"hdemucs"}
    (combo,) = (i for i in node.define_schema().inputs if i.id == "file")
    assert set(combo.options) == offered
