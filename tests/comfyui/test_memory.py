"""The memory estimate against what a forward of the published size keeps alive (on the meta device)."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from counted import Memory

from singer_core.network.architecture import Architecture
from singer_core.network.conditions import CONDITIONAL, UNCONDITIONAL, AudioTokens, ClipConditions
from singer_core.settings import OFFICIAL


@pytest.mark.parametrize(("frames", "side"), [(16, 64), (30, 64), (4, 64), (16, 96)])
def test_the_estimate_covers_a_forward_and_is_not_far_above(core, pack, frames, side):
    with torch.inference_mode(False), torch.no_grad():
        measured, model = peak_of_a_forward(pack, frames, side)
    estimate = model.memory_required([2 * frames, 4, side, side])
    assert measured < estimate < 1.35 * measured


def test_latents_longer_than_a_clip_cost_a_clip(core, pack, model):
    required = model.model.memory_required
    assert required([20_000, 4, 16, 16]) == required([64, 4, 16, 16])


def peak_of_a_forward(pack, frames: int, side: int) -> tuple[int, Any]:
    """Peak bytes of a guided forward in float16 with the reference pass before it, and the model."""
    import comfy.ops

    backbone, arch, dtype = pack("backbone"), Architecture(), torch.float16
    config = pack("model").SingerConfig(arch, OFFICIAL.noise_schedule)
    config.set_inference_dtype(dtype, None)
    device = torch.device("meta")
    model = pack("model").SingerModel(config, arch, device=device)
    core_config = {**backbone.unet_config(arch), "dtype": dtype, "device": device}
    reference = backbone.ReferenceUNet(**core_config, operations=comfy.ops.disable_weight_init)
    # fused attention holds no matrix of queries by keys
    options = {"optimized_attention_override": lambda _f, q, *_given, **_named: torch.empty_like(q)}

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(*shape, dtype=dtype, device=device)

    with Memory() as live:
        bank: dict[str, torch.Tensor] = {}
        given = {**options, backbone.BANK: bank}
        reference(empty(6, 4, side, side), empty(6), context=empty(6, 4, 768), transformer_options=given)
        clip = ClipConditions(
            branches=(UNCONDITIONAL, CONDITIONAL),
            frames=frames,
            audio=AudioTokens(empty(frames, 32, 768)),
            masks=tuple(empty(3, 1, (side >> level) ** 2) for level in range(4)),
            weights=empty(1, 3),
            face=empty(1, 320, side, side),
            reference=backbone.ReferenceFeatures({k: v.unflatten(0, (2, 1, 3)) for k, v in bank.items()}),
        )
        bank.clear()
        rows = 2 * frames
        for _ in range(2):  # the second finds its keys made
            model.diffusion_model(
                empty(rows, 4, side, side),
                empty(rows),
                context=empty(rows, 4, 768),
                transformer_options=dict(options),
                singer_run=SimpleNamespace(clip_for=lambda _branches, _x: clip),
                singer_branches=[0, 1],
            )
    return live.peak, model
