"""Measure a finished video inside the graph.

The library's metrics are a third of its modules and wanted here alone: they are imported when a node runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths
from comfy_api.latest import Input, io, ui
from torch import Tensor

from singer_core import constants
from singer_core.audio.waveform import Waveform, read_audio, to_mono
from singer_core.evaluation.settings import Files
from singer_core.portrait.portrait import Portrait
from singer_core.settings import SongSettings

from .library import needs_library, progress_bar
from .sockets import FaceLandmarksType, Landmarks, SingerPortraitType, to_image, to_waveform, widget

if TYPE_CHECKING:
    from singer_core.evaluation.footage import Footage
    from singer_core.evaluation.mouth import FaceTrack

WEIGHTS = "evaluation"  # folder of models/


class SingerEvaluate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerEvaluate",
            display_name="Evaluate SINGER Video",
            category="SINGER",
            description="Measures how well a video sings and how steady it is, and draws it over time.",
            search_aliases=["metrics", "quality", "lip sync", "psnr", "ssim", "drift", "seams"],
            inputs=[
                io.MultiType.Input(
                    "video", [io.Video, io.Image], tooltip="The video, or its frames in their order."
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="The whole song. Without it the video's own sound is used.",
                ),
                io.Audio.Input(
                    "vocals",
                    optional=True,
                    tooltip="Its separated voice. Without it the song is taken for it.",
                ),
                SingerPortraitType.Input(
                    "portrait",
                    optional=True,
                    tooltip="The sampled portrait: tells where the mouth is while the head stays in place.",
                ),
                FaceLandmarksType.Input(
                    "face_landmarks",
                    optional=True,
                    tooltip="Landmarks of every frame of the video: exact mouth opening and head motion.",
                ),
                io.MultiType.Input(
                    "reference",
                    [io.Video, io.Image],
                    optional=True,
                    tooltip="The true video of the same performance: adds PSNR, SSIM and more.",
                ),
                widget(
                    SongSettings,
                    "fps",
                    tooltip="Frames per second of frames that come as IMAGE; a VIDEO brings its own.",
                ),
                widget(Files, "clip_frames"),
                widget(Files, "overlap", optional=True),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="Table of all numbers and what looks wrong."),
                io.Image.Output(display_name="plots", tooltip="Curves over time and a contact sheet."),
            ],
        )

    @classmethod
    @needs_library
    def execute(
        cls,
        video: Input.Video | Tensor,
        fps: float,
        clip_frames: int,
        audio: Input.Audio | None = None,
        vocals: Input.Audio | None = None,
        portrait: Portrait | None = None,
        face_landmarks: Landmarks | None = None,
        reference: Input.Video | Tensor | None = None,
        overlap: int = 0,
    ) -> io.NodeOutput:
        from singer_core.evaluation.evaluate import evaluate
        from singer_core.evaluation.material import Material
        from singer_core.evaluation.mouth import portrait_lip_box
        from singer_core.evaluation.plots import poster
        from singer_core.evaluation.report import report_text

        footage, own_sound = _footage(video, fps, "video")
        song = _mono(audio, "audio") if audio is not None else own_sound
        material = Material(
            footage,
            song=song,
            vocals=None if vocals is None else _mono(vocals, "vocals"),
            faces=None if face_landmarks is None else _track(face_landmarks, footage),
            lip_box=None if portrait is None else portrait_lip_box(portrait, footage.size),
            reference=None if reference is None else _footage(reference, footage.fps, "reference")[0],
            sound_file=footage.path if audio is None else None,
            clip_frames=clip_frames,
            overlap=overlap,
            weights=Path(folder_paths.models_dir) / WEIGHTS,
        )
        found = evaluate(material, progress_bar())
        text = report_text(found)
        plots = to_image(poster(found))
        return io.NodeOutput(text, plots, ui=ui.PreviewText(text))


def _footage(video: Input.Video | Tensor, fps: float, socket: str) -> tuple[Footage, Waveform | None]:
    """(frames, their sound or None) of a VIDEO or an IMAGE (s, H, W, c)."""
    from singer_core.evaluation.footage import footage_of, open_footage

    if isinstance(video, Tensor):
        return footage_of(video[..., :3].movedim(-1, 1), fps, socket), None
    source = video.get_stream_source()
    if isinstance(source, str) and video.get_active_trim_window() == (0.0, 0.0):
        footage = open_footage(Path(source), fps if socket == "reference" else None)
        sound = read_audio(source, constants.AUDIO_RATE, mono=True) if footage.sound else None
        return footage, sound
    parts = video.get_components()
    footage = footage_of(parts.images[..., :3].movedim(-1, 1), float(parts.frame_rate), socket)
    return footage, None if parts.audio is None else _mono(parts.audio, socket)


def _mono(audio: Input.Audio, socket: str) -> Waveform:
    return to_mono(to_waveform(audio, socket))


def _track(landmarks: Landmarks, footage: Footage) -> FaceTrack:
    """Core's FACE_LANDMARKS of every frame, scaled to the video; the first face of each counts."""
    from singer_core.evaluation.mouth import track_of

    high, wide = landmarks["image_size"]
    scale = [footage.size[1] / wide, footage.size[0] / high]
    return track_of(
        [faces[0]["landmarks_xy"] * scale if faces else None for faces in landmarks["frames"]],
        "`face_landmarks`",
    )
