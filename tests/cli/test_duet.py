"""`singer duet`: two films in one, each as it is alone."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from singer_core.audio.waveform import read_audio
from singer_core.cli import main
from singer_core.render.pipeline import SingerPipeline
from singer_core.render.video import probe_video, read_frames

pytestmark = pytest.mark.slow
RATE = 16_000


def save_song(path: Path, sung: list[tuple[float, float]], seconds: float, pitch: float) -> Path:
    time = np.arange(round(seconds * RATE)) / RATE
    heard = sum(((time >= start) & (time < stop)).astype(float) for start, stop in sung)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((0.4 * heard * np.sin(2 * np.pi * pitch * time) * 32767).astype("<i2").tobytes())
    return path


def save_mask(path: Path, size: tuple[int, int], left: int, top: int, right: int, bottom: int) -> Path:
    mask = np.zeros(size, np.uint8)
    mask[top:bottom, left:right] = 255
    Image.fromarray(mask).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two portraits, one picture with two faces, two stems of which the second ends earlier."""
    folder = tmp_path_factory.mktemp("inputs")
    for name, size, seed in (("ann", (128, 128), 1), ("bob", (128, 128), 2), ("both", (96, 240), 3)):
        picture = (tiny.noise(*size, 3, seed=seed).clamp(-2, 2) * 40 + 128).byte().numpy()
        Image.fromarray(picture).save(folder / f"{name}.png")
    for name, left in (("ann", 20), ("bob", 160)):
        save_mask(folder / f"{name}-face.png", (96, 240), left, 20, left + 50, 76)
        save_mask(folder / f"{name}-lip.png", (96, 240), left + 15, 55, left + 35, 70)
    save_mask(folder / "face.png", (128, 128), 30, 30, 100, 110)
    save_mask(folder / "lip.png", (128, 128), 50, 80, 80, 100)
    save_song(folder / "ann.wav", [(0, 0.3)], 0.6, 220)
    save_song(folder / "bob.wav", [(0.3, 0.5)], 0.5, 330)
    return folder


@pytest.fixture
def line(folder, tiny_checkpoint, tiny_vae_folder, tmp_path):
    """line("ann", "bob", ...): a command line of a duet whose video goes to tmp_path/out."""
    (tmp_path / "out").mkdir()

    def arguments(first: str, second: str, *options: object, command: str = "duet") -> list[str]:
        given = [command, folder / f"{first}.png", folder / "ann.wav"]
        given += [folder / f"{second}.png", folder / "bob.wav"] if command == "duet" else []
        given += ["--checkpoint", tiny_checkpoint, "--vae", tiny_vae_folder, "--device", "cpu", "--quiet"]
        given += ["--steps", "1", "--set", "clip_frames=4", "--work-dir", tmp_path / "work"]
        given += ["--out", tmp_path / "out" / "film.mp4", *options]
        return [str(value) for value in given]

    return arguments


@pytest.fixture
def apart(folder):
    """Options of two portraits."""
    masks = ["--face-mask", folder / "face.png", "--lip-mask", folder / "lip.png", "--crop", "squash"]
    same = ["--second", f"face-mask={folder / 'face.png'}", "--second", f"lip-mask={folder / 'lip.png'}"]
    return [*masks, *same]


@pytest.fixture
def together(folder):
    """Options of one picture with two faces."""
    options = ["--paste-back", "--size", "128", "--margin", "0.1"]
    options += ["--face-mask", folder / "ann-face.png", "--lip-mask", folder / "ann-lip.png"]
    options += ["--second", f"face_mask={folder / 'bob-face.png'}"]  # as errors name it
    return [*options, "--second", f"lip-mask={folder / 'bob-lip.png'}"]


@pytest.fixture
def exact(monkeypatch):
    """Videos without loss, so that their pictures can be compared."""
    import singer_core.render.video as video

    plain = video.VideoWriter._command

    def lossless(self):
        command = plain(self)
        at = command.index("libx264")
        command[at] = "libx264rgb"
        command[command.index("-crf") + 1] = "0"
        where = command.index("-vf")
        del command[where : where + 2]
        return command

    monkeypatch.setattr(video.VideoWriter, "_command", lossless)


def pictures(path: Path) -> np.ndarray:
    return np.stack([frame.numpy() for frame in read_frames(path)])


def test_each_half_is_the_film_that_its_singer_gives_alone(line, apart, folder, tmp_path, exact):
    film, anew = tmp_path / "out" / "film.mp4", "--no-keep-clips"  # nothing of the duet is sung again
    assert main(line("ann", "bob", *apart, anew)) == 0
    both = pictures(film)
    assert both.shape == (15, 3, tiny.SIDE, 2 * tiny.SIDE) and probe_video(film).has_audio
    masks = apart[:6]
    assert main(line("ann", "", *masks, anew, command="sing")) == 0
    np.testing.assert_array_equal(both[..., : tiny.SIDE], pictures(film))
    padded = save_song(tmp_path / "bob.wav", [(0.3, 0.5)], 0.6, 330)
    words = [
        word if not word.endswith("ann.wav") else str(padded)
        for word in line("bob", "", anew, command="sing")
    ]
    assert main([*words, *map(str, masks)]) == 0
    np.testing.assert_array_equal(both[..., tiny.SIDE :], pictures(film))
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"film.mp4", "bob.wav"}


def test_in_one_picture_everything_but_the_two_faces_stays(line, together, folder, tmp_path, exact):
    assert main(line("both", "both", *together)) == 0
    made = pictures(tmp_path / "out" / "film.mp4")
    picture = np.asarray(Image.open(folder / "both.png")).transpose(2, 0, 1)
    assert made.shape == (15, 3, 96, 240)
    changed = (np.abs(made.astype(int) - picture) > 1).any((0, 1))
    assert not changed[:, 100:130].any()  # between the crops
    assert changed[30:70, 30:60].any() and changed[30:70, 170:200].any()


def test_the_sound_is_both_voices_or_the_mix(line, apart, folder, tmp_path):
    film = tmp_path / "out" / "film.mp4"
    save_song(tmp_path / "mix.wav", [(0, 0.6)], 0.6, 440)
    for options, pitches in ((), (220, 330)), (("--mix", tmp_path / "mix.wav"), (440, 440)):
        assert main(line("ann", "bob", *apart, *options)) == 0
        heard = read_audio(film, RATE, mono=True).samples[0].numpy()
        for start, pitch in zip((0.05, 0.32), pitches, strict=True):
            part = heard[round(start * RATE) : round((start + 0.15) * RATE)]
            spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part))))
            assert spectrum.argmax() * RATE / len(part) == pytest.approx(pitch, abs=8)


def test_a_stopped_duet_goes_on_with_the_same_file(line, apart, tmp_path, monkeypatch, capsys):
    film = tmp_path / "out" / "film.mp4"
    assert main(line("ann", "bob", *apart, "--no-keep-clips")) == 0
    unbroken = film.read_bytes()
    film.unlink()
    sample, made = SingerPipeline._sample, []

    def stopping(self, *given):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(1)
        return sample(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(SingerPipeline, "_sample", stopping)
        assert main(line("ann", "bob", *apart)) == 130
    assert "3 of 8 clips are finished" in capsys.readouterr().err
    assert len(list(tmp_path.glob("work/*/clip-*"))) == 3
    assert main(line("ann", "bob", *apart, "--partial")) == 0
    assert probe_video(film).frames == 4  # what both have
    assert main(line("ann", "bob", *apart)) == 0
    assert film.read_bytes() == unbroken
    assert len(list(tmp_path.glob("work/*/clip-*"))) == 8


@pytest.mark.parametrize(
    ("second", "options", "said"),
    [
        ("bob", ["--second", "tempo=3"], "unrecognized arguments: --tempo=3"),
        ("bob", ["--second", "quiet"], "unrecognized arguments: --quiet"),
        ("bob", ["--second", "fps=30"], "25 and 30 frames a second"),
        ("bob", ["--second", "size=192"], "64 and 192 rows cannot stand side by side"),
        ("bob", ["--mix", "none.wav"], "none.wav"),
        ("nobody", [], "nobody.png"),
    ],
)
def test_what_does_not_fit_is_one_line(line, apart, second, options, said, tmp_path, capsys):
    assert main(line("ann", second, *apart, *options)) == 2
    error = [text for text in capsys.readouterr().err.splitlines() if text.startswith("singer: error: ")]
    assert len(error) == 1 and said in error[0]
    assert not list((tmp_path / "out").iterdir())


def test_the_mix_is_not_replaced_by_the_video(line, apart, tmp_path, capsys):
    mix = save_song(tmp_path / "out" / "film.mp4", [(0, 0.6)], 0.6, 440)
    before = mix.read_bytes()
    assert main(line("ann", "bob", *apart, "--mix", mix)) == 2
    assert "is the song itself" in capsys.readouterr().err and mix.read_bytes() == before


def test_one_face_cannot_be_both_singers(line, together, capsys):
    assert main(line("both", "both", *together[:9])) == 2
    assert "Both singers have the same face" in capsys.readouterr().err


def test_the_first_singers_face_is_not_looked_for_in_the_seconds_picture(line, apart, capsys):
    assert main(line("ann", "bob", *apart[:8])) == 2
    said = capsys.readouterr().err
    assert "--lip-mask" in said and "--second lip-mask=FILE" in said
