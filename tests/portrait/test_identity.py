from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.ndimage import map_coordinates
from skimage.transform import SimilarityTransform

from singer_core.portrait import identity as ids
from singer_core.portrait.iresnet import IResNet, IResNetConfig, build, convert_onnx, detect

CONFIG = IResNetConfig(blocks=(1, 2, 1), widths=(8, 12, 16), embedding=24, side=32)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's ONNX exporter
UNFOLDED = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}


@pytest.fixture(scope="module")
def network() -> IResNet:
    """A small IResNet in which every tensor counts."""
    torch.manual_seed(0)
    network = IResNet(CONFIG).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
        if isinstance(module, torch.nn.PReLU):
            module.weight.data.uniform_(0, 0.5)
    return network


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(params=[{}, UNFOLDED], ids=["folded", "unfolded"])
def onnx_file(request: pytest.FixtureRequest, tmp_path: Path, network: IResNet, pixels: torch.Tensor) -> Path:
    path = tmp_path / "glintr100.onnx"
    torch.onnx.export(network, (pixels,), path, dynamo=False, **request.param)
    return path


def run_onnx(path: Path, pixels: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path)
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: pixels.numpy()})[0])


def split_gemm(path: Path) -> None:
    """Replace the linear layer by MatMul and Add, and put a Dropout in front of it."""
    model = onnx.load(path)
    graph = model.graph
    at, gemm = next((i, n) for i, n in enumerate(graph.node) if n.op_type == "Gemm")
    weight = next(w for w in graph.initializer if w.name == gemm.input[1])
    graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(weight).T.copy(), "turned"))
    nodes = [
        helper.make_node("Dropout", [gemm.input[0]], ["dropped"]),
        helper.make_node("MatMul", ["dropped", "turned"], ["product"]),
        helper.make_node("Add", [gemm.input[2], "product"], [gemm.output[0]]),
    ]
    graph.node.remove(gemm)
    for offset, node in enumerate(nodes):
        graph.node.insert(at + offset, node)
    onnx.save(model, path)


def test_converted_network_equals_onnxruntime(onnx_file: Path, tmp_path: Path, pixels: torch.Tensor) -> None:
    written = convert_onnx(onnx_file, tmp_path / "a.safetensors")
    ours, theirs = ids.load_identity(written)(pixels), run_onnx(onnx_file, pixels)
    assert torch.cosine_similarity(ours, theirs).min() >= 0.9999
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert ours.norm(dim=1).min() > 1.5  # not normalised


def test_convolutions_may_have_both_a_bias_and_a_normalisation(
    tmp_path: Path, network: IResNet, pixels: torch.Tensor
) -> None:
    path = tmp_path / "a.onnx"
    torch.onnx.export(network, (pixels,), path, dynamo=False, **UNFOLDED)
    before = run_onnx(path, pixels)
    model = onnx.load(path)
    for i, node in enumerate(n for n in model.graph.node if n.op_type == "Conv"):
        weight = next(w for w in model.graph.initializer if w.name == node.input[1])
        model.graph.initializer.append(
            numpy_helper.from_array(np.full(weight.dims[0], 0.1 + i, np.float32), f"bias{i}")
        )
        node.input.append(f"bias{i}")
    onnx.save(model, path)
    expected = run_onnx(path, pixels)
    assert (expected - before).abs().max() > 0.1
    assert torch.allclose(ids.load_identity(path)(pixels), expected, rtol=1e-4, atol=1e-4)


def test_a_linear_layer_may_be_a_product_and_a_sum(
    onnx_file: Path, tmp_path: Path, pixels: torch.Tensor
) -> None:
    before = run_onnx(onnx_file, pixels)
    split_gemm(onnx_file)
    assert torch.allclose(run_onnx(onnx_file, pixels), before, atol=1e-6)
    assert torch.allclose(ids.load_identity(onnx_file)(pixels), before, rtol=1e-4, atol=1e-5)


def test_a_file_in_half_precision_loads(onnx_file: Path, tmp_path: Path, pixels: torch.Tensor) -> None:
    full, half = (
        load_file(convert_onnx(onnx_file, tmp_path / "full.safetensors")),
        tmp_path / "half.safetensors",
    )
    save_file({key: value.half() for key, value in full.items()}, half)
    cosine = torch.cosine_similarity(ids.load_identity(half)(pixels), run_onnx(onnx_file, pixels))
    assert cosine.min() >= 0.9999


def test_architecture_is_read_from_the_tensors(network: IResNet) -> None:
    assert detect(network.state_dict()) == CONFIG


def test_default_is_the_published_architecture() -> None:
    with torch.device("meta"):
        network = IResNet()
    assert sum(weight.numel() for weight in network.parameters()) == 65_156_160
    assert [len(network.get_submodule(f"layer{s}")) for s in (1, 2, 3, 4)] == [3, 13, 30, 3]


def test_other_graphs_are_refused(tmp_path: Path) -> None:
    tensor = helper.make_tensor_value_info
    node = helper.make_node("Sub", ["x", "x"], ["y"])
    graph = helper.make_graph(
        [node], "g", [tensor("x", TensorProto.FLOAT, [1])], [tensor("y", TensorProto.FLOAT, [1])]
    )
    onnx.save(helper.make_model(graph), tmp_path / "a.onnx")
    with pytest.raises(RuntimeError, match=r"a\.onnx has .*: not an IResNet\. Use glintr100"):
        convert_onnx(tmp_path / "a.onnx", tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_damaged_and_missing_onnx_files(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\xffnot a graph")
    with pytest.raises(ValueError, match="not an ONNX file or is damaged"):
        convert_onnx(tmp_path / "a.onnx", tmp_path / "a.safetensors")
    with pytest.raises(FileNotFoundError, match="antelopev2"):
        convert_onnx(tmp_path / "b.onnx", tmp_path / "b.safetensors")


def test_missing_onnx_package_has_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").touch()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(RuntimeError, match="Install it: pip install onnx"):
        ids.load_identity(tmp_path / "a.onnx")


def test_wrong_and_incomplete_checkpoints(tmp_path: Path, network: IResNet) -> None:
    with pytest.raises(RuntimeError, match=r"holds 1 tensors \(x, \.\.\.\) that are no IResNet"):
        build({"x": torch.zeros(1)})
    state = dict(network.state_dict())
    del state["layer2.1.bn3.bias"], state["fc.bias"]
    with pytest.raises(RuntimeError, match=r"lacks 2 tensors: .*layer2\.1\.bn3\.bias"):
        build(state)
    with pytest.raises(RuntimeError, match="1 tensors too many: layer9"):
        build({**network.state_dict(), "layer9x": torch.zeros(1)})
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(RuntimeError, match="not a safetensors file"):
        ids.load_identity(tmp_path / "a.safetensors")
    with pytest.raises(FileNotFoundError, match="singer convert"):
        ids.load_identity(tmp_path / "b.safetensors")


def test_search_goes_deep_and_tells_networks_by_their_keys(tmp_path: Path, network: IResNet) -> None:
    deep = tmp_path / "insightface" / "models" / "antelopev2" / "antelopev2"
    deep.mkdir(parents=True)
    (deep / "glintr100.onnx").touch()
    assert ids.find_identity_file([tmp_path / "none", tmp_path]) == deep / "glintr100.onnx"
    save_file({"x": torch.zeros(1)}, tmp_path / "insightface" / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    save_file(dict(network.state_dict()), deep / "any name.safetensors")
    assert ids.find_identity_file([tmp_path]) == deep / "any name.safetensors"


def test_search_without_success_lists_what_was_tried(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError) as caught:
        ids.find_identity_file([tmp_path, tmp_path / "none"])
    message = str(caught.value)
    assert str(tmp_path / "none") + " (no such folder)" in message
    assert str(tmp_path / "other.safetensors") in message
    assert "singer convert" in message


def test_similarity_equals_scikit_image() -> None:
    target = ids.TEMPLATE * 2.3 + np.random.default_rng(0).normal(0, 3, (5, 2)) + 40
    oracle = SimilarityTransform.from_estimate(ids.TEMPLATE, target).params[:2]
    assert np.allclose(ids.similarity(ids.TEMPLATE, target), oracle, atol=1e-9)


def test_a_face_on_the_template_is_copied(photo: Image.Image) -> None:
    aligned = ids.align_face(photo, (ids.TEMPLATE + np.array([150, 40])).astype(np.float32))
    expected = np.asarray(photo)[40:152, 150:262].transpose(2, 0, 1) / 255
    assert np.abs(aligned.numpy() - expected).max() < 1e-3


def test_alignment_samples_linearly_with_black_outside(photo: Image.Image) -> None:
    transform = SimilarityTransform(scale=1.7, rotation=0.4, translation=(-40, 300))
    five = transform(ids.TEMPLATE)
    aligned = ids.align_face(photo, five.astype(np.float32)).numpy()
    x, y = np.meshgrid(np.arange(112), np.arange(112))
    at = transform(np.stack([x.ravel(), y.ravel()], 1))
    channel = np.asarray(photo)[..., 1] / 255
    oracle = map_coordinates(channel, [at[:, 1], at[:, 0]], order=1, mode="grid-constant").reshape(112, 112)
    assert np.abs(aligned[1] - oracle).max() < 5e-3
    assert (aligned == 0).any()


def test_points_that_coincide_are_refused(photo: Image.Image) -> None:
    with pytest.raises(ValueError, match="coincide"):
        ids.align_face(photo, np.full((5, 2), 7, np.float32))


def test_embedding_is_the_network_on_the_aligned_face(photo, make_face, network: IResNet) -> None:
    face = make_face()
    embedding = ids.embed_face(network, photo, face)
    expected = network(ids.align_face(photo, face.five, 32)[None] * 2 - 1)[0]
    assert embedding.shape == (24,)
    assert torch.equal(embedding, expected.detach())


def test_embedding_follows_the_face_when_the_picture_is_enlarged(photo, make_face, network: IResNet) -> None:
    small = ids.embed_face(network, photo, make_face())
    large = ids.embed_face(network, photo.resize((1024, 1024)), make_face(448, 236, 92))
    assert torch.cosine_similarity(small, large, dim=0) > 0.99


def test_non_finite_embeddings_are_refused(photo, make_face, network: IResNet, tmp_path: Path) -> None:
    state = {k: v.clone() for k, v in network.state_dict().items()}
    state["fc.bias"][0] = float("inf")
    with pytest.raises(RuntimeError, match="NaN or Inf"):
        ids.embed_face(build(state), photo, make_face())


def test_saved_tensors_are_all_the_network_needs(onnx_file: Path, tmp_path: Path, network: IResNet) -> None:
    state = load_file(convert_onnx(onnx_file, tmp_path / "a.safetensors"))
    needed = {key for key in network.state_dict() if not key.endswith("num_batches_tracked")}
    assert set(state) == needed
