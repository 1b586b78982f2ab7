"""The device contract without a device: a song is sung where the network is, and hardly waited for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
import tiny
import torch
from accelerator import DEVICE, Seen, accelerator, checkpoint_of

from singer_core.marks import Take
from singer_core.network.architecture import Architecture
from singer_core.network.autoencoder import Autoencoder, build_autoencoder
from singer_core.network.backbone import SingerNetwork
from singer_core.network.checkpoint import load_network
from singer_core.render.pipeline import SingerPipeline
from singer_core.settings import MODES, PRESETS, BandGains, SingerOptions

# One level: its middle has every kind of layer, once.
ARCH = dataclasses.replace(tiny.TINY, channels=(32,), sfm_width=tiny.SIDE // 8)
LEVELS = dataclasses.replace(tiny.TINY, channels=(32, 64), sfm_width=tiny.SIDE // 16)
MOVING = dataclasses.replace(ARCH, predicts="motion")
STEPS = 2


def network_of(arch: Architecture, dtype: torch.dtype) -> SingerNetwork:
    return load_network(checkpoint_of(arch), dtype, DEVICE)


def vae_of(dtype: torch.dtype) -> Autoencoder:
    state = tiny.random_vae(width=32).state_dict()
    return Autoencoder(build_autoencoder({name: x.to(DEVICE, dtype) for name, x in state.items()}))


def pipeline_of(options: SingerOptions, dtype: torch.dtype, arch: Architecture = ARCH) -> SingerPipeline:
    return SingerPipeline(network_of(arch, dtype), vae_of(dtype), options.but(clip_frames=4, steps=STEPS))


def sung(pipeline: SingerPipeline, frames: int = 4, takes: Sequence[Take] = ()) -> tuple[Seen, list[Seen]]:
    """What passes between host and accelerator: in all, and in the last step of every clip."""
    audio = dataclasses.replace(tiny.audio_of(frames), activity=torch.zeros(frames))
    marks: list[Seen] = []
    with accelerator() as seen:
        given = {"on_step": lambda _step: marks.append(seen.copy()), "takes": takes}
        for clip in pipeline.render(tiny.portrait_of(), audio, **given):
            for made in (clip.latents, clip.pictures):
                assert (made.device, made.dtype) == (DEVICE, torch.float32)
    return seen, [after - before for before, after in zip(marks[::STEPS], marks[1::STEPS], strict=True)]


def reads(seen: Seen) -> dict[str, int]:
    return {what.removeprefix("reads "): count for what, count in seen.items() if what.startswith("reads")}


IN_A_STEP = {"reads sampler._check": 1}  # was the step before finite? asked when this one is under way


@pytest.mark.parametrize(
    ("mode", "arch", "dtype", "clips"),
    [
        ("official", LEVELS, torch.float16, 1),
        ("official", ARCH, torch.bfloat16, 2),  # the second is shown frames of the first
        ("paper", ARCH, torch.float16, 1),
        ("paper", ARCH, torch.bfloat16, 1),
    ],
    ids=["official-float16", "official-bfloat16", "paper-float16", "paper-bfloat16"],
)
def test_a_song_is_sung_where_the_network_is(mode, arch, dtype, clips):
    seen, steps = sung(pipeline_of(MODES[mode].but(overlap=0), dtype, arch), 4 * clips)
    assert steps == [IN_A_STEP] * clips
    wanted = {"sampler._check": STEPS * clips, "song._sound": clips}  # may the clip be kept, and carried on?
    if mode == "official":
        wanted["pipeline.encode"] = clips  # is the portrait bright? then it is stretched (numerics 13)
    assert reads(seen) == wanted
    assert not any(what.startswith("copies from it") for what in seen)


def test_options_and_takes_are_sung_where_the_network_is():
    options = MODES["enhanced"].but(**PRESETS["fast"], overlap=2, hold_colours=0.5, sequential_guidance=True)
    pipeline = pipeline_of(options.but(band_gains=BandGains(1.0, 0.5, 1.0, 1.0)), torch.float16, MOVING)
    pipeline.network.reference_unet.to_empty(device="cpu")  # as with low memory
    seen, steps = sung(pipeline, 6, [Take(1, 3, seed=3)])
    assert steps == [IN_A_STEP] * 2
    assert reads(seen)["sampler._check"] == STEPS * 4  # two are the take's
    assert next(pipeline.network.reference_unet.parameters()).device.type == "cpu"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda network: network.adapter.face_locator.conv_in.to_empty(device="cpu"), "left in main memory"),
        (lambda network: network.adapter.audio_projection.proj1.float(), "float32, .*float16"),
        (lambda network: network.adapter.audio_projection.proj1.double(), "64 bits"),
    ],
    ids=["place", "type", "width"],
)
def test_what_a_card_refuses_is_refused(spoil, words):
    pipeline = pipeline_of(MODES["paper"], torch.float16)
    with accelerator(), pytest.raises((RuntimeError, TypeError), match=words):
        spoil(pipeline.network)
        list(pipeline.render(tiny.portrait_of(), tiny.audio_of(4)))


def test_what_is_sent_and_read_is_counted():
    with accelerator() as seen:
        table = torch.zeros(5, device=DEVICE)
        for send in (
            lambda: table[[0, 2]],
            lambda: table[torch.tensor([0, 2])],
            lambda: table.new_tensor([1.0, 2.0]),
            lambda: torch.ones(3).to(DEVICE),
        ):
            before = seen["copies to it"]
            assert send().device == DEVICE
            assert seen["copies to it"] == before + 1
        assert (table.sum() > 0) and table[0].item()
        assert table.tolist() == [0] * 5
    assert (seen["reads"], seen["copies from it"]) == (2, 1)
