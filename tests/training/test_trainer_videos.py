"""Preparing a folder of videos: what is stored, what is skipped and why, what is not done twice."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from singer_core.audio.logmel import LogMelFrontEnd
from singer_core.audio.waveform import Waveform, write_wave
from singer_core.ffmpeg import ffmpeg_program
from singer_core.portrait.detection import DetectedFace, from_boxes
from singer_core.render.video import VideoWriter
from singer_core.training.dataset import ClipDataset
from singer_core.training.tracking import track_face
from singer_core.training.videos import REPORT, VideoSettings, frames_at, prepare_videos

FACE, LIPS = (24, 16, 72, 88), np.array([[40, 60], [56, 60], [56, 70], [40, 70]], np.float32)
SETTINGS = VideoSettings(size=(64, 64), shortest=8, stride=4)
GREY = 120


def find_faces(picture: Image.Image) -> list[DetectedFace]:
    """A face where the picture is not black."""
    if np.asarray(picture).max() < 30:
        return []
    return [DetectedFace(from_boxes(FACE, LIPS), torch.ones(5), 1.0)]


def video(path: Path, frames: int = 20, fps: float = 25.0, level: int = GREY, sound: bool = True) -> Path:
    wave = path.with_suffix(".wav")
    write_wave(wave, Waveform(torch.sin(torch.arange(16000) / 9)[None], 16000))
    with VideoWriter(path, (96, 96), fps, frames=frames, audio=wave if sound else None) as writer:
        writer.write(torch.full((frames, 3, 96, 96), level / 255))
    wave.unlink()
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    video(folder / "good.mp4")
    video(folder / "fast.mp4", frames=24, fps=50.0)
    video(folder / "short.mp4", frames=5)
    video(folder / "silent.mp4", sound=False)
    video(folder / "black.mp4", level=0)
    (folder / "broken.mp4").write_bytes(b"not a video at all" * 50)
    (folder / "notes.txt").write_text("not looked at")
    return folder


@pytest.fixture(scope="module")
def prepared(source, tiny_vae, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    target = tmp_path_factory.mktemp("prepared")
    return target, prepare_videos(source, target, SETTINGS, tiny_vae, LogMelFrontEnd(2, 4), find_faces)


def test_unusable_videos_are_skipped_with_the_reason(prepared):
    target, report = prepared
    assert {name for name, words in report.items() if words == "ready"} == {"good.mp4", "fast.mp4"}
    assert "no sound" in report["silent.mp4"]
    assert "5 frames at 25 fps; 8 are needed" in report["short.mp4"]
    assert "face was found in 0 of 5" in report["black.mp4"]
    assert "broken.mp4" in report and "notes.txt" not in report
    assert json.loads((target / REPORT).read_text()) == report


def test_frames_features_and_boxes_belong_together(prepared):
    found = load_file(prepared[0] / "good.mp4.safetensors")
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "latents": (20, 4, 8, 8),
        "features": (20, 2, 4),
        "boxes": (20, 2, 4),
        "thumbnails": (20, 3, 8, 8),
        "grey": (4, 8, 8),
        "identity": (5,),
        "portraits": (8, 3, 64, 64),
        "portrait_frames": (8,),
    }
    assert found["portrait_frames"].tolist() == [0, 3, 5, 8, 11, 14, 16, 19]
    assert (found["portraits"].int() - GREY).abs().max() <= 4
    assert (found["thumbnails"].int() - GREY).abs().max() <= 4
    face, lips = found["boxes"][7].tolist()
    assert 0 <= face[0] < lips[0] < lips[2] < face[2] <= 64
    assert (face[3] - face[1]) / (face[2] - face[0]) == pytest.approx(72 / 48, rel=0.1)
    assert ClipDataset(prepared[0], 4, 2).items[0].frames in (12, 20)


def test_other_frame_rates_are_brought_to_the_networks(source, prepared):
    assert len(load_file(prepared[0] / "fast.mp4.safetensors")["latents"]) == 12
    assert len(list(frames_at(source / "fast.mp4", 25.0, (96, 96)))) == 12


@pytest.fixture
def two_rates(tmp_path) -> Path:
    """A second at 10 frames a second, then one at 50; a frame's grey level is 100 x its time + 20."""
    parts = []
    for index, fps in enumerate((10, 50)):
        part = tmp_path / f"{fps}.mp4"
        with VideoWriter(part, (96, 96), fps, frames=fps) as writer:
            levels = 20 + 100 * (index + torch.arange(fps) / fps)
            writer.write((levels / 255)[:, None, None, None].expand(-1, 3, 96, 96))
        parts += ["-i", str(part)]
    wave = write_wave(tmp_path / "s.wav", Waveform(torch.sin(torch.arange(32000) / 9)[None], 16000))
    target = tmp_path / "two.mp4"
    joined = ["-filter_complex", "[0:v][1:v]concat=n=2:v=1[v]", "-map", "[v]", "-map", "2:a"]
    command = [ffmpeg_program(), "-v", "error", *parts, "-i", str(wave), *joined]
    subprocess.run([*command, "-fps_mode", "vfr", str(target)], check=True)
    return target


def test_variable_frame_rate_is_read_at_the_right_times(two_rates, tiny_vae, tmp_path):
    frames = np.stack(list(frames_at(two_rates, 25.0, (96, 96))))
    assert abs(len(frames) - 50) <= 1
    times = (frames.mean((1, 2, 3)) - 20) / 100
    expected = np.arange(len(frames)) / 25
    assert np.abs(times - expected)[:25].max() <= 0.1 + 0.02  # one frame of the slow half
    assert np.abs(times - expected)[26:].max() <= 0.04 + 0.02
    report = prepare_videos(
        two_rates.parent, tmp_path / "out", SETTINGS, tiny_vae, LogMelFrontEnd(2, 4), find_faces
    )
    assert report["two.mp4"] == "ready"
    found = load_file(tmp_path / "out" / "two.mp4.safetensors")
    assert abs(len(found["latents"]) - 50) <= 1 and len(found["features"]) == len(found["latents"])


def test_pictures_serve_a_network_that_is_shown_the_portrait(prepared):
    data = ClipDataset(prepared[0], 4, 2, locator_input="portrait")
    sample = data.clip(data.items[0], 2, data.items[0].portraits[1])
    assert sample.shown.shape == (3, 64, 64)
    assert float((sample.shown - (GREY / 127.5 - 1)).abs().max()) < 0.05


def test_what_is_prepared_is_not_prepared_again(source, prepared, tiny_vae):
    target = prepared[0]
    stamps = {path.name: path.stat().st_mtime_ns for path in target.glob("*.safetensors")}

    def unwanted(picture: Image.Image) -> list[DetectedFace]:
        return []

    (target / "fast.mp4.safetensors").rename(target / "kept")
    again = prepare_videos(source, target, SETTINGS, tiny_vae, LogMelFrontEnd(2, 4), unwanted)
    (target / "kept").rename(target / "fast.mp4.safetensors")
    assert again["good.mp4"] == "ready" and "face was found in 0" in again["fast.mp4"]
    assert stamps["good.mp4.safetensors"] == (target / "good.mp4.safetensors").stat().st_mtime_ns


def test_another_front_end_needs_another_folder(source, prepared, tiny_vae):
    with pytest.raises(ValueError, match="made with other settings"):
        prepare_videos(source, prepared[0], SETTINGS, tiny_vae, LogMelFrontEnd(3, 4), find_faces)


def test_a_folder_without_videos_is_an_error(tmp_path, tiny_vae):
    with pytest.raises(FileNotFoundError, match="no videos"):
        prepare_videos(tmp_path, tmp_path / "out", SETTINGS, tiny_vae, LogMelFrontEnd(2, 4), find_faces)


LEFT, RIGHT, SECOND = (
    (40, 60, 80),
    (200, 180, 60),
    (30, 200, 120),
)  # colours of people, by which they are found
FACES = {LEFT: (4, 16, 44, 72), RIGHT: (52, 16, 92, 72), SECOND: (52, 20, 88, 68)}


def one_of_them(picture: Image.Image) -> list[DetectedFace]:
    """Who is seen in the middle of the picture; two where its corner is white."""
    pixels = np.asarray(picture).astype(int)
    near = min(FACES, key=lambda colour: np.abs(pixels[48, 48] - colour).sum())
    seen = [near, SECOND] if pixels[4, 4].min() > 200 else [near]
    person = torch.eye(3)[list(FACES).index(near)]
    return [DetectedFace(from_boxes(FACES[who], LIPS), person, 1.0) for who in seen]


def scene(path: Path, people: list[tuple[tuple[int, int, int], int]]) -> None:
    """A video of people one after another, each (colour, frames)."""
    wave = write_wave(path.with_suffix(".wav"), Waveform(torch.sin(torch.arange(32000) / 9)[None], 16000))
    frames = torch.cat([torch.tensor(who)[None, :, None, None].expand(n, 3, 96, 96) for who, n in people])
    with VideoWriter(path, (96, 96), 25.0, frames=len(frames), audio=wave) as writer:
        writer.write(frames / 255)
    wave.unlink()


def test_a_cut_splits_a_video_into_items_of_one_person_each(tiny_vae, tmp_path):
    scene(tmp_path / "two.mp4", [(LEFT, 14), (RIGHT, 12), (LEFT, 3)])
    scene(tmp_path / "short.mp4", [(LEFT, 7), (RIGHT, 7)])
    target = tmp_path / "out"
    given = (tmp_path, target, SETTINGS, tiny_vae, LogMelFrontEnd(2, 4), one_of_them)
    report = prepare_videos(*given)
    assert report == {
        "two.mp4": "ready: 2 parts, 26 of 29 frames (a cut at 0.56 s, a cut at 1.04 s)",
        "short.mp4": "its longest part has 7 frames at 25 fps; 8 are needed (a cut at 0.28 s)",
    }
    assert prepare_videos(*given) == report
    items = [load_file(path) for path in target.glob("*.safetensors")]
    by_length = {len(item["latents"]): item for item in items}
    assert len(items) == 2 and set(by_length) == {14, 12}
    for frames, who in ((14, LEFT), (12, RIGHT)):
        item = by_length[frames]
        assert item["identity"].tolist() == torch.eye(3)[list(FACES).index(who)].tolist()
        assert len(item["boxes"]) == len(item["features"]) == frames
        assert (item["boxes"] == item["boxes"][0]).all()
        assert (item["portraits"].float().mean((0, 2, 3)) - torch.tensor(who)).abs().max() < 20


def test_frames_with_a_second_face_belong_to_no_shot():
    pictures = np.full((40, 96, 96, 3), LEFT, np.uint8)
    pictures[15:22, :24, :24] = 255
    track = track_face(pictures, 4, one_of_them)
    assert [shot.frames for shot in track.shots] == [range(0, 13), range(24, 40)]
    assert track.breaks == {16: "a second face"}


def test_a_face_that_is_suddenly_elsewhere_is_another_one():
    """Where the picture as a whole hardly changes, as in a dissolve or with cuts in a dark hall."""
    pictures = np.full((20, 32, 32, 3), 100, np.uint8)
    pictures[10:] = 104
    boxes = {100: FACES[LEFT], 104: FACES[RIGHT]}

    def find(picture: Image.Image) -> list[DetectedFace]:
        return [DetectedFace(from_boxes(boxes[int(np.asarray(picture)[0, 0, 0])], LIPS), None, 1.0)]

    track = track_face(pictures, 4, find)
    assert [shot.frames for shot in track.shots] == [range(0, 9), range(12, 20)]
    assert track.breaks == {12: "another face"}
    assert [len(np.unique(shot.boxes, axis=0)) for shot in track.shots] == [1, 1]
