"""The nodes' device contract without a device: a song is sung where core has the model, or a part of it."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch
from accelerator import DEVICE, Seen, accelerator, checkpoint_of
from test_sampling import guider_of, sample, simple_sigmas

from singer_core.settings import MODES

# One level: its middle has every kind of layer, once.
ARCH = dataclasses.replace(tiny.TINY, channels=(32,), sfm_width=tiny.SIDE // 8)
CLIPS, FRAMES = 2, 4


@pytest.fixture
def card(core, monkeypatch):
    """`card(free)`: core takes DEVICE for a card with so many bytes left."""
    import comfy.model_management as mm
    import comfy.ops

    def plug(free: float) -> None:
        def left(_device: object = None, torch_free_too: bool = False) -> float | tuple[float, float]:
            return (free, free) if torch_free_too else free

        monkeypatch.setattr(mm, "get_free_memory", left)

    mm.unload_all_models()
    monkeypatch.setattr(mm, "get_torch_device", lambda: DEVICE)
    monkeypatch.setattr(mm, "vram_state", mm.VRAMState.NORMAL_VRAM)  # `--cpu` leaves no part on a card
    # What is on `meta` is for core a weight that no file has filled.
    monkeypatch.setattr(comfy.ops, "materialize_meta_param", lambda *_given: None)
    yield plug
    mm.current_loaded_models.clear()  # nothing comes back from there


def guided(pack, conditions, mode: str, dtype: torch.dtype):
    """(MODEL, guider, latents) of a song; in mode `paper` both scales are guided by."""
    model = pack("model").build_singer(checkpoint_of(ARCH), MODES[mode], dtype, disable_dynamic=True)
    guider, latent = guider_of(model, conditions, CLIPS * FRAMES)
    if mode == "paper":
        given = conditions(CLIPS * FRAMES)[:2]
        guider = pack("samplers").SplitGuider(model, *given, 3.5, 2.0, 0.7)
    return model, guider, latent


def sung(pack, conditions, mode: str, dtype: torch.dtype, steps: int) -> Seen:
    noise, sampler = pack("samplers").ClipNoise(1, FRAMES), pack("samplers").ddim_sampler()
    with torch.inference_mode(False), torch.no_grad(), accelerator() as seen:
        model, guider, latent = guided(pack, conditions, mode, dtype)
        found = sample(pack, noise, guider, sampler, simple_sigmas(model, steps), latent)
    assert found.shape == latent["samples"].shape and found.device.type == "cpu"
    return seen


@pytest.mark.parametrize(
    ("mode", "dtype"), [("official", torch.float16), ("paper", torch.bfloat16)], ids=["official", "paper"]
)
def test_a_song_is_sung_where_core_has_the_model_and_no_step_is_waited_for(
    pack, card, conditions, mode, dtype
):
    card(2**40)
    one, two = (sung(pack, conditions, mode, dtype, steps) for steps in (1, 2))
    assert one == two
    ours = {what.removeprefix("reads "): count for what, count in one.items() if what.startswith("reads")}
    # Core: is the latent empty, where do the levels begin. Ours: the latter, is it finite, may the clip stay.
    wanted = {"song._finite": 2, "model.condition_run": 2, "samplers._levels": 2, "song._sound": 1}
    assert ours == {what: count * CLIPS for what, count in wanted.items()}


def test_layers_that_find_no_room_are_fetched_when_they_run(pack, card, conditions):
    import comfy.model_management as mm

    card(mm.minimum_inference_memory() + 2**18)
    seen = sung(pack, conditions, "official", torch.float16, 1)
    assert all(seen[f"copies to it {place}"] for place in ("adapter.forward", "backbone.reference_features"))
