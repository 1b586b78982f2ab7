"""IResNet, the face recognition network of ArcFace (arXiv 1801.07698; glintr100 has 3, 13, 30, 3 blocks).

Keys are those of published PyTorch checkpoints: `conv1.weight`, `layer1.0.bn1.weight`, ..., `features.bias`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

EPS = 1e-5  # of every batch normalisation


@dataclass(frozen=True)
class IResNetConfig:
    """Blocks and widths per stage (each halves the picture), length of the embedding, side of the input."""

    blocks: tuple[int, ...] = (3, 13, 30, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    embedding: int = 512
    side: int = 112

    @property
    def last_side(self) -> int:
        """Side of the last feature map."""
        return self.side >> len(self.blocks)


class IBasicBlock(nn.Module):
    """bn - conv 3x3 - bn - prelu - conv 3x3 - bn, plus the input (by a strided 1x1 where shapes differ)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels, eps=EPS)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels, eps=EPS)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels, eps=EPS)
        self.downsample: nn.Sequential | None = None
        if stride > 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels, eps=EPS)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(out)) + shortcut


class IResNet(nn.Module):
    """Aligned faces (b, 3, side, side), RGB in [-1, 1] -> embeddings (b, e), not normalised."""

    def __init__(self, config: IResNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or IResNetConfig()
        self.conv1 = nn.Conv2d(3, config.widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(config.widths[0], eps=EPS)
        self.prelu = nn.PReLU(config.widths[0])
        self.stages = len(config.blocks)
        width = config.widths[0]
        for stage, (count, channels) in enumerate(zip(config.blocks, config.widths, strict=True), start=1):
            blocks = [IBasicBlock(width, channels, 2)]
            blocks += [IBasicBlock(channels, channels, 1) for _ in range(count - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            width = channels
        self.bn2 = nn.BatchNorm2d(width, eps=EPS)
        self.fc = nn.Linear(width * config.last_side**2, config.embedding)
        self.features = nn.BatchNorm1d(config.embedding, eps=EPS)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.prelu(self.bn1(self.conv1(pixels)))
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


def is_iresnet(keys: Sequence[str]) -> bool:
    """Whether tensor names are those of an IResNet."""
    return {"conv1.weight", "layer1.0.bn1.weight", "fc.weight", "features.running_mean"} <= set(keys)


def detect(state: Mapping[str, torch.Tensor]) -> IResNetConfig:
    """Architecture from keys and shapes. Raises RuntimeError where they are not an IResNet's."""
    if not is_iresnet(list(state)):
        known = ", ".join(list(state)[:3])
        raise RuntimeError(
            f"The file holds {len(state)} tensors ({known}, ...) that are no IResNet. "
            "Use glintr100, converted with `singer convert glintr100.onnx glintr100.safetensors`."
        )
    blocks: dict[int, int] = {}
    for key in state:
        match = re.match(r"layer(\d+)\.(\d+)\.", key)
        if match:
            stage, index = int(match[1]), int(match[2])
            blocks[stage] = max(blocks.get(stage, 0), index + 1)
    stages = range(1, len(blocks) + 1)
    missing = [key for s in stages if (key := f"layer{s}.0.conv1.weight") not in state]
    if missing:
        raise RuntimeError(f"The identity network lacks {', '.join(missing[:3])}. Convert the file again.")
    widths = tuple(state[f"layer{s}.0.conv1.weight"].shape[0] for s in stages)
    embedding, flat = state["fc.weight"].shape
    last_side = math.isqrt(flat // widths[-1])
    return IResNetConfig(tuple(blocks[s] for s in stages), widths, embedding, last_side << len(stages))


def build(state: Mapping[str, torch.Tensor]) -> IResNet:
    """The network of a state dict, float32, for inference. RuntimeError for missing or odd tensors."""
    floats = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    with torch.device("meta"):
        network = IResNet(detect(floats))
    missing = [k for k in network.state_dict() if k not in floats and not k.endswith("num_batches_tracked")]
    if missing:
        raise RuntimeError(
            f"The identity network lacks {len(missing)} tensors: {', '.join(missing[:3])}. "
            "Convert the file again."
        )
    unexpected = sorted(set(floats) - set(network.state_dict()))
    if unexpected:
        raise RuntimeError(
            f"The identity network has {len(unexpected)} tensors too many: "
            f"{', '.join(unexpected[:3])}. IResNet (glintr100) is accepted."
        )
    counters = {k: torch.zeros((), dtype=torch.long) for k in network.state_dict() if k.endswith("tracked")}
    network.load_state_dict({**counters, **floats}, assign=True)
    return network.eval().requires_grad_(False)
