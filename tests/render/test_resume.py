"""A render that was stopped goes on with the same bits, and only the same render does."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import tiny
import torch

from singer_core.network.backbone import SingerNetwork
from singer_core.network.checkpoint import load_network, open_checkpoint
from singer_core.render.pipeline import SingerPipeline
from singer_core.render.store import ClipStore
from singer_core.settings import MODES

QUICK = {"steps": 1, "clip_frames": 4, "motion_frames": 2, "overlap": 0}
SONG = dataclasses.replace(tiny.audio_of(12), activity=torch.zeros(12))
PORTRAIT = tiny.portrait_of()


def pipeline_of(network, vae, mode="official", **changes) -> SingerPipeline:
    overlap = min(MODES[mode].overlap, 2)
    return SingerPipeline(network, vae, MODES[mode].but(**{**QUICK, "overlap": overlap, **changes}))


def keys_of(pipeline, portrait=PORTRAIT, song=SONG, **given) -> list[str]:
    return pipeline.clip_keys(pipeline.shared_key(portrait), song, **given)


def stored(root, pipeline, song=SONG, **given) -> ClipStore:
    return ClipStore(root, pipeline.shared_key(PORTRAIT), keys_of(pipeline, song=song, **given))


def film(pipeline, store=None, song=SONG, **arguments):
    with torch.no_grad():
        clips = pipeline.render(PORTRAIT, song, store=store, **arguments)
        return [clip.pictures.clone() for clip in clips]


@pytest.fixture
def counted(tiny_network):
    """How often the denoising network has run."""
    runs: list[int] = []
    handle = tiny_network.unet.register_forward_hook(lambda *_: runs.append(1))
    yield runs
    handle.remove()


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_goes_on_after_any_clip_with_the_same_bits(
    tmp_path, tiny_network, tiny_vae, mode, counted
):
    pipeline = pipeline_of(tiny_network, tiny_vae, mode)
    unbroken, clips = film(pipeline), len(pipeline.plan(SONG))
    for stop in {1, clips - 1}:
        with stored(tmp_path, pipeline) as store:
            rendering = pipeline.render(PORTRAIT, SONG, store=store)
            for _ in range(stop):
                next(rendering)
            rendering.close()
            assert store.finished() == stop
            counted.clear()
            again = film(pipeline, store)
            assert len(counted) == clips - stop
            assert all(torch.equal(a, b) for a, b in zip(again, unbroken, strict=True))
            store.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_clip_in_the_middle_is_made_again_alone(tmp_path, tiny_network, tiny_vae, how, counted):
    pipeline = pipeline_of(tiny_network, tiny_vae)
    with stored(tmp_path, pipeline) as store:
        unbroken = film(pipeline, store)
        content = store.path(1).read_bytes()
        if how == "lost":
            store.path(1).unlink()
        else:
            store.path(1).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        counted.clear()
        again = film(pipeline, store)
        assert len(counted) == 1
        assert all(torch.equal(a, b) for a, b in zip(again, unbroken, strict=True))
        assert store.path(1).read_bytes() == content


def test_steps_of_stored_clips_count_as_done(tmp_path, tiny_network, tiny_vae):
    pipeline = pipeline_of(tiny_network, tiny_vae, steps=2)
    with stored(tmp_path, pipeline) as store:
        next(pipeline.render(PORTRAIT, SONG, store=store))
        seen = []
        film(pipeline, store, on_step=lambda step: seen.append(step.done))
    assert seen == [2, 3, 4, 5, 6]


class Stop(Exception):  # noqa: N818 - a user's wish
    pass


def test_an_interrupt_takes_effect_within_a_step_and_keeps_what_was_finished(
    tmp_path, tiny_network, tiny_vae, counted
):
    pipeline = pipeline_of(tiny_network, tiny_vae, steps=4)

    def stop(step):
        if (step.clip, step.step) == (1, 2):
            counted.clear()
            raise Stop

    with stored(tmp_path, pipeline) as store, pytest.raises(Stop):
        film(pipeline, store, on_step=stop)
    assert counted == []
    assert store.finished() == 1


def changed_from(first: int) -> torch.Tensor:
    features = SONG.features.clone()
    features[first:] += 1
    return features


def with_a_verse(frames: int) -> torch.Tensor:
    return torch.cat([SONG.features, tiny.audio_of(frames, seed=1).features])


# name -> (song, more, which of its clips of four frames are new): a frame hears two frames to each side
CHANGES = {
    "another end": ({"features": changed_from(8)}, {}, [1, 2]),
    "another end that the middle does not hear": ({"features": changed_from(10)}, {}, [2]),
    "a verse more": ({"features": with_a_verse(8), "frames": 20}, {}, [2, 3, 4]),
    "a shorter song": ({"frames": 8}, {}, []),
    "weights": ({}, {"weights": torch.ones(12, 3).index_fill(0, torch.arange(8, 12), 0.5)}, [2]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_song_renders_what_hears_the_change(tmp_path, tiny_network, tiny_vae, change, counted):
    changes, more, new = CHANGES[change]
    pipeline, song = pipeline_of(tiny_network, tiny_vae), dataclasses.replace(SONG, **changes)
    before = {"weights": torch.ones(12, 3)} if more else {}
    with stored(tmp_path, pipeline, **before) as store:
        film(pipeline, store, **before)
    counted.clear()
    with stored(tmp_path, pipeline, song, **more) as store:
        missing = [clip.index for clip in pipeline.plan(song) if store.load(clip.index) is None]
        found = film(pipeline, store, song, **more)
    assert missing == new and len(counted) == len(new)
    expected = film(pipeline, None, song, **more)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_sections_are_found_wherever_they_lie_in_the_song(tiny_network, tiny_vae):
    pipeline = pipeline_of(tiny_network, tiny_vae)
    moved = dataclasses.replace(SONG, features=torch.cat([with_a_verse(4)[12:], SONG.features]), frames=16)
    inner = keys_of(pipeline, song=SONG, span=range(2, 10))
    assert keys_of(pipeline, song=moved, span=range(6, 14)) == inner
    assert not set(keys_of(pipeline, song=moved, span=range(5, 13))) & set(inner)


def test_every_input_is_in_the_key(tiny_checkpoint, tiny_network, tiny_vae):
    pipeline = pipeline_of(tiny_network, tiny_vae)
    other_network = load_network(open_checkpoint(tiny_checkpoint))
    with torch.no_grad():
        next(other_network.adapter.multi_scale_spectral.parameters()).view(-1)[0] += 1e-3
    half = load_network(open_checkpoint(tiny_checkpoint), torch.bfloat16)
    keys = [
        keys_of(pipeline),
        keys_of(dataclasses.replace(pipeline, network=other_network)),
        keys_of(dataclasses.replace(pipeline, network=half)),
        keys_of(dataclasses.replace(pipeline, options=pipeline.options.but(steps=2))),
        keys_of(pipeline, seed=1),
        keys_of(pipeline, weights=torch.ones(12, 3)),
        keys_of(pipeline, weights=torch.ones(12, 3) * 1.01),
        keys_of(pipeline, song=dataclasses.replace(SONG, features=SONG.features + 1e-6)),
    ]
    for name in ("image", "region"):
        changed = getattr(PORTRAIT, name).clone()
        changed.view(-1)[7] += 1 / 255
        keys.append(keys_of(pipeline, dataclasses.replace(PORTRAIT, **{name: changed})))
    masks = (*PORTRAIT.masks[:3], PORTRAIT.masks[3] * 0.99)
    keys.append(keys_of(pipeline, dataclasses.replace(PORTRAIT, masks=masks)))
    keys.append(keys_of(pipeline, dataclasses.replace(PORTRAIT, identity=None)))
    assert len({key for song in keys for key in song}) == 3 * len(keys)
    assert keys_of(pipeline) == keys[0]


@pytest.mark.parametrize("past", [2, 4])
def test_what_a_network_hears_before_a_take_is_in_its_key(tiny_network, tiny_vae, past):
    arch = dataclasses.replace(tiny_network.architecture, audio_past=past)
    network = copy.copy(tiny_network)
    network.architecture = arch
    pipeline, features = pipeline_of(network, tiny_vae), SONG.features.clone()
    features[1] += 1
    changed = dataclasses.replace(SONG, features=features)
    first, other = (keys_of(pipeline, song=song, span=range(5, 12))[0] for song in (SONG, changed))
    assert (first == other) == (past == 2)


def test_what_the_network_is_not_told_is_not_in_the_key(tiny_network, tiny_vae):
    """The whole picture, for paste-back; activity that no option asks for; clock and end of the video."""
    pipeline = pipeline_of(tiny_network, tiny_vae)
    pasted = dataclasses.replace(PORTRAIT, original=torch.zeros(3, 8, 8))
    deaf = dataclasses.replace(SONG, activity=None)
    assert keys_of(pipeline, pasted, deaf) == keys_of(pipeline)
    assert keys_of(pipeline, song=dataclasses.replace(SONG, frames=11, fps=30.0)) == keys_of(pipeline)
    anchored = pipeline_of(tiny_network, tiny_vae, reanchor=1.0)
    assert keys_of(anchored, song=deaf)[0] == keys_of(anchored)[0]
    assert not set(keys_of(anchored, song=deaf)[1:]) & set(keys_of(anchored))


# options that keep long songs steady, in the pipeline


def test_a_resting_voice_lets_the_portrait_take_over(tiny_network, tiny_vae):
    pipeline = pipeline_of(tiny_network, tiny_vae, carry="latents", reanchor=1.0)
    activity = torch.ones(12)
    activity[4:] = 0
    audio = dataclasses.replace(SONG, activity=activity)
    _, second, third = pipeline.render(PORTRAIT, audio)
    portrait = second.inputs.reference_latents[0]
    assert not torch.equal(second.inputs.reference_latents[2], portrait)  # sung before frame 4
    torch.testing.assert_close(third.inputs.reference_latents[2], portrait)
    torch.testing.assert_close(third.inputs.reference_latents[1], (portrait + second.latents[2]) / 2)


@pytest.mark.parametrize("carry", ["latents", "pixels"])
def test_a_clip_that_ended_far_from_the_portrait_shows_the_next_the_portrait(tiny_network, tiny_vae, carry):
    for beyond, restarts in ((1e-3, True), (100.0, False)):
        pipeline = pipeline_of(tiny_network, tiny_vae, "paper", carry=carry, restart_beyond=beyond)
        for clip in pipeline.render(PORTRAIT, SONG):
            shown = clip.inputs.reference_latents
            assert torch.allclose(shown[1:], shown[:1].expand_as(shown[1:])) is (
                restarts or not clip.clip.index
            )


@pytest.mark.parametrize("carry", ["latents", "pixels"])
def test_carried_frames_are_held_to_the_portraits_colours(tiny_network, tiny_vae, carry):
    portrait = dataclasses.replace(PORTRAIT, masks=(torch.zeros_like(PORTRAIT.masks[0]), *PORTRAIT.masks[1:]))
    pipeline = pipeline_of(tiny_network, tiny_vae, "paper", carry=carry, hold_colours=1.0)
    seen = {}

    class Watching(type(tiny_vae)):
        def encode(self, pixels):
            seen[len(pixels)] = pixels
            return super().encode(pixels)

    pipeline = dataclasses.replace(pipeline, vae=Watching(tiny_vae.vae))
    _, second, _ = pipeline.render(portrait, SONG)
    if carry == "latents":
        still, carried = second.inputs.reference_latents[:1], second.inputs.reference_latents[1:]
    else:
        still, carried = seen[3][:1], seen[3][1:]
    for moment in (torch.mean, torch.std):
        expected = moment(still.transpose(0, 1).flatten(1), 1)
        torch.testing.assert_close(
            moment(carried.transpose(0, 1).flatten(1), 1), expected, rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("overlap", [0, 2])
def test_shared_noise_is_the_first_clips_shuffled(tiny_network, tiny_vae, overlap):
    pipeline = pipeline_of(tiny_network, tiny_vae, clip_noise="shared", overlap=overlap)
    first, *others = [clip.inputs.noise for clip in pipeline.render(PORTRAIT, SONG)]
    for before, noise in zip([first, *others], others, strict=False):
        assert torch.equal(noise.flatten(1).sum(1).sort().values, first.flatten(1).sum(1).sort().values)
        assert torch.equal(noise[:overlap], before[4 - overlap :])


# NaN


class Overflowing(SingerNetwork):
    """Gives NaN in one clip and step, in half precision or always."""

    sick: tuple[int, bool] = (0, False)  # call, also in float32

    def forward(self, *arguments, **named):
        out = super().forward(*arguments, **named)
        self.calls = getattr(self, "calls", 0) + 1
        call, always = self.sick
        sick = self.calls == call or (always and self.calls > call)
        return out * float("nan") if sick else out


def overflowing(checkpoint, vae, call, always=False, dtype=torch.bfloat16, **changes) -> SingerPipeline:
    network = load_network(open_checkpoint(checkpoint), dtype)
    network.__class__ = Overflowing
    network.sick = (call, always)
    return pipeline_of(network, vae, steps=2, **changes)


def test_a_clip_with_nan_in_half_precision_is_sampled_again_in_float32(tiny_checkpoint, tiny_vae, caplog):
    pipeline = overflowing(tiny_checkpoint, tiny_vae, call=4)
    before = {key: value.clone() for key, value in pipeline.network.state_dict().items()}
    pictures = torch.cat(film(pipeline))
    assert "Clip 2 (frames 4 to 8): step 2 of 2 gave NaN or infinity in torch.bfloat16" in caplog.text
    assert pictures.isfinite().all()
    assert pipeline.network.calls == 8
    after = pipeline.network.state_dict()
    assert all(
        after[key].dtype == value.dtype and torch.equal(after[key], value) for key, value in before.items()
    )
    healthy = overflowing(tiny_checkpoint, tiny_vae, call=0)
    assert torch.equal(torch.cat(film(healthy))[:4], pictures[:4])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dtype": torch.float32}, r"Clip 2 .*step 1 of 2 gave NaN or infinity in torch\.float32\. Check"),
        ({"retry_in_float32": False}, r"Clip 2 .*step 1 of 2 .* torch\.bfloat16\. Check"),
        ({"always": True}, r"Clip 2 .*torch\.float32, after half precision\. Check"),
    ],
    ids=["float32", "off", "always"],
)
def test_nan_that_stays_is_an_error_naming_clip_and_step(tmp_path, tiny_checkpoint, tiny_vae, changes, said):
    pipeline = overflowing(tiny_checkpoint, tiny_vae, call=3, **changes)
    with stored(tmp_path, pipeline) as store, pytest.raises(RuntimeError, match=said):
        film(pipeline, store)
    assert store.finished() == 1
