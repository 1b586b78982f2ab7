"""SingerEvaluate: what it says of frames, of a video file, and of what does not fit."""

from __future__ import annotations

import asyncio
import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

FPS, FRAMES, SIDE, RATE = 25.0, 64, 64, 16_000
SETTINGS = {"fps": FPS, "clip_frames": 16}


def voice(late: int = 0) -> np.ndarray:
    """(s,) loud and silent by turns, 0..1."""
    level = 0.6 + 0.4 * np.abs(np.sin(np.arange(FRAMES) / 2.3))
    return np.roll(np.where(np.arange(FRAMES) % 27 < 15, level, 0.0), late)


def audio(level: np.ndarray) -> dict:
    step = int(RATE / FPS)
    gain = (0.5 * level).repeat(step)
    samples = gain * np.sin(2 * np.pi * 220 * np.arange(len(gain)) / RATE)
    return {"waveform": torch.from_numpy(samples.astype(np.float32))[None, None], "sample_rate": RATE}


def frames(level: np.ndarray) -> torch.Tensor:
    """IMAGE whose mouth is as high as the voice is loud."""
    pictures = torch.full((FRAMES, SIDE, SIDE, 3), 0.6)
    for picture, opening in zip(pictures, level, strict=True):
        half = 6 * float(opening)
        rows = (torch.arange(SIDE).float() - 44).abs()
        picture[:, 24:40] -= 0.5 * (half - rows).clamp(0, 1)[:, None, None] if half else 0.0
    return pictures


def landmarks(level: np.ndarray) -> dict:
    """FACE_LANDMARKS of those frames."""
    found = []
    for opening in level:
        points = np.random.default_rng(0).uniform(8, 56, (478, 2))
        points[[13, 14, 168, 2]] = [[32, 44 - 6 * opening], [32, 44 + 6 * opening], [32, 16], [32, 32]]
        found.append([{"landmarks_xy": points}])
    return {"frames": found, "image_size": (SIDE, SIDE)}


@pytest.fixture(scope="module")
def node(core, pack):
    return pack("evaluate").SingerEvaluate


def test_the_schema_explains_itself(node):
    schema = node.GET_SCHEMA()
    assert (schema.node_id, schema.category) == ("SingerEvaluate", "SINGER")
    assert all(socket.tooltip for socket in (*schema.inputs, *schema.outputs))
    listed = node.GET_NODE_INFO_V1()["input"]
    assert listed["required"]["video"][0] in ("VIDEO,IMAGE", "IMAGE,VIDEO")


def test_the_node_is_in_the_pack(pack):
    classes = asyncio.run(pack("").SingerExtension().get_node_list())
    assert "SingerEvaluate" in [one.GET_SCHEMA().node_id for one in classes]


def test_frames_with_landmarks_are_in_time_with_their_song(node):
    report, plots = node.execute(
        frames(voice()), **SETTINGS, audio=audio(voice()), face_landmarks=landmarks(voice())
    ).result
    assert "mouth later than the voice                                 0 frames" in report
    assert "Nothing looks wrong." in report
    assert plots.shape[0] == 1 and plots.shape[-1] == 3 and plots.min() >= 0 and plots.max() <= 1


def test_a_late_song_is_named(node):
    given = {"audio": audio(voice(3)), "face_landmarks": landmarks(voice())}
    report = node.execute(frames(voice()), **SETTINGS, **given).result[0]
    assert "The mouth is 3 frames (120 ms) early." in report


def test_a_video_brings_its_sound_and_its_rate(node, tmp_path):
    from comfy_api.latest import InputImpl, Types

    parts = Types.VideoComponents(images=frames(voice()), audio=audio(voice()), frame_rate=Fraction(25))
    memory = InputImpl.VideoFromComponents(parts)
    memory.save_to(str(tmp_path / "video.mp4"))
    for video in (memory, InputImpl.VideoFromFile(str(tmp_path / "video.mp4"))):
        report = node.execute(
            video, **{**SETTINGS, "fps": 10.0}, face_landmarks=landmarks(voice()), reference=frames(voice())
        ).result[0]
        assert "64 frames, 25 fps" in report and "frames beyond the song" in report
        assert "mouth later than the voice                                 0 frames" in report


def test_the_portrait_tells_where_the_mouth_is(node):
    import tiny

    portrait = tiny.portrait_of(SIDE, SIDE)
    lips = torch.zeros(8, 8)
    lips[4:7, 2:6] = 1  # twice as wide as the mouth, as lip masks are
    masks = (torch.stack([lips.flatten() * 0, lips.flatten() * 0, lips.flatten()]), *portrait.masks[1:])
    portrait = dataclasses.replace(portrait, masks=masks)
    report = node.execute(frames(voice()), **SETTINGS, audio=audio(voice()), portrait=portrait).result[0]
    assert "mouth later than the voice                                 0 frames" in report
    assert "darkness inside the lip box" in report
    with pytest.raises(ValueError, match="The video has 32 x 32 pixels; one of this portrait has 64 x 64"):
        node.execute(frames(voice())[:, ::2, ::2], **SETTINGS, portrait=portrait)


def test_an_overlap_moves_the_seams(node):
    level = np.full(FRAMES, 0.5)
    pictures = frames(level)
    start = torch.arange(FRAMES) // 14  # clips of 16 that share 2
    pictures += (
        0.1 * (start % 2)[:, None, None, None] + 0.01 * (torch.arange(FRAMES) % 2)[:, None, None, None]
    )
    found = {shared: node.execute(pictures, **SETTINGS, overlap=shared).result[0] for shared in (0, 2)}
    assert "clips of 16 that share 2" in found[2] and "Seams" in found[2] and "Seams" not in found[0]


def test_silent_frames_say_what_is_missing(node):
    report = node.execute(frames(voice()), **SETTINGS).result[0]
    assert "there is no sound" in report and "motion at seams over inside" in report


def test_landmarks_of_other_frames_are_refused(node):
    marks = landmarks(voice())
    with pytest.raises(ValueError, match="landmarks are of 60 frames, video has 64"):
        node.execute(frames(voice()), **SETTINGS, face_landmarks={**marks, "frames": marks["frames"][:60]})


@pytest.mark.slow
def test_a_video_file_is_measured_on_a_server(server):
    from comfy_api.latest import InputImpl, Types

    parts = Types.VideoComponents(images=frames(voice()), audio=audio(voice()), frame_rate=Fraction(25))
    InputImpl.VideoFromComponents(parts).save_to(str(server.base / "input" / "sung.mp4"))
    inputs = {"video": ["1", 0], "reference": ["1", 0], **SETTINGS}
    prompt = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": "sung.mp4"}},
        "2": {"class_type": "SingerEvaluate", "inputs": inputs},  # a graph from before `overlap`
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 1], "filename_prefix": "plots"}},
        "4": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }
    entry = server.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    assert "64 frames, 25 fps" in entry["outputs"]["4"]["text"][0]
    (plots,) = (server.base / "output").glob("plots*.png")
    assert Image.open(plots).width > 1000
