"""IResNet, the face recognition network of ArcFace (arXiv 1801.07698; glintr100 has 3, 13, 30, 3 blocks).

Keys are those of published PyTorch checkpoints: `conv1.weight`, `layer1.0.bn1.weight`, ..., `features.bias`.
From an ONNX file they are found by walking its graph.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from ..libraries import require
from ..weights import State, save_weights

EPS = 1e-5  # of every batch normalisation
PASS = {"Identity", "Dropout", "Cast"}  # nodes that do not change the values at inference
# What exporters put between a weight and its use.
RESHAPE = {"Identity", "Unsqueeze", "Squeeze", "Reshape", "Cast"}


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


def convert_onnx(path_in: str | PathLike[str], path_out: str | PathLike[str]) -> Path:
    """Write the IResNet in the ONNX file `path_in` as safetensors.

    Raises FileNotFoundError, ValueError for a file that is no ONNX graph, RuntimeError for a graph of another
    network and where the package `onnx` is missing.
    """
    save_weights(Path(path_out), read_onnx(path_in).items(), {"source": Path(path_in).name})
    return Path(path_out)


def read_onnx(path: str | PathLike[str]) -> State:
    """The tensors of the IResNet in the ONNX file `path`, float32, with `IResNet`'s keys."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"No ONNX file at {path}. glintr100.onnx is part of insightface's antelopev2 pack."
        )
    onnx = _onnx(path, "onnx")
    try:
        graph = onnx.load(str(path)).graph
    except _onnx(path, "google.protobuf.message").DecodeError as error:
        raise ValueError(
            f"{path.name} is not an ONNX file or is damaged ({error}). Download it again."
        ) from error
    state = _Walk(graph, path.name, onnx.numpy_helper.to_array).state()
    build(state)  # every shape fits the architecture, or RuntimeError
    return state


def _onnx(path: Path, module: str) -> ModuleType:
    return require(module, f"Reading {path.name}", "onnx")


class _Walk:
    """Follows the data of an ONNX graph from its input to its output and collects tensors on the way.

    Neither names nor node order matter. Exporters fold batch normalisations into the convolution (or linear
    layer) before them; what is folded comes back as one that only adds the bias.
    """

    def __init__(self, graph: Any, name: str, to_array: Callable[[Any], NDArray[Any]]) -> None:
        self._name, self._to_array = name, to_array
        self._weights = {w.name: torch.from_numpy(to_array(w).copy()) for w in graph.initializer}
        self._makers = {output: node for node in graph.node for output in node.output}
        self._users: dict[str, list[Any]] = {}
        for node in graph.node:
            for source in node.input:
                self._users.setdefault(source, []).append(node)
        inputs = [i.name for i in graph.input if i.name not in self._weights]
        if len(inputs) != 1:
            raise self._error(f"{len(inputs)} inputs")
        self._input = inputs[0]
        self._state: State = {}

    def state(self) -> State:
        """All tensors, keys as in `IResNet`."""
        at = self._conv(self._only(self._input), "conv1", "bn1")
        at = self._prelu(self._only(at), "prelu")
        stage, index = 0, 0
        while len(users := self._after(at)) > 1:
            shortcut = [n for n in users if n.op_type == "Conv"]
            stage, index = (stage + 1, 0) if shortcut else (stage, index + 1)
            at = self._block(users, f"layer{stage}.{index}.")
        at = self._norm(self._only(at), "bn2")
        node = self._only(at)
        while node.op_type in ("Flatten", "Reshape"):
            node = self._only(node.output[0])
        at = self._linear(node)
        rest = self._after(at)
        if rest:
            self._norm(rest[0], "features")
        else:
            self._shift("features", torch.zeros(len(self._state["fc.bias"])))
        return self._state

    def _block(self, users: list[Any], prefix: str) -> str:
        norms = [n for n in users if n.op_type == "BatchNormalization"]
        if len(users) != 2 or len(norms) != 1:
            raise self._error(f"a branch into {', '.join(n.op_type for n in users)} at {prefix[:-1]}")
        at = self._norm(norms[0], prefix + "bn1")
        at = self._conv(self._only(at), prefix + "conv1", prefix + "bn2")
        at = self._prelu(self._only(at), prefix + "prelu")
        at = self._conv(self._only(at), prefix + "conv2", prefix + "bn3")
        other = next(n for n in users if n is not norms[0])
        if other.op_type == "Conv":
            self._conv(other, prefix + "downsample.0", prefix + "downsample.1")
        add = self._only(at)
        if add.op_type != "Add":
            raise self._error(f"{add.op_type} instead of Add after {prefix}conv2")
        return add.output[0]

    def _conv(self, node: Any, conv: str, norm: str) -> str:
        """Convolution and the normalisation after it, folded or not. Returns the name of its output."""
        if node.op_type != "Conv":
            raise self._error(f"{node.op_type} instead of Conv at {conv}")
        self._state[conv + ".weight"] = self._weight(node.input[1])
        bias = self._weight(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        after = self._after(node.output[0])
        if len(after) == 1 and after[0].op_type == "BatchNormalization":
            at = self._norm(after[0], norm)
            if bias is not None:
                self._state[norm + ".running_mean"] = self._state[norm + ".running_mean"] - bias
            return at
        channels = self._state[conv + ".weight"].shape[0]
        self._shift(norm, torch.zeros(channels) if bias is None else bias)
        return node.output[0]

    def _norm(self, node: Any, key: str) -> str:
        if node.op_type != "BatchNormalization":
            raise self._error(f"{node.op_type} instead of BatchNormalization at {key}")
        eps = next((a.f for a in node.attribute if a.name == "epsilon"), EPS)
        names = ("weight", "bias", "running_mean", "running_var")
        for name, source in zip(names, node.input[1:5], strict=True):
            self._state[f"{key}.{name}"] = self._weight(source)
        self._state[key + ".running_var"] = self._state[key + ".running_var"] + (eps - EPS)
        return node.output[0]

    def _prelu(self, node: Any, key: str) -> str:
        if node.op_type != "PRelu":
            raise self._error(f"{node.op_type} instead of PRelu at {key}")
        self._state[key + ".weight"] = self._weight(node.input[1]).flatten()
        return node.output[0]

    def _linear(self, node: Any) -> str:
        if node.op_type == "Gemm":
            flags = {a.name: a.i for a in node.attribute if a.name in ("transA", "transB")}
            weight = self._weight(node.input[1])
            self._state["fc.weight"] = weight if flags.get("transB") else weight.T
            zeros = torch.zeros(len(self._state["fc.weight"]))
            self._state["fc.bias"] = self._weight(node.input[2]) if len(node.input) > 2 else zeros
            return node.output[0]
        if node.op_type != "MatMul":
            raise self._error(f"{node.op_type} instead of Gemm at fc")
        self._state["fc.weight"] = self._weight(node.input[1]).T
        self._state["fc.bias"] = torch.zeros(len(self._state["fc.weight"]))
        after = self._after(node.output[0])
        if len(after) == 1 and after[0].op_type == "Add":
            add = after[0]
            self._state["fc.bias"] = self._weight(next(i for i in add.input if i != node.output[0])).flatten()
            return add.output[0]
        return node.output[0]

    def _shift(self, key: str, bias: torch.Tensor) -> None:
        """A normalisation that only adds `bias`."""
        ones = torch.ones_like(bias)
        self._state |= {
            f"{key}.weight": ones,
            f"{key}.bias": bias,
            f"{key}.running_mean": torch.zeros_like(bias),
            f"{key}.running_var": ones - EPS,
        }

    def _weight(self, name: str) -> torch.Tensor:
        """A constant of the graph by name, through the reshapes that exporters insert."""
        if name in self._weights:
            return self._weights[name].float()
        maker = self._makers.get(name)
        if maker is not None and maker.op_type == "Constant":
            return torch.from_numpy(self._to_array(maker.attribute[0].t).copy()).float()
        if maker is not None and maker.op_type == "Transpose":
            order = next(list(a.ints) for a in maker.attribute if a.name == "perm")
            return self._weight(maker.input[0]).permute(*order)
        if maker is not None and maker.op_type in RESHAPE:
            return self._weight(maker.input[0])
        raise self._error(f"weight {name!r}, which is not constant")

    def _after(self, name: str) -> list[Any]:
        """Nodes that use a value, through nodes that pass it on."""
        nodes: list[Any] = []
        for node in self._users.get(name, []):
            nodes += self._after(node.output[0]) if node.op_type in PASS else [node]
        return nodes

    def _only(self, name: str) -> Any:
        nodes = self._after(name)
        if len(nodes) != 1:
            raise self._error(f"{len(nodes)} users of {name!r} where one was expected")
        return nodes[0]

    def _error(self, found: str) -> RuntimeError:
        return RuntimeError(
            f"{self._name} has {found}: not an IResNet. Use glintr100.onnx of the antelopev2 pack."
        )
