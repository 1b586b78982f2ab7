"""The video writer, probe and reader: every law is checked on the decoded file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
import wave
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from singer_core.audio.waveform import read_audio
from singer_core.render.video import VideoWriter, check_output, probe_video, read_frames

SIZE = (32, 48)
NTSC = Fraction(30000, 1001)
CLICK = 0.5  # seconds


def grey(count: int, size: tuple[int, int] = SIZE, level: float = 0.5) -> torch.Tensor:
    return torch.full((count, 3, *size), level)


def save(path: Path, count: int, fps: float | Fraction = 25, **options) -> Path:
    with VideoWriter(path, SIZE, fps, frames=count, **options) as writer:
        writer.write(grey(count))
    return path


def sound_of(path: Path, rate: int = 48000) -> np.ndarray:
    """Decoded mono samples from time 0 of the file on, where the first picture is."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-copyts", "-i", str(path)]
    command += ["-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", str(rate), "-f", "f32le", "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32)


def convert(source: Path, target: Path) -> Path:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(source), str(target)]
    subprocess.run(command, check=True)
    return target


@pytest.fixture(scope="module")
def click(tmp_path_factory) -> Path:
    """Six seconds of silence with one click."""
    samples = np.zeros(6 * 44100, np.int16)
    samples[int(CLICK * 44100) :][:200] = 30000
    path = tmp_path_factory.mktemp("sound") / "click.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 44100, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


@pytest.mark.parametrize("fps", [25, NTSC], ids=str)
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 100])
def test_a_video_holds_exactly_the_pictures_written(tmp_path, click, count, fps):
    path = save(tmp_path / "out.mp4", count, fps, audio=click)
    info = probe_video(path)
    assert info.frames == sum(1 for _ in read_frames(path)) == count
    assert info.fps == pytest.approx(float(fps), rel=1e-9)
    assert info.seconds == pytest.approx(count / fps, abs=1e-6)
    assert (info.size, info.has_audio) == (SIZE, True)


@pytest.mark.parametrize("curve", ["arib-std-b67", "smpte2084"])
def test_hdr_is_read_as_an_sdr_screen_shows_it(tmp_path, curve):
    to_hdr = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=gbr:range=pc,"
    to_hdr += "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt2020,"
    to_hdr += f"zscale=t={curve}:m=bt2020nc:r=limited:npl=203,format=yuv420p10le"
    source = ["-f", "lavfi", "-i", "color=c=0xC08A70:s=64x64:d=0.08:r=25,format=gbrp", "-vf", to_hdr]
    stored = ["-c:v", "libx265", "-x265-params", "log-level=error", "-color_trc", curve]
    stored += ["-color_primaries", "bt2020", "-colorspace", "bt2020nc", str(tmp_path / "hdr.mov")]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, *stored], check=True)
    picture = next(read_frames(tmp_path / "hdr.mov"))
    assert (picture[:, 32, 32].int() - torch.tensor([192, 138, 112])).abs().max() <= 3


def test_an_ffmpeg_without_h264_is_refused_before_anything_is_rendered(tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho ' V....D mpeg4                MPEG-4 part 2'\n")
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    with pytest.raises(RuntimeError, match=r"ffmpeg at .* has no encoder libx264.*IMAGEIO_FFMPEG_EXE"):
        check_output(tmp_path / "film.mp4")


@pytest.mark.parametrize("fps", [0.5, 12.5, 29.97, 30000 / 1001, 47.123, 119.88], ids=str)
@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_any_rate_and_container_keeps_count_and_rate(tmp_path, ending, fps):
    path = save(tmp_path / f"out{ending}", 7, fps)
    info = probe_video(path)
    assert info.frames == sum(1 for _ in read_frames(path)) == 7
    assert info.fps == pytest.approx(fps, rel=1e-6)
    assert info.seconds == pytest.approx(7 / fps, abs=2e-3)  # Matroska counts milliseconds
    assert not info.has_audio


@pytest.mark.parametrize("ending", [".wav", ".mp3", ".flac", ".m4a"])
@pytest.mark.parametrize("container", [".mp4", ".mkv"])
def test_the_sound_is_in_place_and_cut_to_the_pictures(tmp_path, click, container, ending):
    sound = click if ending == ".wav" else convert(click, tmp_path / f"sound{ending}")
    samples = sound_of(save(tmp_path / f"out{container}", 30, audio=sound))
    loud = np.flatnonzero(np.abs(samples) > 0.5 * np.abs(samples).max())
    assert loud[0] / 48000 == pytest.approx(CLICK, abs=0.01)  # a frame is 0.04 s
    assert loud[-1] - loud[0] < 0.01 * 48000
    assert 30 / 25 - 1e-3 <= len(samples) / 48000 <= 30 / 25 + 1024 / 44100  # at most one AAC block more


def test_sound_that_begins_late_in_its_own_file_begins_at_once(tmp_path, click):
    late = tmp_path / "late.mkv"  # the way audio is decoded everywhere else: from its first sample
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-loglevel",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc=d=2:s=32x32",
    ]
    subprocess.run([*command, "-itsoffset", "0.3", "-i", str(click), str(late)], check=True)
    samples = np.abs(sound_of(save(tmp_path / "out.mp4", 30, audio=late)))
    assert (samples > 0.5 * samples.max()).argmax() / 48000 == pytest.approx(CLICK, abs=0.01)


def clicks(samples: np.ndarray, rate: int) -> list[float]:
    """Seconds at which loud stretches begin."""
    loud = np.flatnonzero(np.abs(samples) > 0.4 * np.abs(samples).max()) / rate
    return [float(time) for time in loud[np.diff(loud, prepend=-1.0) > 0.05]]


def test_sound_whose_rate_changes_is_where_the_network_hears_it(tmp_path, click):
    low = tmp_path / "low.mp3"
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-loglevel",
        "error",
        "-i",
        str(click),
        "-ar",
        "22050",
        str(low),
    ]
    subprocess.run(command, check=True)
    both = tmp_path / "both.mp3"
    both.write_bytes(convert(click, tmp_path / "high.mp3").read_bytes() + low.read_bytes())
    heard = clicks(read_audio(both, 16_000, mono=True).samples[0].numpy(), 16_000)
    assert len(heard) == 2 and heard[1] > 6
    assert clicks(sound_of(save(tmp_path / "out.mp4", 200, audio=both)), 48_000) == pytest.approx(
        heard, abs=0.01
    )


def test_several_sounds_are_added_up_each_from_its_beginning(tmp_path, click):
    late = tmp_path / "late.wav"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(click), "-af", "adelay=1000"]
    subprocess.run([*command, "-ar", "48000", str(late)], check=True)
    samples = sound_of(save(tmp_path / "out.mp4", 100, audio=[click, late]))
    assert clicks(samples, 48_000) == pytest.approx([CLICK, CLICK + 1], abs=0.01)
    alone = sound_of(save(tmp_path / "alone.mp4", 100, audio=click))
    assert np.abs(samples).max() == pytest.approx(np.abs(alone).max(), rel=0.1)  # added, not averaged


def test_sound_shorter_than_the_pictures_leaves_their_count_alone(tmp_path, click):
    path = save(tmp_path / "out.mp4", 175, audio=click)
    assert probe_video(path).frames == 175
    assert len(sound_of(path)) / 48000 == pytest.approx(6.0, abs=0.03)


@pytest.mark.parametrize("colour", [(1, 1, 1), (0, 0, 0), (1, 0, 0), (0, 0.6, 0.2), (0.2, 0.4, 1)], ids=str)
def test_a_flat_colour_survives(tmp_path, colour):
    pictures = torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1).expand(3, 3, *SIZE)
    with VideoWriter(tmp_path / "out.mp4", SIZE, 25, frames=3) as writer:
        writer.write(pictures)
    for picture in read_frames(tmp_path / "out.mp4"):
        assert (picture.float() - pictures[0] * 255).abs().max() <= 3


def test_smooth_pictures_are_read_as_written(tmp_path):
    """Without loss but that of chroma at half size: levels neither darker nor lighter on average."""
    coarse = torch.rand(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    pictures = F.interpolate(coarse, size=SIZE, mode="bilinear")
    with VideoWriter(tmp_path / "out.mp4", SIZE, 25, frames=4, crf=0) as writer:
        writer.write(pictures)
    found = torch.stack(list(read_frames(tmp_path / "out.mp4"))).float() - pictures * 255
    assert found.mean((0, 2, 3)).abs().max() < 0.6  # levels are truncated when written
    assert found.abs().mean() < 1.5


def test_pictures_keep_their_order_and_upright_position(tmp_path):
    pictures = torch.zeros(4, 3, 32, 48)
    for i in range(4):
        pictures[i, i % 3, :16, 12 * i : 12 * (i + 1)] = 1  # a block in the upper half, moving right
    with VideoWriter(tmp_path / "out.mp4", SIZE, 25, frames=4, crf=1) as writer:
        writer.write(pictures[:3])
        writer.write(pictures[3:])
    for picture, original in zip(read_frames(tmp_path / "out.mp4"), pictures, strict=True):
        assert picture.dtype == torch.uint8
        luma = torch.tensor([0.2126, 0.7152, 0.0722]).view(3, 1, 1)  # colour is stored at half the resolution
        assert ((picture / 255.0 - original) * luma).sum(0).abs().mean() < 0.03


@pytest.mark.parametrize("rounding", [False, True])
def test_levels_are_truncated_unless_rounding_is_asked_for(tmp_path, rounding):
    with VideoWriter(tmp_path / "out.mkv", SIZE, 25, frames=2, rounding=rounding, crf=0) as writer:
        writer.write(grey(2, level=100.9 / 255))
    levels = torch.stack(list(read_frames(tmp_path / "out.mkv"))).float()
    with VideoWriter(tmp_path / "exact.mkv", SIZE, 25, frames=2, crf=0) as writer:
        writer.write(grey(2, level=(101 if rounding else 100) / 255 + 1e-5))
    assert torch.equal(levels, torch.stack(list(read_frames(tmp_path / "exact.mkv"))).float())


def test_values_beyond_the_range_are_clipped(tmp_path):
    with VideoWriter(tmp_path / "out.mp4", SIZE, 25, frames=2) as writer:
        writer.write(torch.stack((grey(1, level=-3.0)[0], grey(1, level=7.0)[0])))
    black, white = read_frames(tmp_path / "out.mp4")
    assert black.max() <= 3
    assert white.min() >= 252


@pytest.mark.parametrize("size", [(33, 48), (32, 47), (33, 47), (2, 2)], ids=str)
def test_odd_sides_repeat_their_last_row_and_column(tmp_path, size):
    with VideoWriter(tmp_path / "out.mp4", size, 25, frames=2) as writer:
        writer.write(grey(2, size, 0.8))
    height, width = size[0] + size[0] % 2, size[1] + size[1] % 2
    assert probe_video(tmp_path / "out.mp4").size == (height, width)
    picture = next(read_frames(tmp_path / "out.mp4"))
    assert picture.shape == (3, height, width)
    assert (picture.float() - 204).abs().max() <= 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_type_is_written(tmp_path, dtype):
    with VideoWriter(tmp_path / "out.mp4", SIZE, 25, frames=1) as writer:
        writer.write(grey(1).to(dtype))
    assert (next(read_frames(tmp_path / "out.mp4")).float() - 127).abs().max() <= 3


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_interrupted_block_leaves_the_folder_as_it_was(tmp_path, error):
    (tmp_path / "out.mp4").write_bytes(b"an older file")
    with pytest.raises(error), VideoWriter(tmp_path / "out.mp4", SIZE, 25, frames=50) as writer:
        writer.write(grey(20))
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob(".singer-*.part")):  # ffmpeg takes its time to open it
            assert time.monotonic() < deadline
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"an older file"


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_the_same_pictures_and_sound_give_the_same_bytes_however_fast_they_come(tmp_path, click, ending):
    pictures = torch.rand(20, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    contents = []
    for parts in (1, 7, 20):
        path = tmp_path / f"{parts}.{ending}"
        with VideoWriter(path, SIZE, 25, frames=20, audio=click) as writer:
            for part in pictures.split(parts):
                writer.write(part)
                time.sleep(0.1 / len(part))
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] == contents[2]


KILLED = """
import os, sys, torch
from singer_core.render.video import VideoWriter
with VideoWriter(sys.argv[1], (32, 48), 25, frames=9) as writer:
    writer.write(torch.zeros(3, 3, 32, 48))
    os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks that end with their process")
def test_what_a_killed_process_left_goes_when_the_video_is_written_again(tmp_path):
    path = tmp_path / "a [film].mp4"
    strange = tmp_path / ".singer-b.mp4-0123456789ab.part"
    strange.write_bytes(b"of another video")
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    left = {entry.name for entry in tmp_path.iterdir()}
    assert len(left) == 2
    with VideoWriter(path, SIZE, 25, frames=1) as other:  # a living writer's part stays
        living = {entry.name for entry in tmp_path.iterdir()} - left
        save(path, 3)
        assert {entry.name for entry in tmp_path.iterdir()} == {
            *living,
            path.name,
            ".singer-b.mp4-0123456789ab.part",
        }
        other.write(grey(1))
    assert probe_video(path).frames == 1


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_growing_video_plays_before_its_end_and_stays_as_far_as_it_came(tmp_path, click, ending):
    path = tmp_path / f"grows{ending}"
    options = {"frames": 400, "audio": click, "growing": True}
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, SIZE, 25, **options) as writer:
        writer.write(torch.rand(40, 3, *SIZE))
        end = time.monotonic() + 60
        while not (path.stat().st_size > 1000 and probe_video(path).frames >= 28):
            assert time.monotonic() < end
            time.sleep(0.05)
        writer.write(grey(135))  # behind the sound's end
        raise KeyboardInterrupt
    info = probe_video(path)
    assert (info.frames, info.seconds, info.has_audio) == (175, 7.0, True)
    assert abs(np.abs(sound_of(path)).argmax() / 48000 - CLICK) < 0.01
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, SIZE, 25, **options):
        raise KeyboardInterrupt
    assert not path.exists()


@pytest.mark.parametrize("fps", [25, NTSC], ids=str)
def test_a_flash_and_a_click_of_the_same_moment_stay_together_to_the_end(tmp_path, fps):
    """First and last of the flashes, half a minute apart: offset 0 frames."""
    frames, rate, flashes = 750, 48000, (3, 374, 746)
    samples = np.zeros(round(frames / fps * rate) + 1, np.int16)
    for frame in flashes:
        samples[round((frame + 0.5) / fps * rate) :][:200] = 30000
    with wave.open(str(tmp_path / "clicks.wav"), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    levels = torch.zeros(frames)
    levels[list(flashes)] = 1
    with VideoWriter(tmp_path / "out.mp4", SIZE, fps, frames=frames, audio=tmp_path / "clicks.wav") as writer:
        for part in levels.split(50):
            writer.write(part.view(-1, 1, 1, 1).expand(-1, 3, *SIZE))
    seen = [i for i, picture in enumerate(read_frames(tmp_path / "out.mp4")) if picture.float().mean() > 128]
    heard = np.flatnonzero(np.abs(sound_of(tmp_path / "out.mp4", rate)) > 0.3) / rate * float(fps)
    assert seen == list(flashes)
    assert sorted({int(position) for position in heard}) == list(flashes)


def test_too_few_or_too_many_pictures_are_an_error_and_leave_no_file(tmp_path):
    with (
        pytest.raises(ValueError, match="announced with 3 pictures and got 2"),
        VideoWriter(tmp_path / "out.mp4", SIZE, 25, frames=3) as writer,
    ):
        writer.write(grey(2))
    with (
        pytest.raises(ValueError, match="announced with 3 pictures; these would make 4"),
        VideoWriter(tmp_path / "out.mp4", SIZE, 25, frames=3) as writer,
    ):
        writer.write(grey(2))
        writer.write(grey(2))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_of_ffmpeg_is_told_in_its_own_words(tmp_path):
    wide = (2, 20_000)  # H.264 ends at 16,384
    with (
        pytest.raises(RuntimeError, match=r"(?s)ffmpeg stopped with code .*out\.mp4.*libx264"),
        VideoWriter(tmp_path / "out.mp4", wide, 25, frames=100) as writer,
    ):
        writer.write(grey(1, wide).expand(100, -1, -1, -1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full to stand for a full disk")
def test_a_full_disk_is_told_with_the_space(tmp_path, monkeypatch):
    command = VideoWriter._command
    monkeypatch.setattr(VideoWriter, "_command", lambda self: [*command(self)[:-1], "file:/dev/full"])
    said = r"is full: out\.mp4 takes 0 KB at picture \d+ of 500\. Free"
    with (
        pytest.raises(OSError, match=said) as caught,
        VideoWriter(tmp_path / "out.mp4", SIZE, 25, frames=500) as writer,
    ):
        writer.write(torch.rand(500, 3, *SIZE))
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        (grey(1, (48, 32)), r"float32 pictures of \(1, 3, 48, 32\).*\(f, 3, 32, 48\)"),
        (grey(1)[0], "pictures of"),
        (grey(1).to(torch.uint8), "uint8 pictures"),
        (grey(1).fill_(float("nan")), "Picture 0 of out.mp4 holds NaN"),
        (grey(1).fill_(float("inf")), "infinity"),
    ],
)
def test_wrong_pictures_are_refused(tmp_path, pictures, said):
    with (
        pytest.raises(ValueError, match=said),
        VideoWriter(tmp_path / "out.mp4", SIZE, 25, frames=1) as writer,
    ):
        writer.write(pictures)
    assert list(tmp_path.iterdir()) == []


def test_writing_outside_the_block_is_refused(tmp_path):
    writer = VideoWriter(tmp_path / "out.mp4", SIZE, 25, frames=1)
    with pytest.raises(RuntimeError, match="not open"):
        writer.write(grey(1))
    with writer:
        writer.write(grey(1))
    with pytest.raises(RuntimeError, match="not open"):
        writer.write(grey(0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fps": 0}, "`fps` is 0"),
        ({"fps": float("nan")}, "`fps` is nan"),
        ({"fps": 1e4}, "0.001 to 1000"),
        ({"frames": 0}, "`frames` is 0"),
        ({"crf": 52}, "`crf` is 52"),
        ({"size": (32, 0)}, r"\(32, 0\) is too small"),
    ],
)
def test_numbers_out_of_range_are_refused_before_any_work(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        VideoWriter(**{"path": tmp_path / "out.mp4", "size": SIZE, "fps": 25, "frames": 1, **options})


def test_a_wrong_sound_file_is_refused_before_any_work(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*song\.wav"):
        VideoWriter(tmp_path / "out.mp4", SIZE, 25, frames=1, audio=tmp_path / "song.wav")
    for sound in (Path(__file__), save(tmp_path / "silent.mp4", 1)):
        with pytest.raises(ValueError, match="holds no sound"):
            VideoWriter(tmp_path / "out.mp4", SIZE, 25, frames=1, audio=sound)


def test_output_paths_are_checked_without_leaving_a_trace(tmp_path):
    assert check_output(str(tmp_path / "Out.MP4")) == tmp_path / "Out.MP4"
    (tmp_path / "folder.mp4").mkdir()
    for name, error, said in (
        ("out.avi", ValueError, r"'\.avi'.*\.mp4, \.mov, \.mkv"),
        ("out", ValueError, "has no ending"),
        ("", ValueError, "is a folder"),
        ("folder.mp4", ValueError, "is a folder"),
        ("nowhere/out.mp4", FileNotFoundError, "no folder .*nowhere"),
    ):
        with pytest.raises(error, match=said):
            check_output(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.mp4"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder in which even root cannot create a file")
def test_a_folder_without_room_for_a_file_is_refused():
    with pytest.raises(PermissionError, match=r"no file can be created in /proc"):
        check_output("/proc/out.mp4")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind root")
def test_an_unwritable_folder_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(PermissionError, match="no file can be created"):
        check_output(tmp_path / "out.mp4")


def test_files_that_are_no_videos_are_refused(tmp_path, click):
    for reader in (probe_video, lambda path: next(read_frames(path))):
        with pytest.raises(FileNotFoundError, match="no file"):
            reader(tmp_path / "none.mp4")
        with pytest.raises(ValueError, match=r"test_video\.py"):
            reader(Path(__file__))
        with pytest.raises(ValueError, match=r"click\.wav"):
            reader(click)


def test_reading_can_stop_early(tmp_path):
    frames = read_frames(save(tmp_path / "out.mp4", 100))
    assert next(frames).shape == (3, *SIZE)
    frames.close()
    assert list(frames) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_thousand_pictures_need_no_more_memory_than_sixteen(tmp_path):
    def resident() -> float:  # MB
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    pictures = grey(16, (96, 96))  # all 2,000 as bytes: 55 MB
    with VideoWriter(tmp_path / "out.mp4", (96, 96), 25, frames=2000) as writer:
        writer.write(pictures)
        before = resident()
        for _ in range(124):
            writer.write(pictures)
            assert resident() - before < 30
    before = resident()
    assert sum(1 for _ in read_frames(tmp_path / "out.mp4")) == 2000
    assert resident() - before < 30
