"""Weight files: damaged ones, disguised ones, ones that would run code; writing whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from singer_core import weights
from singer_core.audio.wav2vec2 import load_wav2vec2
from singer_core.cli.batch import read_jobs
from singer_core.files import file_hash
from singer_core.network.autoencoder import load_autoencoder
from singer_core.training.config import read_config
from singer_core.weights import WeightFile, open_weights, save_weights

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.float16)}


@pytest.fixture(params=[".safetensors", ".pth"])
def file(request, tmp_path) -> Path:
    path = tmp_path / f"net{request.param}"
    (save_file if request.param == ".safetensors" else torch.save)(STATE, path)
    return path


def test_shapes_types_and_values_are_those_stored(file):
    opened = open_weights(file)
    assert opened.shapes == {"a.weight": (2, 3), "b": (4,)}
    assert opened.dtypes == {"a.weight": torch.float32, "b": torch.float16}
    for key, value in STATE.items():
        assert torch.equal(opened.tensor(key), value)


def test_tensors_of_another_type_leave_the_pages_of_their_file(file, monkeypatch):
    monkeypatch.setattr(weights, "PIECE_BYTES", 8)
    opened, times = open_weights(file), []

    def anew() -> WeightFile:
        times.append(again())
        return times[-1]

    again = opened.anew
    moved = dict(dataclasses.replace(opened, anew=anew).moved(STATE, torch.float64))
    assert all(torch.equal(value, STATE[key].double()) for key, value in moved.items())
    assert len(times) == 1  # 24 bytes, then 8
    kept = dict(opened.moved(["b"], torch.float16))["b"]
    assert kept.data_ptr() == opened.tensor("b").data_ptr()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*nothing\.pth"):
        open_weights(tmp_path / "nothing.pth")


def test_a_training_checkpoint_gives_its_weights_where_that_is_asked_for(tmp_path):
    torch.save({"epoch": 3, "state_dict": {**STATE, "step": 5}}, tmp_path / "last.ckpt")
    opened = open_weights(tmp_path / "last.ckpt", within=("state_dict",))
    assert opened.shapes == {"a.weight": (2, 3), "b": (4,)}
    with pytest.raises(RuntimeError, match="no state dict: it holds 'epoch': int"):
        open_weights(tmp_path / "last.ckpt")


@pytest.mark.parametrize("kept", [0, 1, 7, 9, 100, -1, -20])
def test_a_truncated_file_is_damaged(file, kept):
    content = file.read_bytes()
    file.write_bytes(content[:kept])
    with pytest.raises(RuntimeError, match=r"net\.\w+ .*(damaged|plain tensors)"):
        open_weights(file)


def test_a_file_that_claims_to_span_disks_is_damaged(tmp_path):
    torch.save(STATE, tmp_path / "net.pth")
    content = bytearray((tmp_path / "net.pth").read_bytes())
    content[content.rindex(b"PK\x06\x07") + 16] = 2  # of the locator: how many disks there are
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(RuntimeError, match=r"net\.pth .*damaged.* span"):
        open_weights(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (load_autoencoder, "config.json"),
        (load_wav2vec2, "config.json"),
        (lambda folder: read_config(folder / "run.toml"), "run.toml"),
        (lambda folder: read_jobs(folder / "jobs.jsonl"), "jobs.jsonl"),
    ],
)
def test_settings_that_are_not_utf_8_are_named(tmp_path, read, name):
    torch.save(STATE, tmp_path / "pytorch_model.bin")
    (tmp_path / name).write_bytes('{"näme": 1}'.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"{name}.* is no UTF-8 text: byte 3 is 0xe4\. Save it as UTF-8"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"\n  <html>", "web page"),
        (b"\x80\x02}q\x00.", "no state dict|damaged"),
        (b"hello, this is no checkpoint at all", "no checkpoint: it begins with b'hello, t'"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "no checkpoint: .*PNG"),
        (bytes(1000), r"\(1,000 bytes\) is damaged, or no checkpoint"),
        (b"PK\x03\x04 a zip of something else", "damaged"),
        (b"\x80\x02hello, this is no pickle at all", "damaged|no file of plain tensors"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path, content, said):
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match=said) as error:
        open_weights(path)
    assert "\n" not in str(error.value)


class Evil:
    """Unpickling it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_does_not_run(tmp_path, zipped):
    path, target = tmp_path / "net.pth", tmp_path / "broken_into"
    torch.save({"a": Evil(target)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(RuntimeError, match=r"no file of plain tensors.*refused.*safetensors"):
        open_weights(path)
    assert not target.exists()


def test_a_plain_pickle_with_code_does_not_run(tmp_path):
    path, target = tmp_path / "net.pth", tmp_path / "broken_into"
    path.write_bytes(pickle.dumps(Evil(target)))
    with pytest.raises(RuntimeError, match=r"net\.pth"):
        open_weights(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"state_dict": STATE, "epoch": 3}, "'state_dict': dict"),
        ({"a": torch.ones(1), "epoch": 3}, "'epoch': int"),
        ([torch.ones(1)], "list"),
        (torch.ones(1), "Tensor"),
    ],
)
def test_a_file_that_is_no_state_dict_says_what_it_holds(tmp_path, content, said):
    path = tmp_path / "net.pth"
    torch.save(content, path)
    with pytest.raises(RuntimeError, match=f"no state dict.*{said}"):
        open_weights(path)


def test_joined_files_keep_their_tensors_apart(file):
    opened = open_weights(file)
    both = WeightFile.joined(file.parent, {"one.": opened, "two.": opened})
    assert set(both.shapes) == {"one.a.weight", "one.b", "two.a.weight", "two.b"}
    assert torch.equal(both.tensor("two.a.weight"), STATE["a.weight"])
    assert both.dtypes["one.b"] == torch.float16


def test_saved_weights_come_back_with_their_metadata(tmp_path):
    path = tmp_path / "out.safetensors"
    save_weights(
        path, [(key, value.mT if value.ndim > 1 else value) for key, value in STATE.items()], {"x": "y"}
    )
    assert torch.equal(load_file(path)["a.weight"], STATE["a.weight"].mT)
    assert open_weights(path).metadata == {"format": "pt", "x": "y"}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "out.safetensors"
    save_weights(path, STATE.items(), {})
    before = path.read_bytes()

    def failing():
        yield from STATE.items()
        raise ValueError("disk full")

    with pytest.raises(ValueError, match="disk full"):
        save_weights(path, failing(), {})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out.safetensors"]


def test_the_hash_is_sha_256_of_the_file_and_of_a_folder_in_name_order(tmp_path):
    (tmp_path / "b").write_bytes(b"two")
    (tmp_path / "a").write_bytes(b"one")
    assert file_hash(tmp_path / "a") == hashlib.sha256(b"one").hexdigest()
    assert file_hash(tmp_path) == hashlib.sha256(b"onetwo").hexdigest()


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX file modes")
def test_a_written_file_can_be_read_by_whom_the_umask_lets(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    save_weights(tmp_path / "x.safetensors", [("a", torch.zeros(2))], {})
    assert (tmp_path / "x.safetensors").stat().st_mode == plain.stat().st_mode
