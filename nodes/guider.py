"""Guidance towards portrait and song by scales of their own (docs/modes.md)."""

from __future__ import annotations

from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from singer_core.network.conditions import PORTRAIT_ONLY

from .song import with_branch


class SplitGuider(comfy.samplers.CFGGuider):
    """v0 + s_ref (v_ref - v0) + s_audio (v - v_ref), whose contrast may be taken back.

    Equal scales are ordinary guidance, and one branch cheaper; so is a reference scale of 1, where v0 cancels
    out. Patches that replace core's guidance function act on ordinary guidance only; those that change its
    result act on both.
    """

    def __init__(
        self, model: Any, positive: Any, negative: Any, reference: float, audio: float, rescale: float
    ) -> None:
        super().__init__(model)
        self.reference_scale, self.audio_scale, self.rescale = reference, audio, rescale
        self.set_cfg(audio)
        conds = {"positive": positive, "negative": negative}
        if reference != audio:
            conds["portrait"] = with_branch(positive, PORTRAIT_ONLY)
        self.inner_set_conds(conds)

    def predict_noise(
        self,
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> Tensor:
        options = model_options or {}
        if self.rescale:
            options = {**options, "disable_cfg1_optimization": True}
            functions = [*options.get("sampler_post_cfg_function", []), self._rescaled]
            options["sampler_post_cfg_function"] = functions
        if "portrait" not in self.conds:
            return super().predict_noise(x, timestep, options, seed)
        first = ["portrait"] if self.reference_scale == 1 else ["negative", "portrait"]
        conds = [self.conds[name] for name in (*first, "positive")]
        parts = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, options)
        none, portrait, both = parts[0], parts[-2], parts[-1]
        guided = none + self.reference_scale * (portrait - none) + self.audio_scale * (both - portrait)
        for function in options.get("sampler_post_cfg_function", []):
            given = {"denoised": guided, "cond": conds[-1], "uncond": conds[0], "input": x, "sigma": timestep}
            given |= {"cond_denoised": both, "uncond_denoised": none, "cond_scale": self.audio_scale}
            guided = function({**given, "model": self.inner_model, "model_options": options})
        return guided

    def _rescaled(self, given: dict[str, Any]) -> Tensor:
        """Core's post-guidance function: deviation per frame towards the conditional one's, in v.

        Lin et al. 2024, "Common diffusion noise schedules and sample steps are flawed", section 3.4.
        """
        x, sigma = given["input"], given["sigma"].view(-1, 1, 1, 1)
        root = (sigma.square() + 1).sqrt()
        conditional, guided = (
            (x / root - given[name] * root) / sigma for name in ("cond_denoised", "denoised")
        )
        deviations = [v.std(dim=(1, 2, 3), keepdim=True) for v in (conditional, guided)]
        rescaled = torch.lerp(guided, guided * (deviations[0] / deviations[1]), self.rescale)
        return (x / root - rescaled * sigma) / root
