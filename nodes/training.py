"""Adapting a network to a singer, or training it on, inside a graph."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import comfy.model_management as mm
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy.sd import VAE
from comfy_api.latest import io, ui
from PIL import Image
from torch import Tensor

from singer_core import constants
from singer_core.audio.front_end import choose_front_end
from singer_core.network.checkpoint import Checkpoint, open_checkpoint
from singer_core.portrait.detection import DetectedFace
from singer_core.portrait.identity import COLOUR_IDENTITY_WIDTH
from singer_core.settings import SamplingSettings, SingerOptions
from singer_core.training.checkpoints import check_length, export_newest
from singer_core.training.config import TrainConfig, from_mapping
from singer_core.training.runlog import LOG, Report, loss_picture
from singer_core.training.videos import VideoSettings, prepare_videos, usable
from singer_core.weights import open_weights

from . import folders
from .audio import hearing
from .library import needs_library
from .portrait import IdentityModel, points_of
from .sockets import FaceDetectionType, FoundFace, SingerIdentity, to_image, widget

if TYPE_CHECKING:
    from comfy.audio_encoders.audio_encoders import AudioEncoderModel

RECIPES = ["lora", "matched"]
SAVE_EVERY = 250  # steps between checkpoints to go on from after a cancel
RUN = "singer.run"  # metadata of a trained file: which run wrote it
CONFIDENCE = 0.5  # that core's face detector asks for


class SingerTrain(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerTrain",
            display_name="Train SINGER",
            category="SINGER",
            description="Adapts a network to the singers of a folder of videos and writes the trained file.",
            search_aliases=["lora training", "fine-tune", "finetune", "adapt", "train lora"],
            is_output_node=True,
            inputs=[*_widgets(), *_expert_widgets(), *_sockets()],
            outputs=[
                io.String.Output(
                    display_name="path",
                    tooltip="The trained file: a LoRA in models/loras, or a checkpoint in models/singer.",
                ),
                io.Image.Output(display_name="loss", tooltip="Loss over the steps; lower is better."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, data: str, **_others: object) -> list[tuple[str, int]]:
        """Trains again where the folder's files have changed."""
        return sorted((f.name, f.stat().st_mtime_ns) for f in os.scandir(_input_folder(data)))

    @classmethod
    @needs_library
    def execute(
        cls,
        data: str,
        checkpoint: str,
        vae: VAE | None = None,
        audio_encoder: AudioEncoderModel | None = None,
        face_detection_model: FaceDetector | None = None,
        identity_model: IdentityModel | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        lesson = Lesson(folders.checkpoint_path(checkpoint), **settings)
        preparation = Preparation(vae, audio_encoder, face_detection_model, identity_model)
        path, plot = train(_input_folder(data), lesson, preparation)
        return io.NodeOutput(path, plot, ui=ui.PreviewImage(plot, cls=cls))


def _widgets() -> list[io.Input]:
    return [
        io.Combo.Input(
            "data",
            options=_input_folders(),
            tooltip="Folder in ComfyUI's input folder: videos of a person singing, with sound, or clips that "
            "`singer train --prepare` made of them.",
        ),
        io.Combo.Input(
            "checkpoint",
            options=folders.checkpoint_names(),
            tooltip="The network to begin with, in models/singer.",
        ),
        io.Combo.Input(
            "recipe",
            options=RECIPES,
            default="lora",
            tooltip="lora: a small file for core's `LoraLoaderModelOnly`, for one singer; matched: all "
            "audio and motion modules, a whole checkpoint, for much data.",
        ),
        io.Int.Input(
            "steps",
            default=1000,
            min=1,
            max=1_000_000,
            tooltip="Optimizer steps, counted from the start: a higher number goes on from the last run "
            "of the same settings.",
        ),
        io.Int.Input(
            "rank", default=16, min=1, max=256, tooltip="Rank of the LoRA's factors; for recipe = lora."
        ),
        io.Float.Input(
            "rate",
            default=1e-4,
            min=1e-7,
            max=1.0,
            step=1e-7,
            round=False,
            tooltip="Learning rate of AdamW. 0.0001 suits both recipes.",
        ),
        widget(
            SamplingSettings,
            "seed",
            tooltip="Order of the clips and noise; the same seed and data train the same file.",
        ),
        io.String.Input(
            "name", default="my_singer", tooltip="Name of the trained file, without folder and ending."
        ),
    ]


def _expert_widgets() -> list[io.Input]:
    return [
        io.Int.Input(
            "accumulate",
            default=4,
            min=1,
            max=64,
            advanced=True,
            tooltip="Clips that one step averages over. More is steadier and slower, at the same memory.",
        ),
        widget(
            SingerOptions,
            "clip_frames",
            advanced=True,
            tooltip="Frames of a training clip, even. Fewer need less memory; 16 are sampled together later.",
        ),
        io.Boolean.Input(
            "motion_modules",
            default=False,
            advanced=True,
            tooltip="The LoRA adapts the motion modules too: how this singer moves. For recipe = lora.",
        ),
    ]


def _sockets() -> list[io.Input]:
    return [
        io.Vae.Input(
            "vae", optional=True, tooltip="The VAE of the network. Needed for videos, not for prepared clips."
        ),
        io.AudioEncoder.Input(
            "audio_encoder",
            optional=True,
            tooltip="wav2vec2-base-960h, for videos and published networks; small ones hear log-mels.",
        ),
        FaceDetectionType.Input(
            "face_detection_model",
            optional=True,
            tooltip="Of core's `Load Face Detection Model (MediaPipe)`. Needed for videos.",
        ),
        SingerIdentity.Input(
            "identity_model",
            optional=True,
            tooltip="Of `Load SINGER Identity Model`, for videos and networks that read an identity.",
        ),
    ]


def _input_folders() -> list[str]:
    """Folders in ComfyUI's input folder."""
    root = folder_paths.get_input_directory()
    return sorted(e.name for e in os.scandir(root) if e.is_dir()) if os.path.isdir(root) else []


def _input_folder(name: str) -> Path:
    """The folder behind a name of `_input_folders`; the name is not trusted."""
    root = Path(folder_paths.get_input_directory())
    if not name or Path(name).name != name or name == "..":
        raise ValueError(
            f"`data` is {name!r}; a folder directly in {root} is accepted. Put the videos into one and "
            "choose it."
        )
    if not (root / name).is_dir():
        raise FileNotFoundError(f"There is no folder {name} in {root}. Put the videos there and press R.")
    return root / name


@dataclass(frozen=True)
class Lesson:
    """What is trained and how: the widgets of `Train SINGER`."""

    checkpoint: str
    recipe: str
    steps: int
    rank: int
    rate: float
    seed: int
    name: str
    accumulate: int
    clip_frames: int
    motion_modules: bool

    def run(self, data: Path) -> str:
        """Of which run this is: everything but its length and its name."""
        settings = dataclasses.replace(self, steps=0, name="")
        return hashlib.sha256(f"{data.name} {settings}".encode()).hexdigest()[:12]


def train(data: Path, lesson: Lesson, preparation: Preparation) -> tuple[str, Tensor]:
    """(path of the trained file, IMAGE (1, H, W, 3) of the loss).

    Raises ValueError for a bad name or data that do not fit, RuntimeError for a wrong checkpoint or a missing
    package, and what core raises where the user cancels.
    """
    run, target = lesson.run(data), _target(lesson, data)
    start = open_checkpoint(Path(lesson.checkpoint))
    config = _config(lesson, prepared_clips(data, _workplace(), start, lesson.clip_frames, preparation), run)
    check_length(config)
    mm.unload_all_models()
    mm.soft_empty_cache()
    with torch.inference_mode(False):  # in which core runs nodes, and which knows no gradients
        _learn(config)
    export_newest(config, start, target, {RUN: run})
    return str(target), to_image(loss_picture(config.output / LOG))


def _learn(config: TrainConfig) -> None:
    # accelerate and diffusers, which only training needs
    from accelerate import PartialState

    from singer_core.training.trainer import Trainer

    PartialState(cpu=mm.is_device_cpu(mm.get_torch_device()))  # the trainer's accelerator follows it
    bar = comfy.utils.ProgressBar(config.steps)

    def report(step: Report) -> None:
        mm.throw_exception_if_processing_interrupted()
        bar.update_absolute(step.step)

    trainer = Trainer(config)
    try:
        trainer.run(report)
    finally:
        trainer.accelerator.free_memory()


def _config(lesson: Lesson, clips: Path, run: str) -> TrainConfig:
    """The settings of the recipe with the user's."""
    values: dict[str, Any] = {
        "data": str(clips),
        "output": str(_workplace() / f"{lesson.name}-{run}"),
        "start": lesson.checkpoint,
        "recipe": lesson.recipe,
        "steps": lesson.steps,
        "rate": lesson.rate,
        "seed": lesson.seed,
        "accumulate": lesson.accumulate,
        "frames": lesson.clip_frames,
        "lora_rank": lesson.rank,
        "lora_motion": lesson.motion_modules,
        "precision": _precision(),
        "gradient_checkpointing": True,
        "save_every": SAVE_EVERY,
        "log_every": 1,
        "keep": 1,
    }
    return from_mapping(values, name="`Train SINGER`")


def _precision() -> str:
    device = mm.get_torch_device()
    if mm.should_use_bf16(device):
        return "bf16"
    return "fp16" if mm.should_use_fp16(device) else "no"


def _workplace() -> Path:
    return Path(folder_paths.get_output_directory()) / "singer_training"


def _target(lesson: Lesson, data: Path) -> Path:
    """Where the trained file goes. ValueError for a bad name, or one that another run has taken."""
    if not re.fullmatch(r"\w[\w .-]*", lesson.name) or lesson.name.endswith((" ", ".")):
        raise ValueError(
            f"`name` is {lesson.name!r}; letters, digits, spaces, dots, dashes and underscores are accepted, "
            "and no folder. Choose a plain name."
        )
    category = "loras" if lesson.recipe == "lora" else folders.CHECKPOINTS
    target = Path(folder_paths.get_folder_paths(category)[0]) / f"{lesson.name}_{lesson.steps}.safetensors"
    if target.exists() and open_weights(target).metadata.get(RUN) != lesson.run(data):
        raise ValueError(f"{target} exists and is of other settings. Choose another `name`, or move it away.")
    return target


class FaceDetector(Protocol):
    """What core's FACE_DETECTION_MODEL gives."""

    def detect_batch(
        self, images: list[np.ndarray], *, num_faces: int, score_thresh: float, variant: str
    ) -> list[list[FoundFace]]: ...


@dataclass(frozen=True, eq=False)
class Preparation:
    """What videos are prepared with; each None where its socket is not connected."""

    vae: VAE | None
    audio_encoder: AudioEncoderModel | None
    face_detection_model: FaceDetector | None
    identity_model: IdentityModel | None


def prepared_clips(
    data: Path, workplace: Path, start: Checkpoint, frames: int, preparation: Preparation
) -> Path:
    """The folder of clips that the trainer reads: `data` itself, or what is made of its videos.

    Videos that are prepared already are not prepared again. Raises ValueError where a socket is missing or no
    video can be used, FileNotFoundError where there are none.
    """
    if any(data.glob("*.safetensors")):
        return data
    vae, detector = _needed(data, start, preparation)
    encoder = preparation.audio_encoder
    heard = None if encoder is None else hearing(encoder)
    remedy = "Connect wav2vec2-base-960h of `Load Audio Encoder` to `audio_encoder`."
    front_end = choose_front_end(start, heard, "`audio_encoder`", remedy)
    settings = VideoSettings(size=start.architecture.trained_size, shortest=frames + constants.MOTION_FRAMES)
    kind = f"{data.name} {settings} {front_end.layers} {front_end.width}"
    target = workplace / f"clips-{hashlib.sha256(kind.encode()).hexdigest()[:12]}"
    faces = Faces(detector, preparation.identity_model)
    report = prepare_videos(data, target, settings, CoreVae(vae), front_end, faces.find)
    if not usable(report):
        reasons = "; ".join(f"{name}: {words}" for name, words in list(report.items())[:3])
        raise ValueError(f"None of the {len(report)} videos in {data} can be used ({reasons}). Add others.")
    return target


def _needed(data: Path, start: Checkpoint, given: Preparation) -> tuple[VAE, FaceDetector]:
    """What no video is prepared without. Raises ValueError naming the sockets that are not connected."""
    wanted = ["vae", "face_detection_model"]
    if start.architecture.identity_width != COLOUR_IDENTITY_WIDTH:
        wanted.append("identity_model")
    missing = ", ".join(f"`{name}`" for name in wanted if getattr(given, name) is None)
    if missing or given.vae is None or given.face_detection_model is None:
        raise ValueError(
            f"`data` {data.name} holds no prepared clips; to prepare its videos, connect {missing}."
        )
    return given.vae, given.face_detection_model


class CoreVae:
    """Core's VAE with the face that the preparation knows from the library's."""

    def __init__(self, vae: VAE) -> None:
        self._vae = vae

    def encode(self, pixels: Tensor) -> Tensor:
        """pixels (b, 3, H, W) in [-1, 1] -> latents (b, 4, h, w), scaled for the UNet."""
        latents = self._vae.encode(pixels.movedim(1, -1) / 2 + 0.5)
        return latents.float().cpu() * constants.VAE_SCALE


class Faces:
    """Core's face landmarker, and our identity network where it is connected."""

    def __init__(self, detector: FaceDetector, identity_model: IdentityModel | None) -> None:
        self._detector, self._identity = detector, identity_model

    def find(self, picture: Image.Image) -> list[DetectedFace]:
        """Faces of an RGB picture, largest first; raises where the user has pressed cancel."""
        mm.throw_exception_if_processing_interrupted()
        [found] = self._detector.detect_batch(
            [np.asarray(picture)], num_faces=0, score_thresh=CONFIDENCE, variant="short"
        )
        return sorted((self._face(picture, face) for face in found), key=lambda f: f.area, reverse=True)

    def _face(self, picture: Image.Image, face: FoundFace) -> DetectedFace:
        points = points_of(face)
        left, top, right, bottom = (float(value) for value in face["bbox_xyxy"])
        identity = None if self._identity is None else self._identity.embed(picture, points)
        return DetectedFace(points, identity, (right - left) * (bottom - top))
