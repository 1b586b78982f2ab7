"""Fetching files from a server of our own that speaks as Hugging Face does."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import shutil
from types import SimpleNamespace

import pytest
from hub import Hub

from singer_core import downloads
from singer_core.audio.separation import SEPARATORS
from singer_core.cli import main
from singer_core.downloads import CACHE, FILES, download, find_file

DATA = bytes(range(256)) * 4_000  # 1 MB
NET = "yl2333/SINGER/net.pth"


@pytest.fixture
def hub(monkeypatch):
    with Hub({NET: DATA}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)
        yield server


class StoppedError(Exception):
    """What a cancelled run raises."""


def stop_at(part: float):
    def report(done: float) -> None:
        if done >= part:
            raise StoppedError

    return report


def test_a_file_arrives_under_its_plain_name_and_alone(hub, tmp_path):
    seen: list[float] = []
    path = download("singer", tmp_path / "singer", seen.append)
    assert path == tmp_path / "singer" / "net.pth" and path.read_bytes() == DATA
    assert [p.name for p in path.parent.iterdir()] == ["net.pth"]
    assert seen == sorted(seen) and seen[-1] == 1.0


def test_a_broken_off_download_goes_on_where_it_stopped(hub, tmp_path):
    with pytest.raises(StoppedError):
        download("singer", tmp_path, stop_at(0.5))
    (part,) = tmp_path.iterdir()
    kept = part.stat().st_size
    assert part.suffix == ".part" and 0.5 * len(DATA) <= kept < len(DATA)
    assert DATA.startswith(part.read_bytes())
    assert download("singer", tmp_path).read_bytes() == DATA
    assert hub.ranges() == [None, f"bytes={kept}-"]
    assert not part.exists()


def test_a_connection_that_breaks_once_is_picked_up_in_the_same_call(hub, tmp_path):
    hub.break_at = 300_000
    assert download("singer", tmp_path).read_bytes() == DATA
    first, second = hub.ranges()
    assert first is None and second is not None and int(second[6:-1]) <= 300_000


def test_a_server_that_sends_nothing_is_given_up(hub, monkeypatch, tmp_path):
    hub.down = True
    monkeypatch.setattr("time.sleep", lambda _seconds: None)  # between the hub's own tries
    with pytest.raises(ConnectionError, match="what has arrived is kept"):
        download("singer", tmp_path)
    assert len(hub.ranges()) < 20


def test_a_large_file_comes_from_another_host_which_gets_no_login(hub, monkeypatch, tmp_path):
    hub.cdn = True
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(StoppedError):
        download("singer", tmp_path, stop_at(0.5))
    assert download("singer", tmp_path).read_bytes() == DATA
    assert set(hub.logins) == {("hub", "Bearer hf_secret"), ("cdn", None)}
    assert hub.ranges()[1] is not None


def test_a_part_of_another_version_is_not_continued(hub, tmp_path):
    with pytest.raises(StoppedError):
        download("singer", tmp_path, stop_at(0.5))
    hub.files[NET] = DATA[::-1]
    assert download("singer", tmp_path).read_bytes() == DATA[::-1]
    assert hub.ranges() == [None, None]


def test_a_whole_part_needs_no_further_request(hub, tmp_path):
    with pytest.raises(StoppedError):
        download("singer", tmp_path, stop_at(1.0))
    assert download("singer", tmp_path).read_bytes() == DATA
    assert hub.ranges() == [None]


def test_damaged_data_never_gets_the_files_name(hub, tmp_path):
    hub.etags[NET] = hashlib.sha256(b"what was uploaded").hexdigest()
    with pytest.raises(RuntimeError, match=r"arrived damaged.*fetch it again"):
        download("singer", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def known(monkeypatch):
    """The file as if its hash were known here."""
    file = dataclasses.replace(FILES["singer"], sha256=hashlib.sha256(DATA).hexdigest())
    monkeypatch.setitem(downloads.FILES, "singer", file)


def test_a_repository_that_changed_is_reported_before_anything_is_fetched(hub, known, tmp_path):
    hub.files[NET] = b"another network"
    with pytest.raises(RuntimeError, match=r"now holds another net.pth .*Nothing was fetched"):
        download("singer", tmp_path)
    assert hub.ranges() == [] and not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_kept_without_a_request(hub, known, tmp_path):
    (tmp_path / "net.pth").write_bytes(DATA)
    assert download("singer", tmp_path) == tmp_path / "net.pth"
    assert hub.asked == []


@pytest.mark.usefixtures("hub")
def test_a_file_that_is_there_is_checked_and_never_overwritten(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"mine")
    with pytest.raises(RuntimeError, match=r"exists but is another file.*Move it away"):
        download("singer", tmp_path)
    assert (tmp_path / "net.pth").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        ((404, "EntryNotFound"), FileNotFoundError, "has no yl2333/SINGER/net.pth .*HTTP 404"),
        ((404, "RepoNotFound"), FileNotFoundError, "moved or is no longer public"),
        ((401, ""), PermissionError, "HTTP 401.*https://huggingface.co/yl2333/SINGER, log in"),
        ((403, "GatedRepo"), PermissionError, "HTTP 403.*Accept them on"),
        ((500, ""), ConnectionError, "could not be fetched|HTTP 500"),
    ],
)
def test_what_the_server_refuses_is_one_error_with_a_remedy(hub, tmp_path, status, kind, words):
    hub.status[NET] = status
    with pytest.raises(kind, match=words):
        download("singer", tmp_path)
    assert not list(tmp_path.iterdir())


def test_offline_says_how_to_get_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ConnectionError, match=r"127.0.0.1:1.*by hand from https://hugg.*/singer as net.pth"):
        download("singer", tmp_path / "singer")


def test_offline_a_file_that_is_there_is_kept_with_a_warning(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    (tmp_path / "net.pth").write_bytes(DATA)
    assert download("singer", tmp_path) == tmp_path / "net.pth"
    assert "net.pth is kept, but could not be checked" in caplog.text


def test_a_disk_without_room_is_told_before_the_download(hub, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"no room for net.pth \(4.85 GB\).*Make room"):
        download("singer", tmp_path)
    assert hub.ranges() == []


@pytest.mark.usefixtures("hub")
def test_a_disk_that_fills_up_keeps_what_has_arrived(tmp_path):
    def full(done: float) -> None:
        if done > 0.5:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="what has arrived is kept"):
        download("singer", tmp_path, full)
    assert download("singer", tmp_path).read_bytes() == DATA


def test_a_file_that_is_not_on_the_hub_is_named_not_fetched(hub, tmp_path):
    with pytest.raises(ValueError, match=r"not on Hugging Face.*Get it from https://download.pytorch.org"):
        download("hdemucs", tmp_path)
    assert hub.asked == []


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ValueError, match="no file 'wav2vec'; the nearest name is 'wav2vec2-base-960h'"):
        find_file("wav2vec")


def test_what_separates_is_listed_and_goes_into_its_folder():
    listed = {name for name, file in FILES.items() if file.folder == "audio_separation"}
    assert listed == {"kim-vocal-2", "mel-band-roformer", "hdemucs"}
    assert [kind.file for kind in SEPARATORS.values() if kind] == [
        FILES[name] for name in ("hdemucs", "kim-vocal-2", "mel-band-roformer")
    ]


def test_files_go_where_comfyui_looks():
    folders = {"singer", "vae", "audio_encoders", "detection", "insightface", "audio_separation"}
    assert {file.folder for file in FILES.values()} == folders
    places = [(file.folder, file.target) for file in FILES.values()]
    assert len(set(places)) == len(places)


def test_the_command_lists_without_a_request(hub, capsys):
    assert main(["download"]) == 0
    said = capsys.readouterr().out
    for name, file in FILES.items():
        assert name in said and file.size in said and file.terms in said and (file.sha256 or "") in said
        assert str(CACHE / file.folder / file.target) in said
    assert hub.asked == []


def test_the_command_fetches_what_is_named(hub, tmp_path, capsys):
    assert main(["download", "singer", "--dir", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "singer" / "net.pth")
    assert "terms: none stated" in said.err
    assert (tmp_path / "singer" / "net.pth").read_bytes() == DATA


@pytest.mark.usefixtures("hub")
def test_a_wrong_name_stops_the_command_before_the_first_download(tmp_path, capsys):
    assert main(["download", "singer", "halo", "--dir", str(tmp_path)]) == 2
    assert "nearest name is 'hallo'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
