"""Clips on disk: whole or not there, only for the same inputs, and gone when they are not needed."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys
import time
from fractions import Fraction

import pytest
import torch

from singer_core.render import store as stores
from singer_core.render.store import ClipStore, chained, clean, fingerprint, work_folder
from singer_core.settings import OFFICIAL

KEY = fingerprint("a render")
CLIP = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def opened(root, key=KEY, clips=3) -> ClipStore:
    return ClipStore(root, key, chained(key, range(clips)))


def filled(root, key=KEY, clips=3) -> ClipStore:
    with opened(root, key, clips) as store:
        for index in range(clips):
            store.save(index, CLIP + index)
    return store


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_was_saved_is_loaded_bit_for_bit(tmp_path, dtype):
    latents = CLIP.to(dtype).transpose(0, 1)  # not contiguous
    with opened(tmp_path) as store:
        store.save(1, latents)
    with opened(tmp_path) as store:
        again = store.load(1)
        assert again.dtype == dtype
        assert torch.equal(again, latents)
        assert store.load(0) is None
    assert sorted(path.name for path in store.folder.iterdir()) == [store.path(1).name, "lock"]


def test_a_file_takes_little_more_than_its_latents(tmp_path):
    store = filled(tmp_path)
    assert store.path(0).stat().st_size < CLIP.nbytes + 400


@pytest.mark.parametrize("where", ["head", "metadata", "data", "end", "empty"])
def test_a_damaged_file_is_told_removed_and_nothing_else_is(tmp_path, caplog, where):
    store = filled(tmp_path)
    content = bytearray(store.path(1).read_bytes())
    if where == "end":
        content = content[:-100]
    elif where == "empty":
        content = bytearray()
    else:
        at = {"head": 3, "metadata": content.index(b"sha256") + 12, "data": len(content) - 9}[where]
        content[at] ^= 1
    store.path(1).write_bytes(content)
    with opened(tmp_path) as store:
        assert store.finished() == 1
        assert "Clip 2 of the earlier run is damaged" in caplog.text
        assert not store.path(1).exists()
        assert torch.equal(store.load(2), CLIP + 2)


@pytest.mark.parametrize("origin", ["another clip", "another render"])
def test_a_whole_file_in_the_wrong_place_is_damaged(tmp_path, origin):
    store = filled(tmp_path)
    other = filled(tmp_path, fingerprint("another")).path(1) if "render" in origin else store.path(0)
    store.path(1).write_bytes(other.read_bytes())
    assert store.load(1) is None


def test_finished_counts_up_to_the_first_gap(tmp_path):
    store = filled(tmp_path, clips=4)
    assert store.finished() == 4
    store.path(2).unlink()
    assert store.finished() == 2


def test_a_render_whose_folder_is_deleted_under_it_goes_on(tmp_path):
    with opened(tmp_path / "work") as store:
        store.save(0, CLIP)
        for path in (*store.folder.iterdir(), store.folder, store.folder.parent):
            path.rmdir() if path.is_dir() else path.unlink()
        assert store.load(0) is None
        store.save(1, CLIP)
        assert torch.equal(store.load(1), CLIP)


def full_disk(_descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_names_the_space_and_keeps_the_finished_clips(tmp_path, monkeypatch):
    with opened(tmp_path, clips=11) as store:
        store.save(0, CLIP)
        monkeypatch.setattr(os, "fsync", full_disk)
        with pytest.raises(
            OSError, match=r"is full \(.*B free\): clip 2 of 11 takes [1-9]\d* KB, .*1 finished"
        ) as said:
            store.save(1, CLIP)
        assert said.value.errno == errno.ENOSPC
        assert str(store.folder) in str(said.value)
        assert sorted(path.name for path in store.folder.iterdir()) == [store.path(0).name, "lock"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder in which even root cannot create a file")
def test_a_folder_that_cannot_be_written_to_is_refused():
    with pytest.raises(PermissionError, match="cannot be kept in /proc/singer"), opened("/proc/singer"):
        pass


HOLD = """
import sys, pathlib
from singer_core.render.store import ClipStore
with ClipStore(pathlib.Path(sys.argv[1]), sys.argv[2], []):
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def neighbour(tmp_path):
    """Another process that has the render open."""
    command = [sys.executable, "-c", HOLD, str(tmp_path), KEY]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"open\n"
    yield process
    process.kill()
    process.communicate()


def test_the_process_that_ends_last_removes_the_render(tmp_path, neighbour):
    with opened(tmp_path) as store:
        store.save(0, CLIP)
        store.remove()
        assert torch.equal(store.load(0), CLIP)
    assert clean(tmp_path, days=0, gigabytes=0) == []
    neighbour.kill()  # as a crash would: its lock ends with it
    neighbour.wait()
    with opened(tmp_path) as store:
        store.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_half_wrote_goes_when_nobody_else_is_there(tmp_path, neighbour):
    store = filled(tmp_path)
    left = store.folder / ".clip-000002-0123456789ab.safetensors"
    left.write_bytes(b"half")
    with opened(tmp_path):
        assert left.exists()  # it might be the neighbour's
    neighbour.kill()
    neighbour.wait()
    with opened(tmp_path):
        assert not left.exists()
    assert store.finished() == 3


def age(store: ClipStore, days: float) -> None:
    then = time.time() - days * 86_400
    for path in (*store.folder.iterdir(), store.folder):
        os.utime(path, (then, then))


def test_old_clips_go_and_then_the_oldest_of_too_many(tmp_path):
    renders = [filled(tmp_path, fingerprint(name)) for name in "abcd"]
    for store, days in zip(renders, (9, 3, 2, 1), strict=True):
        age(store, days)
    size = sum(path.stat().st_size for path in renders[3].folder.iterdir())
    assert clean(tmp_path / "nowhere") == []
    assert clean(tmp_path) == [renders[0].folder]
    assert clean(tmp_path) == []
    assert clean(tmp_path, gigabytes=2 * size / 1e9) == [renders[1].folder]
    assert renders[2].finished() == renders[3].finished() == 3


def test_in_a_folder_at_work_old_clips_of_others_go_and_those_that_are_wanted_stay(tmp_path):
    store, other = filled(tmp_path), fingerprint("another song of the same singer")
    with ClipStore(tmp_path, KEY, chained(other, range(2))) as second:
        second.save(0, CLIP)
    age(store, 1)
    with opened(tmp_path):
        assert clean(tmp_path, gigabytes=0) == []
        assert store.finished() == 3 and second.finished() == 1
    age(store, 9)
    with second:
        clean(tmp_path)
        assert store.finished() == 0 and second.finished() == 1


def test_a_clip_has_the_same_key_wherever_it_follows_the_same_clips():
    keys = chained(KEY, "abcd")
    assert len({*keys, *chained(fingerprint("other"), "abcd")}) == 8
    assert chained(KEY, "abxd")[:2] == keys[:2] and not {*chained(KEY, "abxd")[2:]} & {*keys}
    assert chained(KEY, "cd", keys[1]) == keys[2:]


def test_cleaning_touches_nothing_that_is_not_a_render(tmp_path):
    store = filled(tmp_path)
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "clip-000000.safetensors").write_text("mine")
    (store.folder / "notes.txt").write_text("mine too")
    assert clean(tmp_path, days=-1) == [store.folder]
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == sorted(
        ["holiday/clip-000000.safetensors", f"{store.folder.name}/notes.txt"]
    )


def test_renders_are_kept_in_the_chosen_or_the_temporary_folder(tmp_path, monkeypatch):
    assert work_folder(tmp_path / "mine") == tmp_path / "mine"
    monkeypatch.setattr(stores.tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert work_folder().parent == tmp_path
    assert list(tmp_path.iterdir()) == []


VALUES = [
    None, True, 1, 1.0, "1", b"1", "", [], {}, [1], ["1"], [[1]], [1, 1], {"a": 1}, {"b": 1}, {"a": "1"},
    Fraction(1, 2), torch.float16, torch.device("cpu"), OFFICIAL, OFFICIAL.but(steps=7),
    torch.zeros(2), torch.zeros(2, dtype=torch.float64), torch.zeros(1, 2), torch.zeros(0), torch.tensor(0.0),
    torch.tensor([0.0, -0.0]), torch.zeros(2, dtype=torch.bfloat16), torch.nn.Linear(1, 1), torch.nn.ReLU(),
]  # fmt: skip


def test_values_have_one_fingerprint_each():
    assert len({fingerprint(value) for value in VALUES}) == len(VALUES)
    assert [fingerprint(value) for value in VALUES] == [fingerprint(value) for value in VALUES]
    assert fingerprint("a", "bc") != fingerprint("ab", "c") != fingerprint(["a", "bc"])


def test_fingerprints_see_content_and_not_where_it_lies():
    values = torch.arange(12.0).view(3, 4)
    assert fingerprint(values) == fingerprint(values.T.clone().T) != fingerprint(values.T)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint(OFFICIAL) == fingerprint(dataclasses.replace(OFFICIAL))
    one, other = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    assert fingerprint(one) != fingerprint(other)
    other.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(other)


def test_blocks_of_a_large_tensor_all_count(monkeypatch):
    values = torch.zeros(100)
    whole = fingerprint(values)
    monkeypatch.setattr(stores, "_BLOCK", 7)
    assert fingerprint(values) == whole
    for place in (0, 6, 7, 99):
        changed = values.clone()
        changed[place] = 1
        assert fingerprint(changed) != whole


def test_what_has_no_fingerprint_is_refused():
    with pytest.raises(TypeError, match="object has no fingerprint"):
        fingerprint([object()])
