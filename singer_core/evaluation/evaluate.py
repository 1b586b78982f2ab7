"""All that can be said of one video: `evaluate` asks every metric and writes down why one is silent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from .. import constants
from ..audio.motion import beat_times
from ..audio.waveform import Waveform
from ..portrait.landmarks import FaceLandmarks
from . import networks, rhythm, singing, stability
from .distance import frechet_distance
from .fidelity import load_lpips, psnr, ssim
from .findings import findings
from .footage import Footage, resized
from .metric import BY_KEY, METRICS, NotComputedError
from .mouth import Box, FaceTrack
from .reading import Readings, read_footage

Floats = NDArray[np.float64]
Progress = Callable[[float], None]

WEIGHTS = Path("models/evaluation")
HIGHEST_PSNR = 100.0  # dB: what equal frames count as in the mean
RANGE = (0.05, 0.95)  # quantiles of the mouth's opening


@dataclass(frozen=True, eq=False)
class Material:
    """What is known of a video.

    song             the whole sound, mono; beats and length come from it
    vocals           the separated voice, mono; None = the song is taken as it is
    faces            landmarks of every frame; else
    lip_box          around the lips, in pixels of the video; else the mouth is not measured
    reference        the true video, frame by frame, at the video's rate and size
    portrait         the picture that was animated, and its face
    sound_file       the file of the song, for SyncNet
    clip_frames      frames of a clip, `overlap` of them shared with the clip before
    weights          folder with the networks of the user
    set_metrics      False leaves FID and FVD to who gathers many videos
    """

    footage: Footage
    song: Waveform | None = None
    vocals: Waveform | None = None
    faces: FaceTrack | None = None
    lip_box: Box | None = None
    reference: Footage | None = None
    reference_faces: FaceTrack | None = None
    portrait: Image.Image | None = None
    portrait_face: FaceLandmarks | None = None
    sound_file: Path | None = None
    clip_frames: int = constants.CLIP_FRAMES
    overlap: int = 0
    weights: Path = WEIGHTS
    set_metrics: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if self.clip_frames < 2:
            raise ValueError(f"`clip_frames` is {self.clip_frames}; 2 or more is accepted. Clips have 16.")
        if not 0 <= self.overlap <= self.clip_frames - 2:
            raise ValueError(
                f"`overlap` is {self.overlap} with clips of {self.clip_frames} frames; 0 to "
                f"{self.clip_frames - 2} is accepted. Give what the video was rendered with."
            )
        for name, faces, film in (
            ("landmarks", self.faces, self.footage),
            ("reference landmarks", self.reference_faces, self.reference),
        ):
            if faces is not None and film is not None and len(faces.points) != film.frames:
                raise ValueError(
                    f"The {name} are of {len(faces.points)} frames, {film.name} has {film.frames}. Detect "
                    "them on this video, in every frame."
                )

    @property
    def stride(self) -> int:
        """Frames from the start of a clip to that of the next."""
        return self.clip_frames - self.overlap

    @property
    def voice(self) -> Waveform | None:
        return self.vocals or self.song


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was found.

    values    metric -> number;  missing: metric -> why there is none;  lacking: those that a file would help
    findings  what looks wrong, one sentence each;  notes: what to know when reading the numbers
    curves    name -> (s,) values over the frames, `beats` and `movements` in seconds
    """

    name: str
    info: dict[str, Any]
    values: dict[str, float]
    missing: dict[str, str]
    lacking: tuple[str, ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...]
    curves: dict[str, Floats]
    thumbnails: tuple[tuple[int, NDArray[np.uint8]], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data: metrics with unit and direction, reasons, findings, curves."""
        metrics = {
            key: {"value": round(value, 6), "unit": BY_KEY[key].unit, "better": BY_KEY[key].better}
            for key, value in self.values.items()
        }
        return {
            "video": self.name,
            **self.info,
            "metrics": metrics,
            "not_computed": dict(self.missing),
            "lacking": list(self.lacking),
            "findings": list(self.findings),
            "notes": list(self.notes),
            "curves": {name: np.round(curve, 4).tolist() for name, curve in self.curves.items()},
        }


class _Book:
    """Values, reasons and curves while they are gathered."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.missing: dict[str, str] = {}
        self.lacking: list[str] = []
        self.curves: dict[str, Floats] = {}
        self.notes: list[str] = []

    def ask(self, keys: Sequence[str], measure: Callable[[], dict[str, float | None]]) -> None:
        """Write down what `measure` returns; None or NotComputedError leaves a reason."""
        try:
            found = measure()
        except NotComputedError as error:
            for key in keys:
                self.missing[key] = str(error)
            if error.lacking:
                self.lacking += keys
            return
        for key in keys:
            value = found.get(key)
            if value is None or not math.isfinite(value):
                self.missing[key] = "too little to measure in this video"
            else:
                self.values[key] = float(value)


def evaluate(material: Material, progress: Progress | None = None) -> Evaluation:
    """Measure a video by every metric that what is given allows. Raises ValueError for a broken video."""
    book, footage = _Book(), material.footage
    readings = read_footage(footage, None if material.faces else material.lip_box, progress)
    opening = _opening(book, material, readings)
    _timing(book, material)
    seam = _stability(book, readings, material)
    book.ask(("mouth_range",), lambda: _mouth_range(opening))
    book.ask(
        ("singing_sync", "sync_chance", "singing_lag", "rest_motion"),
        lambda: _singing(book, material, opening),
    )
    book.ask(("beat_alignment", "beat_chance"), lambda: _beats(book, material, readings))
    book.ask(("head_motion",), lambda: {"head_motion": _faces(material).spread})
    book.ask(("psnr", "ssim"), lambda: _fidelity(book, material))
    book.ask(("lpips",), lambda: _lpips(material))
    book.ask(("mouth_match", "mouth_match_lag"), lambda: _mouth_match(book, material, opening))
    book.ask(("fid",), lambda: _frechet(book, material, "fid"))
    book.ask(("fvd",), lambda: _frechet(book, material, "fvd"))
    book.ask(("lse_c", "lse_d"), lambda: _lse(material))
    book.ask(("identity",), lambda: _identity(material))
    ordered = {metric.key: book.values[metric.key] for metric in METRICS if metric.key in book.values}
    return Evaluation(
        name=footage.name,
        info={
            "frames": footage.frames,
            "fps": round(footage.fps, 6),
            "size": [footage.size[1], footage.size[0]],
            "seconds": round(footage.seconds, 4),
            "clip_frames": material.clip_frames,
            "overlap": material.overlap,
        },
        values=ordered,
        missing=book.missing,
        lacking=tuple(book.lacking),
        findings=findings(
            ordered, footage.fps, seam, stability.trend(readings.sharpness, material.clip_frames)
        ),
        notes=tuple(book.notes),
        curves=book.curves,
        thumbnails=readings.thumbnails,
    )


def _opening(book: _Book, material: Material, readings: Readings) -> Floats | None:
    """The mouth's opening in every frame, wherever it can be read."""
    opening = material.faces.opening if material.faces else readings.opening
    if opening is not None:
        book.curves["opening"] = opening
        source = "landmarks" if material.faces else "darkness inside the lip box"
        book.notes.append(f"The mouth's opening is read from {source}.")
    return opening


def _timing(book: _Book, material: Material) -> None:
    footage = material.footage
    if footage.uneven:
        book.notes.append(
            f"The frame rate varies ({footage.uneven} intervals differ); measured at {footage.fps:.6g} fps."
        )
    book.values["uneven_intervals"] = float(footage.uneven)

    def frames() -> dict[str, float | None]:
        if material.song is None:
            raise NotComputedError("there is no sound: give --audio FILE")
        wanted = math.ceil(material.song.seconds * footage.fps - 1e-3)
        return {"extra_frames": float(footage.frames - wanted)}

    def difference() -> dict[str, float | None]:
        if footage.sound is None:
            raise NotComputedError("the video has no sound track")
        return {"sound_difference": 1000 * (footage.sound - footage.seconds)}

    book.ask(("extra_frames",), frames)
    book.ask(("sound_difference",), difference)


def _stability(book: _Book, readings: Readings, material: Material) -> stability.Seams | None:
    clip = material.clip_frames
    seam = stability.seams(readings.step, material.stride, material.overlap)
    drift = stability.colour_drift(readings.colour, clip)
    two_clips = f"fewer than two clips of {clip} frames"
    seamless = two_clips if len(readings.step) < 2 * clip else "no motion lies between the seams"
    found: dict[str, tuple[float | None, str]] = {
        "seam_ratio": (None if seam is None else seam.ratio, seamless),
        "colour_drift": (None if drift is None else float(drift[np.abs(drift).argmax()]), two_clips),
        "sharpness_change": (stability.sharpness_change(readings.sharpness, clip), two_clips),
        "flicker": (stability.flicker(readings.blocks), "fewer than three frames"),
        "static_motion": (stability.static_motion(readings.corners), "only one frame"),
    }
    for key, (value, reason) in found.items():
        if value is None:
            book.missing[key] = reason
        else:
            book.values[key] = value
    book.curves |= {"step": readings.step, "sharpness": readings.sharpness, "colour": readings.colour}
    return seam


def _mouth_range(opening: Floats | None) -> dict[str, float | None]:
    low, high = np.quantile(_needed(opening), RANGE)
    return {"mouth_range": float(high - low)}


def _needed(opening: Floats | None) -> Floats:
    if opening is None:
        raise NotComputedError("the mouth is not known: give --landmarks FILE or --lip-box L,T,R,B")
    return opening


def _singing(book: _Book, material: Material, opening: Floats | None) -> dict[str, float | None]:
    voice, fps = material.voice, material.footage.fps
    if voice is None:
        raise NotComputedError("there is no sound: give --vocals FILE or --audio FILE")
    if material.vocals is None:
        book.notes.append("The whole sound stands for the voice; give --vocals where a band plays along.")
    level = singing.vocal_level(voice, fps, material.footage.frames)
    sung = singing.sung_frames(voice, fps, material.footage.frames)
    book.curves |= {"vocal_level": level, "sung": sung.astype(np.float64)}
    mouth = _needed(opening)
    if len(mouth) < singing.SHORTEST_SECONDS * fps:
        return {}
    reach = round(singing.REACH_SECONDS * fps)
    match = singing.best_match(mouth, level, reach)
    return {
        "singing_sync": match.correlation if match else 0.0,
        "sync_chance": singing.chance_match(mouth, level, reach),
        "singing_lag": match.lag if match else None,
        "rest_motion": singing.rest_motion(mouth, sung, fps),
    }


def _beats(book: _Book, material: Material, readings: Readings) -> dict[str, float | None]:
    if material.song is None:
        raise NotComputedError("there is no sound: give --audio FILE")
    try:
        beats = beat_times(material.song).numpy()
    except RuntimeError as error:
        raise NotComputedError(f"pip install librosa ({error})", lacking=True) from error
    footage = material.footage
    beats = beats[beats < footage.seconds]
    if len(beats) < 2:
        raise NotComputedError("librosa finds fewer than two beats in the song")
    speed = material.faces.speed if material.faces else readings.stir
    movements = rhythm.motion_beats(speed, footage.fps)
    book.curves |= {"head_speed": speed, "beats": beats, "movements": movements}
    if not material.faces:
        book.notes.append("Head motion is the change of the picture outside the lip box, not a head pose.")
    return {
        "beat_alignment": rhythm.beat_alignment(beats, movements),
        "beat_chance": rhythm.chance_alignment(beats, movements, footage.seconds),
    }


def _faces(material: Material) -> FaceTrack:
    if material.faces is None:
        raise NotComputedError("needs landmarks of every frame: give --landmarks FILE")
    return material.faces


def _reference(material: Material) -> Footage:
    if material.reference is None:
        raise NotComputedError("there is no reference video: give --reference VIDEO")
    return material.reference


def _fidelity(book: _Book, material: Material) -> dict[str, float | None]:
    reference = _reference(material)
    scores = []
    for picture, true in zip(material.footage.pictures(), reference.pictures(), strict=False):
        same = resized(true, material.footage.size)
        scores.append((min(psnr(picture, same), HIGHEST_PSNR), ssim(picture, same)))
    if reference.frames != material.footage.frames:
        book.notes.append(
            f"The reference has {reference.frames} frames, the video {material.footage.frames}; the first "
            f"{len(scores)} are compared."
        )
    curves = np.array(scores).T
    book.curves |= {"psnr": curves[0], "ssim": curves[1]}
    return {"psnr": float(curves[0].mean()), "ssim": float(curves[1].mean())}


def _lpips(material: Material) -> dict[str, float | None]:
    reference, distance = _reference(material), load_lpips(material.weights)
    pairs = zip(material.footage.pictures(), reference.pictures(), strict=False)
    return {"lpips": float(np.mean([distance(x, resized(y, material.footage.size)) for x, y in pairs]))}


def _mouth_match(book: _Book, material: Material, opening: Floats | None) -> dict[str, float | None]:
    reference, mouth = _reference(material), _needed(opening)
    if material.faces is not None:
        if material.reference_faces is None:
            raise NotComputedError(
                "needs landmarks of the reference's frames: give --reference-landmarks FILE"
            )
        true = material.reference_faces.opening
    else:
        if reference.size != material.footage.size:
            raise NotComputedError("the reference has another size, so the lip box does not fit it")
        found = read_footage(reference, material.lip_box).opening
        assert found is not None  # the lip box gave `opening`
        true = found
    count, fps = min(len(true), len(mouth)), material.footage.fps
    book.curves["true_opening"] = true
    match = singing.best_match(mouth[:count], true[:count], round(singing.REACH_SECONDS * fps))
    return {} if match is None else {"mouth_match": match.correlation, "mouth_match_lag": match.lag}


def _frechet(book: _Book, material: Material, key: str) -> dict[str, float | None]:
    films = (material.footage, _reference(material))
    if not material.set_metrics:
        raise NotComputedError("measured over the whole set")
    features = [networks.film_features(key, film, material.weights, material.device) for film in films]
    if min(map(len, features)) < 2:
        raise NotComputedError("fewer than two windows of 16 frames")
    what = "frames" if key == "fid" else "windows of 16 frames, stride 16"
    book.notes.append(f"{key.upper()} is over {len(features[0])} and {len(features[1])} {what}.")
    return {key: frechet_distance(*features)}


def _lse(material: Material) -> dict[str, float | None]:
    video = material.footage.path
    if video is None:
        raise NotComputedError("SyncNet reads a video file; these are pictures in memory")
    sound = material.sound_file or (video if material.footage.sound is not None else None)
    if sound is None:
        raise NotComputedError("there is no sound: give --audio FILE")
    confidence, distance = networks.syncnet_errors(video, sound, material.weights, material.device)
    return {"lse_c": confidence, "lse_d": distance}


def _identity(material: Material) -> dict[str, float | None]:
    if material.portrait is None:
        raise NotComputedError("there is no portrait: give --reference PICTURE, or portraits/ of a protocol")
    cosines = networks.identity_cosine(
        material.footage, material.faces, material.portrait, material.portrait_face, material.weights
    )
    return {"identity": float(cosines.mean())}
