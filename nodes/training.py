"""Adapting a network to a singer, or training it on, inside a graph."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from . import folders
from .library import needs_library
from .sockets import SingerIdentity

FaceDetectionType = io.Custom("FACE_DETECTION_MODEL")  # core's
RECIPES = ["lora", "matched"]


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
            inputs=_inputs(),
            outputs=[
                io.String.Output(
                    display_name="path",
                    tooltip="The trained file: a LoRA in models/loras, or a checkpoint in models/singer.",
                ),
                io.Image.Output(display_name="loss", tooltip="Loss over the steps; lower is better."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, data: str, **_others: Any) -> Any:
        """Trains again where the folder's files have changed."""
        return sorted((f.name, f.stat().st_mtime_ns) for f in os.scandir(_input_folder(data)))

    @classmethod
    @needs_library
    def execute(
        cls,
        data: str,
        checkpoint: str,
        recipe: str,
        steps: int,
        rank: int,
        rate: float,
        seed: int,
        name: str,
        accumulate: int,
        clip_frames: int,
        motion_modules: bool,
        vae: Any = None,
        audio_encoder: Any = None,
        face_detection_model: Any = None,
        identity_model: Any = None,
    ) -> io.NodeOutput:
        from .lesson import Lesson, Preparation, train

        lesson = Lesson(
            checkpoint=folders.checkpoint_path(checkpoint),
            recipe=recipe,
            steps=steps,
            rank=rank,
            rate=rate,
            seed=seed,
            name=name,
            accumulate=accumulate,
            clip_frames=clip_frames,
            motion_modules=motion_modules,
        )
        preparation = Preparation(vae, audio_encoder, face_detection_model, identity_model)
        path, plot = train(_input_folder(data), lesson, preparation)
        return io.NodeOutput(path, plot, ui=ui.PreviewImage(plot, cls=cls))


def _inputs() -> list[io.Input]:
    return [*_widgets(), *_expert_widgets(), *_sockets()]


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
        io.Int.Input(
            "seed",
            default=42,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
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
        io.Int.Input(
            "clip_frames",
            default=16,
            min=2,
            max=30,
            step=2,
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
