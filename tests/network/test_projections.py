"""Audio windows, audio and image projection, face locator (docs/numerics.md section 6)."""

from __future__ import annotations

import pytest
import tiny
import torch
import torch.nn.functional as F

from singer_core.network.adapter import AudioProjection, FaceLocator, ImageProjection, audio_windows
from singer_core.network.layers import Toolkit


def song(frames: int) -> torch.Tensor:
    """(s, 1, 1): the features of a frame are its number."""
    return torch.arange(frames, dtype=torch.float32)[:, None, None]


def test_a_window_is_a_frame_with_two_neighbours_on_each_side_and_ends_repeat():
    windows = audio_windows(song(5))[..., 0, 0].int().tolist()
    expected = [[0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4, 4], [2, 3, 4, 4, 4]]
    assert windows == expected


def test_a_network_may_hear_further_back():
    assert audio_windows(song(8), 1, 6, past=3)[..., 0, 0].tolist() == [
        [0, 0, 0, 1, 2, 3],
        [0, 0, 1, 2, 3, 4],
        [0, 1, 2, 3, 4, 5],
        [1, 2, 3, 4, 5, 6],
        [2, 3, 4, 5, 6, 7],
    ]


@pytest.mark.parametrize("frames", [1, 2, 16, 33])
def test_windows_of_clips_are_clips_of_the_windows(frames):
    features = tiny.noise(frames, 3, 4)
    whole = audio_windows(features)
    parts = [audio_windows(features, start, min(start + 7, frames)) for start in range(0, frames, 7)]
    assert torch.equal(torch.cat(parts), whole)
    assert whole.shape == (frames, 5, 3, 4)


def test_windows_beyond_the_song_repeat_its_last_frame():
    assert audio_windows(song(4), 4, 7)[..., 0, 0].tolist() == [[2, 3, 3, 3, 3], [3] * 5, [3] * 5]


def test_the_audio_projection_reads_window_layer_and_channel_in_this_order():
    """A unit at one input moves exactly the hidden units that see the flat index of (k, l, d)."""
    k, l, d = 3, 1, 2  # noqa: E741 - the letters of shapes
    module = AudioProjection(5 * 2 * 3, 5 * 2 * 3, 1, 30, Toolkit()).requires_grad_(False)
    for layer in (module.proj1, module.proj2, module.proj3):
        layer.weight.copy_(torch.eye(30))
        layer.bias.zero_()
    windows = torch.zeros(1, 5, 2, 3)
    windows[0, k, l, d] = 1
    hot = F.one_hot(torch.tensor((k * 2 + l) * 3 + d), 30).float()
    torch.testing.assert_close(module(windows)[0, 0], F.layer_norm(hot, (30,)))


def test_no_identity_is_the_token_of_a_zero_embedding_not_zero_tokens():
    module = ImageProjection(6, 3, 8, Toolkit()).requires_grad_(False)
    bias = tiny.noise(24)
    module.proj.bias.copy_(bias)
    tokens = module(torch.zeros(1, 6))
    torch.testing.assert_close(tokens, F.layer_norm(bias.view(1, 3, 8), (8,)))
    assert tokens.abs().min() > 0


@pytest.mark.parametrize("size", [(64, 64), (64, 128), (192, 64)], ids=str)
def test_the_face_locator_works_in_latent_pixels(size):
    module = FaceLocator(32, (4, 4, 6, 6), Toolkit())
    assert module(torch.rand(2, 3, *size)).shape == (2, 32, size[0] // 8, size[1] // 8)


def test_a_moved_face_box_moves_the_face_features():
    module = FaceLocator(8, (4, 4, 6, 6), Toolkit()).requires_grad_(False)
    region = torch.zeros(1, 3, 192, 192)
    region[..., 64:112, 72:120] = 1
    features, moved = module(region), module(region.roll((16, -24), (2, 3)))
    inside = slice(7, -7)  # away from the zero padding at the border
    torch.testing.assert_close(
        moved[..., inside, inside], features.roll((2, -3), (2, 3))[..., inside, inside], atol=1e-6, rtol=0
    )
    assert features.std() > 1e-3
