"""A cancelled song goes on from its last finished clip, with the same bits; and how it is held steady."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from test_sampling import guider_of, relative, simple_sigmas

from singer_core import constants
from singer_core.render.pipeline import SingerPipeline
from singer_core.render.video import probe_video, read_frames
from singer_core.settings import OFFICIAL


class CancelledError(Exception):
    pass


class Song:
    """A song of two clips on SINGER's sampler, whose guider may be made to fail."""

    def __init__(self, pack, model, conditions, vae, cfg: float = 3.5) -> None:
        self.pack, self.model, self.vae = pack, model, vae
        self.guider, self.latent = guider_of(model, conditions, 0, cfg)
        self.runs = 0

    def __call__(self, stop_at: int | None = None, seed: int = 1, steps: int = 1, **kept: Any):
        sample_clip = type(self.guider).sample

        def watched(*given: Any, **named: Any) -> torch.Tensor:
            if self.runs == stop_at:
                raise CancelledError
            self.runs += 1
            return sample_clip(self.guider, *given, **named)

        self.guider.sample = watched
        self.runs = 0
        noise, sampler = self.pack("samplers").ClipNoise(seed, 4), self.pack("samplers").ddim_sampler()
        node = self.pack("song").SingerSampler
        sigmas = simple_sigmas(self.model, steps)
        out = node.execute(noise, self.guider, sampler, sigmas, self.latent, 4, 2, 0, self.vae, **kept)
        return out.result[0]["samples"]


@pytest.fixture
def song(pack, model, conditions, vae):
    return lambda **changes: Song(pack, changes.pop("model", model), conditions, vae, **changes)


def filtered(pack, model):
    return pack("spectral").SingerSelfAdaptiveFilter.execute(model, 0.5, 1.0, 1.0, 1.0, 1.0).result[0]


def cancel(song: Song, **run: Any) -> None:
    with pytest.raises(CancelledError):
        song(stop_at=1, **run)


def test_a_cancelled_song_goes_on_with_the_same_bits(song, tmp_path):
    whole = song()(keep_clips=False)
    assert list(tmp_path.rglob("clip-*")) == []
    broken = song()
    cancel(broken)
    assert len(list(tmp_path.rglob("clip-*.safetensors"))) == 1
    assert torch.equal(broken(), whole) and broken.runs == 1


def test_it_goes_on_where_every_node_ran_again(song):
    whole = song()(keep_clips=False)
    cancel(song())
    again = song()  # conditions and guider made anew, as after a restart
    assert torch.equal(again(), whole) and again.runs == 1
    finished = song()
    assert torch.equal(finished(), whole) and finished.runs == 0


def test_a_song_whose_end_changed_samples_its_end(song, pack, model, vae):
    def conditions(audio, length=0):
        node = pack("conditioning").SingerConditioning
        return node.execute(vae, tiny.portrait_of(), audio, 0, length, 2, True).result

    features = tiny.audio_of(12).features
    before, after = tiny.audio_of(12), dataclasses.replace(tiny.audio_of(12), features=features.clone())
    after.features[10:] += 1
    Song(pack, model, lambda _length: conditions(before), vae)()
    again = Song(pack, model, lambda _length: conditions(after), vae)
    found = again()
    assert again.runs == 1
    assert torch.equal(found, Song(pack, model, lambda _length: conditions(after), vae)(keep_clips=False))


def test_what_a_cancelled_song_has_finished_can_be_had(song):
    whole = song()(keep_clips=False)
    broken = song()
    with pytest.raises(ValueError, match="no clip of this graph is finished"):
        broken(finished_only=True)
    cancel(broken)
    for _ in range(2):  # they stay
        assert torch.equal(broken(finished_only=True), whole[:4]) and broken.runs == 0
    assert torch.equal(broken(), whole) and broken.runs == 1


@pytest.mark.parametrize("change", ["seed", "steps", "cfg", "options", "vae"])
def test_anything_changed_begins_anew(song, pack, model, change):
    cancel(song())
    run = {"seed": {"seed": 2}, "steps": {"steps": 2}}.get(change, {})
    other: dict[str, Any] = {"cfg": {"cfg": 2.0}}.get(change, {})
    if change == "options":
        other = {"model": filtered(pack, model)}
    changed = song(**other)
    if change == "vae":
        changed.vae = None
    changed(**run)
    assert changed.runs == 2


def test_a_patched_model_is_told_by_its_guider(song, model):
    patched = model.clone()
    patched.set_model_sampler_post_cfg_function(lambda given: given["denoised"])
    broken, other = song(model=patched), song(model=patched)
    cancel(broken)
    other()
    assert other.runs == 2  # what a function does cannot be read
    broken()
    assert broken.runs == 1


def test_nothing_is_kept_where_it_is_not_wanted(song, tmp_path):
    cancel(song(), keep_clips=False)
    assert not [path for path in Path(tmp_path).rglob("*") if path.is_file()]


def test_a_take_changes_its_frames_alone_and_is_found_again(song):
    """Of eight frames 4 and 5; in seconds, 25 frames each."""
    again = song()
    own = again()
    taken = again(takes="0.16-0.24:7")
    assert again.runs == 1
    assert (taken != own).flatten(1).any(1).nonzero().flatten().tolist() == [4, 5]
    other = song()  # every node anew
    assert torch.equal(other(takes="0.16-0.24:7; 0.16-0.24:8 lip 0; 0.16-0.24=2"), taken) and other.runs == 0
    assert torch.equal(other(takes="0.16-0.24=1"), own)
    masked = song()
    masked.latent["noise_mask"] = torch.zeros(8, tiny.LATENT, tiny.LATENT)
    found = masked(takes="0.16-0.24:7")  # the user's mask lets nothing change, and there was nothing
    assert found.abs().max() < 1e-2 * own.abs().max()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.16-0.24:7 lib 2", "'0.16-0.24:7 lib 2': 'lib' is none of pose, face, lip"),
        ("0.16-0.24=3", r"no take 0.16-0.24=3: these seconds have 1 \(the song's\)\. Choose"),
        ("7-8:1", "'7-8:1': 8 is outside of the song"),
    ],
)
def test_what_is_wrong_with_takes_is_said(song, text, said):
    with pytest.raises(ValueError, match=said):
        song()(takes=text)


STEADY = {"clip_noise": "shared", "hold_colours": 0.5, "reanchor": 1.0, "overlap": 2}
RESTARTED = {"restart_beyond": 1e-3, "overlap": 2}


@pytest.mark.parametrize(
    ("carry", "steady"),
    [("pixels", STEADY), ("latents", STEADY), ("latents", RESTARTED)],
    ids=["pixels", "latents", "restarted"],
)
def test_long_songs_are_held_steady_as_by_the_library(
    pack, model, vae, tiny_network, tiny_vae, carry, steady
):
    audio = dataclasses.replace(tiny.audio_of(8), activity=torch.zeros(8))
    options = OFFICIAL.but(clip_frames=4, steps=2, carry=carry, **steady)
    pipeline = SingerPipeline(tiny_network, tiny_vae, options)
    clips = [clip.latents for clip in pipeline.render(tiny.portrait_of(), audio, 5)]
    node = pack("conditioning").SingerConditioning

    def conditions(_length: int) -> Any:
        return node.execute(vae, tiny.portrait_of(), audio, 0, 0, 2, True).result

    found = steady_song(pack, model, conditions, vae if carry == "pixels" else None, steady)
    expected = torch.cat([clips[0][:2], clips[1][:2], clips[2]])
    assert relative(found * constants.VAE_SCALE, expected[:8]) < 2e-3
    plain = steady_song(pack, model, conditions, vae if carry == "pixels" else None, {"overlap": 2})
    assert relative(plain * constants.VAE_SCALE, expected[:8]) > 1e-2


def steady_song(pack, model, conditions, vae, steady: dict[str, Any]) -> torch.Tensor:
    guider, latent = guider_of(model, conditions, 0)
    noise, sampler = pack("samplers").ClipNoise(5, 4), pack("samplers").ddim_sampler()
    named = dict(steady)
    overlap = named.pop("overlap")
    node, sigmas = pack("song").SingerSampler, simple_sigmas(model, 2)
    out = node.execute(noise, guider, sampler, sigmas, latent, 4, 2, overlap, vae, **named)
    return out.result[0]["samples"]


@pytest.fixture
def told(pack, vae, tmp_path, monkeypatch):
    """What the editor is told of node 8: words, and of how many frames its video is."""
    from comfy_execution.utils import CurrentNodeContext

    told: list[Any] = []
    instance = SimpleNamespace(
        client_id="editor",
        send_sync=lambda event, data, sid: told.append((event, data["node"], frames(data["output"]))),
        send_progress_text=lambda text, node: told.append((text, node)),
    )

    def frames(output: dict[str, Any]) -> int:
        path = Path(tmp_path, output["images"][0]["filename"])
        return probe_video(path).frames if path.stat().st_size else 0

    monkeypatch.setattr("server.PromptServer", SimpleNamespace(instance=instance), raising=False)
    monkeypatch.setattr(pack("preview").folder_paths, "get_temp_directory", lambda: str(tmp_path))
    with CurrentNodeContext("prompt", "8"):
        yield told


def test_the_node_shows_what_is_finished_and_after_a_cancel_too(song, told, vae, tmp_path):
    sound = {"waveform": torch.rand(1, 1, 16_000), "sample_rate": 16_000}
    shown = {"preview_vae": vae, "preview_audio": sound}
    cancel(broken := song(), **shown)
    assert told[0][0].startswith("0:00 of 0:00, clip 1 of 2, ") and told[-1] == ("executed", "8", 4)
    assert told[-2] == ("Stopped at 0:00 of 0:00, clip 1 of 2.", "8")
    assert coloured(tmp_path) == {0.5}
    found = broken(**shown)
    assert broken.runs == 1 and told[-1] == ("executed", "8", 8)
    assert told[-2] == ("0:00 of 0:00, clip 2 of 2", "8")
    assert torch.equal(found, song()(keep_clips=False))
    assert coloured(tmp_path) == {1.0}


def test_a_cancel_between_two_clips_shows_what_is_finished(song, told, pack, vae, monkeypatch):
    module = pack("song")
    heard = {**vars(module.mm), "throw_exception_if_processing_interrupted": lambda: 1 / 0}
    monkeypatch.setattr(module, "mm", SimpleNamespace(**heard))
    with pytest.raises(ZeroDivisionError) as held:  # core holds the error while it handles it
        song()(preview_vae=vae)
    assert held and told[-1] == ("executed", "8", 4)


@pytest.mark.parametrize(("least", "later", "shown"), [(5, 4.9, 2), (5, 5.1, 3), (0, 0.31, 2), (0, 0.33, 3)])
def test_the_video_is_left_alone_until_it_could_be_seen_twice(
    song, told, pack, vae, monkeypatch, least, later, shown
):
    """Two clips of 0.16 s, the second so many seconds later; at the end all is shown."""
    clock = iter([1, 1, 1 + later, 1 + later])
    monkeypatch.setattr(pack("preview"), "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(pack("preview"), "SECONDS", least)
    song()(preview_vae=vae)
    assert [said[0] for said in told].count("executed") == shown


def coloured(folder: Path) -> set[float]:
    """The part of the sound that is drawn as sung, in each picture of the video; it is deleted."""
    (path,) = folder.glob("*.mp4")
    shares, above = set(), tiny.SIDE // 8
    for picture in read_frames(path):
        assert picture.shape == (3, tiny.SIDE + above, tiny.SIDE)
        middle = picture[:, above // 2].float()
        shares.add(round(float((middle[2] > 1.5 * middle[0]).float().mean()), 1))
    path.unlink()
    return shares
