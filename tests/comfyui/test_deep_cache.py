"""Deep features reused between steps: what runs, what is exact, what is left behind."""

from __future__ import annotations

import pytest
import torch

STEPS = 6


def ksample(core, model, conditions, sampler="euler", cfg=3.5) -> torch.Tensor:
    positive, negative, latent = conditions(4)
    (out,) = core.common_ksampler(model, 7, STEPS, cfg, sampler, "simple", positive, negative, latent)
    return out["samples"]


@pytest.fixture
def cached(pack, model):
    def make(interval=2, level=1, start=0.0, end=1.0, model=model):
        return pack("deep_cache").SingerDeepCache.execute(model, interval, level, start, end).result[0]

    return make


@pytest.fixture
def runs(model):
    """How often the middle block and the last output block ran."""
    unet, count = model.model.diffusion_model, {"middle": 0, "outer": 0}

    def note(name):
        return lambda *_: count.__setitem__(name, count[name] + 1)

    hooks = [
        unet.middle_block[0].register_forward_pre_hook(note("middle")),
        unet.output_blocks[-1][0].register_forward_pre_hook(note("outer")),
    ]
    yield count
    for hook in hooks:
        hook.remove()


def test_interval_one_changes_no_bit(core, model, conditions, cached):
    assert torch.equal(ksample(core, cached(1), conditions), ksample(core, model, conditions))


@pytest.mark.parametrize(("interval", "level", "whole"), [(2, 1, 3), (3, 2, 2), (10, 3, 1)])
def test_only_every_nth_step_is_whole(core, model, conditions, cached, runs, interval, level, whole):
    out = ksample(core, cached(interval, level), conditions)
    assert runs == {"middle": whole, "outer": STEPS}
    assert torch.isfinite(out).all()
    assert not torch.equal(out, ksample(core, model, conditions))


def test_steps_outside_the_window_are_whole(core, conditions, cached, runs):
    ksample(core, cached(2, start=0.0, end=0.3), conditions)
    assert STEPS > runs["middle"] > STEPS // 2


def test_runs_leave_nothing_behind(core, model, conditions, cached):
    plain, patched = ksample(core, model, conditions), cached()
    first, second = (ksample(core, patched, conditions) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(ksample(core, model, conditions), plain)
    assert torch.equal(ksample(core, cached(1, model=patched), conditions), plain)


def test_features_of_the_same_input_give_the_same_output(pack, model, runs):
    shallow, unet = pack("shallow"), model.model.diffusion_model
    x, context = (
        torch.randn(2, 4, 16, 16),
        torch.randn(2, 3, unet.input_blocks[1][1].transformer_blocks[0].attn2.to_k.in_features),
    )
    plain = unet(x, torch.tensor([9.0, 9.0]), context, transformer_options={})
    cache = shallow.DeepCache(shallow.Plan(2, 2, 1e9, 0.0))
    for sigma in (3.0, 2.0):
        options = {
            shallow.KEY: cache,
            "sigmas": torch.tensor([sigma]),
            "wrappers": {"diffusion_model": {shallow.KEY: [shallow._forward]}},
        }
        found = unet(x, torch.tensor([9.0, 9.0]), context, transformer_options=options)
        torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)
    assert runs == {"middle": 2, "outer": 3}


def test_freeu_goes_with_it(core, conditions, cached):
    from comfy_extras.nodes_freelunch import FreeU_V2

    out = FreeU_V2.execute(cached(), 1.3, 1.4, 0.9, 0.2)
    patched = out[0] if isinstance(out, tuple) else out.result[0]
    assert torch.isfinite(ksample(core, patched, conditions)).all()


def test_more_levels_than_the_network_can_spare_are_refused(cached):
    with pytest.raises(ValueError, match="`level` is 4; this network has 4 levels, of which at most 3"):
        cached(level=4)
    with pytest.raises(ValueError, match=r"`start_percent` is 0\.8, behind `end_percent` 0\.2"):
        cached(start=0.8, end=0.2)
