"""Held-out people sing held-out songs: renders of them, and what is measured on a render.

Seeds beyond 700 million reach no training set. A render is made once; every measure reads it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from singer_core.audio.features import AudioFeatures
from singer_core.evaluation import fidelity
from singer_core.evaluation.measures import HIGHEST_PSNR
from singer_core.files import write_text
from singer_core.network.autoencoder import Autoencoder, load_autoencoder
from singer_core.network.backbone import SingerNetwork
from singer_core.network.checkpoint import load_network, open_checkpoint
from singer_core.portrait.landmarks import FaceLandmarks
from singer_core.portrait.portrait import Portrait, prepare_portrait
from singer_core.render.clips import plan_clips
from singer_core.render.pipeline import SingerPipeline
from singer_core.settings import BUILT_IN, PAPER, SingerOptions

from .drawn import DrawnWorld, face_boxes, song_features
from .faces import Faces
from .pictures import HELD_OUT_SEED
from .puppet import PuppetShow
from .reader import FaceReader
from .world import Identity, Performance, Show, Song, measured_opening

DEMO = BUILT_IN
CONFIDENCE = 0.95
LAGS = range(-5, 6)  # frames
REST_MARGIN = 2  # frames at either end of a rest in which the lips still close or get ready
LIKENESS_SECONDS = (1, 3, 5)
# left, top, right, bottom of regions as shares of the face's box, of a portrait that looks ahead
AROUND_FACE = {
    "skin": ((0.25, 0.3, 0.75, 0.65),),
    "hair": ((0.2, -0.25, 0.8, -0.05),),
    "clothes": ((0.0, 1.2, 1.0, 1.7),),
    "background": ((-2.0, -1.0, -0.35, 0.4), (1.35, -1.0, 3.0, 0.4)),
}
NEAR = 48.0  # distance in RGB up to which a pixel of the portrait belongs to a region's colour

Floats = NDArray[np.float64]
Frames = NDArray[np.uint8]  # (s, H, W, 3)


@dataclass(frozen=True)
class Models:
    """Network and VAE, with a fingerprint of both files for the keys of results."""

    network: SingerNetwork
    vae: Autoencoder
    fingerprint: str

    @property
    def size(self) -> int:
        """Side of the pictures that the network was trained on, in pixels."""
        return self.network.architecture.trained_size[0]

    @staticmethod
    def load(checkpoint: Path, vae: Path) -> Models:
        digest = hashlib.sha256(checkpoint.read_bytes() + vae.read_bytes()).hexdigest()[:12]
        network = load_network(open_checkpoint(checkpoint), torch.float32)
        return Models(network, load_autoencoder(vae), digest)


def packaged() -> tuple[Path, Path]:
    """Checkpoint and VAE of the built-in model."""
    from singer_core.demo import files

    return files.CHECKPOINT, files.VAE


def performance(number: int, seconds: float, size: int, style: str = "pop") -> Performance:
    """Held-out person and song `number`: vocals alone, 25 frames a second."""
    seed = HELD_OUT_SEED + number
    song = Song.random(seed, seconds, style, accompaniment=False)
    return Performance(Identity.random(seed), song, size=size).framed()


def show(number: int, seconds: float, size: int, faces: Faces | None) -> Show:
    """As `performance`; every second number is one of the photographs, where there are some."""
    drawn = performance(number, seconds, size)
    if faces is None or number % 2 == 0:
        return drawn
    photo = faces.photograph(list(faces.meshes)[number // 2 % len(faces)])
    return PuppetShow(photo, drawn.song, size=size).framed()


def true_frames(show: Show) -> Frames:
    return np.stack([show.frame(i) for i in range(len(show))])


def portrait_of(show: Show) -> Portrait:
    """The first frame as the portrait, its landmarks known."""
    picture = torch.from_numpy(show.frame(0)).permute(2, 0, 1).float() / 255
    landmarks = FaceLandmarks(torch.from_numpy(show.landmarks(0)))
    return prepare_portrait(picture, (show.size, show.size), landmarks=landmarks, crop="squash")


def features_of(show: Show) -> AudioFeatures:
    return song_features(show.song, DrawnWorld(1))


def shuffled(show: Show, block: int = 8, tries: int = 200) -> AudioFeatures:
    """The song cut into pieces of `block` frames, put together in another order.

    Of `tries` random orders the one under which the true opening correlates least with itself in the old
    order: a short song has rests and vowels enough to match by chance.
    """
    heard, true = features_of(show), show.motion.opening
    pieces = torch.arange(len(true)).split(block)
    rng = np.random.default_rng(show.song.seed)
    orders = [torch.cat([pieces[i] for i in rng.permutation(len(pieces))]) for _ in range(tries)]
    order = min(orders, key=lambda found: abs(correlation(true[found.numpy()], true)))
    features = heard.features.clone()
    features[: len(order)] = heard.features[order]
    return dataclasses.replace(heard, features=features)


def render(
    models: Models,
    show: Show,
    options: SingerOptions,
    heard: AudioFeatures | None = None,
    seed: int = 1,
) -> tuple[Frames, float]:
    """Frames of the person singing the song (or `heard`), and seconds it took."""
    began = time.monotonic()
    pipeline = SingerPipeline(models.network, models.vae, options)
    song = features_of(show) if heard is None else heard
    made = as_frames(clip.pictures for clip in pipeline.render(portrait_of(show), song, seed=seed))
    return made[: len(show)], time.monotonic() - began


def as_frames(pictures: Iterable[torch.Tensor]) -> Frames:
    """Pictures (k, 3, H, W) in [0, 1], a few at a time, as contiguous frames of the nearest levels."""
    parts = [(part.permute(0, 2, 3, 1).contiguous().numpy() * 255).round() for part in pictures]
    return np.concatenate(parts).astype(np.uint8)


def openings(show: Performance, frames: Frames) -> Floats:
    """Opening of the mouth measured in each frame's pixels, (s,).

    In one box for all frames, so that it says nothing of the truth: as high as all true lips together, as
    wide as what they have in common, because beside the mouth shadows may look like one.
    """
    boxes = np.stack([face_boxes(show.landmarks(i))[1] for i in range(len(show))])
    top, bottom = boxes[:, 1].min() - 1, boxes[:, 3].max() + 2
    box = int(boxes[:, 0].max()), int(top), int(boxes[:, 2].min()), int(bottom)
    return np.array([measured_opening(frame, box, show.identity) for frame in frames])


def correlation(made: Floats, true: Floats, lag: int = 0) -> float:
    """Correlation of the made curve `lag` frames later with the true one; 0 where one of them is flat."""
    count = min(len(made), len(true)) - abs(lag)
    first, second = made[max(lag, 0) :][:count], true[max(-lag, 0) :][:count]
    if first.std() < 1e-6 or second.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def half_width(values: Floats) -> float:
    """Half of the 95 % interval of the values' mean, by Student's t."""
    count = len(values)
    error = float(values.std(ddof=1)) / count**0.5
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error


def best_lag(made: Floats, true: Floats) -> int:
    """Frames by which the made curve is late: the lag of the highest correlation."""
    return max(LAGS, key=lambda lag: correlation(made, true, lag))


def sync(made: Floats, true: Floats) -> float:
    """Correlation at the best lag."""
    return correlation(made, true, best_lag(made, true))


def resting(sung: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(s,) true in rests, without `REST_MARGIN` frames at either end."""
    padded = np.pad(sung, REST_MARGIN, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * REST_MARGIN + 1)
    return np.asarray(~windows.any(1))


def rest_motion(opening: Floats, sung: NDArray[np.bool_]) -> float:
    """Mean absolute change of the opening from frame to frame in rests, over that in sung parts."""
    change, rest = np.abs(np.diff(opening)), resting(sung)
    both = rest[1:] & rest[:-1], sung[1:] & sung[:-1]
    if not both[0].any() or not both[1].any():
        return float("nan")
    return float(change[both[0]].mean() / max(change[both[1]].mean(), 1e-9))


def colour_errors(show: Performance, truth: Frames, made: Frames) -> dict[str, float]:
    """Mean absolute RGB difference to the portrait, share of full scale, of skin, hair and background.

    A region is what has its colour in the portrait (background: what never changes in the drawn frames
    beside the head) one pixel inside; mean colours over all frames are compared.
    """
    portrait, person = truth[0].astype(float), show.identity
    skin, hair = _distance(portrait, person.skin), _distance(portrait, person.hair)
    left, top, right, bottom = face_boxes(show.landmarks(0))[0]
    inside = np.zeros(portrait.shape[:2], bool)
    inside[max(top, 0) : bottom, max(left, 0) : right] = True
    still = np.abs(truth.astype(np.int16) - truth[0].astype(np.int16)).max((0, 3)) <= 2
    regions = {
        "skin": (skin < NEAR) & (skin < hair) & inside,
        "hair": (hair < NEAR) & (hair < skin),
        "background": still & ~inside,
    }
    if person.hair_style == "bald":
        regions.pop("hair")
    mean = made.astype(float).mean(0)
    return {
        name: float(np.abs(mean[mask].mean(0) - portrait[mask].mean(0)).mean() / 255)
        for name, region in regions.items()
        if (mask := _inner(region)).sum() >= 30
    }


def _distance(picture: Floats, colour: tuple[int, int, int]) -> Floats:
    return np.asarray(np.sqrt(((picture - colour) ** 2).sum(-1)))


def _inner(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels whose four neighbours belong to the region too."""
    padded = np.pad(mask, 1)
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def psnr(made: Frames, true: Frames) -> float:
    """PSNR in dB over all frames together; equal frames have `HIGHEST_PSNR`."""
    return min(fidelity.psnr(torch.from_numpy(made), torch.from_numpy(true)), HIGHEST_PSNR)


def joints(frames: int, options: SingerOptions) -> list[tuple[int, int]]:
    """Where clips of a song meet: first frame, and how many frames are cross-faded from there."""
    plan = plan_clips(frames, options.clip_frames, options.overlap)
    return [(clip.start, clip.shared) for clip in plan[1:]]


def seam_ratio(frames: Frames, places: Sequence[tuple[int, int]]) -> float:
    """Mean absolute frame difference where parts meet (all of a cross-fade), over that everywhere else.

    places  (first frame of a part, frames that it shares with the part before), see `joints`
    """
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean((1, 2, 3))
    seams = np.zeros(len(change), bool)
    for start, shared in places:
        seams[start - 1 : start + shared] = True
    inside = float(change[~seams].mean()) if not seams.all() else 0.0
    return float(change[seams].mean()) / inside if seams.any() and inside > 0 else float("nan")


def drifts(frames: Frames, span: int = 25) -> Floats:
    """Grey levels between the mean colour of the first `span` frames and of every later `span`, (n,).

    Mean over RGB; the last of them are the last `span` frames.
    """
    last = max(len(frames) - span, 0)
    means = np.stack([frames[i : i + span].mean((0, 1, 2)) for i in (*range(0, last, span), last)])
    return np.asarray(np.abs(means - means[0]).mean(-1))


def sharpness(frames: Frames) -> float:
    """Mean variance of the Laplacian of the grey pictures."""
    grey = frames.astype(float).mean(-1)
    laplacian = 4 * grey[:, 1:-1, 1:-1] - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2]
    return float((laplacian - grey[:, 1:-1, 2:]).var((1, 2)).mean())


def measure(
    show: Show, truth: Frames, made: Frames, options: SingerOptions, reader: FaceReader | None = None
) -> dict[str, Any]:
    """Every measure of one render; mouth and likeness of photographs only where there is a `reader`."""
    if isinstance(show, Performance):
        own = _colours(colour_errors(show, truth, made))
    else:
        own = _colours(region_errors(show, truth, made)) | _likeness(show, truth, made, reader)
    if isinstance(show, Performance) or reader:
        own |= _mouth(opening(show, made, reader), show)
    return {
        "psnr_first": psnr(made[0], truth[0]),
        "psnr": psnr(made, truth),
        "seam_ratio": seam_ratio(made, joints(len(made), options)),
        "drift": float(drifts(made)[-1]),
        "sharpness": sharpness(made) / sharpness(truth),
        **own,
    }


def _colours(errors: dict[str, float]) -> dict[str, float]:
    return {f"colour_{region}": value for region, value in errors.items()}


def opening(show: Show, frames: Frames, reader: FaceReader | None) -> Floats:
    """Opening of the mouth in each frame, (s,): of drawn people from pixels, of photographs by `reader`."""
    if isinstance(show, Performance):
        return openings(show, frames)
    assert reader is not None  # who asks has one for photographs
    boxes = [face_boxes(show.landmarks(i))[0] for i in range(len(frames))]
    return np.array([reader.opening(frame, box) for frame, box in zip(frames, boxes, strict=True)])


def _mouth(curve: Floats, show: Show) -> dict[str, float]:
    true = show.motion.opening
    return {
        "sync": sync(curve, true),
        "lag": best_lag(curve, true),
        "rest_motion": rest_motion(curve, show.motion.sung),
    }


def _likeness(show: Show, truth: Frames, made: Frames, reader: FaceReader | None) -> dict[str, float]:
    """How far `reader`, where there is one, finds the face from the portrait's after some seconds."""
    if reader is None:
        return {}

    def descriptor(frames: Frames, i: int) -> Floats:
        return reader.descriptor(frames[i], face_boxes(show.landmarks(i))[0])

    portrait = descriptor(truth, 0)
    moments = {second: round(second * show.fps) - 1 for second in LIKENESS_SECONDS}
    return {
        f"likeness_{second}s": float(np.linalg.norm(descriptor(made, i) - portrait))
        for second, i in moments.items()
        if i < len(made)
    }


def region_errors(show: Show, truth: Frames, made: Frames) -> dict[str, float]:
    """As `colour_errors`, of boxes placed by the face of the first frame; also of clothes."""
    box = face_boxes(show.landmarks(0))[0]
    corner, side = box[:2], box[2:] - box[:2]
    change = made.astype(float).mean(0) - truth.astype(float).mean(0)
    errors = {}
    for name, shares in AROUND_FACE.items():
        boxes = [(corner + side * np.reshape(share, (2, 2))).round().astype(int).clip(0) for share in shares]
        parts = [change[low[1] : high[1], low[0] : high[0]].reshape(-1, 3) for low, high in boxes]
        region = np.concatenate(parts)
        if len(region) >= 30:
            errors[name] = float(np.abs(region.mean(0)).mean() / 255)
    return errors


def key_of(models: Models, options: SingerOptions, **names: object) -> str:
    """What a result depends on, in one line: a run that was stopped goes on behind the keys it finds."""
    changed = {
        field.name: value
        for field in dataclasses.fields(SingerOptions)
        if (value := getattr(options, field.name)) != getattr(PAPER, field.name)
    }
    return json.dumps({"weights": models.fingerprint, **names, **changed}, sort_keys=True, default=str)


class Ledger:
    """Results as JSON lines, one for each key, appended as they come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, dict[str, Any]] = {line["key"]: line for line in _lines(path)}

    def add(self, key: str, values: dict[str, Any]) -> dict[str, Any]:
        line = {"key": key, **values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"{self._ending()}{json.dumps(line)}\n")
        self.found[key] = line
        return line

    def _ending(self) -> str:
        """What a line that a kill cut short still lacks."""
        return "\n" if self.path.exists() and self.path.read_bytes()[-1:] not in (b"", b"\n") else ""


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines of a ledger; one that a kill cut short does not count."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def fill_in(document: Path, name: str, text: str) -> None:
    """Replace what stands between the lines `<!-- name -->` and `<!-- /name -->` of a document."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = document.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{document} has no lines {begin.strip()} and {end} to write between. Add them.")
    write_text(document, f"{before}{begin}{text.strip()}\n{end}{after}")


def strip(truth: Frames, made: Frames, count: int = 16) -> Frames:
    """`count` frames of the truth above the same ones of the render, (2 H, count W, 3)."""
    chosen = np.linspace(0, len(truth) - 1, count).round().astype(int)
    return np.concatenate([np.concatenate(list(frames[chosen]), axis=1) for frames in (truth, made)])


def save_picture(path: Path, picture: Frames) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
