"""FID, FVD, LPIPS and LSE beside the libraries that define them, on random weights in the files' real layout.

They need torchvision, whose builds need their own torch: without them these tests skip.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from lip_sync import lip_sync_error, pair_distances
from made_up import FPS, singer
from torch import Tensor, nn

from singer_core.evaluation import networks
from singer_core.evaluation.evaluate import evaluate
from singer_core.evaluation.fidelity import ALEXNET, frechet_distance, load_lpips
from singer_core.evaluation.footage import footage_of
from singer_core.ffmpeg import ffmpeg_program

CPU = torch.device("cpu")


def needs(name: str):
    """The module, or a skip where it is missing or made for another torch."""
    try:
        return __import__(name, fromlist=["_"])
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name}: {error}")


class SmallInception(nn.Module):
    """Inception's interface: (n, 3, H, W) uint8 -> (n, 2048); `layers` are for clean-fid."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Conv2d(3, 2048, 8, 8)

    def forward(self, pictures: Tensor, return_features: bool) -> Tensor:
        return self.layers(pictures.float() / 128 - 1).mean(dim=(2, 3))


def test_frames_have_the_features_and_sets_the_distance_of_clean_fid(tmp_path):
    fid, inception = needs("cleanfid.fid"), needs("cleanfid.inception_torchscript")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.jit.script(SmallInception()).save(tmp_path / networks.INCEPTION)
    frames = (singer(frames=20).pictures * 255).round().to(torch.uint8)
    script = networks.load_script(tmp_path, networks.INCEPTION, "here")
    mine = networks.inception_features(footage_of(frames, FPS), script, CPU)
    with torch.no_grad():
        theirs = inception.InceptionV3W(str(tmp_path), download=False, resize_inside=True)(frames)
    assert mine == pytest.approx(theirs.numpy(), abs=1e-6)
    first, second = mine[:10, :40], mine[10:, :40]
    moments = [x for part in (first, second) for x in (part.mean(0), np.cov(part, rowvar=False))]
    assert frechet_distance(first, second) == pytest.approx(fid.frechet_distance(*moments), abs=1e-4)


def test_videos_have_the_fvd_of_cd_fvd(tmp_path):
    i3d = needs("cdfvd.third_party.i3d.pytorch_i3d")
    tools = needs("cdfvd.fvd")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(i3d.InceptionI3d(400, in_channels=3).state_dict(), tmp_path / networks.I3D_STATE)
    films = [(singer(seed, frames=32).pictures * 255).round().to(torch.uint8) for seed in (0, 1)]
    material = singer(0, frames=32).material(films[0])
    reference = footage_of(films[1], FPS)
    found = evaluate(dataclasses.replace(material, reference=reference, weights=tmp_path))
    clips = [film.reshape(2, 16, *film.shape[1:]).permute(0, 1, 3, 4, 2).numpy() for film in films]
    judge = tools.cdfvd("i3d", ckpt_path=str(tmp_path / networks.I3D_STATE), n_fake=2, device="cpu")
    features = []
    for clip in clips:
        stats = tools.FeatureStats(capture_all=True)
        tools.get_i3d_logits(stats, judge.model, clip, device="cpu")
        features.append(stats.get_all())
    assert found.values["fvd"] == pytest.approx(frechet_distance(*features), rel=1e-3, abs=1e-9)
    assert found.values["fvd"] > 0


def test_lpips_is_that_of_the_package_with_the_same_alexnet(tmp_path):
    lpips, models = needs("lpips"), needs("torchvision.models")
    alexnet = models.alexnet(weights=None)
    torch.save(alexnet.state_dict(), tmp_path / ALEXNET)
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    layers = [layer for part in theirs.net.children() for layer in part.children()]
    for layer, own in zip(layers, alexnet.features, strict=False):
        layer.load_state_dict(own.state_dict())
    pair = (torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    with torch.no_grad():
        expected = float(theirs(*(x[None].float() / 127.5 - 1 for x in pair)))
    assert expected > 0
    assert load_lpips(tmp_path)(*pair) == pytest.approx(expected, rel=1e-5)


def test_lse_of_a_video_is_that_of_its_embeddings(tmp_path, monkeypatch):
    """A detector that sees one large face everywhere; SyncNet with random weights."""
    package, nets = needs("syncnet_python"), needs("syncnet_python.detectors.s3fd.nets")
    model, instance = needs("syncnet_python.SyncNetModel"), needs("syncnet_python.SyncNetInstance")
    assert package.SyncNetPipeline
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(model.S().state_dict(), tmp_path / networks.SYNCNET)
    detector = {name: torch.zeros_like(value) for name, value in nets.S3FDNet("cpu").state_dict().items()}
    for scale in range(6):
        detector[f"conf.{scale}.bias"][0] = 20.0  # nothing ...
    detector["conf.5.bias"] = torch.tensor([-20.0, 20.0])  # ... but in the coarsest boxes
    torch.save(detector, tmp_path / networks.S3FD)
    (tmp_path / "ffmpeg").symlink_to(ffmpeg_program())
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    one = singer(frames=60)
    large = torch.nn.functional.interpolate(one.pictures, size=(480, 480))
    video = one.write(tmp_path / "sung.mp4", pictures=large)
    seen = []

    def kept(lips, sounds, vshift):
        seen.append((lips.numpy(), sounds.numpy()))
        return [torch.from_numpy(row) for row in pair_distances(lips.numpy(), sounds.numpy(), vshift)]

    first = networks.syncnet_errors(video, video, tmp_path, CPU)
    monkeypatch.setattr(instance, "calc_pdist", kept)  # the same again, by our own distances
    assert networks.syncnet_errors(video, video, tmp_path, CPU) == pytest.approx(first, rel=1e-3, abs=1e-3)
    confidence, distance, _ = lip_sync_error(pair_distances(*seen[0]))
    assert first == pytest.approx((confidence, distance), rel=1e-3, abs=1e-3)
