"""Everything a user can choose, as values: each field says its default, its words and its range once.

The command line makes its arguments from these fields (`cli/arguments.py`), the nodes their widgets
(`nodes/sockets.py`), so a flag and a widget of one field have one text. A field's metadata:

    help        what it does, in sentences
    slider      least and largest value of a widget, and its step; what is valid is checked elsewhere
    expert      an advanced widget
    metavar     stands for the value in `--help`
    positional  an argument without a flag
    parse       text -> value, where the type does not say it

`official` is bit-near to the authors' script, with its oddities; `paper` is what the paper describes;
`enhanced` is what looks best without retraining. Every difference between them is a field of `SingerOptions`
(docs/modes.md says what each does).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from . import constants

NoiseSchedule = Literal["linear", "scaled_linear"]
MsmInput = Literal["initial_noise", "every_step", "expected", "locked", "off"]
MsmScale = Literal["sum", "trained_length"]
ReferenceRows = Literal["alternating", "portrait"]
Carry = Literal["pixels", "latents"]
ClipNoise = Literal["fresh", "shared"]
Solver = Literal["ddim", "dpmpp_2m", "unipc"]
Crop = Literal["face", "exact", "center", "squash"]
Detector = Literal["finder", "insightface"]
Separator = Literal["kim_vocal_2", "hdemucs", "mel_band_roformer", "none"]
Mode = Literal["official", "paper", "enhanced"]
Preset = Literal["quality", "balanced", "fast", "turbo"]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]


def setting(default: Any, help: str, slider: tuple[float, ...] = (), **more: Any) -> Any:
    """A field with its metadata; see above."""
    return field(default=default, metadata={"help": help, "slider": slider, **more})


def required(help: str, **more: Any) -> Any:
    """A field without a default."""
    return field(metadata={"help": help, **more})


def group(kind: Callable[[], Any], title: str, about: str | None = None) -> Any:
    """A field that holds settings of their own."""
    return field(default_factory=kind, metadata={"title": title, "about": about})


@functools.cache  # options are made anew while a clip is sampled, and hints take longer than all else of it
def typed_fields(kind: Any) -> tuple[tuple[dataclasses.Field[Any], Any], ...]:
    """The fields with their types, which are classes or Literals where they may be None too."""
    hints, found = get_type_hints(kind), []
    for its_field in dataclasses.fields(kind):
        hint = hints[its_field.name]
        if get_origin(hint) in (Union, types.UnionType):
            hint = next(choice for choice in get_args(hint) if choice is not type(None))
        found.append((its_field, hint))
    return tuple(found)


def check_choices(settings: Any) -> None:
    """ValueError for a field whose value is none of its Literal's."""
    kind: Any = type(settings)
    for its_field, hint in typed_fields(kind):
        if get_origin(hint) is Literal:
            value, choices = getattr(settings, its_field.name), get_args(hint)
            require(value in choices, its_field.name, value, ", ".join(map(str, choices)))


def require(holds: bool, name: str, value: object, accepted: str) -> None:
    """ValueError of one form for a value out of range."""
    if not holds:
        raise ValueError(f"`{name}` is {value}; accepted: {accepted}.")


def part(default: float, help: str, **more: Any) -> Any:
    """A field from 0 to 1."""
    return setting(default, help, (0.0, 1.0, 0.05), **more)


@dataclass(frozen=True)
class ModelFiles:
    """The networks of a song; those that are not named are looked for."""

    checkpoint: Path | None = setting(
        None,
        "net.pth of SINGER or Hallo, or its safetensors conversion (default: one that is found, else the "
        "small built-in model).",
    )
    vae: Path | None = setting(None, "The VAE's weights (default: those found).", metavar="PATH")
    wav2vec2: Path | None = setting(
        None,
        "The audio encoder's weights, for networks that read them (default: those found).",
        metavar="PATH",
    )


@dataclass(frozen=True)
class PortraitSettings:
    """What of the picture is rendered, and whose face it is."""

    size: tuple[int, int] | None = setting(  # (H, W)
        None,
        "Size of the crop, multiples of 64 (default: as the checkpoint was trained).",
        metavar="N|WxH",
        parse=lambda text: _size(text),
    )
    landmarks: Path | None = setting(
        None, "JSON with the 478-point face mesh of each face (docs/portrait.md)."
    )
    detector: Detector = setting(
        "finder",
        "Finds the face where neither landmarks nor both masks are given; insightface must be installed, "
        "with its models.",
    )
    insightface: Path | None = setting(
        None, "Its models are in DIR/models (default: ~/.insightface).", metavar="DIR"
    )
    face_index: int = setting(
        -1,
        "Which of several faces sings, from 0 in the landmarks' order or from the left; -1 = the only one.",
        (-1, 63),
        expert=True,
    )
    face_mask: Path | None = setting(
        None, "Picture, white on the face, of the whole picture; instead of points."
    )
    lip_mask: Path | None = setting(
        None, "Picture, white on the lips, of the whole picture; instead of points."
    )
    crop: Crop = setting(
        "face",
        "face: around the face; exact: the same even where the picture has no room, as the built-in model "
        "needs it; center: the middle of the picture; squash: the whole picture stretched to the crop's "
        "size, as the authors do.",
    )
    margin: float = setting(
        0.4, "Room around the face on each side, in face heights; for crop = face.", (0.0, 3.0, 0.05)
    )
    lip_height: float = setting(
        0.0,
        "Least height of the lip area in mouth widths; 0.9 leaves room for an open mouth, 0 = the authors'.",
        (0.0, 3.0, 0.05),
        expert=True,
    )
    identity: Path | None = setting(
        None,
        "The face's ArcFace embedding (.npy, .json or .safetensors), an IResNet network (.safetensors or "
        ".onnx) that computes it, or a folder to look for one in. Without it the likeness is weaker.",
    )


@dataclass(frozen=True)
class SongSettings:
    """What the network hears of the song."""

    fps: float = setting(
        constants.FPS, "Frames per second of the video. The model was trained at 25.", (1.0, 120.0, 0.01)
    )
    separator: Separator | None = setting(
        None,
        "Takes the vocals out of the mix first. kim_vocal_2: the authors' choice, 67 MB; hdemucs: 335 MB; "
        "mel_band_roformer: 913 MB, best and slowest; none: the song is vocals already (default: one that is "
        "found, where the song is a mix).",
    )
    models: tuple[Path, ...] = setting(
        (),
        "Folder searched for model files, recursively, before those of SINGER_MODELS, a ComfyUI around this "
        "pack and ~/.cache/singer; may be given again.",
        metavar="DIR",
    )
    levelling: float = part(
        0.0, "0 to 1: how far quiet verses are brought to the loudness of the whole. 0 = off, the reference."
    )


@dataclass(frozen=True)
class MotionResponse:
    """How the weights of the audio attention follow the song. The defaults are the reference inference."""

    pose: float = setting(1.0, "Weight of head and body; 1 = as trained, 0 = none.", (0.0, 4.0, 0.05))
    face: float = setting(1.0, "Weight of the face; 1 = as trained, 0 = none.", (0.0, 4.0, 0.05))
    lip: float = setting(1.0, "Weight of the lips; 1 = as trained, 0 = none.", (0.0, 4.0, 0.05))
    beat: float = setting(0.0, "On a beat the pose weight is (1 + this) times as large.", (0.0, 4.0, 0.05))
    loudness: float = part(
        0.0, "0 to 1: how far the face follows loudness; at 1 its weight doubles 20 dB above the median."
    )
    silence: float = part(
        0.0,
        "0 to 1: how far the lip weight sinks where nothing is sung. The first built-in model "
        "(docs/model_card.md) closed its mouth best at 0.",
    )
    marks: str = setting(
        "",
        "Factors on the weights of phrases: '0:31-0:34 lip 1.2 pose 0.6', several separated by ; or lines. "
        "Or lyrics with times, as .lrc and .srt files have them, with {lip 1.2} behind a line.",
        metavar="TEXT|FILE",
    )

    def __post_init__(self) -> None:
        for name in ("pose", "face", "lip", "beat"):
            require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "0 or more")
        for name in ("loudness", "silence"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0 to 1")


@dataclass(frozen=True)
class WorkSettings:
    """Finished clips are kept; the same command goes on from them, a changed one uses those it can."""

    work_dir: Path | None = setting(
        None,
        "Where finished clips are kept, about 100 KB a frame (default: singer-* in the temporary folder).",
        metavar="DIR",
    )
    keep_clips: bool = setting(True, "Use finished clips and keep those that get finished.")
    partial: bool = setting(
        False, "Sample nothing: write a video of the clips that are finished, without retakes."
    )
    sections: bool = setting(
        False,
        "Cut the song where the voice rests and render the sections independently (docs/long_songs.md).",
    )

    def __post_init__(self) -> None:
        if self.partial and not self.keep_clips:
            raise ValueError(
                "--partial is made of the finished clips that --no-keep-clips ignores. Give one of them."
            )


@dataclass(frozen=True)
class ComputeSettings:
    """Where and how it is computed."""

    device: str = setting("auto", "auto, cpu, or a torch device.")
    dtype: Dtype = setting("auto", "Of the network; auto is float32 on a CPU, else float16 as the authors'.")


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
    """How a song is sampled. The defaults are those of mode `official`."""

    steps: int = setting(constants.DEFAULT_STEPS, "Diffusion steps of a clip.")
    solver: Solver = setting(
        "ddim", "How a step is taken. ddim: the authors'; dpmpp_2m and unipc need fewer steps."
    )
    guidance_interval: tuple[float, float] = setting(
        (0.0, 1.0),
        "Part of the steps that is guided, from the first of the two to before the second; the others run "
        "the conditional branch alone.",
    )
    sequential_guidance: bool = setting(
        False, "Branches run one after another: less memory, the same numbers."
    )
    # v0 + s_ref (v_ref - v0) + s_audio (v - v_ref); both equal is ordinary guidance, and both 1 none at all
    reference_scale: float = setting(
        constants.DEFAULT_GUIDANCE,
        "Guidance towards the portrait; 1 = none. Authors: 3.5.",
        (0.0, 100.0, 0.05),
    )
    audio_scale: float = setting(
        constants.DEFAULT_GUIDANCE,
        "Guidance towards the song; 1 = none. Another value than reference_scale costs half as much time "
        "again.",
        (0.0, 100.0, 0.05),
    )
    guidance_rescale: float = part(
        0.0, "0 to 1: how far contrast that guidance adds is taken back. 0 = off, the authors'."
    )
    noise_schedule: NoiseSchedule = setting(
        "linear", "linear: the authors sample with it; scaled_linear: the weights were trained with it."
    )
    msm_input: MsmInput = setting(
        "initial_noise",
        "What the band gains are read off. initial_noise: each clip's noise, as the authors' script; "
        "every_step: the latents of each step, as the paper; expected: their mean, equal for all clips; "
        "locked: the first clip's noise for all; off: gains of 1.",
    )
    msm_scale: MsmScale = setting(
        "sum",
        "sum: gains add up over the clip's frames, as the authors'; trained_length: as if the clip had the "
        "14 frames of training.",
    )
    band_gains: BandGains = setting(BandGains(), "On top of the MSM's gains.")
    wavelet: str = setting("haar", "Basis of the bands. The weights were trained with haar.", expert=True)
    sfm_strength: float = setting(1.0, "0 bypasses the filter, 1 is as trained.", (0.0, 2.0, 0.01))
    sfm_gains: BandGains = setting(BandGains(), "On top of the SFM's gains.")
    reference_rows: ReferenceRows = setting(
        "alternating",
        "How frames read the portrait. alternating: under unconditional and conditional tokens in turn, as "
        "the authors' code does; portrait: always under the portrait's tokens, which may flicker less.",
        expert=True,
    )
    round_reference: bool = setting(
        True, "Pass the portrait's features through 16-bit floats, as the authors' code does.", expert=True
    )
    brighten_bright: bool = setting(
        True,
        "Stretch pictures without a pixel below mid-grey once more, as the authors' code does by accident.",
        expert=True,
    )
    clip_frames: int = setting(
        constants.CLIP_FRAMES,
        "Frames sampled together, even; with motion_frames at most 32. Authors: 16.",
        (2, 30, 2),
    )
    motion_frames: int = setting(
        constants.MOTION_FRAMES, "Frames of the clip before that a clip is shown. Trained with 2.", (1, 16)
    )
    carry: Carry = setting("pixels", "Those frames as decoded pixels, encoded again, or as latents.")
    overlap: int = setting(
        0,
        "Frames that neighbouring clips share and cross-fade. 0 = hard seams, the authors'.",
        (0, 28),
        expert=True,
    )
    clip_noise: ClipNoise = setting(
        "fresh",
        "fresh: every clip has noise of its own, as the authors'; shared: the first clip's, shuffled, which "
        "keeps clips alike.",
        expert=True,
    )
    hold_colours: float = part(
        0.0,
        "0 to 1: how far colour and contrast of carried frames are brought back to the portrait's. 0 = off, "
        "the authors'.",
        expert=True,
    )
    reanchor: float = part(
        0.0,
        "0 to 1: how far the portrait takes the place of carried frames where the voice rests. 0 = off, the "
        "authors'.",
        expert=True,
    )
    restart_beyond: float = setting(
        0.0,
        "How far a clip may end from the portrait, in colour (its deviations) or sharpness (times halved or "
        "doubled); beyond that the next one begins at the portrait. 0 = any, the authors'.",
        (0.0, 10.0, 0.1),
        expert=True,
    )
    retry_in_float32: bool = setting(
        True, "A clip that turns into NaN in half precision is sampled once more in float32."
    )

    def __post_init__(self) -> None:
        require(self.steps >= 1, "steps", self.steps, "at least 1")
        require(self.steps <= constants.TRAIN_TIMESTEPS, "steps", self.steps, "at most 1000")
        for name in ("reference_scale", "audio_scale"):
            require(
                0 <= getattr(self, name) <= 100, name, getattr(self, name), "0 to 100 (the authors use 3.5)"
            )
        for name in ("guidance_rescale", "hold_colours", "reanchor"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0 to 1")
        require(
            0 <= self.restart_beyond < math.inf, "restart_beyond", self.restart_beyond, "0 (off) and more"
        )
        ordered = len(self.guidance_interval) == 2
        ordered = ordered and 0 <= self.guidance_interval[0] <= self.guidance_interval[1] <= 1
        accepted = "two parts of the steps from 0 to 1, the first not above the second"
        require(ordered, "guidance_interval", self.guidance_interval, accepted)
        self._check_clips()
        check_choices(self)
        for name, values in (
            ("sfm_strength", [self.sfm_strength]),
            ("band_gains", self.band_gains),
            ("sfm_gains", self.sfm_gains),
        ):
            require(all(math.isfinite(value) for value in values), name, getattr(self, name), "numbers")
        if self.wavelet != "haar":
            _require_wavelet(self.wavelet)

    def _check_clips(self) -> None:
        even = self.clip_frames >= 2 and self.clip_frames % 2 == 0
        require(even, "clip_frames", self.clip_frames, "an even number from 2 (the wavelets pair frames)")
        require(self.motion_frames >= 1, "motion_frames", self.motion_frames, "at least 1")
        total = self.clip_frames + self.motion_frames
        limit = constants.MOTION_POSITIONS
        require(total <= limit, "clip_frames + motion_frames", total, f"at most {limit} positions")
        fits = 0 <= self.overlap <= self.clip_frames - max(self.motion_frames, 2)
        require(fits, "overlap", self.overlap, "0 to clip_frames - motion_frames")

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


def _require_wavelet(name: str) -> None:
    import pywt  # loads numpy; the default needs neither

    accepted = 'a name of pywt.wavelist(kind="discrete"), such as haar, db2, sym4'
    require(name in pywt.wavelist(kind="discrete"), "wavelet", name, accepted)


OFFICIAL = SingerOptions()
PAPER = OFFICIAL.but(
    noise_schedule="scaled_linear",
    msm_input="every_step",
    msm_scale="trained_length",
    reference_rows="portrait",
    round_reference=False,
    brighten_bright=False,
)
# What suits the built-in model (docs/model_card.md): the one step that it was trained at, without guidance.
_STEADY = PAPER.but(carry="latents", reanchor=1.0)
BUILT_IN = _STEADY.but(steps=1, reference_scale=1.0, audio_scale=1.0, overlap=2, restart_beyond=0.5)
ENHANCED = _STEADY.but(msm_input="expected", guidance_rescale=0.7, overlap=4, restart_beyond=1.0)

MODES: dict[Mode, SingerOptions] = {"official": OFFICIAL, "paper": PAPER, "enhanced": ENHANCED}

# How fast: changes to any mode (docs/speed.md).
PRESETS: dict[Preset, dict[str, Any]] = {
    "quality": {"steps": 40},
    "balanced": {"steps": 20, "solver": "dpmpp_2m"},
    "fast": {"steps": 10, "solver": "dpmpp_2m", "guidance_interval": (0.0, 0.7)},
    # For distilled networks, which say themselves how many steps.
    "turbo": {"steps": 2, "reference_scale": 1.0, "audio_scale": 1.0},
}


def steps_in_words(count: int) -> str:
    return "one step" if count == 1 else f"{count} steps"


def distilled_warning(made_for: int, steps: int, guided: bool) -> str | None:
    """What is wrong about running a network otherwise than it was made for; None where nothing is."""
    if not made_for or (steps == made_for and not guided):
        return None
    return (
        f"this network was made for {steps_in_words(made_for)} without guidance and gets {steps} "
        f"{'with' if guided else 'without'}, which makes pictures worse. Take {made_for} and a guidance of 1."
    )


@dataclass(frozen=True)
class SamplingSettings:
    """Mode, preset and single options, as a user names them."""

    mode: Mode | None = setting(None, "How the weights are run; see below.")
    preset: Preset | None = setting(None, "How fast, in any mode; see below.")
    steps: int | None = setting(None, "Diffusion steps of a clip (40).", metavar="N")
    cfg: float | None = setting(None, "Guidance towards portrait and song; 1 = none. Authors: 3.5.")
    audio_cfg: float | None = setting(None, "Guidance towards the song alone.")
    seed: int = setting(
        constants.DEFAULT_SEED,
        "Seed of the random numbers; the authors use 42.",
        (0, constants.MAX_SEED),
        parse=lambda text: _seed(text),
    )
    retake: tuple[str, ...] = setting(
        (),
        "Sing some seconds again with another seed, and nothing else; may be given again, for the same "
        "seconds too. Factors on the motion weights may follow: '31.5-34:7 lip 1.2'.",
        metavar="FROM-TO:SEED",
    )
    take: tuple[str, ...] = setting(
        (),
        "Of takes of the same seconds, show this one: 31.5-34=2; 1 is the song's own.",
        metavar="FROM-TO=NUMBER",
    )
    low_memory: bool = setting(
        False, "The reference network waits in main memory, and guidance runs one branch after another."
    )
    compile: bool = setting(
        False, "Generate code for this machine with torch.compile: minutes at first, for long songs."
    )
    set: tuple[str, ...] = setting((), "Change one option of the mode.", metavar="NAME=VALUE")

    def options(self, default: SingerOptions = OFFICIAL, distilled_steps: int = 0) -> SingerOptions:
        """The mode's options, else `default`, with the user's changes; ValueError for a bad name or value.

        distilled_steps  what the network was made for, and runs with where nothing else is asked for
        """
        made_for = {**PRESETS["turbo"], "steps": distilled_steps} if distilled_steps else {}
        named = PRESETS[self.preset] if self.preset else {}
        changes = {**named, **made_for} if self.preset == "turbo" else {**made_for, **named}
        if self.low_memory:
            changes["sequential_guidance"] = True
        if self.steps is not None:
            changes["steps"] = self.steps
        if self.cfg is not None:
            changes |= {"reference_scale": self.cfg, "audio_scale": self.cfg}
        if self.audio_cfg is not None:
            changes["audio_scale"] = self.audio_cfg
        options = MODES[self.mode] if self.mode else default
        for text in self.set:
            name, _, value = text.partition("=")
            changes[name] = _parse_option(options, name, value)
        return options.but(**changes)


def _parse_option(options: SingerOptions, name: str, text: str) -> Any:
    known = [field.name for field in dataclasses.fields(options)]
    if name not in known:
        raise ValueError(f"--set {name}: there is no such option. Known: {', '.join(known)}.")
    current = getattr(options, name)
    try:
        if isinstance(current, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(current, BandGains):
            return BandGains(*(float(part) for part in text.split(",")))
        if isinstance(current, tuple):
            return tuple(float(part) for part in text.split(","))
        return type(current)(text)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"--set {name}={text}: a value like {current!r} is expected.") from error


@dataclass(frozen=True)
class SingerSettings:
    """One singer: the face, the song, how it is sampled and moves."""

    look: PortraitSettings = group(PortraitSettings, "portrait")
    sound: SongSettings = group(SongSettings, "song")
    sampling: SamplingSettings = group(SamplingSettings, "sampling")
    motion: MotionResponse = group(
        MotionResponse, "motion", "weights of the audio attention in three regions, 1 = as trained"
    )


@dataclass(frozen=True)
class RenderSettings(SingerSettings):
    """Everything about a render but its files."""

    work: WorkSettings = group(
        WorkSettings,
        "long songs",
        "finished clips are kept; the same command goes on from them, a changed one uses those it can",
    )
    compute: ComputeSettings = group(ComputeSettings, "computing")
    paste_back: bool = setting(False, "Put the rendered crop back into the whole picture.")
    longest_side: int = setting(
        1920, "Longest side of the video; larger ones, which phones refuse, are scaled down. 0 = no limit."
    )
    preview: Path | None = setting(
        None,
        "Video that can be watched while it grows, clip by clip; after Ctrl-C it is the finished part.",
    )
    plot: Path | None = setting(None, "PNG to write of the song and its motion weights.")
    quiet: bool = setting(False, "No progress bar.")


@dataclass(frozen=True)
class Job:
    """A video to render."""

    portrait: Path = required("Picture of one person.", positional=True, metavar="PORTRAIT")
    song: Path = required("Sound file: wav, mp3, flac, m4a, ...", positional=True, metavar="SONG")
    files: ModelFiles = field(default_factory=ModelFiles)
    how: RenderSettings = field(default_factory=RenderSettings)
    out: Path | None = setting(
        None, "Video to write: .mp4, .mov or .mkv (default: the song's name with .mp4, in this folder)."
    )

    @property
    def video(self) -> Path:
        return self.out or Path(self.song.with_suffix(".mp4").name)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) > constants.MAX_SEED:
        raise ValueError(f"{text!r} is no seed; whole numbers from 0 to {constants.MAX_SEED} are accepted")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    """`512` or `512x768` (width x height) -> (H, W)."""
    width, _, height = text.lower().partition("x")
    try:
        size = int(height or width), int(width)
    except ValueError:
        raise ValueError(f"{text!r} is no size; write 512 or 512x768 (width x height)") from None
    if any(side < constants.SIZE_MULTIPLE or side % constants.SIZE_MULTIPLE for side in size):
        raise ValueError(f"{text!r}: both sides must be multiples of {constants.SIZE_MULTIPLE}")
    return size
