"""The authors' code as one side of the benchmark: a process that answers requests on its standard input.

`bench/denoiser.py` starts this file with a Python that has what the authors' code needs (`--reference-
python`): torch, diffusers 0.27, einops, PyWavelets, safetensors. Nothing of `singer_core` is imported
here, and nothing of the authors' code is kept here: their checkout is put on the module path and run as
it stands, in the state their script leaves it in. That is the denoising UNet in train mode with gradient
checkpointing on, which decides the branches it takes, and the reference bank rounded to float16.
`xformers`, which they import and do not use on the way, gets an empty stand-in where it is not installed.

One request per line and one reply per line, JSON objects both:

    {"do": "load", "config": {...}, "weights": path, "inputs": path, "device": "cpu", "dtype": "float32",
     "threads": 1, "vae": folder, "encoder": folder}       -> {"torch": "...", "diffusers": "..."}
    {"do": "reference" | "step" | "clip" | "decode" | "audio", "t": 499, "steps": 4, "out": path or null}
                                                           -> {"seconds": ..., "cpu_seconds": ...}

The process ends with its input. Layout of the inputs: `clip_inputs` in `bench/material.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import math
import os
import sys
import time
import types
from collections.abc import Callable
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

GUIDANCE = 3.5  # cfg_scale of the authors' configs/inference/inference.yaml
MASKS = ("full", "face", "lip")
LEVELS = 4
SONG_RATE, FPS = 16_000, 25  # of their configs/inference/inference.yaml
REFERENCE_STEP = 0  # the reference pass runs at t = 0 (face_animate_revised.py)

# configs/inference/inference.yaml of the authors, the keys their constructor reads
UNET_3D = {
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock3D"] * 3 + ["DownBlock3D"],
    "up_block_types": ["UpBlock3D"] + ["CrossAttnUpBlock3D"] * 3,
    "mid_block_type": "UNetMidBlock3DCrossAttn",
    "use_inflated_groupnorm": True,
    "unet_use_cross_frame_attention": False,
    "unet_use_temporal_attention": False,
    "use_motion_module": True,
    "use_audio_module": True,
    "motion_module_resolutions": [1, 2, 4, 8],
    "motion_module_mid_block": True,
    "motion_module_decoder_only": False,
    "motion_module_type": "Vanilla",
    "motion_module_kwargs": {
        "num_attention_heads": 8,
        "num_transformer_block": 1,
        "attention_block_types": ["Temporal_Self", "Temporal_Self"],
        "temporal_position_encoding": True,
        "temporal_position_encoding_max_len": 32,
        "temporal_attention_dim_div": 1,
    },
    "stack_enable_blocks_name": ["up", "down", "mid"],
    "stack_enable_blocks_depth": [0, 1, 2, 3],
}
UNET_2D = {
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
UNET_BASE = {
    "in_channels": 4,
    "center_input_sample": False,  # no argument of the 2-D constructor, but read from its config
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "norm_eps": 1e-5,
}
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "clip_sample": False,
    "steps_offset": 1,
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "prediction_type": "v_prediction",
}


def stand_in(name: str) -> None:
    """Put empty modules for `name` and its parents in place unless the package is installed."""
    parts = name.split(".")
    if parts[0] not in sys.modules and importlib.util.find_spec(parts[0]) is not None:
        return
    for depth in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:depth]), types.ModuleType(parts[depth - 1]))


def authors_classes(root: Path) -> types.SimpleNamespace:
    """Import the authors' classes from their checkout `root`."""
    import diffusers  # noqa: F401  before the stand-ins: it looks for xformers itself
    import torch.utils.checkpoint as checkpointing

    stand_in("xformers.ops")
    sys.path.insert(0, str(root))
    # their torch (2.2) took the re-entrant path when the caller named none; later ones want it said
    checkpointing.checkpoint = partial(checkpointing.checkpoint, use_reentrant=True)
    from diffusers import DDIMScheduler
    from models.animate.face_animate_revised import FaceAnimatePipeline
    from models.models.audio_proj import AudioProjModel
    from models.models.audio_spectral_embed import MultiSpectralAttentionLayer
    from models.models.face_locator import FaceLocator
    from models.models.image_proj import ImageProjModel
    from models.models.mutual_self_attention import ReferenceAttentionControl
    from models.models.unet_2d_condition import UNet2DConditionModel
    from models.models.unet_3d_revised import UNet3DConditionModel
    from models.models.wav2vec import Wav2VecModel

    return types.SimpleNamespace(
        Scheduler=DDIMScheduler,
        AudioProjection=AudioProjModel,
        Spectral=MultiSpectralAttentionLayer,
        FaceLocator=FaceLocator,
        ImageProjection=ImageProjModel,
        Control=ReferenceAttentionControl,
        UNet2D=UNet2DConditionModel,
        UNet3D=UNet3DConditionModel,
        Encoder=Wav2VecModel,
        Pipeline=FaceAnimatePipeline,
    )


class AuthorsNetwork:
    """The authors' networks with one set of weights and one clip's inputs.

    config   arguments of their constructors: unet, additional, imageproj, audioproj, msm, face_locator
    weights  a safetensors file with the names of `net.pth`, float32
    """

    def __init__(
        self,
        root: Path,
        config: dict[str, Any],
        weights: Path,
        inputs: Path,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.classes = authors_classes(root)
        self.device, self.dtype = device, dtype
        state = load_file(weights)
        self.parts = {name: self._load(name, part, state) for name, part in self._build(config).items()}
        self.parts["denoising_unet"].train()
        for name in ("reference_unet", "denoising_unet"):
            self.parts[name].enable_gradient_checkpointing()
        self.inputs = {
            name: value.to(device, dtype if value.is_floating_point() else None)
            for name, value in load_file(inputs).items()
        }
        self.writer, self.reader = (
            self.classes.Control(
                self.parts[part],
                do_classifier_free_guidance=True,
                mode=mode,
                batch_size=1,
                fusion_blocks="full",
            )
            for part, mode in (("reference_unet", "write"), ("denoising_unet", "read"))
        )
        with torch.no_grad():
            self._condition()
            self.reference()

    def _build(self, config: dict[str, Any]) -> dict[str, torch.nn.Module]:
        audio, image, unet = config["audioproj"], config["imageproj"], {**UNET_BASE, **config["unet"]}
        with torch.device("meta"):
            return {
                "reference_unet": self.classes.UNet2D.from_config({**unet, **UNET_2D}).eval(),
                "denoising_unet": self.classes.UNet3D.from_config(
                    {**unet, **UNET_3D}, **config["additional"]
                ),
                "face_locator": self.classes.FaceLocator(**config["face_locator"]),
                "imageproj": self.classes.ImageProjection(**image),
                "audioproj": self.classes.AudioProjection(**audio),
                "audioembed": self.classes.Spectral(*config["msm"]),
            }

    def _load(self, name: str, part: torch.nn.Module, state: dict[str, torch.Tensor]) -> torch.nn.Module:
        own = {k[len(name) + 1 :]: v for k, v in state.items() if k.startswith(f"{name}.")}
        part.load_state_dict(own, strict=True, assign=True)
        return part.requires_grad_(False).to(self.device, self.dtype)

    def _condition(self) -> None:
        """Everything their pipeline prepares once per clip, before the reference pass."""
        given, parts = self.inputs, self.parts
        frames = given["latents"].shape[2]
        if "ctx" in given:
            self.tokens = given["ctx"]
        else:
            identity = given["identity"]
            self.tokens = torch.cat(
                [parts["imageproj"](torch.zeros_like(identity)), parts["imageproj"](identity)]
            )
        audio = (
            given["audio"]
            if "audio" in given
            else parts["audioembed"](parts["audioproj"](given["windows"]), given["latents"])
        )
        self.audio = torch.cat([torch.zeros_like(audio), audio])
        region = (given["region"].to(self.dtype) / 255).expand(1, 3, -1, -1)
        face = parts["face_locator"](region[:, :, None].expand(-1, -1, frames, -1, -1))
        self.face = torch.cat([torch.zeros_like(face), face])
        self.masks = {
            f"{name}_mask": [given[f"{name}_{i}"].repeat(2 * frames, 1) for i in range(LEVELS)]
            for name in MASKS
        }
        self.scale = given["region_weights"].tolist()

    def reference(self) -> None:
        """Run the reference UNet on (reference, motion, motion) for both halves and hand the bank over."""
        self.writer.clear()
        self.reader.clear()
        self.parts["reference_unet"](
            self.inputs["ref_latents"].repeat(2, 1, 1, 1),
            torch.tensor(REFERENCE_STEP, device=self.device),
            encoder_hidden_states=self.tokens,
            return_dict=False,
        )
        self.reader.update(self.writer)

    def both(self, latents: torch.Tensor, t: int) -> torch.Tensor:
        """latents (1, 4, f, h, w) -> prediction (2, 4, f, h, w) for [uncond, cond]"""
        return self.parts["denoising_unet"](
            torch.cat([latents] * 2),
            torch.tensor(t, device=self.device),
            encoder_hidden_states=self.tokens,
            mask_cond_fea=self.face,
            audio_embedding=self.audio,
            motion_scale=self.scale,
            return_dict=False,
            **self.masks,
        )[0]

    def step(self, t: int, latents: torch.Tensor | None = None) -> torch.Tensor:
        """Guided prediction (1, 4, f, h, w) of one denoiser step."""
        uncond, cond = self.both(self.inputs["latents"] if latents is None else latents, t).chunk(2)
        return uncond + GUIDANCE * (cond - uncond)

    def clip(self, steps: int) -> torch.Tensor:
        """Conditions, reference pass and `steps` DDIM steps of a clip -> final latents (1, 4, f, h, w)."""
        self._condition()
        self.reference()
        scheduler = self.classes.Scheduler(**SCHEDULER)
        scheduler.set_timesteps(steps, device=self.device)
        latents = self.inputs["latents"]
        for t in scheduler.timesteps:
            latents = scheduler.step(self.step(int(t), latents), t, latents, eta=0.0, return_dict=False)[0]
        return latents


class AuthorsEnds:
    """What their script does before and after the network: audio features and pictures."""

    def __init__(self, network: AuthorsNetwork, vae: str, encoder: str) -> None:
        self.network, self.folders = network, {"vae": vae, "encoder": encoder}

    @cached_property
    def vae(self) -> Any:
        from diffusers import AutoencoderKL

        return AutoencoderKL.from_pretrained(self.folders["vae"]).to(self.network.device, self.network.dtype)

    @cached_property
    def encoder(self) -> torch.nn.Module:
        encoder = self.network.classes.Encoder.from_pretrained(self.folders["encoder"], local_files_only=True)
        return encoder.eval().to(self.network.device)

    def decode(self) -> torch.Tensor:
        """Their `decode_latents`, one frame at a time -> (1, 3, f, H, W)."""
        holder = types.SimpleNamespace(vae=self.vae)
        pictures = self.network.classes.Pipeline.decode_latents(holder, self.network.inputs["latents"])
        return torch.from_numpy(pictures)

    def audio(self) -> torch.Tensor:
        """Their `AudioProcessor.preprocess` behind the separation and the file -> (s, l, d)."""
        from transformers import Wav2Vec2FeatureExtractor

        song = self.network.inputs["song"][0].float().cpu().numpy()
        values = Wav2Vec2FeatureExtractor()(song, sampling_rate=SONG_RATE).input_values[0]
        given = torch.from_numpy(values).float().to(self.network.device)[None]
        frames = math.ceil(len(song) / SONG_RATE * FPS)
        found = self.encoder(given, seq_len=frames, output_hidden_states=True)
        return torch.stack(found.hidden_states[1:], dim=1)[0].transpose(0, 1).cpu()


def timed(
    device: torch.device, work: Callable[[], torch.Tensor | None]
) -> tuple[dict[str, float], torch.Tensor | None]:
    """Seconds that `work` takes on `device` by the clock on the wall and in CPU time, and its result."""
    wait = getattr(torch, device.type).synchronize
    wait()
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    wait()
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}, result


def answer(network: AuthorsNetwork, ends: AuthorsEnds, request: dict[str, Any]) -> dict[str, float]:
    """Do what `request` asks for and say how long it took."""
    work: dict[str, Callable[[], torch.Tensor | None]] = {
        "reference": network.reference,
        "step": lambda: network.step(request["t"]),
        "clip": lambda: network.clip(request["steps"]),
        "decode": ends.decode,
        "audio": ends.audio,
    }
    seconds, result = timed(network.device, work[request["do"]])
    if result is not None and request.get("out"):
        save_file({"out": result.float().cpu().contiguous()}, request["out"])
    return seconds


def serve(root: Path) -> None:
    """Answer requests until the input ends; what the authors' code prints goes to the error stream."""
    with os.fdopen(os.dup(1), "w") as replies, contextlib.redirect_stdout(sys.stderr), torch.no_grad():
        network: AuthorsNetwork | None = None
        for line in sys.stdin:
            request = json.loads(line)
            if request["do"] == "load":
                torch.set_num_threads(request["threads"])
                network = AuthorsNetwork(
                    root,
                    request["config"],
                    Path(request["weights"]),
                    Path(request["inputs"]),
                    torch.device(request["device"]),
                    getattr(torch, request["dtype"]),
                )
                ends = AuthorsEnds(network, request["vae"], request["encoder"])
                reply: dict[str, Any] = {"torch": torch.__version__, "diffusers": version("diffusers")}
            elif network is None:
                raise RuntimeError("the first request must be `load`")
            else:
                reply = answer(network, ends, request)
            replies.write(json.dumps(reply) + "\n")
            replies.flush()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="checkout of the authors' repository")
    serve(parser.parse_args().root.resolve())


if __name__ == "__main__":
    main()
