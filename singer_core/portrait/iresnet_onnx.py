"""An IResNet stored as an ONNX graph -> the tensors of `IResNet`.

The graph is walked along its data flow, so neither names nor node order matter. Exporters fold batch
normalisations into the convolution (or linear layer) before them; what is folded comes back as one that only
adds the bias.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..files import renamed_on_success
from .iresnet import EPS, build

State = dict[str, torch.Tensor]
PASS = {"Identity", "Dropout", "Cast"}  # nodes that do not change the values at inference
RESHAPE = {
    "Identity",
    "Unsqueeze",
    "Squeeze",
    "Reshape",
    "Cast",
}  # what exporters put between a weight and its use


def convert_onnx(
    path_in: str | PathLike[str], path_out: str | PathLike[str], dtype: torch.dtype = torch.float32
) -> Path:
    """Write the IResNet in the ONNX file `path_in` as safetensors; float16 halves the file.

    Raises FileNotFoundError, ValueError for a file that is no ONNX graph, RuntimeError for a graph of another
    network and where the package `onnx` is missing.
    """
    state = {k: v.to(dtype).contiguous() for k, v in read_onnx(path_in).items()}
    with renamed_on_success(Path(path_out)) as temporary:
        save_file(state, temporary, metadata={"format": "pt", "source": Path(path_in).name})
    return Path(path_out)


def read_onnx(path: str | PathLike[str]) -> State:
    """The tensors of the IResNet in the ONNX file `path`, float32, with `IResNet`'s keys."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"No ONNX file at {path}. glintr100.onnx is part of insightface's antelopev2 pack."
        )
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise RuntimeError(
            f"Reading {path.name} needs the package onnx, which is not installed. "
            "Run: pip install 'singer-portrait[onnx]'"
        ) from error
    try:
        graph = onnx.load(str(path)).graph
    except DecodeError as error:
        raise ValueError(
            f"{path.name} is not an ONNX file or is damaged ({error}). Download it again."
        ) from error
    state = _Walk(graph, path.name).state()
    build(state)  # every shape fits the architecture, or RuntimeError
    return state


class _Walk:
    """Follows the data from the graph's input to its output and collects tensors on the way."""

    def __init__(self, graph: Any, name: str) -> None:
        from onnx import numpy_helper

        self._name = name
        self._weights = {w.name: torch.from_numpy(numpy_helper.to_array(w).copy()) for w in graph.initializer}
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
            from onnx import numpy_helper

            return torch.from_numpy(numpy_helper.to_array(maker.attribute[0].t).copy()).float()
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
