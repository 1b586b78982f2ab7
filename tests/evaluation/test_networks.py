"""Metrics on the user's networks, with small networks of the same interface in their place."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from made_up import FPS
from PIL import Image
from torch import Tensor, nn

from singer_core.evaluation import networks
from singer_core.evaluation.evaluate import evaluate
from singer_core.evaluation.fidelity import frechet_distance
from singer_core.evaluation.footage import footage_of
from singer_core.evaluation.metric import NotComputedError
from singer_core.evaluation.mouth import track_of
from singer_core.portrait.landmarks import POINTS, FaceLandmarks


class MeanColours(nn.Module):
    """In Inception's place: (n, 3, H, W) uint8 -> (n, 3) mean levels."""

    def forward(self, pictures: Tensor, return_features: bool) -> Tensor:
        return pictures.float().mean(dim=(2, 3))


class MeanOverTime(nn.Module):
    """In I3D's place: (1, 3, f, H, W) in [-1, 1] -> (1, 3 f)."""

    def forward(self, clip: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        return clip.mean(dim=(3, 4)).flatten(1)


@pytest.fixture
def weights(tmp_path):
    torch.jit.script(MeanColours()).save(tmp_path / networks.INCEPTION)
    torch.jit.script(MeanOverTime()).save(tmp_path / networks.I3D)
    return tmp_path


def test_fid_and_fvd_are_frechets_distance_of_the_networks_features(weights, clean):
    reference = footage_of(clean.pictures[:70] * 0.9, FPS)
    material = dataclasses.replace(clean.material(), reference=reference, weights=weights)
    result = evaluate(material)

    def colours(film):
        return torch.stack([p.double().mean(dim=(1, 2)) for p in film.pictures()]).numpy()

    mine, true = colours(material.footage), colours(reference)
    assert result.values["fid"] == pytest.approx(frechet_distance(mine, true), rel=1e-4)
    clips = [(x[: len(x) // 16 * 16] / 127.5 - 1).reshape(-1, 16, 3) for x in (mine, true)]
    sets = [clip.transpose(0, 2, 1).reshape(len(clip), -1) for clip in clips]
    assert [len(part) for part in sets] == [8, 4]
    assert result.values["fvd"] == pytest.approx(frechet_distance(*sets), rel=1e-3)
    assert "FVD is over 8 and 4 windows of 16 frames, stride 16." in result.notes


def test_a_video_against_itself_has_no_distance(weights, clean):
    material = dataclasses.replace(
        clean.material(), reference=footage_of(clean.pictures, FPS), weights=weights
    )
    result = evaluate(material)
    assert result.values["fid"] == pytest.approx(0, abs=1e-6)
    assert result.values["fvd"] == pytest.approx(0, abs=1e-6)


def test_missing_weights_name_file_and_folder(tmp_path, clean):
    reference = footage_of(clean.pictures, FPS)
    material = dataclasses.replace(clean.material(), reference=reference, weights=tmp_path)
    result = evaluate(material)
    assert result.missing["fid"].startswith(f"put {networks.INCEPTION} (")
    assert result.missing["fvd"].startswith(f"put {networks.I3D} (")
    assert all(str(tmp_path) in result.missing[key] for key in ("fid", "fvd"))
    assert {"fid", "fvd"} <= set(result.lacking)
    with pytest.raises(NotComputedError, match=r"put syncnet_v2\.model and sfd_face\.pth in "):
        networks.syncnet_errors(tmp_path, tmp_path, tmp_path, torch.device("cpu"))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / networks.I3D).write_bytes(b"no network")
    with pytest.raises(RuntimeError, match="is not a TorchScript file"):
        networks.load_script(tmp_path, networks.I3D, "somewhere")


def test_syncnet_without_its_package_says_what_to_install(tmp_path):
    for name in (networks.SYNCNET, networks.S3FD):
        (tmp_path / name).write_bytes(b"")
    try:
        import syncnet_python
    except ImportError:
        with pytest.raises(NotComputedError, match="pip install syncnet-python"):
            networks.syncnet_errors(tmp_path, tmp_path, tmp_path, torch.device("cpu"))
    else:
        assert syncnet_python.SyncNetPipeline


def test_identity_of_the_same_face_is_one_and_of_another_less(tmp_path):
    """A random network of the right shape: equal faces give equal embeddings, others do not."""
    from singer_core.portrait.iresnet import IResNet, IResNetConfig

    config = IResNetConfig(blocks=(1, 1), widths=(8, 8), embedding=16, side=32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = IResNet(config)
    from safetensors.torch import save_file

    save_file(network.state_dict(), tmp_path / "identity.safetensors")
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    points = np.random.default_rng(0).uniform(10, 54, (POINTS, 2))
    film = footage_of(torch.stack([picture, picture, 1 - picture]), FPS)
    portrait = Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy())
    face = FaceLandmarks(torch.from_numpy(points))
    cosines = networks.identity_cosine(film, track_of([points] * 3), portrait, face, tmp_path)
    assert cosines[:2] == pytest.approx([1, 1], abs=1e-5) and cosines[2] < 0.999
    with pytest.raises(NotComputedError, match="put an identity network"):
        networks.identity_cosine(film, None, portrait, face, tmp_path / "empty")
