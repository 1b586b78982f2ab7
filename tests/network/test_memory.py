"""Out of memory: the batch is halved once, then the error says what to lower."""

from __future__ import annotations

import logging

import pytest
import tiny
import torch

from singer_core.network.memory import OutOfMemory, in_batches


def with_room_for(rows: int, seen: list[int]):
    def work(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        if len(x) > rows:
            raise OutOfMemory("CUDA out of memory.")
        return x * 2

    return work


X = torch.arange(8.0)


@pytest.mark.parametrize(
    ("room", "batch", "calls"), [(8, 8, [8]), (4, 8, [8, 4, 4]), (1, 3, [3, 1, 1, 1, 1, 1, 1, 1, 1])]
)
def test_the_batch_is_halved_once(room, batch, calls, caplog):
    seen: list[int] = []
    with caplog.at_level(logging.WARNING):
        assert torch.equal(in_batches(with_room_for(room, seen), X, batch, "Decoding"), X * 2)
    assert seen == calls
    assert ("going on with" in caplog.text) == (len(calls) > 1 and calls[0] > room)


@pytest.mark.parametrize("batch", [1, 8])
def test_what_does_not_fit_says_what_to_lower(batch):
    with pytest.raises(RuntimeError, match=r"Decoding needs more memory .* Lower the picture's size"):
        in_batches(with_room_for(0, []), X, batch, "Decoding")


def test_other_errors_pass():
    def broken(x):
        raise RuntimeError("shapes")

    with pytest.raises(RuntimeError, match="shapes"):
        in_batches(broken, X, 4, "Decoding")


def test_any_batch_decodes_the_same_pictures(tiny_vae):
    latents = tiny.noise(3, 4, 4, 4)
    torch.testing.assert_close(tiny_vae.decode(latents, 2), tiny_vae.decode(latents), atol=1e-5, rtol=0)
