"""The MODEL under core's own nodes: samplers, LoRA, patches, and what a run leaves behind."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch

from singer_core.network.checkpoint import open_checkpoint
from singer_core.network.schedule import ddim
from singer_core.settings import OFFICIAL


def ksample(
    core, model, conditions, steps: int = 2, length: int = 4, sampler="euler", cfg=3.5
) -> torch.Tensor:
    positive, negative, latent = conditions(length)
    (out,) = core.common_ksampler(model, 7, steps, cfg, sampler, "simple", positive, negative, latent)
    return out["samples"]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
def test_both_noise_schedules_are_those_of_the_authors_scheduler(pack, tiny_checkpoint, schedule):
    from singer_core.settings import OFFICIAL

    built = pack("model").load_singer(
        str(tiny_checkpoint), OFFICIAL.but(noise_schedule=schedule), torch.float32
    )
    sigmas = built.get_model_object("model_sampling").sigmas
    shares = 1 / (1 + sigmas.square())
    expected = ddim(schedule, 10).alphas_cumprod
    assert torch.allclose(shares[:-1], expected[:-1], rtol=2e-3, atol=1e-6)
    assert expected[-1] == 0 and shares[-1] < 1e-7


def test_two_runs_give_the_same_bits_and_another_seed_gives_others(core, model, conditions):
    first, second = (ksample(core, model, conditions) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.isfinite(first).all() and first.shape == (4, 4, tiny.LATENT, tiny.LATENT)
    positive, negative, latent = conditions(4)
    (other,) = core.common_ksampler(model, 8, 2, 3.5, "euler", "simple", positive, negative, latent)
    assert relative(other["samples"], first) > 0.05


def test_conditional_and_unconditional_run_as_one_batch(core, model, conditions):
    rows: list[int] = []

    def watch(apply_model: Any, given: dict[str, Any]) -> torch.Tensor:
        rows.append(len(given["input"]))
        return apply_model(given["input"], given["timestep"], **given["c"])

    watched = model.clone()
    watched.set_model_unet_function_wrapper(watch)
    together = ksample(core, watched, conditions)
    assert rows == [8, 8]
    assert torch.equal(together, ksample(core, model, conditions))


def test_a_distilled_model_warns_of_other_steps_and_guidance(core, pack, tiny_checkpoint, conditions, caplog):
    plain = open_checkpoint(tiny_checkpoint)
    file = dataclasses.replace(plain.file, metadata={"singer.distilled_steps": "2"})
    distilled = pack("model").build_singer(dataclasses.replace(plain, file=file), OFFICIAL, torch.float32)
    ksample(core, distilled, conditions, cfg=1.0)
    assert "distilled" not in caplog.text
    ksample(core, distilled, conditions, steps=3, cfg=2.0)
    assert "made for 2 steps without guidance and gets 3 with" in caplog.text


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "lcm", "uni_pc", "euler_ancestral"])
def test_core_samplers_run(core, model, conditions, sampler):
    assert torch.isfinite(ksample(core, model, conditions, sampler=sampler)).all()


# How LoRA files name the factors of a layer; `{}` stands for diffusers' path of it.
LORA_NAMES = {
    "kohya": ("lora_unet_{_}.lora_up.weight", "lora_unet_{_}.lora_down.weight"),
    "diffusers": ("unet.{p}_lora.up.weight", "unet.{p}_lora.down.weight"),
    "lycoris": ("lycoris_{_}.lora_up.weight", "lycoris_{_}.lora_down.weight"),
    "our distilled student's": ("lora_unet_{_}.lora_B.weight", "lora_unet_{_}.lora_A.weight"),
}


@pytest.mark.parametrize("names", LORA_NAMES)
def test_a_lora_adds_its_product_and_leaves_no_trace(core, model, conditions, names):
    import comfy.sd

    path = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    weight = model.model.state_dict()[key].clone()
    up, down = torch.randn(weight.shape[0], 2), torch.randn(2, weight.shape[1])
    forms = {"_": path.replace(".", "_"), "p": path.replace(".to_", ".processor.to_")}
    named_up, named_down = (name.format(**forms) for name in LORA_NAMES[names])
    plain = ksample(core, model, conditions)
    patched, _ = comfy.sd.load_lora_for_models(model, None, {named_up: up, named_down: down}, 0.5, 0)
    inside = patched.patch_weight_to_device(key, return_weight=True)
    changed = ksample(core, patched, conditions)
    assert torch.allclose(inside, weight + 0.5 * up @ down, atol=1e-5)
    assert relative(changed, plain) > 1e-3
    assert torch.equal(ksample(core, model, conditions), plain)


PATCHES: dict[str, tuple[str, dict[str, Any]]] = {
    "FreeU": ("nodes_freelunch", {"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2}),
    "FreeU_V2": ("nodes_freelunch", {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}),
    "PerturbedAttentionGuidance": ("nodes_pag", {"scale": 3.0}),
    "SelfAttentionGuidance": ("nodes_sag", {"scale": 0.5, "blur_sigma": 2.0}),
    "HyperTile": ("nodes_hypertile", {"tile_size": 32, "swap_size": 2, "max_depth": 1, "scale_depth": False}),
    "TomePatchModel": ("nodes_tomesd", {"ratio": 0.5}),
    "RescaleCFG": ("nodes_model_advanced", {"multiplier": 0.7}),
}


@pytest.mark.parametrize("name", PATCHES)
def test_patches_of_core_act_and_can_be_taken_off(core, model, conditions, name):
    import importlib

    file, given = PATCHES[name]
    module = importlib.import_module(f"comfy_extras.{file}")
    node = getattr(module, name)
    if hasattr(node, "execute"):
        out = node.execute(model, **given)
        patched = out[0] if isinstance(out, tuple) else out.result[0]
    else:
        patched = getattr(node(), node.FUNCTION)(model, **given)[0]
    plain = ksample(core, model, conditions)
    assert relative(ksample(core, patched, conditions), plain) > 1e-4
    assert torch.equal(ksample(core, model, conditions), plain)


def test_deep_shrink_is_refused_by_name(core, model, conditions):
    from comfy_extras.nodes_model_downscale import PatchModelAddDownscale

    patched = PatchModelAddDownscale.execute(model, 1, 2.0, 0.0, 1.0, True, "bicubic", "bicubic").result[0]
    with pytest.raises(ValueError, match="Deep Shrink"):
        ksample(core, patched, conditions)


def test_context_windows_carry_more_frames_than_a_clip(core, model, conditions):
    import comfy.context_windows as windows

    patched = model.clone()
    patched.model_options["context_handler"] = windows.IndexListContextHandler(
        context_schedule=windows.get_matching_context_schedule("standard_static"),
        fuse_method=windows.get_matching_fuse_method("pyramid"),
        context_length=4,
        context_overlap=2,
        dim=0,
    )
    windows.create_prepare_sampling_wrapper(patched)
    out = ksample(core, patched, conditions, length=8)
    assert out.shape[0] == 8 and torch.isfinite(out).all()
    assert relative(out, ksample(core, model, conditions, length=8)) > 1e-4


def test_animatediffs_context_windows_show_each_frame_its_own_song(core, model, conditions):
    """They cut the latents, not our conditions, and say which frames they are in `ad_params`."""
    import comfy.context_windows as windows
    from comfy.patcher_extension import WrappersMP

    halves = [[0, 1, 2, 3], [4, 5, 6, 7]]

    def in_halves(executor, network, conds, x, timestep, options):
        parts = []
        for frames in halves:
            options["transformer_options"]["ad_params"] = {"sub_idxs": frames}
            parts.append(executor(network, conds, x[frames], timestep[frames], options))
        return [torch.cat(both) for both in zip(*parts, strict=True)]

    theirs = model.clone()
    options = theirs.model_options["transformer_options"]
    options["ADGS"] = SimpleNamespace(is_using_sliding_context=lambda: True)
    theirs.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "windows", in_halves)
    cores = model.clone()
    cores.model_options["context_handler"] = windows.IndexListContextHandler(
        context_schedule=windows.get_matching_context_schedule("standard_static"),
        fuse_method=windows.get_matching_fuse_method("flat"),
        context_length=4,
        context_overlap=0,
        dim=0,
        causal_window_fix=False,
    )
    expected = ksample(core, cores, conditions, steps=1, length=8)
    assert relative(ksample(core, theirs, conditions, steps=1, length=8), expected) < 1e-3
    halves[:] = [list(range(8)) * 4]
    with pytest.raises(ValueError, match="A context window has 32 frames, a clip of SINGER at most 30"):
        ksample(core, theirs, conditions, length=8)


def test_zeroed_conditioning_is_the_unconditional_side(core, model, conditions):
    positive, negative, latent = conditions(4)
    (zeroed,) = core.ConditioningZeroOut().zero_out(positive)

    def sung(*sides: Any) -> torch.Tensor:
        return core.common_ksampler(model, 7, 1, 3.5, "euler", "simple", *sides, latent)[0]["samples"]

    assert torch.equal(sung(positive, zeroed), sung(positive, negative))
    assert relative(sung(zeroed, zeroed), sung(positive, negative)) > 0.01


def test_mixed_and_partial_conditionings_are_refused_by_name(core, model, conditions):
    positive, negative, latent = conditions(4)
    words = [[torch.ones(1, 77, 768), {}]]
    mixed = [
        *core.ConditioningAverage().addWeighted(positive, negative, 0.5),
        *core.ConditioningAverage().addWeighted(positive, words, 0.5),
        *core.ConditioningConcat().concat(positive, negative),
        *core.ConditioningConcat().concat(positive, words),
    ]

    def sung(conditioning: Any) -> torch.Tensor:
        return core.common_ksampler(model, 7, 1, 3.5, "euler", "simple", conditioning, negative, latent)[0]

    for conditioning in mixed:
        with pytest.raises(ValueError, match="`positive` is a mixture"):
            sung(conditioning)
    (corner,) = core.ConditioningSetArea().append(positive, 32, 32, 0, 0, 1.0)
    with pytest.raises(ValueError, match="`positive` is for a part of the picture"):
        sung(corner)
    (kept,) = core.ConditioningAverage().addWeighted(positive, negative, 1.0)
    (whole,) = core.ConditioningSetArea().append(positive, tiny.SIDE, tiny.SIDE, 0, 0, 1.0)
    (masked,) = core.ConditioningSetMask().append(
        positive, torch.ones(1, tiny.SIDE, tiny.SIDE), "default", 1.0
    )
    plain = sung(positive)["samples"]
    for conditioning in (kept, whole, masked):
        assert relative(sung(conditioning)["samples"], plain) < 1e-5


def test_nothing_of_a_run_survives_it(core, pack, model, conditions, monkeypatch):
    run, seen = pack("model"), []
    make = run.make_run

    def watched(*given: Any, **named: Any) -> Any:
        made = make(*given, **named)
        seen.extend(weakref.ref(x) for x in (made.heard, made.clip.audio.tokens, made.clip.face, made.noise))
        seen.extend(weakref.ref(x) for x in made.clip.reference.features.values())
        return made

    monkeypatch.setattr(run, "make_run", watched)
    ksample(core, model, conditions)
    gc.collect()
    assert len(seen) > 4
    assert not [ref for ref in seen if ref() is not None]


def test_wrong_inputs_are_named(core, model, conditions):
    with pytest.raises(ValueError, match="3 frames; SINGER's wavelets need an even number"):
        ksample(core, model, conditions, length=3)
    positive, negative, _ = conditions(4)
    many = {"samples": torch.zeros(34, 4, tiny.LATENT, tiny.LATENT)}
    with pytest.raises(ValueError, match="Sample SINGER Video"):
        core.common_ksampler(model, 7, 1, 3.5, "euler", "simple", positive, negative, many)
    small = {"samples": torch.zeros(4, 4, 4, 4)}
    with pytest.raises(ValueError, match="32 x 32 pixels, the portrait has 64 x 64"):
        core.common_ksampler(model, 7, 1, 3.5, "euler", "simple", positive, negative, small)
    foreign = [[torch.zeros(1, 3, 24), {}]]
    with pytest.raises(ValueError, match="`positive` does not come from `SINGER Conditioning`"):
        core.common_ksampler(model, 7, 1, 3.5, "euler", "simple", foreign, foreign, conditions(4)[2])


def test_easy_cache_acts(core, model, conditions):
    from comfy_extras.nodes_easycache import EasyCacheNode

    patched = EasyCacheNode.execute(model, 5.0, 0.15, 0.95, False).result[0]
    out = ksample(core, patched, conditions, steps=6)
    assert torch.isfinite(out).all()
    assert relative(out, ksample(core, model, conditions, steps=6)) > 1e-4


def test_an_attention_override_reaches_the_adapter_too(core, model, conditions):
    lengths: set[int] = set()

    def watch(attention: Any, q: torch.Tensor, k: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        lengths.add(k.shape[1])
        return attention(q, k, *rest, **named)

    patched = model.clone()
    patched.model_options["transformer_options"]["optimized_attention_override"] = watch
    assert torch.equal(ksample(core, patched, conditions), ksample(core, model, conditions))
    own, audio, frames = tiny.LATENT**2, 8, 6
    assert {own, 2 * own, audio, frames} <= lengths


@pytest.mark.parametrize(("name", "limit"), [("bf16", 0.05), ("fp16", 0.02), ("fp8_e4m3fn", 0.8)])
def test_other_weight_formats_run(core, pack, tiny_checkpoint, model, conditions, name, limit):
    from singer_core.settings import OFFICIAL

    dtype = pack("loader").WEIGHT_DTYPES[name]
    other = pack("model").load_singer(str(tiny_checkpoint), OFFICIAL, dtype)
    assert other.model.get_dtype() == dtype
    found, expected = ksample(core, other, conditions), ksample(core, model, conditions)
    assert relative(found, expected) < limit


@pytest.mark.parametrize(("name", "limit"), [("bf16", 0.1), ("fp16", 0.02), ("fp32", 1e-6)])
def test_core_may_choose_what_is_computed_in(core, model, conditions, name, limit):
    from comfy_extras.nodes_model_advanced import ModelComputeDtype

    expected = ksample(core, model, conditions)
    (other,) = ModelComputeDtype().patch(model, name)
    assert relative(ksample(core, other, conditions), expected) < limit
    assert torch.equal(ksample(core, model, conditions), expected)


@pytest.mark.slow
def test_torch_compile_gives_the_same(core, model, conditions):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    compiled = model.clone()
    set_torch_compile_wrapper(compiled, backend="eager")
    assert relative(ksample(core, compiled, conditions), ksample(core, model, conditions)) < 1e-3


def test_hallo_runs_without_the_spectral_modules(core, pack, tmp_path, model, conditions):
    import dataclasses

    import tiny

    from singer_core.settings import OFFICIAL

    arch = dataclasses.replace(tiny.TINY, msm_kernel=None, sfm_width=None)
    path = tmp_path / "hallo.safetensors"
    tiny.save_checkpoint(path, tiny.random_state(arch), {"singer.heads": str(arch.heads)})
    hallo = pack("model").load_singer(str(path), OFFICIAL, torch.float32)
    assert torch.isfinite(ksample(core, hallo, conditions)).all()
    with pytest.raises(ValueError, match="Hallo network, which has no self-adaptive filter"):
        pack("spectral").SingerSelfAdaptiveFilter.execute(hallo, 0.5, 1.0, 1.0, 1.0, 1.0)
    boosted = (
        pack("spectral")
        .SingerSpectralWeighting.execute(hallo, "off", "sum", 0.5, 1.0, 1.0, 1.0, "haar")
        .result[0]
    )
    assert relative(ksample(core, boosted, conditions), ksample(core, hallo, conditions)) > 1e-4


def test_a_separator_is_owned_by_a_patcher_while_it_works(core, pack, monkeypatch):
    import comfy.model_management as mm

    from singer_core.audio.chunks import ChunkedSeparator, Framing, linear_fades

    with torch.inference_mode(False):
        network = torch.nn.Conv1d(2, 2, 1, bias=False).requires_grad_(False)
    network.weight.copy_(0.25 * torch.eye(2)[:, :, None])
    managed: list[bool] = []

    def vocals(chunk: torch.Tensor) -> torch.Tensor:
        managed.append(any(loaded.model.model is network for loaded in mm.current_loaded_models))
        return network(chunk[None])[0]

    framing = Framing(chunk=8000, step=4000, weights=linear_fades(800))
    made = ChunkedSeparator(vocals, framing, module=network)
    module = pack("audio")
    monkeypatch.setattr(module, "load_separator", lambda *_given: made)
    song = {"waveform": 0.1 * torch.randn(1, 2, 44_100), "sample_rate": 44_100}
    heard, rest = pack("audio").SingerVocalSeparation.execute(song, "hdemucs").result
    assert managed and all(managed)
    torch.testing.assert_close(heard["waveform"], 0.25 * song["waveform"], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(heard["waveform"] + rest["waveform"], song["waveform"])


def test_no_network_of_a_run_survives_its_nodes(core, pack, tiny_checkpoint, conditions):
    """Model, reference network and what they computed go when the last who holds the MODEL does."""
    import comfy.model_management as mm

    from singer_core.settings import OFFICIAL

    loaded = pack("model").load_singer(str(tiny_checkpoint), OFFICIAL, torch.float32)
    (reference,) = loaded.get_additional_models_with_key(pack("model").REFERENCE)
    tensors = [*loaded.model.parameters(), *reference.model.parameters()]
    seen = [weakref.ref(tensor) for tensor in tensors]
    out = ksample(core, loaded, conditions)
    seen.append(weakref.ref(out))
    del loaded, reference, tensors, out
    gc.collect()
    mm.cleanup_models_gc()
    mm.cleanup_models()
    gc.collect()
    assert not [ref for ref in seen if ref() is not None]


def tiny_controlnet(pack, architecture) -> tuple[Any, list[torch.Tensor]]:
    """Core's ControlNet on a random network of the model's widths, and the hints that it will have seen."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    config = dict(pack("backbone").unet_config(architecture))
    del config["transformer_depth_output"], config["out_channels"]
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, operations=comfy.ops.manual_cast)
        network.requires_grad_(False)
        for parameter in network.parameters():
            parameter.normal_(std=0.05)
    seen: list[torch.Tensor] = []
    network.register_forward_pre_hook(lambda _m, _given, named: seen.append(named["hint"]), with_kwargs=True)
    cpu = torch.device("cpu")
    return comfy.controlnet.ControlNet(network, load_device=cpu), seen


def test_a_controlnet_is_shown_the_hints_of_its_clip(core, pack, model, conditions):
    import comfy.samplers

    control, seen = tiny_controlnet(pack, model.model.architecture)
    positive, negative, latent = conditions(0)
    hints = torch.rand(8, tiny.SIDE, tiny.SIDE, 3, generator=torch.Generator().manual_seed(3))
    apply = core.ControlNetApplyAdvanced().apply_controlnet
    controlled = apply(positive, negative, control, hints, 1.0, 0.0, 1.0)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 1)
    noise, sampler = pack("samplers").ClipNoise(1, 4), pack("samplers").ddim_sampler()

    def run(conds: Any) -> torch.Tensor:
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(*conds)
        guider.set_cfg(3.5)
        node = pack("song").SingerSampler
        return node.execute(noise, guider, sampler, sigmas, latent, 4, 2, 0).result[0]["samples"]

    changed = run(controlled)
    assert relative(changed, run((positive, negative))) > 1e-4
    assert len(seen) == 2
    for shown, clip in zip(seen, hints.movedim(-1, 1).split(4), strict=True):
        assert torch.equal(shown[:4], clip) and torch.equal(shown[4:], clip)


def test_weights_left_behind_for_lack_of_memory_are_fetched_at_use(core, model, conditions, monkeypatch):
    """Partial loading, as under --lowvram: most layers stay where they are and are cast when they run."""
    import comfy.model_management as mm

    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    small = model.clone()
    weight = model.model.state_dict()[key]
    small.add_patches({key: ("diff", (torch.randn(weight.shape),))}, 0.1)
    whole = ksample(core, small, conditions)
    mm.unload_all_models()
    asked: list[int] = []

    def partly(self: Any, device: Any, *_given: Any, **_named: Any) -> int:
        self.load(device, lowvram_model_memory=64_000)
        asked.append(sum(bool(getattr(m, "comfy_cast_weights", False)) for m in self.model.modules()))
        return 0

    monkeypatch.setattr(type(model), "partially_load", partly)
    found = ksample(core, small, conditions)
    mm.unload_all_models()
    assert max(asked) > 100
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)
