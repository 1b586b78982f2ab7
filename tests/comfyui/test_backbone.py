"""The adapter on core's UNet: reference numbers, and nothing left of it where it is silent."""

from __future__ import annotations

import dataclasses
import inspect
import re
from types import SimpleNamespace

import pytest
import torch

from singer_core.network.conditions import CONDITIONAL, UNCONDITIONAL, AudioTokens, ClipConditions

CASES = [
    *("cfg/t999", "cfg/t499", "cfg/t24", "nocfg/t499"),
    *("cfg/t499/bank_fp32", "nocfg/t499/bank_fp32", "cfg/t499/motion_scale_none"),
]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


def clip_of(pack, model, case, guided: bool, variant: str | None) -> ClipConditions:
    from verification.networks import masks_of

    inputs = case.inputs
    (reference,) = model.get_additional_models_with_key("singer_reference")
    unit = variant == "motion_scale_none"
    region = (inputs["region"].float() / 255).expand(1, 3, -1, -1)
    return ClipConditions(
        branches=(),
        frames=inputs["latents"].shape[2],
        audio=AudioTokens(inputs["audio"][0]),
        masks=masks_of(inputs),
        weights=torch.ones(1, 3) if unit else torch.tensor([case.config["motion_scale"]]),
        face=model.model.diffusion_model.adapter.face_locator(region),
        reference=pack("backbone").reference_features(
            reference.model,
            inputs["ref_latents"],
            inputs["ctx"] if guided else inputs["ctx"][-1:],
            None if variant == "bank_fp32" else torch.float16,
        ),
    )


def forward(model, case, clip: ClipConditions, timestep: int, branches: tuple) -> torch.Tensor:
    """(branch, 4, f, h, w) as in the fixture."""
    latents = case.inputs["latents"][0].transpose(0, 1)
    frames = len(latents)
    tokens = [case.inputs["ctx"][int(branch.portrait)].expand(frames, -1, -1) for branch in branches]
    run = SimpleNamespace(clip_for=lambda branches, _x: dataclasses.replace(clip, branches=branches))
    prediction = model.model.diffusion_model(
        latents.repeat(len(branches), 1, 1, 1),
        torch.full((len(branches) * frames,), float(timestep)),
        context=torch.cat(tokens),
        transformer_options={},
        singer_run=run,
        singer_branches=list(branches),
    )
    return prediction.unflatten(0, (len(branches), -1)).transpose(1, 2)


@pytest.mark.parametrize("together", [True, False], ids=["batched", "unbatched"])
@pytest.mark.parametrize("name", CASES)
def test_forward_gives_the_reference_numbers(pack, golden_model, denoise_case, name, together):
    guided, timestep, variant = re.fullmatch(r"(cfg|nocfg)/t(\d+)(?:/(.+))?", name).groups()
    branches = (UNCONDITIONAL, CONDITIONAL) if guided == "cfg" else (CONDITIONAL,)
    clip = clip_of(pack, golden_model, denoise_case, guided == "cfg", variant)
    batches = [branches] if together else [(branch,) for branch in branches]
    found = torch.cat([forward(golden_model, denoise_case, clip, int(timestep), batch) for batch in batches])
    assert relative(found, denoise_case.expected[name]) < 3e-4


@pytest.fixture(scope="module")
def silent(core, pack, golden_checkpoint):
    """(SINGER's UNet with the adapter's outputs zeroed, core's SD1.5 UNet), with the same weights."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    backbone, model = pack("backbone"), pack("model")
    state, _ = model.split_state(golden_checkpoint)
    with torch.inference_mode():
        state = {
            key: torch.zeros_like(value)
            if re.search(r"adapter\..*(proj_out|face_locator\.conv_out)\.", key)
            else value
            for key, value in state.items()
        }
        config = backbone.unet_config(golden_checkpoint.architecture)
        core_config = {**config, "dtype": torch.float32, "device": None}
        operations = comfy.ops.disable_weight_init
        ours = backbone.SingerUNet(golden_checkpoint.architecture, **core_config, operations=operations)
        ours.load_state_dict(state)
        theirs = UNetModel(**core_config, operations=operations)
        theirs.load_state_dict({k: v for k, v in state.items() if not k.startswith("adapter.")})
    return ours.eval(), theirs.eval()


def residuals() -> dict[str, list[torch.Tensor]]:
    """What a ControlNet adds at the fixture's widths and one layer a level."""
    g = torch.Generator().manual_seed(3)
    shapes = [(32, 32)] * 2 + [(32, 16)] * 2 + [(32, 8), (64, 8)] + [(64, 4)] * 2
    skips = [torch.randn(8, width, side, side, generator=g) for width, side in shapes]
    return {"output": skips, "middle": [torch.randn(8, 64, 4, 4, generator=g)]}


@pytest.mark.parametrize("controlled", [False, True], ids=["plain", "controlnet"])
def test_a_silent_adapter_leaves_cores_unet_bit_for_bit(pack, golden_model, denoise_case, silent, controlled):
    ours, theirs = silent
    clip = clip_of(pack, golden_model, denoise_case, True, None)
    clip = dataclasses.replace(clip, reference=None, face=clip.face * 0, sfm_strength=0.0)
    run = SimpleNamespace(clip_for=lambda branches, _x: dataclasses.replace(clip, branches=branches))
    frames = clip.frames
    x = denoise_case.inputs["latents"][0].transpose(0, 1).repeat(2, 1, 1, 1)
    context = denoise_case.inputs["ctx"].repeat_interleave(frames, 0)
    time = torch.full((2 * frames,), 499.0)
    control = residuals if controlled else lambda: None
    expected = theirs(x, time, context=context, control=control(), transformer_options={})
    for given in ({}, {"singer_run": run, "singer_branches": [UNCONDITIONAL, CONDITIONAL]}):
        found = ours(x, time, context=context, control=control(), transformer_options={}, **given)
        assert torch.equal(found, expected)
    if controlled:
        plain = theirs(x, time, context=context, transformer_options={})
        assert relative(expected, plain) > 0.01


def test_core_still_has_what_the_adapter_is_built_on(core, golden_checkpoint, pack):
    import comfy.utils
    from comfy.ldm.modules.attention import CrossAttention, SpatialTransformer
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    def names(function) -> list[str]:
        return list(inspect.signature(function).parameters)[1:]

    assert names(SpatialTransformer.forward) == ["x", "context", "transformer_options"]
    assert names(CrossAttention.forward) == ["x", "context", "value", "mask", "transformer_options"]
    assert names(UNetModel._forward) == [
        *("x", "timesteps", "context", "y", "control", "transformer_options", "kwargs")
    ]
    mapped = comfy.utils.unet_to_diffusers(pack("backbone").unet_config(golden_checkpoint.architecture))
    assert mapped["mid_block.attentions.0.proj_in.weight"] == "middle_block.1.proj_in.weight"
    assert mapped["conv_out.bias"] == "out.2.bias"


def test_every_tensor_of_the_checkpoint_has_its_place_in_core(pack, golden_model, golden_checkpoint):
    denoiser, reference = pack("model").split_state(golden_checkpoint)
    (companion,) = golden_model.get_additional_models_with_key("singer_reference")
    assert set(denoiser) == set(golden_model.model.diffusion_model.state_dict())
    assert set(reference) == set(companion.model.state_dict())
