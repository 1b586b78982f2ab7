"""`singer sing`: portrait + song + checkpoint -> video."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .. import marks
from ..demo import files as built_in
from ..downloads import FILES, find_fetched, model_folders
from ..settings import (
    BUILT_IN,
    OFFICIAL,
    PAPER,
    Job,
    ModelFiles,
    RenderSettings,
    SingerOptions,
    distilled_warning,
)
from . import inputs
from .film import Film, canvas_of, plan_film, write_films
from .progress import progress_bar

if TYPE_CHECKING:
    import torch

    from ..audio.features import AudioFeatures
    from ..network.backbone import SingerNetwork
    from ..network.checkpoint import Checkpoint
    from ..portrait.portrait import Portrait

logger = logging.getLogger(__name__)

Made = TypeVar("Made")


class Loaded:
    """What was loaded last by each function, for jobs that want the same again."""

    def __init__(self) -> None:
        self._last: dict[object, tuple[object, Any]] = {}  # function -> what it was given, what it made

    def __call__(self, load: Callable[..., Made], *given: object) -> Made:
        """load(*given), or what it made of the same the last time."""
        if self._last.get(load, (None,))[0] != given:
            self._last.pop(load, None)  # before the next one needs the memory
            self._last[load] = (given, load(*given))
        return self._last[load][1]


DESCRIPTION = """
Render PORTRAIT singing SONG. The video (H.264 + AAC) has exactly ceil(seconds * fps) frames and the song's
own sound; it is written while it is generated, so memory does not grow with the song, and it appears under
its name only when it is complete. Finished clips are kept (in the temporary folder, which some systems empty
at boot, or in --work-dir): after Ctrl-C or a crash the same command goes on where it was, and gives the same
file; a changed song renders what changed.

The face is found, unless --landmarks or --face-mask and --lip-mask say where it is. Networks that are not
named are found, told by their content, in --models DIR, SINGER_MODELS, a ComfyUI around this pack and
~/.cache/singer, where `singer download` puts them; where there are none, the small built-in model sings.
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
  turbo      as many as a distilled network was made for, without guidance; the default for these
docs/speed.md says what each costs and how far it is from quality.

files (README.md says where to get them):
  --checkpoint  net.pth of SINGER or Hallo, its safetensors conversion, or a small model in that layout
  --vae         sd-vae-ft-mse: a safetensors file or a diffusers folder
  --wav2vec2    wav2vec2-base-960h: a folder or a file; small models read log-mel energies and need none

examples:
  singer sing portrait.png song.mp3
  singer sing portrait.png song.mp3 --checkpoint net.pth --vae sd-vae-ft-mse.safetensors \\
      --wav2vec2 wav2vec2-base-960h --mode enhanced --steps 20 --out singing.mp4
"""


Arguments = Job


def run(job: Job) -> int:
    film = prepare(job, Loaded())
    write_films([film], canvas_of(film, job.how), [job.song], job.video, job.how)
    return 0


def prepare(job: Job, loaded: Loaded, song: inputs.Song | None = None) -> Film:
    """Everything up to the first diffusion step.

    loaded  networks of the job before, which are used again where the job names the same
    song    the job's, where it is read already
    """
    from ..audio.activity import with_activity
    from ..audio.waveform import probe_audio
    from ..network.autoencoder import load_autoencoder
    from ..render.pipeline import SingerPipeline

    how = job.how
    how.sampling.options()  # says what is wrong before anything is read
    probe_audio(job.song)
    inputs.check_outputs(job.video, how.preview, job.song)
    device = inputs.choose_device(how.compute.device)
    dtype = inputs.choose_dtype(how.compute.dtype, device)
    checkpoint, vae_file, wav2vec2 = loaded(find_models, job.files, how.sound.models)
    made_for = checkpoint.distilled_steps
    options = how.sampling.options(default_options(checkpoint), made_for)
    if words := distilled_warning(made_for, options.steps, options.guided):
        logger.warning("%s: %s", checkpoint.file.path.name, words)
    front_end = inputs.read_front_end(checkpoint, wav2vec2)
    portrait = _portrait(checkpoint, job)
    vae = loaded(load_autoencoder, vae_file, dtype, device)
    song = song or inputs.read_song(job.song, how.sound, device)
    sampling = (how.sampling.low_memory, how.sampling.compile)
    network = loaded(_load_network, checkpoint, dtype, device, *sampling)
    with progress_bar("listening", 100, "%", how.quiet) as bar:
        audio = front_end.encode(
            song.vocals, how.sound.fps, options.clip_frames, device, progress=bar.set_part
        )
    if options.reanchor or how.work.sections or how.sampling.retake or how.sampling.take:
        audio = with_activity(audio, song.vocals)
    pipeline, weights = SingerPipeline(network, vae, options), _motion(how, song, audio)
    takes = marks.read_takes(
        "\n".join(how.sampling.retake + how.sampling.take), audio.frames, audio.fps, "retake"
    )
    return plan_film(pipeline, portrait, audio, weights, how.sampling.seed, takes, how.work)


def find_models(files: ModelFiles, folders: Sequence[Path]) -> tuple[Checkpoint, Path, Path | None]:
    """Network, VAE and audio encoder: those named, else those found; the built-in ones where one is missing.

    Raises ValueError where a network was named, and its VAE is neither named nor found.
    """
    from ..network.checkpoint import find_network, open_checkpoint

    searched = model_folders(folders)
    network = open_checkpoint(files.checkpoint) if files.checkpoint else find_network(searched)
    published = network is None or network.architecture.reads_wav2vec2
    vae = files.vae or (find_fetched("sd-vae-ft-mse", searched) if published else None)
    wav2vec2 = files.wav2vec2 or (find_fetched("wav2vec2-base-960h", searched) if published else None)
    if files.checkpoint is None and None in (network, vae, wav2vec2):
        found = {"singer": network, "sd-vae-ft-mse": vae, "wav2vec2-base-960h": wav2vec2}
        missing = [name for name, path in found.items() if path is None]
        sizes = ", ".join(FILES[name].size for name in missing)
        print(
            f"singer: the small built-in model sings. For the published one: `singer download "
            f"{' '.join(missing)}` ({sizes}).",
            file=sys.stderr,
        )
        return open_checkpoint(built_in.CHECKPOINT), built_in.VAE, None
    if network is None or vae is None:
        raise ValueError(
            f"{files.checkpoint} needs its VAE, and none is named or found. Give --vae; published networks "
            "need that of `singer download sd-vae-ft-mse`."
        )
    return network, vae, wav2vec2


def _load_network(
    checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device, low_memory: bool, compiled: bool
) -> SingerNetwork:
    from ..network.checkpoint import load_network

    network = load_network(checkpoint, dtype, device)
    if low_memory:
        network.keep_reference_aside()
    if compiled:
        network.compile(dynamic=False)
    return network


def _portrait(checkpoint: Checkpoint, job: Job) -> Portrait:
    from ..render.conditioning import check_size, framing_warning

    arch, look = checkpoint.architecture, job.how.look
    size = look.size or arch.trained_size
    if size != arch.trained_size and arch.predicts != "motion":
        height, width = arch.trained_size
        logger.warning("This checkpoint is exact at %d x %d; other sizes are an extension.", width, height)
    if arch.predicts == "motion" and look.crop == "face":
        look = dataclasses.replace(look, crop="exact")  # it learnt where faces are, not to look for them
    portrait = inputs.read_portrait(job.portrait, look, size, arch.identity_width)
    check_size(arch, portrait)
    if words := framing_warning(arch, portrait):
        logger.warning("%s: %s", job.portrait.name, words)
    return portrait


def default_options(checkpoint: Checkpoint) -> SingerOptions:
    """The built-in model's own; `paper` for weights trained with its schedule and scale, else `official`."""
    if checkpoint.file.path == built_in.CHECKPOINT:
        return BUILT_IN
    return PAPER if checkpoint.file.metadata.get("singer.recipe") in ("matched", "distill") else OFFICIAL


def _motion(how: RenderSettings, song: inputs.Song, audio: AudioFeatures) -> torch.Tensor:
    """Pose, face and lip weight of each frame, (s, 3)."""
    from ..audio.activity import loudness_curve, vocal_activity
    from ..audio.motion import beat_times, motion_weights

    response = dataclasses.replace(how.motion, marks=marks.marks_text(how.motion.marks))
    beats = beat_times(song.mix) if response.beat else None
    weights = motion_weights(
        audio.frames,
        audio.fps,
        response,
        activity=vocal_activity(song.vocals, audio.fps, audio.frames) if response.silence else None,
        loudness=loudness_curve(song.vocals, audio.fps, audio.frames) if response.loudness else None,
        beats=beats,
    )
    if how.plot:
        from ..evaluation.song_plot import plot_song

        plot_song(how.plot, song.vocals, audio.fps, beats, weights)
    return weights
