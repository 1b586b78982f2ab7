"""Checks of single modules against their fixtures: wavelet, MSM, SFM, projections, blocks, schedules."""

from __future__ import annotations

import re
from typing import TypeVar

import torch
from diffusers import DDIMScheduler
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from singer_core.network.adapter import AudioProjection, FaceLocator, ImageProjection, audio_windows
from singer_core.network.architecture import Architecture
from singer_core.network.backbone import SpatialAttentionProcessor
from singer_core.network.checkpoint import our_key
from singer_core.network.conditions import (
    CONDITIONAL,
    UNCONDITIONAL,
    AudioTokens,
    ClipConditions,
    ReferenceFeatures,
)
from singer_core.network.layers import AudioTransformer, MotionModule, Toolkit
from singer_core.network.schedule import ddim, min_snr_weight, signal_to_noise
from singer_core.network.spectral import MultiScaleSpectralModule, SelfAdaptiveFilterModule
from singer_core.network.wavelet import Bands, analysis, synthesis
from verification.fixtures import Case, Tensors

Module = TypeVar("Module", bound=nn.Module)


def run_dwt(case: Case) -> Tensors:
    x = case.inputs["x"]
    bands = analysis(x)
    names = dict(zip(("LL", "LH", "HL", "HH"), bands, strict=True))
    as_pywt = dict(zip(("pywt_cA", "pywt_cV", "pywt_cH", "pywt_cD"), bands, strict=True))
    given = Bands(*(case.inputs[f"s{i}"] for i in range(4)))
    return {**names, **as_pywt, "idwt": synthesis(given), "roundtrip": synthesis(bands)}


def run_msm(case: Case) -> Tensors:
    module = _published(
        MultiScaleSpectralModule(tuple(case.weights["dct_layer.weight"].shape), Toolkit()),
        case.weights,
        "audioembed.",
    )
    latents, audio = case.inputs["x"].transpose(1, 2), case.inputs["audio"]  # b f c h w
    clips = list(zip(audio, latents, strict=True))
    return {
        "dct_sums": torch.stack([module.responses(x) for _, x in clips], dim=1),
        "gate": torch.stack([module.gains(x) for _, x in clips], dim=1),
        "out": torch.stack([module(a, x) for a, x in clips]),
    }


def run_sfm(case: Case) -> Tensors:
    channels, width = case.weights["weight"].shape[2], case.weights["fc.0.weight"].shape[1]
    module = _published(
        SelfAdaptiveFilterModule(channels, width, Toolkit()),
        case.weights,
        "denoising_unet.hidden_spectral_weighting.",
    )
    return {"out": _clips(module(_frames(case.inputs["x"])), len(case.inputs["x"]))}


def run_audioproj(case: Case) -> Tensors:
    weights, features = case.weights, case.inputs["audio_emb"]
    hidden, inputs = weights["proj1.weight"].shape
    width = len(weights["norm.weight"])
    tokens = len(weights["proj3.weight"]) // width
    module = _load(AudioProjection(inputs, hidden, tokens, width, Toolkit()), weights)
    windows = audio_windows(features)
    return {"windows": windows, "out": module(windows)[None]}


def run_imageproj(case: Case) -> Tensors:
    width, (outputs, inputs) = len(case.weights["norm.weight"]), case.weights["proj.weight"].shape
    module = _load(ImageProjection(inputs, outputs // width, width, Toolkit()), case.weights)
    identity = case.inputs["emb"]
    return {"out": module(identity), "out_zeros": module(torch.zeros_like(identity))}


def run_facelocator(case: Case) -> Tensors:
    weights = case.weights
    blocks = sum(bool(re.fullmatch(r"blocks\.\d+\.weight", key)) for key in weights)
    widths = [len(weights["conv_in.weight"])] + [
        len(weights[f"blocks.{i}.weight"]) for i in range(1, blocks, 2)
    ]
    module = _load(FaceLocator(len(weights["conv_out.weight"]), tuple(widths), Toolkit()), weights)
    features = module((case.inputs["mask"].float() / 255).expand(1, 3, -1, -1))
    return {"out": features.transpose(0, 1)[None].expand(-1, -1, case.config["frames"], -1, -1)}


def run_refblock(case: Case) -> Tensors:
    config, hidden = case.config, case.inputs["hidden"]
    channels, heads, frames, guided = config["channels"], config["heads"], config["frames"], config["cfg"]
    transformer = Transformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=channels // heads,
        in_channels=channels,
        cross_attention_dim=config["ctx_dim"],
    )
    block = transformer.transformer_blocks[0]
    block.attn1.set_processor(SpatialAttentionProcessor("site"))
    block.attn2.set_processor(SpatialAttentionProcessor(None))
    _load(transformer, case.weights)
    branches = (UNCONDITIONAL, CONDITIONAL) if guided else (CONDITIONAL,)
    bank = case.inputs["bank"].unflatten(0, (len(branches), 1, -1))
    clip = _bare_clip(branches, frames, ReferenceFeatures({"site": bank}))
    out = transformer(
        _frames(hidden),
        encoder_hidden_states=case.inputs["ctx"].repeat_interleave(frames, 0),
        cross_attention_kwargs={"clip": clip},
        return_dict=False,
    )[0]
    carried = clip.carried("site", _frames(hidden))  # branch k c h w
    return {"out": _clips(out, len(hidden)), "motion_frames": carried.flatten(3).transpose(2, 3)}


def run_motion(case: Case) -> Tensors:
    hidden = case.inputs["hidden"]
    frames = hidden.shape[2]
    carried = case.inputs.get("motion", hidden[:, :, :0]).transpose(1, 2)  # b k c h w
    module = _load(MotionModule(hidden.shape[1], case.config["heads"], Toolkit()), case.weights)
    whole = torch.cat([carried, hidden.transpose(1, 2)], dim=1).flatten(0, 1)
    return {
        "out": _clips(module(_frames(hidden), frames, carried), len(hidden)),
        "full": _clips(module.temporal_transformer(whole, frames + carried.shape[1]), len(hidden)),
    }


def run_audioblock(case: Case) -> Tensors:
    config, hidden = case.config, case.inputs["hidden"]
    module = _load(
        AudioTransformer(
            config["channels"], config["inner"], config["audio_dim"], config["heads"], Toolkit()
        ),
        case.weights,
    )
    masks = tuple(torch.stack([case.inputs[f"{n}_{i}"] for n in ("full", "face", "lip")]) for i in range(4))
    outputs = {}
    for name, weights in (("out_scaled", config["motion_scale"]), ("out_noscale", (1.0, 1.0, 1.0))):
        clip = ClipConditions(
            branches=(CONDITIONAL,),
            frames=hidden.shape[2],
            audio=AudioTokens(case.inputs["audio"].flatten(0, 1)),
            masks=masks,
            weights=torch.tensor([weights]),
            face=torch.zeros(1, 1, 1, 1),
            reference=None,
        )
        outputs[name] = _clips(module(_frames(hidden), clip, config["depth"]), len(hidden))
    return outputs


def run_ddim(case: Case) -> Tensors:
    v, x = case.inputs["v"], case.inputs["x"]
    scheduler = ddim("linear", 1)
    outputs: Tensors = {
        "betas": scheduler.betas,
        "alphas_cumprod": scheduler.alphas_cumprod,
        "final_alpha_cumprod": scheduler.final_alpha_cumprod,
    }
    for steps in case.config["steps_tables"]:
        outputs[f"timesteps_{steps}"] = ddim("linear", steps).timesteps
    for steps in case.config["steps_run"]:
        latents, scheduler = x, ddim("linear", steps)
        for step, timestep in enumerate(scheduler.timesteps):
            result = scheduler.step(v[step % len(v)], timestep, latents)
            latents = result.prev_sample
            outputs[f"run{steps}/step{step:02d}/prev_sample"] = latents
            outputs[f"run{steps}/step{step:02d}/pred_x0"] = result.pred_original_sample
    return {**outputs, **_training_tables(ddim("scaled_linear", 1), case)}


def _training_tables(scheduler: DDIMScheduler, case: Case) -> Tensors:
    timesteps = torch.tensor(case.config["train_t"])
    shape = (len(timesteps), *case.inputs["x"].shape[1:])
    clean, noise = case.inputs["x"].expand(shape), case.inputs["v"][0].expand(shape)
    snr = signal_to_noise(scheduler, timesteps)
    return {
        "train_scaled_linear_alphas_cumprod": scheduler.alphas_cumprod,
        "train/noisy": scheduler.add_noise(clean, noise, timesteps),
        "train/velocity": scheduler.get_velocity(clean, noise, timesteps),
        "train/snr": snr,
        "train/min_snr_weight": min_snr_weight(snr),
    }


def _bare_clip(branches: tuple, frames: int, reference: ReferenceFeatures) -> ClipConditions:  # type: ignore[type-arg]
    nothing = torch.zeros(1, 1, 1, 1)
    return ClipConditions(branches, frames, AudioTokens(nothing[0]), (), torch.ones(1, 3), nothing, reference)


def _load(module: Module, weights: Tensors) -> Module:
    module.load_state_dict(weights)
    return module.eval().requires_grad_(False)


def _published(module: Module, weights: Tensors, prefix: str) -> Module:
    """Load tensors under published names, of the part of the network behind `prefix`."""
    named = {}
    for key, value in weights.items():
        name = our_key(prefix + key, Architecture())
        assert name is not None
        named[name.split(".", 2)[2]] = value  # without `adapter.<part>.`
    return _load(module, named)


def _frames(x: torch.Tensor) -> torch.Tensor:
    """b c f h w -> (b f) c h w."""
    return x.transpose(1, 2).flatten(0, 1)


def _clips(x: torch.Tensor, batch: int) -> torch.Tensor:
    """(b f) c h w -> b c f h w."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2)
