"""The authors' noise and sampler, and guidance by two scales (numerics sections 12 and 13, docs/modes.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import ModelSamplingDiscrete
from comfy.samplers import KSAMPLER, CFGGuider, KSamplerX0Inpaint, calc_cond_batch
from comfy_api.latest import Input, io
from torch import Tensor

from singer_core import constants
from singer_core.network.conditions import PORTRAIT_ONLY
from singer_core.network.memory import widest_float
from singer_core.render.sampler import rescaled
from singer_core.settings import SamplingSettings, SingerOptions

from .library import needs_library
from .sockets import BRANCH, Conditioning, Options, widget


class SingerNoise(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerNoise",
            display_name="SINGER Noise",
            category="SINGER",
            description="Draws noise in the order of the authors' script, so that the same seed gives the "
            "same.",
            search_aliases=["random noise", "seed", "parity"],
            inputs=[
                widget(SamplingSettings, "seed", "noise_seed", control_after_generate=True),
                widget(
                    SingerOptions,
                    "clip_frames",
                    tooltip="Frames of a clip, as in the sampler: each clip is drawn channel by channel.",
                ),
            ],
            outputs=[io.Noise.Output(display_name="noise", tooltip="For any sampler with a NOISE socket.")],
        )

    @classmethod
    @needs_library
    def execute(cls, noise_seed: int, clip_frames: int) -> io.NodeOutput:
        return io.NodeOutput(ClipNoise(noise_seed, clip_frames))


class SingerDDIM(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerDDIM",
            display_name="SINGER DDIM",
            category="SINGER",
            description="The authors' sampler: DDIM from a noise level without any signal. Use it with the "
            "scheduler `simple`.",
            search_aliases=["ddim", "sampler", "parity", "zero snr"],
            inputs=[],
            outputs=[
                io.Sampler.Output(display_name="sampler", tooltip="Deterministic, for v-prediction models.")
            ],
        )

    @classmethod
    @needs_library
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(ddim_sampler())


class SingerGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerGuider",
            display_name="SINGER Guider",
            category="SINGER",
            description="Guides towards the portrait and towards the song by scales of their own.",
            search_aliases=["cfg", "guidance", "dual cfg", "audio cfg"],
            inputs=[
                io.Model.Input("model", tooltip="A SINGER or Hallo model."),
                io.Conditioning.Input("positive", tooltip="Of `SINGER Conditioning`."),
                io.Conditioning.Input("negative", tooltip="Of `SINGER Conditioning`."),
                widget(SingerOptions, "reference_scale"),
                widget(SingerOptions, "audio_scale"),
                widget(SingerOptions, "guidance_rescale", "rescale"),
            ],
            outputs=[io.Guider.Output(display_name="guider", tooltip="For samplers with a GUIDER socket.")],
        )

    @classmethod
    @needs_library
    def execute(
        cls,
        model: ModelPatcher,
        positive: Conditioning,
        negative: Conditioning,
        reference_scale: float,
        audio_scale: float,
        rescale: float,
    ) -> io.NodeOutput:
        return io.NodeOutput(SplitGuider(model, positive, negative, reference_scale, audio_scale, rescale))


@dataclass(frozen=True)
class ClipNoise:
    """Core's NOISE, drawn clip by clip in the order channel, frame, row, column."""

    seed: int
    clip_frames: int

    def generate_noise(self, input_latent: Input.Latent) -> Tensor:
        """(frames, 4, h, w) float32 on the CPU."""
        frames, channels, h, w = input_latent["samples"].shape
        generator = torch.Generator().manual_seed(self.seed)
        shape = (channels, self.clip_frames, h, w)
        clips = -(-frames // self.clip_frames)
        drawn = [torch.randn(shape, generator=generator).transpose(0, 1) for _ in range(clips)]
        return torch.cat(drawn)[:frames].contiguous()


def ddim_sampler() -> KSAMPLER:
    return KSAMPLER(sample_ddim)


@torch.no_grad()
def sample_ddim(
    model: KSamplerX0Inpaint,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Options | None = None,
    callback: Callable[[Options], None] | None = None,
    disable: bool | None = None,
) -> Tensor:
    """DDIM (Song et al. 2021, eq. 12 with eta 0), on latents of unit variance instead of core's x = z / a.

    Core keeps the share of signal at the last time step above zero, which costs 1e-3; here it is zero, as in
    the schedule that the authors sample with.
    """
    scaled = x / (1 + sigmas[0].square()).sqrt()
    row = x.new_ones(len(x))
    for step, (sigma, alpha, following) in enumerate(
        _levels(model.inner_model.inner_model.model_sampling, sigmas)
    ):
        root = (1 + sigma.square()).sqrt()
        denoised = model((scaled.to(root.dtype) * root).float(), sigma.float() * row, **(extra_args or {}))
        v = (scaled.to(root.dtype) / root - denoised.to(root.dtype)) * root / sigma
        clean = alpha.sqrt() * scaled - (1 - alpha).sqrt() * v
        noise = alpha.sqrt() * v + (1 - alpha).sqrt() * scaled
        scaled = (following.sqrt() * clean + (1 - following).sqrt() * noise).float()
        if callback is not None:
            values = {"x": (scaled * root).float(), "i": step, "sigma": sigma, "sigma_hat": sigma}
            callback({**values, "denoised": clean.float()})
    return scaled


def _levels(sampling: ModelSamplingDiscrete, sigmas: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(sigma, share of signal, share after the step) of each step, in wide floats; `sigmas` may end anywhere.

    On the authors' own time steps, where the number of steps does not divide 1000, a step ends where their
    scheduler lets it end: not quite where the next begins.
    """
    sigmas, steps = sigmas.to(widest_float(sigmas.device)), len(sigmas) - 1
    alphas = 1 / (1 + sigmas.square())
    zero_snr = getattr(sampling, "zsnr", False) and float(sigmas[0]) >= float(sampling.sigma_max) * (1 - 1e-5)
    ends = _authors_ends(sampling, sigmas)
    for step in range(steps):
        alpha = torch.zeros_like(alphas[0]) if step == 0 and zero_snr else alphas[step]
        yield sigmas[step], alpha, alphas[step + 1] if ends is None else ends[step]


def _authors_ends(sampling: ModelSamplingDiscrete, sigmas: Tensor) -> list[Tensor] | None:
    """Share of signal after each step on the authors' trailing time steps; None for other steps."""
    steps, total = len(sigmas) - 1, constants.TRAIN_TIMESTEPS
    trailing = [round(total - step * total / steps) - 1 for step in range(steps)]
    found = sampling.timestep(sigmas[:-1].float()).tolist()
    if found != trailing or float(sigmas[-1]) != 0:
        return None
    table = 1 / (1 + sampling.sigmas.to(sigmas).square())
    one = torch.ones_like(table[0])
    ends = [time - total // steps for time in trailing]
    return [table[end].to(sigmas) if end >= 0 else one.to(sigmas) for end in ends]


class SplitGuider(CFGGuider):
    """v0 + s_ref (v_ref - v0) + s_audio (v - v_ref), whose contrast may be taken back.

    Equal scales are ordinary guidance, and one branch cheaper; so is a reference scale of 1, where v0 cancels
    out. Patches that replace core's guidance function act on ordinary guidance only; those that change its
    result act on both.
    """

    def __init__(
        self,
        model: ModelPatcher,
        positive: Conditioning,
        negative: Conditioning,
        reference: float,
        audio: float,
        rescale: float,
    ) -> None:
        super().__init__(model)
        self.reference_scale, self.audio_scale, self.rescale = reference, audio, rescale
        self.set_cfg(audio)
        conds = {"positive": positive, "negative": negative}
        if reference != audio:
            conds["portrait"] = [(tensor, {**given, BRANCH: PORTRAIT_ONLY}) for tensor, given in positive]
        self.inner_set_conds(conds)

    def predict_noise(
        self,
        x: Tensor,
        timestep: Tensor,
        model_options: Options | None = None,
        seed: int | None = None,
    ) -> Tensor:
        options = model_options or {}
        if self.rescale:
            options = {**options, "disable_cfg1_optimization": True}
            functions = [*options.get("sampler_post_cfg_function", []), self._rescaled]
            options["sampler_post_cfg_function"] = functions
        if "portrait" not in self.conds:
            return super().predict_noise(x, timestep, options, seed)
        if "ADGS" in options["transformer_options"]:
            raise ValueError(
                "AnimateDiff-Evolved guides by one scale. Give `SINGER Guider` equal scales, or use core's "
                "context windows or `Sample SINGER Video`."
            )
        first = ["portrait"] if self.reference_scale == 1 else ["negative", "portrait"]
        conds = [self.conds[name] for name in (*first, "positive")]
        parts = calc_cond_batch(self.inner_model, conds, x, timestep, options)
        none, portrait, both = parts[0], parts[-2], parts[-1]
        guided = none + self.reference_scale * (portrait - none) + self.audio_scale * (both - portrait)
        for function in options.get("sampler_post_cfg_function", []):
            given = {"denoised": guided, "cond": conds[-1], "uncond": conds[0], "input": x, "sigma": timestep}
            given |= {"cond_denoised": both, "uncond_denoised": none, "cond_scale": self.audio_scale}
            guided = function({**given, "model": self.inner_model, "model_options": options})
        return guided

    def _rescaled(self, given: Options) -> Tensor:
        """Core's post-guidance function: the guided prediction's deviation, in v."""
        x, sigma = given["input"], given["sigma"].view(-1, 1, 1, 1)
        root = (sigma.square() + 1).sqrt()
        conditional, guided = (
            (x / root - given[name] * root) / sigma for name in ("cond_denoised", "denoised")
        )
        return (x / root - rescaled(guided, conditional, self.rescale) * sigma) / root
