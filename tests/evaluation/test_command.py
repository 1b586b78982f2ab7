"""`singer evaluate`: reports, exit status, bad input."""

from __future__ import annotations

import json
import re

import pytest
import torch

from singer_core.cli import main


@pytest.fixture(scope="module")
def video(clean, tmp_path_factory):
    return clean.write(tmp_path_factory.mktemp("command") / "sung.mp4")


def test_the_report_holds_the_numbers_in_text_json_and_html(video, tmp_path, capsys):
    options = ["--lip-box", "28,52,68,92", "--reference", str(video)]
    reports = ["--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    assert main(["evaluate", str(video), *options, *reports, "--weights", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "Nothing looks wrong." in said.out
    assert re.search(r"mouth against vocal level, best lag +1\.000", said.out)
    assert f"fid: put inception-2015-12-05.pt (Inception of the FID authors) in {tmp_path}" in said.out
    assert "singer: warning: not computed for lack of a file or package" in said.err
    [found] = json.loads((tmp_path / "r.json").read_text())["videos"]
    assert found["metrics"]["psnr"] == {"value": 100.0, "unit": "dB, range 255", "better": "higher"}
    assert len(found["curves"]["opening"]) == found["frames"] == 128
    page = (tmp_path / "r.html").read_text()
    assert page.count("data:image/png;base64,") == 2  # curves and contact sheet
    assert not re.search(r"(src|href)=['\"](?!data:)", page)  # nothing is fetched
    assert "0.64 (paper)" in page and "1.15 to 1.53" in page


def test_strict_fails_where_weights_are_lacking(video, tmp_path, capsys):
    assert main(["evaluate", str(video), "--strict", "--weights", str(tmp_path)]) == 3
    assert "lse_c" in capsys.readouterr().err


def test_two_videos_of_one_name_are_compared_by_their_folders(video, tmp_path, capsys):
    page, other = tmp_path / "r.html", tmp_path / "other" / video.name
    other.parent.mkdir()
    other.symlink_to(video)
    assert main(["evaluate", str(video), str(other), "--html", str(page)]) == 0
    said, names = capsys.readouterr().out, (f"{video.parent.name}/sung.mp4", "other/sung.mp4")
    for name in names:
        assert f"<h2>{name}</h2>" in page.read_text() and f"{name}: 128 frames" in said
    row = "<td>colour drift, first to last clip, grey levels</td><td class='quiet'>near 0</td>"
    assert re.search(rf"{row}(<td class='value'>-?\d\.\d\d</td>){{2}}</tr>", page.read_text())


def test_without_matplotlib_the_report_says_so(video, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["evaluate", str(video), "--html", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert "No plots: Plotting needs matplotlib" in page and page.count("base64") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--lip-box", "200,0,300,50"], "does not lie in the picture of 96 x 96"),
        (["--clip-frames", "1"], "`clip_frames` is 1"),
        (["--landmarks", "absent.json"], "No landmark file at absent.json"),
        (["--vocals", "absent.wav"], "There is no file absent.wav"),
        (["--reference", "absent.mp4"], "There is no file absent.mp4"),
        (["--reference", "absent.png"], "No picture at absent.png"),
        (["--reference-landmarks", "x.json"], "belong to a reference"),
        (["--json", "absent/r.json"], "there is no folder absent"),
        (["--device", "moon"], "--device moon cannot be used"),
        (["--fps", "0"], "`fps` is 0"),
    ],
)
def test_bad_input_is_one_line(video, options, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(video), *options]) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("singer: error: ") and error.count("\n") == 1


def test_landmarks_of_another_video_are_refused(video, tmp_path, capsys):
    track = tmp_path / "track.json"
    frames = [(torch.rand(478, 2) * 96).tolist()] * 100
    track.write_text(json.dumps({"size": [96, 96], "frames": frames}), encoding="utf-8")
    assert main(["evaluate", str(video), "--landmarks", str(track)]) == 2
    assert "landmarks are of 100 frames, sung.mp4 has 128" in capsys.readouterr().err
