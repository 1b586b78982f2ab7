"""Videos of one singer and of two: decoded in parts of any size, put together frame by frame."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch

from singer_core.portrait.crop import CropTransform, PasteBack
from singer_core.render.video import probe_video, read_frames

FRAMES, SIDE = 11, 128


@pytest.fixture
def video_vae(vae, monkeypatch):
    """The VAE, which notes how many frames it is given at once."""
    monkeypatch.setattr(vae, "spacial_compression_decode", lambda: 8, raising=False)
    decode, given = vae.decode, []

    def noting(latents):
        given.append(len(latents))
        return decode(latents)

    monkeypatch.setattr(vae, "decode", noting)
    vae.given = given
    return vae


def latents(seed: int, frames: int = FRAMES, h: int = 16) -> dict:
    return {"samples": tiny.noise(frames, 4, h, 16, seed=seed)}


def sound() -> dict:
    return {"waveform": torch.sin(torch.arange(16_000) / 10)[None, None] / 2, "sample_rate": 16_000}


@pytest.fixture
def exact(pack, monkeypatch):
    """Every picture that is written, instead of a compressed one."""
    video, pictures = pack("video"), []

    class Writer(video.VideoWriter):
        def write(self, frames):
            pictures.append(frames.clone())
            super().write(frames)

    monkeypatch.setattr(video, "VideoWriter", Writer)

    def written(execute, *given, **named):
        pictures.clear()
        execute(*given, 25.0, 0.0, 18, **named)
        return torch.cat(pictures)

    return written


def test_frames_are_decoded_in_parts_of_any_size_to_the_same_video(pack, video_vae, monkeypatch):
    module, files = pack("video"), []
    for part in (1, 3, 64):
        monkeypatch.setattr(module, "DECODED_FRAMES", part)
        video_vae.given.clear()
        execute = pack("video").SingerVideo.execute
        (video,) = execute(latents(1), video_vae, 25.0, 0.0, 18, sound()).result
        assert max(video_vae.given) == min(part, FRAMES) and sum(video_vae.given) == FRAMES
        with open(video.get_stream_source(), "rb") as stream:
            files.append(stream.read())
    assert files[0] == files[1] == files[2]


def test_large_pictures_are_decoded_one_by_one_and_small_ones_many(pack, vae, monkeypatch):
    monkeypatch.setattr(vae, "spacial_compression_decode", lambda: 8, raising=False)

    def at_once(side: int, films: int = 1) -> int:
        latents = torch.zeros(1).expand(2000, 4, side // 8, side // 8)
        return pack("video").decoded_at_once(vae, [latents] * films)

    assert (at_once(512), at_once(1024), at_once(1024, films=2), at_once(8192)) == (16, 15, 7, 1)


def test_each_half_of_a_duet_is_the_film_alone(pack, video_vae, exact):
    video = pack("video")
    both = exact(video.SingerDuetVideo.execute, latents(1), latents(2), video_vae, audio=sound())
    left = exact(video.SingerVideo.execute, latents(1), video_vae)
    right = exact(video.SingerVideo.execute, latents(2), video_vae)
    assert both.shape == (FRAMES, 3, SIDE, 2 * SIDE)
    assert torch.equal(both, torch.cat([left, right], dim=3))


def test_a_duet_is_a_video_with_the_sound(pack, video_vae):
    execute = pack("video").SingerDuetVideo.execute
    (video,) = execute(latents(1), latents(2), video_vae, 25.0, 0.0, 18, sound()).result
    found = probe_video(video.get_stream_source())
    assert (found.frames, found.fps, found.size, found.has_audio) == (FRAMES, 25.0, (SIDE, 2 * SIDE), True)
    assert len(list(read_frames(video.get_stream_source()))) == FRAMES


def in_picture(left: int, picture: torch.Tensor):
    crop = CropTransform((left, 8, left + SIDE, 8 + SIDE), (SIDE, SIDE), tuple(picture.shape[1:]))
    return dataclasses.replace(tiny.portrait_of(), crop=crop, original=picture)


def test_two_portraits_of_one_picture_sing_in_it(pack, video_vae, exact):
    picture = torch.rand(3, 150, 300, generator=torch.Generator().manual_seed(0))
    first, second = in_picture(10, picture), in_picture(160, picture)
    video = pack("video")
    portraits = {"first_portrait": first, "second_portrait": second}
    both = exact(video.SingerDuetVideo.execute, latents(1), latents(2), video_vae, **portraits)
    alone = exact(video.SingerVideo.execute, latents(2), video_vae, portrait=second)
    assert torch.equal(both[..., 150:], alone[..., 150:])
    changed = (both != picture).any(0).any(0)
    assert changed[8:136, 10:138].any() and not changed[:8].any() and not changed[:, 138:160].any()


def test_portraits_of_two_pictures_are_pasted_each_into_its_own(pack, video_vae, exact):
    one, other = torch.rand(3, 150, 200), torch.rand(3, 150, 170)
    portraits = {"first_portrait": in_picture(10, one), "second_portrait": in_picture(20, other)}
    both = exact(pack("video").SingerDuetVideo.execute, latents(1), latents(2), video_vae, **portraits)
    assert both.shape[2:] == (150, 370)
    paste = PasteBack(other, portraits["second_portrait"].crop)
    frame = video_vae.autoencoder.decode(latents(2)["samples"][:1] * 0.18215)[0]
    torch.testing.assert_close(both[0, :, :, 200:], paste(frame))


def test_a_duet_that_cannot_be_is_refused_by_name(pack, video_vae):
    execute, widgets = pack("video").SingerDuetVideo.execute, (25.0, 0.0, 18)
    with pytest.raises(ValueError, match="The singers have 11 and 9 frames"):
        execute(latents(1), latents(2, 9), video_vae, *widgets)
    with pytest.raises(ValueError, match="128 and 64 rows cannot stand side by side"):
        execute(latents(1), latents(2, h=8), video_vae, *widgets)
    picture = torch.rand(3, 150, 300)
    portrait = in_picture(10, picture)
    with pytest.raises(ValueError, match=r"`second_portrait` was prepared for 128 x 128 .* 128 x 64"):
        execute(latents(1), latents(2, h=8), video_vae, *widgets, second_portrait=portrait)
    with pytest.raises(ValueError, match="have the same face"):
        execute(
            latents(1), latents(2), video_vae, *widgets, first_portrait=portrait, second_portrait=portrait
        )
