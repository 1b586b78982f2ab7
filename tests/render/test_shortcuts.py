"""Shortcuts of sampling: which of them change nothing, and what the others leave out."""

from __future__ import annotations

import pytest
import tiny
import torch

from singer_core.network.backbone import _blocks, _visiting
from singer_core.network.conditions import CONDITIONAL, UNCONDITIONAL
from singer_core.network.memory import OutOfMemory
from singer_core.render.sampler import SpectralWeighting, sample_clip
from singer_core.settings import OFFICIAL, PRESETS

LATENTS = tiny.noise(tiny.FRAMES, 4, tiny.LATENT, tiny.LATENT, seed=30)
TOKENS = tiny.noise(2, 1, 3, 24, seed=31)
OPTIONS = OFFICIAL.but(steps=4, clip_frames=tiny.FRAMES)


@pytest.fixture
def watched(tiny_network):
    """`watched(options)` -> latents of a clip, and rows of the batch whenever the first and the last up
    block run."""

    def run(options):
        rows = [], []
        blocks = tiny_network.unet.up_blocks[0], tiny_network.unet.up_blocks[-1]

        def note(seen):
            return lambda _module, _args, named: seen.append(len(named["hidden_states"]))

        hooks = [
            block.register_forward_pre_hook(note(seen), with_kwargs=True)
            for block, seen in zip(blocks, rows, strict=True)
        ]
        try:
            weighting = SpectralWeighting(tiny_network.adapter, options)
            clip = tiny.clip_of(UNCONDITIONAL, CONDITIONAL)
            return sample_clip(tiny_network, options, LATENTS, TOKENS, clip, weighting), rows
        finally:
            for hook in hooks:
                hook.remove()

    return run


@pytest.fixture
def plain(watched):
    return watched(OPTIONS)[0]


def test_one_branch_after_another_gives_the_same(watched, plain):
    latents, (rows, _) = watched(OPTIONS.but(sequential_guidance=True))
    torch.testing.assert_close(latents, plain, atol=1e-4, rtol=1e-4)
    assert rows == [tiny.FRAMES] * 8


def test_outside_the_guided_steps_the_unconditional_branch_is_not_run(watched, plain):
    latents, (rows, _) = watched(OPTIONS.but(guidance_interval=(0.25, 0.75)))
    assert rows == [4, 8, 8, 4]
    assert not torch.allclose(latents, plain, atol=1e-3)


def test_an_empty_interval_is_no_guidance_and_the_full_one_changes_no_bit(watched, plain):
    never = watched(OPTIONS.but(guidance_interval=(0.5, 0.5)))[0]
    unguided = watched(OPTIONS.but(reference_scale=1.0, audio_scale=1.0, guidance_interval=(0.2, 0.4)))[0]
    torch.testing.assert_close(never, unguided, atol=1e-4, rtol=1e-4)
    assert torch.equal(watched(OPTIONS.but(guidance_interval=(0.0, 1.0)))[0], plain)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_sample(watched, preset):
    changes = {**PRESETS[preset], "steps": 3}
    assert watched(OPTIONS.but(**changes))[0].isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solver": "heun"}, "`solver` is heun; accepted: ddim, dpmpp_2m, unipc"),
        ({"guidance_interval": (0.8, 0.2)}, "`guidance_interval`"),
        ({"guidance_interval": (0.0, 1.5)}, "`guidance_interval`"),
        ({"guidance_interval": (0.5,)}, "`guidance_interval`"),
    ],
)
def test_shortcuts_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        OFFICIAL.but(**change)


def test_blocks_of_a_reference_unet_kept_elsewhere_visit_one_after_another():
    trips = []

    class Traveller(torch.nn.Linear):
        def to(self, device):
            trips.append((self.in_features, device))
            return self

    class Unet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = Traveller(1, 2)
            self.blocks = torch.nn.ModuleList([Traveller(2, 3), Traveller(3, 1)])

        def forward(self, x):
            return self.blocks[1](self.blocks[0](self.first(x)))

    unet, x = Unet(), torch.ones(4, 1)
    home, there = torch.device("cpu"), torch.device("meta")
    expected = unet(x)
    with _visiting(unet, home):
        unet(x)
    assert trips == []
    with _visiting(unet, there):
        found = unet(x)
    assert trips == [(1, there), (1, home), (2, there), (2, home), (3, there), (3, home)]
    assert torch.equal(found, expected)
    unet(x)
    assert len(trips) == 6


def test_every_weight_of_the_reference_unet_belongs_to_a_block_that_visits(tiny_network):
    unet = tiny_network.reference_unet
    weights = [id(weight) for block in _blocks(unet) for weight in block.parameters()]
    assert sorted(weights) == sorted(id(weight) for weight in unet.parameters())
    images = tiny.noise(1, 3, 4, tiny.LATENT, tiny.LATENT)
    with torch.no_grad():
        plain = tiny_network.reference_features(images, TOKENS).features
        with _visiting(unet, torch.device("cpu", 0)):  # not the same device by name
            visited = tiny_network.reference_features(images, TOKENS).features
    assert all(torch.equal(visited[site], plain[site]) for site in plain)


@pytest.fixture
def cramped(tiny_network):
    """The network on a device with room for so many rows."""

    def network(room: int):
        def check(_module, args):
            if len(args[0]) > room:
                raise OutOfMemory("CUDA out of memory.")

        return tiny_network.unet.register_forward_pre_hook(check)

    hooks = []
    yield lambda room: hooks.append(network(room))
    for hook in hooks:
        hook.remove()


def test_a_step_that_does_not_fit_goes_on_with_one_branch_at_a_time(watched, plain, cramped):
    cramped(tiny.FRAMES)
    latents, (rows, _) = watched(OPTIONS)
    torch.testing.assert_close(latents, plain, atol=1e-4, rtol=1e-4)
    assert rows == [tiny.FRAMES] * 8


def test_a_branch_that_does_not_fit_says_what_to_lower(watched, cramped):
    cramped(tiny.FRAMES - 1)
    with pytest.raises(RuntimeError, match=r"Sampling needs more memory .* --low-memory"):
        watched(OPTIONS)
