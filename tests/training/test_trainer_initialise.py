"""Fresh networks: what they add starts at zero, and signals keep their size on the way there."""

from __future__ import annotations

import dataclasses

import tiny
import torch

from singer_core.network.backbone import SingerNetwork
from singer_core.training.initialise import init_weights


def test_a_picture_reaches_the_last_layer_of_the_face_locator_at_its_own_size():
    arch = dataclasses.replace(tiny.TINY, face_locator=(8, 16, 16, 32), locator_input="portrait")
    network = SingerNetwork(arch)
    init_weights(network, seed=1)
    locator, sizes = network.adapter.face_locator, []
    handle = locator.conv_out.register_forward_pre_hook(lambda _, given: sizes.append(given[0].std()))
    with torch.no_grad():
        added = locator(tiny.noise(1, 3, 128, 128))
    handle.remove()
    assert 0.2 < float(sizes[0]) < 5
    assert not added.any()
