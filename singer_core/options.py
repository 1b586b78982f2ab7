"""Everything a user can choose about sampling, and the three ways to run the same weights.

`official` is bit-near to the authors' script, with its oddities; `paper` is what the paper describes;
`enhanced` is what looks best without retraining. Every difference between them is a field here (docs/modes.md
says what each does).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from . import constants

NoiseSchedule = Literal["linear", "scaled_linear"]
MsmInput = Literal["initial_noise", "every_step", "expected", "locked", "off"]
MsmScale = Literal["sum", "trained_length"]
ReferenceRows = Literal["alternating", "portrait"]
Carry = Literal["pixels", "latents"]
ClipNoise = Literal["fresh", "shared"]
Solver = Literal["ddim", "dpmpp_2m", "unipc"]


@dataclass(frozen=True)
class BandGains:
    """Factors on the four wavelet sub-bands; 1 leaves a band as it is.

    On the audio plane (tokens x frames): ll overall articulation, lh detail from frame to frame (legato /
    staccato), hl contrast between tokens, hh both. On the SFM's feature maps: ll shape, lh, hl and hh detail.
    """

    ll: float = 1.0
    lh: float = 1.0
    hl: float = 1.0
    hh: float = 1.0

    @property
    def neutral(self) -> bool:
        return self == BandGains()

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter((self.ll, self.lh, self.hl, self.hh))


@dataclass(frozen=True)
class SingerOptions:
    """How a song is sampled. The defaults are those of mode `official`.

    steps              diffusion steps of a clip
    solver             how a step is taken: "ddim", the authors'; "dpmpp_2m" and "unipc" need fewer steps
    guidance_interval  part of the steps that is guided, from the first of the two to before the second; the
                       others run the conditional branch alone
    sequential_guidance  branches run one after another: less memory, the same numbers
    reference_scale    guidance towards the portrait: v0 + s_ref (v_ref - v0) + s_audio (v - v_ref)
    audio_scale        guidance towards the song; both equal is ordinary guidance, and both 1 none at all
    guidance_rescale   0 to 1: how far the guided prediction's deviation is brought back to the conditional
                       one's
    noise_schedule     "linear" (the authors sample with it) or "scaled_linear" (the weights were trained with
                       it)
    msm_input          what the MSM reads its gains off: the clip's "initial_noise"; the latents at
                       "every_step"; nothing, but their "expected" value; the first clip's noise for all
                       ("locked"); "off" = gains of 1
    msm_scale          gains are a "sum" over the clip's frames, or that times 14 / f ("trained_length")
    band_gains         on top of the MSM's gains
    wavelet            basis of the MSM, any discrete one of PyWavelets; the weights were trained with "haar"
    sfm_strength       0 bypasses the SFM, 1 is as trained
    sfm_gains          on top of the SFM's gains
    reference_rows     "alternating": frames read the portrait under unconditional and conditional tokens in
                       turn, an indexing accident; "portrait": under the portrait's tokens
    round_reference    reference features pass through float16, whatever the network's dtype
    brighten_bright    pictures without a pixel below mid-grey are stretched once more, a quirk of the
                       authors' VAE pre-processing
    clip_frames        frames of a clip; even, and with motion_frames at most 32
    motion_frames      last frames of a clip that the next one is shown
    carry              those frames as decoded "pixels" (encoded again) or as "latents"
    overlap            frames that neighbouring clips share and cross-fade
    clip_noise         every clip starts from "fresh" noise, or from the first clip's, shuffled ("shared")
    hold_colours       0 to 1: how far mean and deviation of carried frames are brought to the portrait's
    reanchor           0 to 1: how far the portrait replaces carried frames where the voice rests; needs the
                       vocal activity of the song
    retry_in_float32   a clip that turns into NaN in half precision is sampled once more in float32
    """

    steps: int = constants.DEFAULT_STEPS
    solver: Solver = "ddim"
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    sequential_guidance: bool = False
    reference_scale: float = constants.DEFAULT_GUIDANCE
    audio_scale: float = constants.DEFAULT_GUIDANCE
    guidance_rescale: float = 0.0
    noise_schedule: NoiseSchedule = "linear"
    msm_input: MsmInput = "initial_noise"
    msm_scale: MsmScale = "sum"
    band_gains: BandGains = field(default_factory=BandGains)
    wavelet: str = "haar"
    sfm_strength: float = 1.0
    sfm_gains: BandGains = field(default_factory=BandGains)
    reference_rows: ReferenceRows = "alternating"
    round_reference: bool = True
    brighten_bright: bool = True
    clip_frames: int = constants.CLIP_FRAMES
    motion_frames: int = constants.MOTION_FRAMES
    carry: Carry = "pixels"
    overlap: int = 0
    clip_noise: ClipNoise = "fresh"
    hold_colours: float = 0.0
    reanchor: float = 0.0
    retry_in_float32: bool = True

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "steps", self.steps, "at least 1")
        _require(self.steps <= constants.TRAIN_TIMESTEPS, "steps", self.steps, "at most 1000")
        for name in ("reference_scale", "audio_scale"):
            _require(
                0 <= getattr(self, name) <= 100, name, getattr(self, name), "0 to 100 (the authors use 3.5)"
            )
        for name in ("guidance_rescale", "hold_colours", "reanchor"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0 to 1")
        ordered = len(self.guidance_interval) == 2
        ordered = ordered and 0 <= self.guidance_interval[0] <= self.guidance_interval[1] <= 1
        accepted = "two parts of the steps from 0 to 1, the first not above the second"
        _require(ordered, "guidance_interval", self.guidance_interval, accepted)
        even = self.clip_frames >= 2 and self.clip_frames % 2 == 0
        _require(even, "clip_frames", self.clip_frames, "an even number from 2 (the wavelets pair frames)")
        _require(self.motion_frames >= 1, "motion_frames", self.motion_frames, "at least 1")
        total = self.clip_frames + self.motion_frames
        limit = constants.MOTION_POSITIONS
        _require(total <= limit, "clip_frames + motion_frames", total, f"at most {limit} positions")
        fits = 0 <= self.overlap <= self.clip_frames - max(self.motion_frames, 2)
        _require(fits, "overlap", self.overlap, "0 to clip_frames - motion_frames")
        for name, choices in _CHOICES.items():
            _require(getattr(self, name) in choices, name, getattr(self, name), ", ".join(choices))
        for name, values in (
            ("sfm_strength", [self.sfm_strength]),
            ("band_gains", self.band_gains),
            ("sfm_gains", self.sfm_gains),
        ):
            _require(all(math.isfinite(value) for value in values), name, getattr(self, name), "numbers")
        if self.wavelet != "haar":
            _require_wavelet(self.wavelet)

    def at_step(self, step: int) -> SingerOptions:
        """The options of one step: without guidance outside the guided part of the steps."""
        start, stop = self.guidance_interval
        if start <= step / self.steps < stop or not self.guided:
            return self
        return self.but(reference_scale=1.0, audio_scale=1.0)

    @property
    def guided(self) -> bool:
        return (self.reference_scale, self.audio_scale) != (1.0, 1.0)

    def but(self, **changes: Any) -> SingerOptions:
        """A copy with some fields changed; ValueError where a value is out of range."""
        return dataclasses.replace(self, **changes)


_CHOICES: dict[str, tuple[str, ...]] = {
    "noise_schedule": get_args(NoiseSchedule),
    "msm_input": get_args(MsmInput),
    "msm_scale": get_args(MsmScale),
    "reference_rows": get_args(ReferenceRows),
    "carry": get_args(Carry),
    "clip_noise": get_args(ClipNoise),
    "solver": get_args(Solver),
}


def _require(holds: bool, name: str, value: object, accepted: str) -> None:
    if not holds:
        raise ValueError(f"`{name}` is {value}; accepted: {accepted}.")


def _require_wavelet(name: str) -> None:
    import pywt  # loads numpy; the default needs neither

    accepted = 'a name of pywt.wavelist(kind="discrete"), such as haar, db2, sym4'
    _require(name in pywt.wavelist(kind="discrete"), "wavelet", name, accepted)


OFFICIAL = SingerOptions()
PAPER = OFFICIAL.but(
    noise_schedule="scaled_linear",
    msm_input="every_step",
    msm_scale="trained_length",
    reference_rows="portrait",
    round_reference=False,
    brighten_bright=False,
)
ENHANCED = PAPER.but(msm_input="expected", guidance_rescale=0.7, carry="latents", overlap=4, reanchor=1.0)

MODES: dict[str, SingerOptions] = {"official": OFFICIAL, "paper": PAPER, "enhanced": ENHANCED}

# How fast: changes to any mode (docs/speed.md).
PRESETS: dict[str, dict[str, Any]] = {
    "quality": {"steps": 40},
    "balanced": {"steps": 20, "solver": "dpmpp_2m"},
    "fast": {"steps": 10, "solver": "dpmpp_2m", "guidance_interval": (0.0, 0.7)},
}
