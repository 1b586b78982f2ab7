"""Numbers -> what looks wrong, in words. Limits are the aims of the project and what clean videos measure."""

from __future__ import annotations

from collections.abc import Mapping

from .stability import Seams

DRIFT = 2.0  # grey levels
SHARPNESS = 2.0  # percent
TREND = 4.0  # standard errors
FLICKER = 1.0  # grey levels
FROZEN = 0.01  # range of the opening of a mouth that does not move
UNSYNCED = 0.2  # correlation
RESTLESS = 0.5
LAG = 2  # frames that the eye forgives
SOUND_MS = 100.0


def findings(
    values: Mapping[str, float], fps: float, seams: Seams | None, sharpness_trend: float
) -> tuple[str, ...]:
    """One sentence for everything that is out of its limits.

    sharpness_trend   of `stability.trend`: faces change their sharpness by moving, only a trend is a loss
    """
    found: list[str] = []
    if values.get("extra_frames", 0):
        count = int(values["extra_frames"])
        found.append(
            f"The video is {abs(count)} frames {'longer' if count > 0 else 'shorter'} than the song."
        )
    if abs(values.get("sound_difference", 0)) > SOUND_MS:
        found.append(f"Sound and picture track differ by {values['sound_difference']:.0f} ms in length.")
    if values.get("uneven_intervals", 0):
        found.append(
            f"{values['uneven_intervals']:.0f} frame intervals differ: the frame rate is not constant."
        )
    if seams is not None and seams.visible:
        found.append(f"Seams: motion from clip to clip is {seams.ratio:.2f} times the motion inside clips.")
    if abs(values.get("colour_drift", 0)) > DRIFT:
        found.append(f"The colours drift by {values['colour_drift']:+.1f} grey levels.")
    if abs(values.get("sharpness_change", 0)) > SHARPNESS and abs(sharpness_trend) > TREND:
        found.append(f"The sharpness changes by {values['sharpness_change']:+.1f} %.")
    if values.get("flicker", 0) > FLICKER:
        found.append(f"The brightness flickers by {values['flicker']:.1f} grey levels from frame to frame.")
    return (*found, *_mouth_findings(values, fps))


def _mouth_findings(values: Mapping[str, float], fps: float) -> list[str]:
    if values.get("mouth_range", 1) < FROZEN:
        return ["The mouth hardly moves: it is frozen, or not where the lip box or the landmarks say."]
    found: list[str] = []
    sync, lag = values.get("singing_sync"), values.get("singing_lag", 0)
    if sync is not None and sync < UNSYNCED:
        found.append(f"The mouth does not follow the voice (correlation {sync:.2f}).")
    elif sync is not None and abs(lag) > LAG:
        found.append(
            f"The mouth is {abs(lag):.0f} frames ({abs(lag) / fps * 1000:.0f} ms) "
            f"{'late' if lag > 0 else 'early'}."
        )
    if values.get("rest_motion", 0) > RESTLESS:
        found.append(f"The mouth moves in rests, {values['rest_motion']:.2f} times as much as in song.")
    return found
