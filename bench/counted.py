"""Operations and memory of the full network, counted on tensors without values: no accelerator is needed.

    python bench/counted.py [--width full] [--frames 16]

Float16, the published picture size. *Weights* are those of a part; *peak* is what all tensors of a pass that
are alive at once take, weights included: what an allocator without fragments would need. Fused attention is
taken to keep nothing but its result. Work space of libraries and the driver's own memory are not in it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import weakref
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from denoiser import TIMESTEP, Ours
from material import WIDTHS, clip_inputs, random_vae
from stages import Work, operations_of
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from singer_core import constants
from singer_core.network.autoencoder import DECODE_BATCH, Autoencoder
from singer_core.network.backbone import SingerNetwork, _blocks
from singer_core.network.conditions import CONDITIONAL, ReferenceFeatures

META = torch.device("meta")
DTYPE = torch.float16
GIGA = 1e9


class Counted(Ours):
    """Our side of the benchmark on tensors without values."""

    def __init__(self, width: str, frames: int) -> None:
        arch = WIDTHS[width]
        with META:
            self.network = SingerNetwork(arch).to(DTYPE).requires_grad_(False)
        self.device = META
        self.given = {
            name: value.to(META, DTYPE if value.is_floating_point() else None)
            for name, value in clip_inputs(arch, frames).items()
        }
        self.latents = self.given["latents"][0].transpose(0, 1)
        self.tokens = self._tokens()
        self.conditions = self._conditions()


class Memory(TorchDispatchMode):
    """Bytes of the tensors that are made while it is on, and the most that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self.known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages((args, kwargs))}
        for storage in _storages(out):
            if storage._cdata not in given and storage._cdata not in self.known:
                self._note(storage)
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()

        def forget(_: object) -> None:
            del self.known[key]
            self.alive -= size

        self.known[key] = weakref.ref(storage, forget)
        self.alive += size
        self.peak = max(self.peak, self.alive)


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


@contextlib.contextmanager
def fused_attention(operations: list[float]) -> Iterator[None]:
    """PyTorch's fused attention replaced by the form of its result; its operations go to the list."""

    def attend(q: Tensor, k: Tensor, v: Tensor, *_: Any, **_options: Any) -> Tensor:
        operations.append(2.0 * k.shape[-2] * (q.numel() + q[..., 0].numel() * v.shape[-1]))
        return q.new_empty(*q.shape[:-1], v.shape[-1])

    with mock.patch.object(nn.functional, "scaled_dot_product_attention", attend):
        yield


def operations(work: Work) -> float:
    """Multiplications and additions of one run."""
    attention: list[float] = []
    with fused_attention(attention):
        return operations_of(work) + sum(attention)


def peak(work: Work) -> int:
    """Bytes that the tensors of one run take at most."""
    with fused_attention([]), Memory() as memory:
        work()
    return memory.peak


def size(*modules: nn.Module) -> int:
    """Bytes of the weights."""
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def kept(reference: ReferenceFeatures) -> int:
    """Bytes of a clip's reference features, and of keys and values made of them."""
    made = [x for pair in (reference.made or {}).values() for x in pair]
    return sum(x.numel() * x.element_size() for x in (*reference.features.values(), *made))


def works(ours: Counted, vae: Autoencoder) -> dict[str, Work]:
    """What is counted, by name."""
    network, latents, clip = ours.network, ours.latents, ours.conditions
    alone = dataclasses.replace(clip, branches=(CONDITIONAL,))
    return {
        "reference pass of a clip": ours._reference,
        "step, guided": lambda: network(latents, TIMESTEP, ours.tokens, clip),
        "step, one branch": lambda: network(latents, TIMESTEP, ours.tokens, alone),
        f"decoding, {DECODE_BATCH} pictures": lambda: vae.vae.decode(latents[:DECODE_BATCH]).sample,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", choices=WIDTHS, default="full")
    parser.add_argument("--frames", type=int, default=constants.CLIP_FRAMES)
    args = parser.parse_args(argv)
    with torch.no_grad():
        with fused_attention([]):
            ours = Counted(args.width, args.frames)
        with META:
            vae = Autoencoder(random_vae(args.width).to(DTYPE))
        found = {name: (operations(work), peak(work)) for name, work in works(ours, vae).items()}
    network = ours.network
    weights = {
        "denoising UNet and adapter": size(network.unet, network.adapter),
        "reference UNet": size(network.reference_unet),
        "VAE": size(vae.vae),
    }
    clip = kept(ours.conditions.reference)
    print("| weights | GB |\n|---|---:|")
    print("\n".join(f"| {name} | {value / GIGA:.2f} |" for name, value in weights.items()))
    print(f"| reference features of a clip, their keys and values | {clip / GIGA:.2f} |")
    print("\n| pass | TFLOP | most alive beside all that, GB |\n|---|---:|---:|")
    print(
        "\n".join(
            f"| {name} | {flop / 1e12:.2f} | {most / GIGA:.2f} |" for name, (flop, most) in found.items()
        )
    )
    alive = {name: most for name, (_, most) in found.items()}
    whole = sum(weights.values()) + clip + max(alive.values())
    alive["step, guided"] = 0
    alive["reference pass of a clip"] += max(size(block) for block in _blocks(network.reference_unet))
    low = weights["denoising UNet and adapter"] + weights["VAE"] + clip + max(alive.values())
    print(f"\nIn all {whole / GIGA:.1f} GB; with --low-memory {low / GIGA:.1f} GB.")


if __name__ == "__main__":
    main()
