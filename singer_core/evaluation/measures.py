"""What is measured: every metric with what finds it, what it needs, and what looks wrong about it.

The definitions are in docs/evaluation.md; the published figures are those of SINGER (arXiv 2412.03430) and
what was measured on its authors' eight long demonstration videos. Limits are the aims of the project and what
clean videos measure.
"""

from __future__ import annotations

import math

import numpy as np

from ..audio.motion import beat_times
from ..audio.waveform import Waveform
from ..progress import Progress, unwatched
from . import networks, singing, stability
from .fidelity import frechet_distance, load_lpips, psnr, ssim
from .footage import Floats, Footage, resized
from .material import Material
from .metric import Metric, NotComputedError, Numbers, needed
from .mouth import box_levels, box_openings
from .reading import read_footage

HIGHEST_PSNR = 100.0  # dB: what equal frames count as in the mean
RANGE = (0.05, 0.95)  # quantiles of the mouth's opening

# Beyond these something looks wrong.
SOUND_MS = 100.0
DRIFT = 2.0  # grey levels
SHARPNESS = 2.0  # percent
TREND = 4.0  # standard errors: faces change their sharpness by moving, only a trend is a loss
FLICKER = 1.0  # grey levels
FROZEN = 0.01  # range of the opening of a mouth that does not move
UNSYNCED = 0.2  # correlation
LAG = 2  # frames that the eye forgives
RESTLESS = 0.5


class Case:
    """A video while it is measured: what was given and read of it, and what is written down.

    curves    name -> (s,) values over the frames, `beats` and `movements` in seconds
    findings  what looks wrong, one sentence each;  notes: what to know when reading the numbers
    What a metric needs and does not have raises NotComputedError with the remedy.
    """

    def __init__(self, given: Material, progress: Progress = unwatched) -> None:
        self.given, self.footage, self.clip = given, given.footage, given.clip_frames
        box = None if given.faces else given.lip_box
        self.reading, self.thumbnails = read_footage(self.footage, box, progress)
        self.curves: dict[str, Floats] = {name: getattr(self.reading, name) for name in STEADINESS}
        self.findings: list[str] = []
        self.notes: list[str] = []
        if given.faces or box:
            source = "landmarks" if given.faces else "darkness inside the lip box"
            self.notes.append(f"The mouth's opening is read from {source}.")
            self.curves["opening"] = given.faces.opening if given.faces else box_openings(self.reading.levels)

    @property
    def opening(self) -> Floats:
        """(s,) of the mouth."""
        reason = "the mouth is not known: give --landmarks FILE or --lip-box L,T,R,B"
        return needed(self.curves.get("opening"), reason)

    @property
    def mouth_range(self) -> float:
        low, high = np.quantile(self.opening, RANGE)
        return float(high - low)

    @property
    def song(self) -> Waveform:
        return needed(self.given.song, "there is no sound: give --audio FILE")

    @property
    def reference(self) -> Footage:
        return needed(self.given.reference, "there is no reference video: give --reference VIDEO")

    @property
    def too_short(self) -> str:
        return f"fewer than two clips of {self.clip} frames"


STEADINESS = ("step", "sharpness", "colour")  # curves of what a frame's reading holds


def extra_frames(case: Case) -> Numbers:
    extra = case.footage.frames - math.ceil(case.song.seconds * case.footage.fps - 1e-3)
    if extra:
        case.findings.append(
            f"The video is {abs(extra)} frames {'longer' if extra > 0 else 'shorter'} than the song."
        )
    return (extra,)


def sound_difference(case: Case) -> Numbers:
    sound = needed(case.footage.sound, "the video has no sound track")
    difference = 1000 * (sound - case.footage.seconds)
    if abs(difference) > SOUND_MS:
        case.findings.append(f"Sound and picture track differ by {difference:.0f} ms in length.")
    return (difference,)


def uneven_intervals(case: Case) -> Numbers:
    uneven = case.footage.uneven
    if uneven:
        case.notes.append(
            f"The frame rate varies ({uneven} intervals differ); measured at {case.footage.fps:.6g} fps."
        )
        case.findings.append(f"{uneven} frame intervals differ: the frame rate is not constant.")
    return (uneven,)


def seam_ratio(case: Case) -> Numbers:
    shared, long = case.given.overlap, case.footage.frames >= 2 * case.clip
    found = stability.seams(case.reading.step, case.clip - shared, shared)
    seams = needed(found, "no motion lies between the seams" if long else case.too_short)
    if seams.visible:
        case.findings.append(
            f"Seams: motion from clip to clip is {seams.ratio:.2f} times the motion inside clips."
        )
    return (seams.ratio,)


def colour_drift(case: Case) -> Numbers:
    channels = needed(stability.colour_drift(case.reading.colour, case.clip), case.too_short)
    drift = float(channels[np.abs(channels).argmax()])
    if abs(drift) > DRIFT:
        case.findings.append(f"The colours drift by {drift:+.1f} grey levels.")
    return (drift,)


def sharpness_change(case: Case) -> Numbers:
    sharpness = case.reading.sharpness
    change = needed(stability.sharpness_change(sharpness, case.clip), case.too_short)
    if abs(change) > SHARPNESS and abs(stability.trend(sharpness, case.clip)) > TREND:
        case.findings.append(f"The sharpness changes by {change:+.1f} %.")
    return (change,)


def flicker(case: Case) -> Numbers:
    found = needed(stability.flicker(case.reading.blocks), "fewer than three frames")
    if found > FLICKER:
        case.findings.append(f"The brightness flickers by {found:.1f} grey levels from frame to frame.")
    return (found,)


def static_motion(case: Case) -> Numbers:
    return (needed(stability.static_motion(case.reading.corners), "only one frame"),)


def mouth_range(case: Case) -> Numbers:
    if case.mouth_range < FROZEN:
        case.findings.append(
            "The mouth hardly moves: it is frozen, or not where the lip box or the landmarks say."
        )
    return (case.mouth_range,)


def singing_in_time(case: Case) -> Numbers:
    """Sync, what chance gives, lag, motion in rests."""
    given, fps, frames = case.given, case.footage.fps, case.footage.frames
    voice = needed(given.vocals or given.song, "there is no sound: give --vocals FILE or --audio FILE")
    if given.vocals is None:
        case.notes.append("The whole sound stands for the voice; give --vocals where a band plays along.")
    level, sung = singing.vocal_level(voice, fps, frames), singing.sung_frames(voice, fps, frames)
    case.curves |= {"vocal_level": level, "sung": sung.astype(np.float64)}
    mouth, reach = case.opening, round(singing.REACH_SECONDS * fps)
    if len(mouth) < singing.SHORTEST_SECONDS * fps:
        return (None,) * 4
    match = singing.best_match(mouth, level, reach)
    sync, lag = (match.correlation, match.lag) if match else (0.0, None)
    rest = singing.rest_motion(mouth, sung, fps)
    if case.mouth_range >= FROZEN:
        _accuse_singing(case, sync, lag or 0, rest or 0.0)
    return (sync, singing.chance_match(mouth, level, reach), lag, rest)


def _accuse_singing(case: Case, sync: float, lag: int, rest: float) -> None:
    if sync < UNSYNCED:
        case.findings.append(f"The mouth does not follow the voice (correlation {sync:.2f}).")
    elif abs(lag) > LAG:
        late = f"{abs(lag) / case.footage.fps * 1000:.0f} ms) {'late' if lag > 0 else 'early'}"
        case.findings.append(f"The mouth is {abs(lag)} frames ({late}.")
    if rest > RESTLESS:
        case.findings.append(f"The mouth moves in rests, {rest:.2f} times as much as in song.")


def beat_alignment(case: Case) -> Numbers:
    """Alignment, and what chance gives."""
    try:
        beats = beat_times(case.song).numpy()
    except RuntimeError as error:
        raise NotComputedError(f"pip install librosa ({error})", lacking=True) from error
    beats = beats[beats < case.footage.seconds]
    if len(beats) < 2:
        raise NotComputedError("librosa finds fewer than two beats in the song")
    faces = case.given.faces
    speed = faces.speed if faces else case.reading.stir
    movements = singing.motion_beats(speed, case.footage.fps)
    case.curves |= {"head_speed": speed, "beats": beats, "movements": movements}
    if not faces:
        case.notes.append("Head motion is the change of the picture outside the lip box, not a head pose.")
    chance = singing.chance_alignment(beats, movements, case.footage.seconds)
    return (singing.beat_alignment(beats, movements), chance)


def head_motion(case: Case) -> Numbers:
    return (needed(case.given.faces, "needs landmarks of every frame: give --landmarks FILE").spread,)


def fidelity(case: Case) -> Numbers:
    """PSNR and SSIM."""
    reference, scores = case.reference, []
    for picture, true in zip(case.footage.pictures(), reference.pictures(), strict=False):
        same = resized(true, case.footage.size)
        scores.append((min(psnr(picture, same), HIGHEST_PSNR), ssim(picture, same)))
    if reference.frames != case.footage.frames:
        case.notes.append(
            f"The reference has {reference.frames} frames, the video {case.footage.frames}; the first "
            f"{len(scores)} are compared."
        )
    curves = np.array(scores).T
    case.curves |= {"psnr": curves[0], "ssim": curves[1]}
    return tuple(float(curve.mean()) for curve in curves)


def lpips(case: Case) -> Numbers:
    reference, distance = case.reference, load_lpips(case.given.weights)
    pairs = zip(case.footage.pictures(), reference.pictures(), strict=False)
    return (float(np.mean([distance(x, resized(y, case.footage.size)) for x, y in pairs])),)


def mouth_match(case: Case) -> Numbers:
    """Correlation with the reference's mouth, and lag."""
    reference, mouth = case.reference, case.opening
    case.curves["true_opening"] = true = _true_opening(case, reference)
    count, reach = min(len(true), len(mouth)), round(singing.REACH_SECONDS * case.footage.fps)
    match = singing.best_match(mouth[:count], true[:count], reach)
    return (match.correlation, match.lag) if match else (None, None)


def _true_opening(case: Case, reference: Footage) -> Floats:
    given = case.given
    if given.faces is not None:
        reason = "needs landmarks of the reference's frames: give --reference-landmarks FILE"
        return needed(given.reference_faces, reason).opening
    if reference.size != case.footage.size:
        raise NotComputedError("the reference has another size, so the lip box does not fit it")
    assert given.lip_box is not None  # the opening comes from it
    return box_openings(np.stack([box_levels(frame, given.lip_box) for frame in reference.pictures()]))


def fid(case: Case) -> Numbers:
    return _set_distance(case, "fid", "frames")


def fvd(case: Case) -> Numbers:
    return _set_distance(case, "fvd", "windows of 16 frames, stride 16")


def _set_distance(case: Case, key: str, what: str) -> Numbers:
    films, given = (case.footage, case.reference), case.given
    if not given.set_metrics:
        raise NotComputedError("measured over the whole set")
    features = [networks.film_features(key, film, given.weights, given.device) for film in films]
    if min(map(len, features)) < 2:
        raise NotComputedError("fewer than two windows of 16 frames")
    case.notes.append(f"{key.upper()} is over {len(features[0])} and {len(features[1])} {what}.")
    return (frechet_distance(*features),)


def lip_sync_error(case: Case) -> Numbers:
    """LSE-C and LSE-D."""
    video = needed(case.footage.path, "SyncNet reads a video file; these are pictures in memory")
    own = video if case.footage.sound is not None else None
    sound = needed(case.given.sound_file or own, "there is no sound: give --audio FILE")
    return networks.syncnet_errors(video, sound, case.given.weights, case.given.device)


def identity(case: Case) -> Numbers:
    given = case.given
    reason = "there is no portrait: give --reference PICTURE, or portraits/ of a protocol"
    portrait = needed(given.portrait, reason)
    cosines = networks.identity_cosine(
        case.footage, given.faces, portrait, given.portrait_face, given.weights
    )
    return (float(cosines.mean()),)


FILES, STABILITY, SINGING, RHYTHM = "Files", "Stability", "Singing", "Rhythm"
REFERENCE, NETWORKS = "Against the reference", "By networks"
_LONG_VIDEOS = "authors' demo videos"

METRICS = (
    Metric(FILES, extra_frames, "extra_frames", "frames beyond the song", "frames", "near 0", 0),
    Metric(FILES, sound_difference, "sound_difference", "sound track minus picture track", "ms", "near 0", 0),
    Metric(FILES, uneven_intervals, "uneven_intervals", "frame intervals that differ", "frames", "near 0", 0),
    Metric(STABILITY, seam_ratio, "seam_ratio", "motion at seams over inside", "", "near 1", 3,
           f"1.15 to 1.53 ({_LONG_VIDEOS})"),
    Metric(STABILITY, colour_drift, "colour_drift", "colour drift, first to last clip", "grey levels",
           "near 0", 2, f"up to 8 in 20 s ({_LONG_VIDEOS})"),
    Metric(STABILITY, sharpness_change, "sharpness_change", "sharpness, first to last clip", "%",
           "near 0", 1, f"-7 in 20 s ({_LONG_VIDEOS})"),
    Metric(STABILITY, flicker, "flicker", "brightness flicker", "grey levels", "lower", 3),
    Metric(STABILITY, static_motion, "static_motion", "change where nothing moves", "grey levels",
           "lower", 3),
    Metric(SINGING, mouth_range, "mouth_range", "range of the mouth opening", "", "", 3),
    Metric(SINGING, singing_in_time, "singing_sync", "mouth against vocal level, best lag", "correlation",
           "higher", 3),
    Metric(SINGING, singing_in_time, "sync_chance", "the same against the voice moved around", "correlation",
           "", 3),
    Metric(SINGING, singing_in_time, "singing_lag", "mouth later than the voice", "frames", "near 0", 0),
    Metric(SINGING, singing_in_time, "rest_motion", "mouth motion in rests over in song", "", "lower", 3),
    Metric(RHYTHM, beat_alignment, "beat_alignment", "beat alignment of the head", "0 to 1", "higher", 3),
    Metric(RHYTHM, beat_alignment, "beat_chance", "the same against shifted beats", "0 to 1", "", 3),
    Metric(RHYTHM, head_motion, "head_motion", "spread of the head's position", "% of the eyes' distance",
           "", 1),
    Metric(REFERENCE, fidelity, "psnr", "PSNR against the reference", "dB, range 255", "higher", 2,
           "30.7 (paper; uint8 wrap-around, not comparable)"),
    Metric(REFERENCE, fidelity, "ssim", "SSIM against the reference", "0 to 1", "higher", 4, "0.64 (paper)"),
    Metric(REFERENCE, lpips, "lpips", "LPIPS against the reference", "", "lower", 4),
    Metric(REFERENCE, mouth_match, "mouth_match", "mouth against the reference's, best lag", "correlation",
           "higher", 3),
    Metric(REFERENCE, mouth_match, "mouth_match_lag", "mouth later than the reference's", "frames",
           "near 0", 0),
    Metric(REFERENCE, fid, "fid", "FID against the reference", "", "lower", 2),
    Metric(REFERENCE, fvd, "fvd", "FVD against the reference", "", "lower", 1),
    Metric(NETWORKS, lip_sync_error, "lse_c", "LSE-C", "", "higher", 3),
    Metric(NETWORKS, lip_sync_error, "lse_d", "LSE-D", "", "lower", 3),
    Metric(NETWORKS, identity, "identity", "identity, cosine to the portrait", "-1 to 1", "higher", 3),
)  # fmt: skip
BY_KEY = {metric.key: metric for metric in METRICS}
