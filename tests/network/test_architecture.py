"""Shapes written down against those of the UNet that diffusers builds."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch

from singer_core.network.architecture import Architecture, unet_shapes
from singer_core.network.backbone import SingerNetwork

ARCHITECTURES = {
    "published": Architecture(),
    "tiny": tiny.TINY,
    "three levels": dataclasses.replace(tiny.TINY, channels=(32, 64, 96), layers=3, image_width=40),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_names_and_shapes_are_diffusers(name):
    arch = ARCHITECTURES[name]
    with torch.device("meta"):
        network = SingerNetwork(arch)
    for unet, output in ((network.unet, True), (network.reference_unet, False)):
        built = {key: tuple(value.shape) for key, value in unet.state_dict().items()}
        assert unet_shapes(arch, with_output=output) == built
