"""`torch.compile` takes the whole network as one graph, and the same graph serves all steps of a clip."""

from __future__ import annotations

import pytest
import tiny
import torch
import torch._dynamo
from torch._dynamo.testing import CompileCounter

from singer_core.network.conditions import CONDITIONAL, UNCONDITIONAL

LATENTS = tiny.noise(tiny.FRAMES, 4, tiny.LATENT, tiny.LATENT)
TOKENS = tiny.noise(2, 1, tiny.TINY.image_tokens, tiny.TINY.image_width)


@pytest.mark.long
def test_two_graphs_serve_every_step_of_every_clip(tiny_network):
    """One for a clip's first step, which makes its keys and values, and one for the others; no breaks."""
    counter = CompileCounter()
    torch._dynamo.reset()
    compiled = torch.compile(tiny_network, backend=counter, dynamic=False, fullgraph=True)
    with torch.no_grad():
        for number in range(2):
            clip = tiny.clip_of(UNCONDITIONAL, CONDITIONAL, seed=number)
            for t in (999, 749, 499):
                found = compiled(LATENTS, torch.tensor(t), TOKENS, clip)
            expected = tiny_network(LATENTS, torch.tensor(t), TOKENS, clip)
            torch.testing.assert_close(found, expected)
    torch._dynamo.reset()
    assert counter.frame_count == 2
