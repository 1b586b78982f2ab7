"""What the evaluation measures: names, units, which way is better, and figures to compare with.

The definitions are in docs/evaluation.md; the published figures are those of SINGER (arXiv 2412.03430) and
what was measured on its authors' eight long demonstration videos.
"""

from __future__ import annotations

from dataclasses import dataclass


class NotComputedError(Exception):
    """Why a metric has no value. `lacking`: a file or a package would help; else it does not apply."""

    def __init__(self, reason: str, lacking: bool = False) -> None:
        super().__init__(reason)
        self.lacking = lacking


@dataclass(frozen=True)
class Metric:
    """One row of the report.

    group      heading of the report under which it stands
    better     "higher", "lower", "near 0", "near 1", or "" where no direction is better
    published  the authors' figure, with what it is comparable to; "" for none
    """

    group: str
    key: str
    title: str
    unit: str
    better: str
    decimals: int = 2
    published: str = ""


RANGES = ("", "0 to 1", "-1 to 1", "correlation")
_LONG_VIDEOS = "authors' demo videos"

FILES, STABILITY, SINGING, RHYTHM = "Files", "Stability", "Singing", "Rhythm"
REFERENCE, NETWORKS = "Against the reference", "By networks"

METRICS = (
    Metric(FILES, "extra_frames", "frames beyond the song", "frames", "near 0", 0),
    Metric(FILES, "sound_difference", "sound track minus picture track", "ms", "near 0", 0),
    Metric(FILES, "uneven_intervals", "frame intervals that differ", "frames", "near 0", 0),
    Metric(STABILITY, "seam_ratio", "motion at seams over inside", "", "near 1", 3,
           f"1.15 to 1.53 ({_LONG_VIDEOS})"),
    Metric(STABILITY, "colour_drift", "colour drift, first to last clip", "grey levels", "near 0", 2,
           f"up to 8 in 20 s ({_LONG_VIDEOS})"),
    Metric(STABILITY, "sharpness_change", "sharpness, first to last clip", "%", "near 0", 1,
           f"-7 in 20 s ({_LONG_VIDEOS})"),
    Metric(STABILITY, "flicker", "brightness flicker", "grey levels", "lower", 3),
    Metric(STABILITY, "static_motion", "change where nothing moves", "grey levels", "lower", 3),
    Metric(SINGING, "mouth_range", "range of the mouth opening", "", "", 3),
    Metric(SINGING, "singing_sync", "mouth against vocal level, best lag", "correlation", "higher", 3),
    Metric(SINGING, "sync_chance", "the same against the voice moved around", "correlation", "", 3),
    Metric(SINGING, "singing_lag", "mouth later than the voice", "frames", "near 0", 0),
    Metric(SINGING, "rest_motion", "mouth motion in rests over in song", "", "lower", 3),
    Metric(RHYTHM, "beat_alignment", "beat alignment of the head", "0 to 1", "higher", 3),
    Metric(RHYTHM, "beat_chance", "the same against shifted beats", "0 to 1", "", 3),
    Metric(RHYTHM, "head_motion", "spread of the head's position", "% of the eyes' distance", "", 1),
    Metric(REFERENCE, "psnr", "PSNR against the reference", "dB, range 255", "higher", 2,
           "30.7 (paper; uint8 wrap-around, not comparable)"),
    Metric(REFERENCE, "ssim", "SSIM against the reference", "0 to 1", "higher", 4, "0.64 (paper)"),
    Metric(REFERENCE, "lpips", "LPIPS against the reference", "", "lower", 4),
    Metric(REFERENCE, "mouth_match", "mouth against the reference's, best lag", "correlation", "higher", 3),
    Metric(REFERENCE, "mouth_match_lag", "mouth later than the reference's", "frames", "near 0", 0),
    Metric(REFERENCE, "fid", "FID against the reference", "", "lower", 2),
    Metric(REFERENCE, "fvd", "FVD against the reference", "", "lower", 1),
    Metric(NETWORKS, "lse_c", "LSE-C", "", "higher", 3),
    Metric(NETWORKS, "lse_d", "LSE-D", "", "lower", 3),
    Metric(NETWORKS, "identity", "identity, cosine to the portrait", "-1 to 1", "higher", 3),
)  # fmt: skip
BY_KEY = {metric.key: metric for metric in METRICS}


def shown(key: str, value: float) -> str:
    """A value as the report prints it, with its unit unless that is only a range."""
    unit = BY_KEY[key].unit
    return numeral(key, value) if unit in RANGES else f"{numeral(key, value)} {unit}"


def numeral(key: str, value: float) -> str:
    """A value with its decimals, without a unit; never -0."""
    decimals = BY_KEY[key].decimals
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def heading(key: str) -> str:
    """The title of a column or row of bare numbers: with the unit."""
    metric = BY_KEY[key]
    return metric.title if metric.unit in RANGES else f"{metric.title}, {metric.unit}"
