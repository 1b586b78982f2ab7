"""Videos as files: rates, sizes, lengths, sound."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
import torch
from made_up import Singer

from singer_core.evaluation.evaluate import evaluate
from singer_core.evaluation.footage import footage_of, open_footage, pace, windows
from singer_core.evaluation.material import read_material
from singer_core.evaluation.settings import Files
from singer_core.ffmpeg import ffmpeg_program


@pytest.fixture(scope="module")
def video(clean, tmp_path_factory):
    return clean.write(tmp_path_factory.mktemp("video") / "clean.mp4")


def counted(path, frames: int, fps: float) -> None:
    """A silent video whose frame i has the grey level 4 i."""
    from singer_core.render.video import VideoWriter

    with VideoWriter(path, (32, 32), fps, frames=frames, crf=0, rounding=True) as writer:
        levels = torch.arange(frames)[:, None, None, None] * 4 / 255
        writer.write(levels.expand(frames, 3, 32, 32).float())


def levels(footage) -> list[int]:
    return [round(float(picture.float().mean()) / 4) for picture in footage.pictures()]


def test_a_constant_rate_gives_every_frame_once(tmp_path):
    counted(tmp_path / "count.mp4", 40, 25.0)
    footage = open_footage(tmp_path / "count.mp4")
    assert (footage.frames, footage.fps, footage.size, footage.uneven) == (40, 25.0, (32, 32), 0)
    assert footage.sound is None
    assert levels(footage) == list(range(40))


def test_another_rate_shows_what_is_up_at_its_ticks(tmp_path):
    counted(tmp_path / "count.mp4", 60, 30.0)
    footage = open_footage(tmp_path / "count.mp4", fps=25.0)
    assert footage.frames == 50
    assert levels(footage) == [int((i + 0.5) / 25 * 30) for i in range(50)]
    doubled = open_footage(tmp_path / "count.mp4", fps=60.0)
    assert levels(doubled) == [i // 2 for i in range(120)]


def test_a_variable_rate_is_reported_and_evened_out(tmp_path):
    """Frames 10 to 19 are dropped: frame 9 stays up meanwhile."""
    counted(tmp_path / "count.mp4", 40, 25.0)
    drop = [ffmpeg_program(), "-v", "error", "-i", tmp_path / "count.mp4"]
    drop += ["-vf", r"select=not(between(n\,10\,19))", "-fps_mode", "vfr", "-crf", "0", tmp_path / "gap.mp4"]
    subprocess.run([str(part) for part in drop], check=True)
    footage = open_footage(tmp_path / "gap.mp4")
    assert footage.uneven == 1 and footage.fps == pytest.approx(25) and footage.frames == 40
    assert levels(footage) == [*range(10), *[9] * 10, *range(20, 40)]


def test_intervals_are_counted_against_the_median():
    uneven, fps = pace(np.array([0, 0.04, 0.08, 0.16, 0.20]))
    assert uneven == 1 and fps == pytest.approx(25)
    assert pace(np.array([0.0])) == (0, 25.0)


def test_one_frame_leaves_what_moves_uncomputed(tmp_path, clean):
    counted(tmp_path / "one.mp4", 1, 25.0)
    result = evaluate(read_material(tmp_path / "one.mp4", Files(lip_box=(8, 8, 24, 24))))
    assert result.missing["flicker"] == "fewer than three frames"
    assert result.missing["seam_ratio"] == "fewer than two clips of 16 frames"
    assert result.missing["static_motion"] == "only one frame"
    assert result.missing["singing_sync"].startswith("there is no sound")
    assert result.values["mouth_range"] == 0


def test_a_video_without_sound_says_what_to_give(tmp_path):
    counted(tmp_path / "count.mp4", 40, 25.0)
    result = evaluate(read_material(tmp_path / "count.mp4", Files(lip_box=(8, 8, 24, 24))))
    for key in ("extra_frames", "singing_sync", "beat_alignment", "lse_d"):
        assert "there is no sound" in result.missing[key] or "syncnet" in result.missing[key]
    assert result.missing["sound_difference"] == "the video has no sound track"
    assert "seam_ratio" in result.values


def test_sound_and_picture_of_a_good_file_have_one_length(video):
    result = evaluate(read_material(video, Files()))
    assert abs(result.values["sound_difference"]) < 60  # AAC comes in packets of 64 ms at 16 kHz
    assert result.values["extra_frames"] == 0
    assert result.missing["singing_sync"].startswith("the mouth is not known")


def test_a_song_longer_than_the_video_is_found(video, clean, tmp_path):
    from singer_core.audio.waveform import write_wave

    longer = Singer(np.append(clean.opening, np.zeros(20)), np.append(clean.voice, np.full(20, 0.5)))
    song = write_wave(tmp_path / "song.wav", longer.sound)
    result = evaluate(read_material(video, Files(audio=song)))
    assert result.values["extra_frames"] == -20


def test_a_reference_of_another_size_rate_and_length_is_brought_to_the_videos(video, clean, tmp_path):
    large = torch.nn.functional.interpolate(clean.pictures[:100], scale_factor=2, mode="nearest")
    reference = clean.write(tmp_path / "large.mp4", pictures=large)
    result = evaluate(read_material(video, Files(reference=reference)))
    assert result.values["psnr"] > 30
    assert any("reference has 100 frames" in note for note in result.notes)


def test_windows_are_whole():
    footage = footage_of(torch.rand(35, 3, 8, 8), 25.0)
    assert [tuple(clip.shape) for clip in windows(footage, 16)] == [(16, 3, 8, 8)] * 2


@pytest.mark.parametrize(
    ("pictures", "fps", "said"),
    [
        (torch.zeros(4, 8, 8, 3), 25.0, r"\(frames, 3, H, W\)"),
        (torch.zeros(0, 3, 8, 8), 25.0, "shape"),
        (torch.zeros(2, 3, 8, 8), 0.0, "more than 0"),
    ],
)
def test_pictures_that_are_no_video_are_refused(pictures, fps, said):
    with pytest.raises(ValueError, match=said):
        footage_of(pictures, fps)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN or infinity"):
        list(footage_of(torch.full((1, 3, 8, 8), float("nan")), 25.0).pictures())


def test_a_file_that_is_no_video_is_refused(tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"no\.mp4"):
        open_footage(tmp_path / "no.mp4")
    with pytest.raises(FileNotFoundError):
        open_footage(tmp_path / "absent.mp4")
