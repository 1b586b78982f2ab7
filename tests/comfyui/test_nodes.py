"""Sockets, tooltips and errors of the nodes; what sound and portrait nodes hand on."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from singer_core.audio import scratch
from singer_core.audio.separation import SEPARATORS
from singer_core.audio.waveform import Waveform
from singer_core.demo import files
from singer_core.portrait.image import read_picture, to_tensor
from singer_core.portrait.landmarks import LIPS, POINTS, SILHOUETTE
from singer_core.settings import MODES, MsmInput

FILES = {"checkpoint", "data", "identity_model", "audio_encoder", "image", "audio"}  # combos of file names
SNAPSHOT = Path(__file__).parent / "schemas.json"


@pytest.fixture(scope="module")
def node_classes(core, pack) -> list[Any]:
    extension = pack("").SingerExtension()
    return asyncio.run(extension.get_node_list())


def info(node: Any) -> dict[str, Any]:
    """What /object_info says of a node, without what depends on files and on where the pack lies."""
    said = json.loads(json.dumps(node.GET_NODE_INFO_V1()))
    for inputs in said["input"].values():
        for name in FILES & set(inputs):
            kind, options = inputs[name]
            if kind == "COMBO" or isinstance(kind, list):
                inputs[name] = [
                    "FILES",
                    {k: v for k, v in options.items() if k not in ("options", "default")},
                ]
    return {key: value for key, value in said.items() if key != "python_module"}


def test_sockets_are_those_of_the_snapshot(node_classes):
    """A changed socket breaks users' graphs. Wanted changes: UPDATE_SCHEMAS=1, and a line in CHANGELOG."""
    found = {node.GET_SCHEMA().node_id: info(node) for node in node_classes}
    if os.environ.get("UPDATE_SCHEMAS"):
        SNAPSHOT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert found == json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def test_every_socket_explains_itself(node_classes):
    for node in node_classes:
        schema = node.GET_SCHEMA()
        assert schema.category == "SINGER" and schema.node_id.startswith("Singer")
        assert schema.description.endswith(".") and schema.display_name and schema.search_aliases
        silent = [socket.display_name or socket.id for socket in schema.outputs if not socket.tooltip]
        silent += [socket.id for socket in schema.inputs if not socket.tooltip]
        assert not silent, f"{schema.node_id}: {silent}"


def test_combos_offer_what_the_library_knows(pack):
    from typing import get_args

    (separator,) = (
        i for i in pack("audio").SingerVocalSeparation.define_schema().inputs if i.id == "separator"
    )
    (mode,) = (i for i in pack("spectral").SingerSpectralWeighting.define_schema().inputs if i.id == "mode")
    assert sorted(separator.options) == sorted(SEPARATORS)
    assert mode.options == [pack("spectral").AS_TRAINED, *get_args(MsmInput)]
    assert set(pack("loader").SCHEDULES.values()) == {mode.noise_schedule for mode in MODES.values()}


def combo(node: Any, name: str) -> list[str]:
    (found,) = (one for one in node.define_schema().inputs if one.id == name)
    return found.options


def tone(seconds: float = 0.5, rate: int = 16_000) -> dict[str, Any]:
    time = torch.arange(int(seconds * rate)) / rate
    return {"waveform": 0.3 * torch.sin(2 * torch.pi * 220 * time)[None, None], "sample_rate": rate}


ENCODE = {"fps": 25.0, "levelling": 0.0, "sub_frames": 2, "bands": 3}


def test_audio_without_an_encoder_becomes_log_mel_features(pack):
    node = pack("audio").SingerAudioEncode
    (audio,) = node.execute(tone(), **ENCODE).result
    assert audio.frames == 13 and tuple(audio.features.shape) == (16, 2, 3)
    assert audio.activity.shape == (16,) and audio.fps == 25.0


def test_cores_wav2vec2_hears_what_transformers_hears(core, pack):
    import comfy.ops
    from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model
    from comfy.model_patcher import ModelPatcher
    from transformers import Wav2Vec2Config
    from transformers import Wav2Vec2Model as Transformers

    from singer_core.audio.wav2vec2 import Wav2Vec2FrontEnd

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = Transformers(Wav2Vec2Config(**sizes))
        ours = Wav2Vec2Model(
            embed_dim=32,
            num_heads=2,
            num_layers=2,
            conv_norm=False,
            conv_bias=False,
            do_normalize=False,
            do_stable_layer_norm=False,
            dtype=torch.float32,
            operations=comfy.ops.manual_cast,
        )
    ours.load_state_dict(theirs.state_dict(), strict=False)
    cpu = torch.device("cpu")
    encoder = SimpleNamespace(model=ours, patcher=ModelPatcher(ours, cpu, cpu), load_device=cpu)
    (audio,) = pack("audio").SingerAudioEncode.execute(tone(), **ENCODE, audio_encoder=encoder).result
    expected = Wav2Vec2FrontEnd(theirs).encode(Waveform(tone()["waveform"][0], 16_000), 25.0)
    assert torch.allclose(audio.features, expected.features, atol=2e-5)
    with pytest.raises(ValueError, match="is a Linear; SINGER hears through wav2vec2"):
        pack("audio").hearing(SimpleNamespace(model=torch.nn.Linear(1, 1)))


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (None, "`audio` is empty"),
        ({"waveform": torch.zeros(1, 1, 0), "sample_rate": 16_000}, "`audio` is empty"),
        ({"waveform": torch.ones(2, 1, 9000), "sample_rate": 16_000}, "`audio` holds 2 sounds"),
    ],
)
def test_unusable_sound_is_named(pack, audio, message):
    with pytest.raises(ValueError, match=message):
        pack("audio").SingerAudioEncode.execute(audio, **ENCODE)


def test_loud_sound_is_scaled_not_clipped(pack):
    loud = {"waveform": 5 * tone()["waveform"], "sample_rate": 16_000}
    samples = pack("sockets").to_waveform(loud, "audio").samples
    assert loud["waveform"].max() > 1
    assert torch.equal(samples, loud["waveform"][0] / loud["waveform"].abs().max())


def test_temporary_files_lie_in_comfyuis_own_folder(pack, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/of/nobody")
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 64)
    (audio,) = pack("audio").SingerAudioEncode.execute(tone(), **ENCODE).result
    assert audio.frames == 13


def test_separation_passes_vocals_through(pack):
    vocals, rest = pack("audio").SingerVocalSeparation.execute(tone(), "none").result
    assert torch.equal(vocals["waveform"], tone()["waveform"]) and not rest["waveform"].any()
    with pytest.raises(FileNotFoundError, match="models/audio_separation"):
        pack("audio").SingerVocalSeparation.execute(tone(), "hdemucs")


def test_motion_weights_follow_silence(pack):
    audio = dataclasses.replace(tiny.audio_of(8), activity=torch.tensor([1.0] * 4 + [0.0] * 4))
    given = {"pose": 0.5, "face": 1.0, "lip": 2.0, "beat": 0.0, "loudness": 0.0, "silence": 0.5}
    (weights,) = pack("audio").SingerMotionWeights.execute(audio, **given).result
    assert weights[0].tolist() == [0.5, 1.0, 2.0] and weights[7].tolist() == [0.5, 1.0, 1.0]


def test_portrait_and_song_of_the_pack_need_no_copying(core, pack):
    from singer_core.audio.waveform import read_audio
    from singer_core.demo import files
    from singer_core.portrait.image import read_picture, to_tensor

    picture, song = pack("inputs").SingerPictureLoader, pack("inputs").SingerSongLoader
    names = combo(picture, "image")[0], combo(song, "audio")[0]
    assert names == ("sample portrait", "sample song")
    assert picture.validate_inputs(names[0]) is True and song.validate_inputs(names[1]) is True
    (shown,), (heard,) = picture.execute(names[0]).result, song.execute(names[1]).result
    assert torch.equal(shown[0].permute(2, 0, 1), to_tensor(read_picture(files.PORTRAIT).image))
    assert torch.equal(heard["waveform"][0], read_audio(files.SONG).samples)
    assert "`image` is gone.png, which is not in" in picture.validate_inputs("gone.png")
    assert "`audio` is gone.mp3, which is not in" in song.validate_inputs("gone.mp3")


def test_wav2vec2_is_found_by_the_name_that_a_browser_gives_it(core, pack, tmp_path, monkeypatch):
    import folder_paths

    known = [str(tmp_path)], {".safetensors"}
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "audio_encoders", known)
    loader, name = pack("audio").SingerAudioEncoderLoader, "wav2vec2-base-960h.safetensors"
    assert combo(loader, "audio_encoder") == []
    (tmp_path / "model.safetensors").touch()
    assert combo(loader, "audio_encoder") == [name, "model.safetensors"]
    assert pack("folders").path_with(pack("audio").ENCODER, name) == str(tmp_path / "model.safetensors")
    (tmp_path / name).touch()
    assert pack("folders").path_with(pack("audio").ENCODER, name) == str(tmp_path / name)


def landmarks(width: int, height: int) -> dict[str, Any]:
    """Core's FACE_LANDMARKS with one face in the middle."""
    points = np.full((POINTS, 2), (width / 2, height / 2), np.float32)
    for ring, radius in ((SILHOUETTE, 0.25), (LIPS, 0.06)):
        angles = np.linspace(0, 2 * np.pi, len(ring), endpoint=False)
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius * width
        points[list(ring)] = circle + np.array([width / 2, height / 2])
    return {"frames": [[{"landmarks_xy": points}]], "image_size": (height, width)}


PORTRAIT = {"width": 128, "height": 128, "crop": "face", "margin": 0.4, "face_index": -1, "lip_height": 0.0}


@pytest.fixture
def drawn_singer() -> torch.Tensor:
    """The built-in singer as an IMAGE."""
    with Image.open(files.PORTRAIT) as opened:
        return to_tensor(opened.convert("RGB")).permute(1, 2, 0)[None]  # C H W -> 1 H W C


def picture(height: int = 160, width: int = 200) -> torch.Tensor:
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(0))


def test_a_portrait_is_made_of_points_or_masks(pack):
    node = pack("portrait").SingerPortrait
    portrait, overview = node.execute(picture(), **PORTRAIT, face_landmarks=landmarks(200, 160)).result
    assert portrait.image.shape == (3, 128, 128) and portrait.identity is None
    assert [mask.shape[1] for mask in portrait.masks] == [256, 64, 16, 4]
    assert overview.ndim == 4 and overview.shape[-1] == 3
    face, lip = torch.zeros(1, 160, 200), torch.zeros(1, 160, 200)
    face[:, 40:120, 60:140], lip[:, 90:105, 85:115] = 1, 1
    masked, _ = node.execute(picture(), **PORTRAIT, face_mask=face, lip_mask=lip).result
    assert masked.region.max() == 1


def test_an_identity_is_read_off_the_aligned_face(core, pack, tmp_path):
    from safetensors.torch import save_file

    from singer_core.portrait.identity import embed_face
    from singer_core.portrait.image import from_tensor
    from singer_core.portrait.iresnet import IResNet, IResNetConfig
    from singer_core.portrait.landmarks import FaceLandmarks

    with torch.inference_mode(False):
        network = IResNet(
            IResNetConfig(blocks=(1, 1, 1, 1), widths=(8, 8, 8, 8), side=32, embedding=16)
        ).eval()
        save_file(network.state_dict(), tmp_path / "identity.safetensors")
    model = pack("portrait").IdentityModel(str(tmp_path / "identity.safetensors"))
    points = landmarks(200, 160)
    spread = points["frames"][0][0]["landmarks_xy"]
    spread[[468, 473, 1, 61, 291]] = [[80, 60], [120, 60], [100, 80], [85, 100], [115, 100]]
    node = pack("portrait").SingerPortrait
    portrait, _ = node.execute(picture(), **PORTRAIT, face_landmarks=points, identity_model=model).result
    image = from_tensor(picture()[0].permute(2, 0, 1))
    expected = embed_face(network, image, FaceLandmarks(torch.from_numpy(spread)))
    assert torch.allclose(portrait.identity, expected, atol=1e-5)


def test_unusable_portraits_are_named(pack):
    node = pack("portrait").SingerPortrait
    with pytest.raises(ValueError, match="`image` holds 2 pictures"):
        node.execute(picture().repeat(2, 1, 1, 1), **PORTRAIT)
    with pytest.raises(ValueError, match="`face_landmarks` are of 1 pictures of 100 x 160"):
        node.execute(picture(), **PORTRAIT, face_landmarks=landmarks(100, 160))
    with pytest.raises(ValueError, match="Found no face"):
        node.execute(picture(), **PORTRAIT)
    with pytest.raises(ValueError, match="multiples of 64"):
        node.execute(picture(), **{**PORTRAIT, "width": 100}, face_landmarks=landmarks(200, 160))


def test_the_face_is_found_and_of_several_one_is_asked_for(pack, drawn_singer):
    """Blocked with a picture of their numbers; `face_index` counts from the left."""
    node = pack("portrait").SingerPortrait
    alone = node.execute(drawn_singer, **PORTRAIT)
    both = torch.cat([drawn_singer, drawn_singer], dim=2)
    blocked = node.execute(both, **PORTRAIT)
    assert blocked.result == (None, None) and "Found 2 faces" in blocked.block_execution
    import folder_paths

    shown = Path(folder_paths.get_temp_directory()) / blocked.ui.as_dict()["images"][0]["filename"]
    assert Image.open(shown).size == (2 * drawn_singer.shape[2], drawn_singer.shape[1])
    right = node.execute(both, **{**PORTRAIT, "face_index": 1}).result[0]
    left, width = right.crop.box[0], drawn_singer.shape[2]
    assert left == pytest.approx(alone.result[0].crop.box[0] + width, abs=width / 16)


def test_transparent_parts_are_white_as_on_the_command_line(pack, core, tmp_path, monkeypatch):
    """Core's `Load Image` keeps transparency as a mask alone, which is 64 x 64 zeros where there is none."""
    with Image.open(files.PORTRAIT) as opened:
        singer = opened.convert("RGBA")
    alpha = Image.new("L", singer.size, 255)
    alpha.paste(0, (0, 0, singer.width, singer.height // 5))
    singer.putalpha(alpha)
    singer.save(tmp_path / "singer.png")
    import folder_paths

    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    image, mask = core.LoadImage().load_image("singer.png")
    node = pack("portrait").SingerPortrait
    portrait = node.execute(image, **PORTRAIT, mask=mask).result[0]
    expected = read_picture(tmp_path / "singer.png")
    assert torch.equal(portrait.original, to_tensor(expected.image))
    assert torch.equal(portrait.alpha, to_tensor(expected.alpha)[0])
    opaque = node.execute(image, **PORTRAIT, mask=torch.zeros(1, 64, 64)).result[0]
    assert opaque.alpha is None and torch.equal(opaque.original, image[0].permute(2, 0, 1))
    with pytest.raises(ValueError, match="`mask` has 50 x 40 pixels and `image` "):
        node.execute(image, **PORTRAIT, mask=torch.ones(1, 40, 50))


def test_frames_outside_the_song_are_named(conditions):
    with pytest.raises(ValueError, match="`first_frame` is 8; the song has 8 frames"):
        conditions(4, first_frame=8)
    with pytest.raises(ValueError, match="`length` is 10; from frame 0 on the song has 8"):
        conditions(10)
    with pytest.raises(ValueError, match="at least 2 of the portrait's 64 x 64"):
        conditions(4, previous_frames=torch.zeros(1, 64, 64, 3))


def test_empty_latents_take_the_memory_of_one_frame(conditions):
    latents = conditions(0)[2]["samples"]
    assert latents.shape == (8, 4, tiny.LATENT, tiny.LATENT) and not latents.any()
    assert latents.untyped_storage().nbytes() == latents[0].numel() * latents.element_size()


def test_a_chained_song_is_what_one_run_gives(core, pack, vae, model, conditions):
    """The second clip conditioned on the decoded end of the first, by hand and by `Sample SINGER Video`."""
    import comfy.samplers

    whole = conditions(0)
    noise, sampler = pack("samplers").ClipNoise(5, 4), pack("samplers").ddim_sampler()
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 2)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*whole[:2])
    guider.set_cfg(3.5)
    song = pack("song").SingerSampler.execute(noise, guider, sampler, sigmas, whole[2], 4, 2, 0, vae)
    samples = song.result[0]["samples"]
    positive, negative, latent = conditions(4, first_frame=4, previous_frames=vae.decode(samples[:4]))
    guider.set_conds(positive, negative)
    drawn = noise.generate_noise(whole[2])[4:]
    second = guider.sample(drawn, latent["samples"], sampler, sigmas, seed=6)
    assert torch.allclose(second, samples[4:], atol=1e-4)


def test_a_plot_shows_features_and_bands(pack, model):
    drawn = pack("spectral").SingerSpectralPlot.execute(tiny.audio_of(8), 0, 8, model)
    (plot,) = drawn.result
    assert len(drawn.ui.as_dict()["images"]) == 1  # in the node
    assert plot.shape[0] == 1 and plot.shape[-1] == 3 and 0 <= plot.min() < plot.max() <= 1
    with pytest.raises(ValueError, match="`first_frame` is 9; the song has 8 frames"):
        pack("spectral").SingerSpectralPlot.execute(tiny.audio_of(8), 9, 8)


def test_a_video_has_all_frames_and_the_song(pack, vae):
    from singer_core.render.video import probe_video

    vae.spacial_compression_decode = lambda: 8
    latents = tiny.noise(10, 4, 16, 16)
    written = pack("video").SingerVideo.execute({"samples": latents}, vae, 25.0, 0.0, 18, tone())
    (video,) = written.result
    (played,) = written.ui.as_dict()["images"]  # in the node
    assert Path(video.get_stream_source()).name == played["filename"] and played["type"] == "temp"
    found = probe_video(video.get_stream_source())
    assert (found.frames, found.fps, found.size, found.has_audio) == (10, 25.0, (128, 128), True)
    (video,) = (
        pack("video").SingerVideo.execute({"samples": latents}, vae, 25.0, 0.0, 18, longest_side=64).result
    )
    assert probe_video(video.get_stream_source()).size == (64, 64)
    with pytest.raises(ValueError, match=r"`audio_start` is 2\.0 s; the sound has 0\.50 s"):
        pack("video").SingerVideo.execute({"samples": latents}, vae, 25.0, 2.0, 18, tone())


def test_a_video_takes_rate_and_start_from_its_latents(core, pack, vae):
    """Not what it is told: 30 fps against 25, or frame 6 shown at second 0, and the lips are off."""
    from singer_core.audio.waveform import read_audio
    from singer_core.render.video import probe_video

    vae.spacial_compression_decode = lambda: 8
    video = pack("video").SingerVideo
    heard = dataclasses.replace(tiny.audio_of(15), fps=30.0)
    node = pack("conditioning").SingerConditioning
    latent = node.execute(vae, tiny.portrait_of(), heard, 6, 8, 2, True).result[2]
    clicks = {"waveform": torch.zeros(1, 1, 8000), "sample_rate": 16_000}
    clicks["waveform"][..., 3200:4800] = 0.5  # a fifth of a second is 6 frames
    for fps, start in ((0.0, -1.0), (30.0, 0.2)):
        (film,) = video.execute(latent, vae, fps, start, 18, clicks).result
        path = film.get_stream_source()
        assert (probe_video(path).frames, probe_video(path).fps) == (8, 30.0)
        sound = read_audio(path).samples[0]
        assert sound[100:1400].mean() > 0.3 and sound[1800:4000].abs().mean() < 0.05
    (part,) = core.LatentFromBatch().frombatch(latent, 2, 4)
    assert pack("video").seen_at([part], 0.0, -1.0) == (30.0, 8 / 30)
    with pytest.raises(ValueError, match="`fps` is 25; the latents are for 30 frames a second"):
        video.execute(latent, vae, 25.0, -1.0, 18, clicks)
    with pytest.raises(ValueError, match=r"`audio_start` is 0 s; .* at frame 6, 0\.20 s into the song"):
        video.execute(latent, vae, 0.0, 0.0, 18, clicks)
    with pytest.raises(ValueError, match=r"do not say their frame rate\. Set `fps`"):
        video.execute({"samples": latent["samples"]}, vae, 0.0, -1.0, 18)
    with pytest.raises(ValueError, match="do not sing at one time: from frame 6 at 30 fps and from frame 8"):
        pack("video").seen_at([latent, part], 0.0, -1.0)


def test_other_models_are_refused_by_name(pack, model):
    foreign = model.clone()
    foreign.model_options = {"transformer_options": {}}
    with pytest.raises(ValueError, match="`model` is not a SINGER model"):
        pack("spectral").SingerSelfAdaptiveFilter.execute(foreign, 1.0, 1.0, 1.0, 1.0, 1.0)


def test_a_wrong_file_is_named(core, pack, tmp_path, monkeypatch):
    import folder_paths
    from safetensors.torch import save_file

    save_file({"lora_unet_x.lora_up.weight": torch.zeros(1)}, tmp_path / "some_lora.safetensors")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "singer", ([str(tmp_path)], {".safetensors"}))
    loader, given = pack("loader").SingerModelLoader, ("default", "official", "alternating", True)
    with pytest.raises(RuntimeError, match=r"some_lora.safetensors looks like a LoRA"):
        loader.execute("some_lora.safetensors", *given)
    with pytest.raises(FileNotFoundError):
        loader.execute("../../etc/passwd", *given)


def test_a_missing_package_is_named_with_its_remedy(pack, monkeypatch):
    import sys
    from types import SimpleNamespace

    vae = SimpleNamespace(spacial_compression_decode=lambda: 8)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(RuntimeError, match="pip install imageio-ffmpeg` and restart ComfyUI"):
        pack("video").SingerVideo.execute({"samples": torch.zeros(2, 4, 16, 16)}, vae, 25.0, 0.0, 18)


def test_every_node_has_a_help_page_and_a_chinese_text(node_classes):
    root = SNAPSHOT.parents[2]
    chinese = json.loads((root / "locales/zh/nodeDefs.json").read_text(encoding="utf-8"))
    for node in node_classes:
        schema = node.GET_SCHEMA()
        page = (root / "web/docs" / f"{schema.node_id}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {schema.display_name}\n")
        assert f"({schema.node_id}.jpg)" in page and (root / f"web/docs/{schema.node_id}.jpg").is_file()
        for socket in (*schema.inputs, *schema.outputs):
            assert socket.tooltip in page
        said = chinese.pop(schema.node_id)
        page = (root / "web/docs" / schema.node_id / "zh.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {said['display_name']}\n")
        assert said["display_name"] and said["description"]
        assert said.get("inputs", {}).keys() == {socket.id for socket in schema.inputs}
        assert [*said.get("outputs", {})] == [str(index) for index in range(len(schema.outputs))]
        for socket in (*said.get("inputs", {}).values(), *said.get("outputs", {}).values()):
            assert socket["name"] and socket["tooltip"]
    assert not chinese, "texts of nodes that are gone"
