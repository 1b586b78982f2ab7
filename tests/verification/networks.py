"""Checks of the whole network against its fixtures: reference pass, denoiser, pipeline of two clips."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from singer_core.audio.features import AudioFeatures
from singer_core.network.autoencoder import Autoencoder, build_autoencoder
from singer_core.network.backbone import SingerNetwork
from singer_core.network.checkpoint import Checkpoint, load_network, read_architecture
from singer_core.network.conditions import CONDITIONAL, UNCONDITIONAL, AudioTokens, ClipConditions
from singer_core.network.schedule import ddim
from singer_core.portrait.crop import whole
from singer_core.portrait.portrait import Portrait
from singer_core.render.pipeline import SingerPipeline, Step
from singer_core.render.sampler import SpectralWeighting
from singer_core.settings import OFFICIAL
from singer_core.weights import WeightFile
from verification.fixtures import Case, Tensors, load_upcast

LEVELS = 4


def run_refunet(case: Case) -> Tensors:
    network, outputs = fixture_network(case), Tensors()
    latents, tokens = case.inputs["ref_latents"][None], case.inputs["ctx"][:, None]
    for name, given in (("cfg", tokens), ("nocfg", tokens[-1:])):
        for site, features in network.reference_features(latents, given).features.items():
            bank = features.flatten(0, 2)
            stride = max(1, bank.shape[1] // case.config["bank_tokens"])
            prefix = f"{name}/{site}.transformer_blocks.0"
            outputs[f"{prefix}/bank"] = bank[:, ::stride]
            outputs[f"{prefix}/shape"] = torch.tensor(bank.shape)
            outputs[f"{prefix}/stats"] = torch.stack([bank.mean(), bank.std(), bank.abs().max()])
    return outputs


def run_denoise(case: Case) -> Tensors:
    """Outputs are named `{cfg,nocfg}/t<timestep>[/bank_fp32 | /motion_scale_none]`."""
    network, outputs = fixture_network(case), Tensors()
    for name in case.expected:
        match = re.fullmatch(r"(cfg|nocfg)/t(\d+)(?:/(bank_fp32|motion_scale_none))?", name)
        if match:
            guided, timestep, variant = match[1] == "cfg", int(match[2]), match[3]
            outputs[name] = _denoise(network, case, guided, timestep, variant)
    return outputs


def _denoise(
    network: SingerNetwork, case: Case, guided: bool, timestep: int, variant: str | None
) -> torch.Tensor:
    inputs = case.inputs
    tokens = inputs["ctx"][:, None]
    latents = inputs["latents"][0].transpose(0, 1)
    region = (inputs["region"].float() / 255).expand(1, 3, -1, -1)
    unit = variant == "motion_scale_none"
    clip = ClipConditions(
        branches=(UNCONDITIONAL, CONDITIONAL) if guided else (CONDITIONAL,),
        frames=len(latents),
        audio=AudioTokens(inputs["audio"][0]),
        masks=masks_of(inputs),
        weights=torch.ones(1, 3) if unit else torch.tensor([case.config["motion_scale"]]),
        face=network.adapter.face_locator(region),
        reference=network.reference_features(
            inputs["ref_latents"][None],
            tokens if guided else tokens[-1:],
            rounded_to=None if variant == "bank_fp32" else torch.float16,
        ),
    )
    prediction = network(latents, timestep, tokens, clip)
    return prediction.unflatten(0, (len(clip.branches), -1)).transpose(1, 2)


def run_pipeline(case: Case) -> Tensors:
    config, inputs = case.config, case.inputs
    options = OFFICIAL.but(
        steps=config["steps"],
        reference_scale=config["cfg_scale"],
        audio_scale=config["cfg_scale"],
        clip_frames=config["clip_length"],
        motion_frames=config["n_motion"],
    )
    pipeline = SingerPipeline(fixture_network(case), fixture_vae(case), options)
    outputs: Tensors = {"timesteps": ddim(options.noise_schedule, options.steps).timesteps}
    features = inputs["audio_emb"]
    weights = torch.tensor([config["motion_scale"]]).expand(len(features), -1)

    def record(step: Step) -> None:
        outputs[f"clip{step.clip}/latents_step{step.step}"] = _with_batch(step.latents)

    audio = AudioFeatures(features, fps=25.0, frames=len(features))
    rendered = pipeline.render(portrait_of(inputs), audio, config["noise_seed"], weights, record)
    pictures = inputs["image"].float() / 255
    previous = pictures.expand(options.motion_frames, -1, -1, -1)
    for index, made in enumerate(rendered):
        given = made.inputs
        weighed = SpectralWeighting(pipeline.network.adapter, options)(given.audio_tokens, given.noise)
        video = made.pictures.transpose(0, 1)[None]
        outputs |= {
            f"clip{index}/noise": _with_batch(given.noise),
            f"clip{index}/audioproj": given.audio_tokens[None],
            f"clip{index}/audio_msm": weighed[None],
            f"clip{index}/ref_latents": given.reference_latents,
            f"clip{index}/latents_final": _with_batch(made.latents),
            f"clip{index}/video_strided": video[..., ::8, ::8],
            f"clip{index}/video_stats": torch.stack([video.mean(), video.std(), video.min(), video.max()]),
            f"clip{index}/motion_frames_strided": (previous * 2 - 1)[..., ::8, ::8],
        }
        previous = made.pictures[-options.motion_frames :]
    return outputs


def portrait_of(inputs: Tensors) -> Portrait:
    image = inputs["image"].float() / 255
    size = (image.shape[1], image.shape[2])
    return Portrait(
        image=image,
        region=inputs["region"].float() / 255,
        masks=tuple(mask[:, 0] for mask in masks_of(inputs)),
        identity=inputs["face_emb"],
        crop=whole(size, size),
    )


def fixture_network(case: Case) -> SingerNetwork:
    """The network of a fixture's weight files, which are listed with the fixture."""
    state = weights_of(case, "weights_")
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    heads = case.config["unet"]["attention_head_dim"]
    arch = read_architecture(shapes, {"singer.heads": str(heads)})
    file = WeightFile(case.folder, shapes, {}, {}, state.__getitem__)
    return load_network(Checkpoint(file, "singer", arch), torch.float32)


def fixture_vae(case: Case) -> Autoencoder:
    state = {key.removeprefix("vae."): value for key, value in weights_of(case, "weights_vae_").items()}
    return Autoencoder(build_autoencoder(state, case.config["vae"]))


def weights_of(case: Case, prefix: str) -> Tensors:
    state: Tensors = {}
    for name in case.weight_files:
        vae = name.startswith("weights_vae_")
        if name.startswith(prefix) and vae == (prefix == "weights_vae_"):
            state |= load_upcast(Path(case.folder) / name)
    return state


def masks_of(inputs: Tensors) -> tuple[torch.Tensor, ...]:
    return tuple(
        torch.stack([inputs[f"{region}_{level}"] for region in ("full", "face", "lip")])
        for level in range(LEVELS)
    )


def _with_batch(latents: torch.Tensor) -> torch.Tensor:
    """f c h w -> 1 c f h w."""
    return latents.transpose(0, 1)[None]
