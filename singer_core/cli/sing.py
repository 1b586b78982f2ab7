"""`singer sing`: portrait + song + checkpoint -> video."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .. import constants
from ..settings import MODES, OFFICIAL, PAPER, PRESETS, BandGains, SingerOptions
from . import inputs
from .film import Film, add_work_arguments, plan_film, write_film

if TYPE_CHECKING:
    import torch

    from ..audio.features import AudioFeatures
    from ..audio.logmel import LogMelFrontEnd
    from ..audio.wav2vec2 import Wav2Vec2FrontEnd
    from ..network.backbone import SingerNetwork
    from ..network.checkpoint import Checkpoint
    from ..portrait.portrait import Portrait

logger = logging.getLogger(__name__)

Loaded = dict[str, tuple[object, Any]]  # name -> what it was loaded from, what was loaded

DESCRIPTION = """
Render PORTRAIT singing SONG. The video (H.264 + AAC) has exactly ceil(seconds * fps) frames and the song's
own sound; it is written while it is generated, so memory does not grow with the song, and it appears under
its name only when it is complete. Finished clips are kept until then: after Ctrl-C, a crash or a reboot the
same command goes on where it was, and gives the same file.

The face comes from --landmarks, or from --face-mask and --lip-mask.
"""

EPILOG = """
modes:
  official   the authors' numbers, oddities included (default for the published weights)
  paper      what the paper describes (default for weights trained here)
  enhanced   what looks best without retraining
Every difference between them is an option; docs/modes.md lists them. --set changes one, for example
--set msm_input=expected --set band_gains=1,1.2,1,1

presets:
  quality    40 steps of DDIM, the authors'
  balanced   20 steps of DPM-Solver++(2M)
  fast       10 of them, of which the last three run without guidance
docs/speed.md says what each costs and how far it is from quality.

files (README.md says where to get them):
  --checkpoint  net.pth of SINGER or Hallo, its safetensors conversion, or a small model in that layout
  --vae         sd-vae-ft-mse: a safetensors file or a diffusers folder
  --wav2vec2    wav2vec2-base-960h: a folder or a file; small models read log-mel energies and need none

example:
  singer sing portrait.png song.mp3 --checkpoint net.pth --vae sd-vae-ft-mse.safetensors \\
      --wav2vec2 wav2vec2-base-960h --landmarks face.json --mode enhanced --steps 20 --out singing.mp4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("portrait", metavar="PORTRAIT", type=Path, help="picture of one person")
    parser.add_argument("song", metavar="SONG", type=Path, help="sound file: wav, mp3, flac, m4a, ...")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="video to write: .mp4, .mov or .mkv (default: the song's name with .mp4, in this folder)",
    )
    add_file_arguments(parser)
    add_render_arguments(parser)


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """The networks."""
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="FILE", help="the network's weights"
    )
    parser.add_argument("--vae", type=Path, required=True, metavar="PATH", help="the VAE's weights")
    parser.add_argument("--wav2vec2", type=Path, metavar="PATH", help="the audio encoder's weights")


def add_render_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything but the files: what of the portrait and the song is used, and how it is sampled."""
    inputs.add_portrait_arguments(parser)
    inputs.add_song_arguments(parser)
    add_sampling_arguments(parser)
    add_work_arguments(parser)
    inputs.add_device_arguments(parser)
    parser.add_argument(
        "--paste-back", action="store_true", help="put the rendered crop back into the whole picture"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Mode, options, seed and motion."""
    group = parser.add_argument_group("sampling")
    group.add_argument("--mode", choices=tuple(MODES), help="see below")
    group.add_argument("--preset", choices=tuple(PRESETS), help="how fast, in any mode; see below")
    group.add_argument("--steps", type=int, metavar="N", help="diffusion steps of a clip (40)")
    group.add_argument(
        "--cfg", type=float, metavar="X", help="guidance scale towards portrait and song (3.5)"
    )
    group.add_argument("--audio-cfg", type=float, metavar="X", help="guidance scale towards the song alone")
    group.add_argument(
        "--seed", type=int, default=constants.DEFAULT_SEED, metavar="N", help="of the noise (42)"
    )
    group.add_argument(
        "--low-memory",
        action="store_true",
        help="the reference network waits in main memory, and guidance runs one branch after another",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="generate code for this machine with torch.compile: minutes at first, for long songs",
    )
    group.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change one option of the mode"
    )
    weights = parser.add_argument_group(
        "motion", "weights of the audio attention in three regions, 1 = as trained"
    )
    for region in ("pose", "face", "lip"):
        weights.add_argument(f"--{region}", type=float, default=1.0, metavar="X", help=f"{region} weight (1)")
    weights.add_argument(
        "--beat", type=float, default=0.0, metavar="X", help="more pose weight on beats by this part (0)"
    )
    weights.add_argument(
        "--loudness", type=float, default=0.0, metavar="X", help="0 to 1: face weight follows loudness (0)"
    )
    weights.add_argument(
        "--silence",
        type=float,
        default=0.0,
        metavar="X",
        help="0 to 1: lip weight sinks where nothing is sung (0)",
    )
    weights.add_argument("--plot", type=Path, metavar="FILE", help="PNG to write of the song and the weights")


class Parser(argparse.ArgumentParser):
    """Raises ValueError where others print and exit: for arguments from elsewhere than a command line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def run(args: argparse.Namespace, default: SingerOptions | None = None) -> int:
    """`default`: the options where no --mode is given; None = what the checkpoint was trained for."""
    film, out = prepare(args, {}, default)
    write_film(film, out, args)
    return 0


def prepare(
    args: argparse.Namespace, loaded: Loaded, default: SingerOptions | None = None, seconds: float = 0.0
) -> tuple[Film, Path]:
    """Everything up to the first diffusion step, and the video's path.

    loaded   networks of the job before, which are used again where the arguments name the same
    seconds  how long the film is at least: behind a shorter song it is silent
    """
    from ..audio.activity import with_activity
    from ..audio.waveform import probe_audio
    from ..network.autoencoder import load_autoencoder
    from ..network.checkpoint import open_checkpoint
    from ..render.pipeline import SingerPipeline
    from ..render.video import check_output

    options_from(args, default or OFFICIAL)  # says what is wrong before anything is read
    out = check_output(args.out or Path(args.song.with_suffix(".mp4").name))
    probe_audio(args.song)
    device = inputs.choose_device(args.device)
    dtype = inputs.choose_dtype(args.dtype, device)
    checkpoint = open_checkpoint(args.checkpoint)
    options = options_from(args, default or default_options(checkpoint))
    front_end = choose_front_end(checkpoint, args.wav2vec2)
    portrait = _portrait(checkpoint, args)
    vae = _once(loaded, "vae", (args.vae, dtype, device), lambda: load_autoencoder(args.vae, dtype, device))
    song = _lasting(inputs.read_song(args.song, args, device), seconds)
    network = _once(
        loaded,
        "network",
        (args.checkpoint, dtype, device, args.low_memory, args.compile),
        lambda: _load_network(checkpoint, dtype, device, args),
    )
    audio = _encode(front_end, song, args, options, device)
    if options.reanchor or args.sections:
        audio = with_activity(audio, song.vocals)
    pipeline = SingerPipeline(network, vae, options)
    return plan_film(pipeline, portrait, audio, _motion(args, song, audio), args), out


def _once(loaded: Loaded, name: str, key: object, load: Callable[[], Any]) -> Any:
    """What `load` gives, or gave for the same key the last time; one of each name is kept."""
    if loaded.get(name, (None,))[0] != key:
        loaded.pop(name, None)  # before the next one needs the memory
        loaded[name] = (key, load())
    return loaded[name][1]


def _load_network(
    checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device, args: argparse.Namespace
) -> SingerNetwork:
    from ..network.checkpoint import load_network

    network = load_network(checkpoint, dtype, device)
    if args.low_memory:
        network.keep_reference_aside()
    if args.compile:
        network.compile(dynamic=False)
    return network


def _lasting(song: inputs.Song, seconds: float) -> inputs.Song:
    """The song with silence behind it where it is shorter."""
    from ..audio.waveform import Waveform

    missing = round(seconds * song.vocals.rate) - song.vocals.length
    if missing <= 0:
        return song
    vocals, mix = (Waveform(x.block(0, x.length + missing), x.rate) for x in (song.vocals, song.mix))
    return inputs.Song(vocals, mix)


def _portrait(checkpoint: Checkpoint, args: argparse.Namespace) -> Portrait:
    arch = checkpoint.architecture
    size = args.size or arch.trained_size
    if size != arch.trained_size:
        height, width = arch.trained_size
        logger.warning("This checkpoint is exact at %d x %d; other sizes are an extension.", width, height)
    return inputs.read_portrait(args.portrait, args, size, arch.identity_width)


def default_options(checkpoint: Checkpoint) -> SingerOptions:
    """Mode `paper` for weights trained with its noise schedule and MSM scale, else `official`."""
    return PAPER if checkpoint.file.metadata.get("singer.recipe") == "matched" else OFFICIAL


def options_from(args: argparse.Namespace, default: SingerOptions = OFFICIAL) -> SingerOptions:
    """The mode's options, else `default`, with the user's changes; ValueError for a bad name or value."""
    changes: dict[str, Any] = dict(PRESETS[args.preset]) if args.preset else {}
    if args.low_memory:
        changes["sequential_guidance"] = True
    if args.steps is not None:
        changes["steps"] = args.steps
    if args.cfg is not None:
        changes |= {"reference_scale": args.cfg, "audio_scale": args.cfg}
    if args.audio_cfg is not None:
        changes["audio_scale"] = args.audio_cfg
    options = MODES[args.mode] if args.mode else default
    for text in args.set:
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


def choose_front_end(checkpoint: Checkpoint, wav2vec2: Path | None) -> Wav2Vec2FrontEnd | LogMelFrontEnd:
    """What turns the song into the features that the checkpoint reads.

    The published width means wav2vec2, any other log-mel energies, unless an encoder is given. Raises
    ValueError where wav2vec2 is needed and not given, or has other widths.
    """
    from ..audio.logmel import LogMelFrontEnd
    from ..audio.wav2vec2 import Wav2Vec2FrontEnd
    from ..network.architecture import Architecture

    needed = checkpoint.architecture.frame_features
    if wav2vec2 is not None:
        encoder = Wav2Vec2FrontEnd.load(wav2vec2)
        if encoder.layers * encoder.width != needed:
            raise ValueError(
                f"{wav2vec2} has {encoder.layers} layers of {encoder.width} values; "
                f"{checkpoint.file.path.name} reads {needed} values a frame. Use the encoder it was trained "
                "with (published weights: wav2vec2-base-960h)."
            )
        return encoder
    if needed == Architecture().frame_features:
        raise ValueError(
            f"{checkpoint.file.path.name} reads wav2vec2 features. Give --wav2vec2 with a folder or file of "
            "wav2vec2-base-960h."
        )
    layers = int(checkpoint.file.metadata.get("singer.audio_layers", 0)) or next(
        n for n in (4, 3, 2, 1) if needed % n == 0
    )
    return LogMelFrontEnd(layers, needed // layers)


def _encode(
    front_end: Wav2Vec2FrontEnd | LogMelFrontEnd,
    song: inputs.Song,
    args: argparse.Namespace,
    options: SingerOptions,
    device: torch.device,
) -> AudioFeatures:
    from .progress import progress_bar

    with progress_bar("listening", 100, "%", args.quiet) as bar:
        return front_end.encode(song.vocals, args.fps, options.clip_frames, device, progress=bar.set_part)


def _motion(args: argparse.Namespace, song: inputs.Song, audio: AudioFeatures) -> torch.Tensor:
    """Pose, face and lip weight of each frame, (s, 3)."""
    from ..audio.activity import loudness_curve, vocal_activity
    from ..audio.motion import MotionResponse, beat_times, motion_weights

    response = MotionResponse(args.pose, args.face, args.lip, args.beat, args.loudness, args.silence)
    beats = beat_times(song.mix) if args.beat else None
    weights = motion_weights(
        audio.frames,
        audio.fps,
        response,
        activity=vocal_activity(song.vocals, audio.fps, audio.frames) if args.silence else None,
        loudness=loudness_curve(song.vocals, audio.fps, audio.frames) if args.loudness else None,
        beats=beats,
    ).tensor
    if args.plot:
        from ..evaluation.song_plot import plot_song

        plot_song(args.plot, song.vocals, audio.fps, beats, weights)
    return weights
