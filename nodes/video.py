"""From latents to a video with sound, of one singer or two, a few frames at a time."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy.sd import VAE
from comfy_api.latest import Input, InputImpl, io, ui
from torch import Tensor

from singer_core.audio.waveform import Waveform, write_wave
from singer_core.files import scratch_folder
from singer_core.portrait.portrait import Portrait
from singer_core.render.canvas import Canvas, bare, capped, in_one_picture, pasted, side_by_side
from singer_core.render.video import VideoWriter
from singer_core.settings import RenderSettings, SongSettings

from .library import needs_library
from .sockets import SingerPortraitType, timing_of, to_waveform, widget

DECODED_BYTES = 200e6  # of pictures that wait in main memory to be written
DECODED_FRAMES = 16  # at most: cancel is heard, and on a CPU core would decode them all at once
LONGEST_SIDE = RenderSettings.longest_side


class SingerVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerVideo",
            display_name="SINGER Video",
            category="SINGER",
            description="Decodes latents while writing them to a video with the song, in constant memory.",
            search_aliases=["create video", "vae decode", "save video", "paste back", "mux audio"],
            inputs=[
                io.Latent.Input("latent", tooltip="Latents of all frames (frames, 4, h, w)."),
                io.Vae.Input("vae", tooltip="The VAE that the portrait was encoded with."),
                io.Audio.Input("audio", optional=True, tooltip="Sound of the video, usually the whole song."),
                SingerPortraitType.Input(
                    "portrait",
                    optional=True,
                    tooltip="Connected: every frame is pasted back into the original picture, and is as "
                    "sharp as that where it shows the same.",
                ),
                *_widgets(),
            ],
            outputs=[_output()],
        )

    @classmethod
    @needs_library
    def execute(
        cls,
        latent: Input.Latent,
        vae: VAE,
        fps: float,
        audio_start: float,
        crf: int,
        audio: Input.Audio | None = None,
        portrait: Portrait | None = None,
        longest_side: int = LONGEST_SIDE,
    ) -> io.NodeOutput:
        samples = latent["samples"]
        canvas = capped(canvas_of(samples, vae, portrait), longest_side)
        rate, start = seen_at([latent], fps, audio_start)
        return shown(write_video([samples], canvas, vae, rate, crf, audio, start))


class SingerDuetVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerDuetVideo",
            display_name="SINGER Duet Video",
            category="SINGER",
            description="Puts two singers into one video: side by side, or both back into one picture.",
            search_aliases=["duet", "two singers", "two faces", "side by side", "stitch videos", "dialogue"],
            inputs=[
                io.Latent.Input("first", tooltip="Latents of the first singer, (frames, 4, h, w): the left."),
                io.Latent.Input(
                    "second", tooltip="Latents of the second, as many; sampled with a stem of their own."
                ),
                io.Vae.Input("vae", tooltip="The VAE that both portraits were encoded with."),
                io.Audio.Input("audio", optional=True, tooltip="Sound of the video: the mix of both voices."),
                SingerPortraitType.Input(
                    "first_portrait",
                    optional=True,
                    tooltip="Connected: the first singer is pasted back into the original picture. Two "
                    "portraits of one picture sing in it together.",
                ),
                SingerPortraitType.Input(
                    "second_portrait", optional=True, tooltip="The same for the second singer."
                ),
                *_widgets(),
            ],
            outputs=[_output()],
        )

    @classmethod
    @needs_library
    def execute(
        cls,
        first: Input.Latent,
        second: Input.Latent,
        vae: VAE,
        fps: float,
        audio_start: float,
        crf: int,
        audio: Input.Audio | None = None,
        first_portrait: Portrait | None = None,
        second_portrait: Portrait | None = None,
        longest_side: int = LONGEST_SIDE,
    ) -> io.NodeOutput:
        latents = [first["samples"], second["samples"]]
        canvas = capped(canvas_of_two(latents, vae, first_portrait, second_portrait), longest_side)
        rate, start = seen_at([first, second], fps, audio_start)
        return shown(write_video(latents, canvas, vae, rate, crf, audio, start))


def _widgets() -> list[io.Input]:
    return [
        widget(
            SongSettings,
            "fps",
            default=0.0,
            min=0.0,
            tooltip="Frames per second; 0 = those of `Encode SINGER Audio`, which the latents know.",
        ),
        io.Float.Input(
            "audio_start",
            default=-1.0,
            min=-1.0,
            max=100_000.0,
            step=0.01,
            advanced=True,
            tooltip="Seconds of the sound that are skipped; -1 = those before the first frame, which the "
            "latents know.",
        ),
        io.Int.Input(
            "crf",
            default=18,
            min=0,
            max=51,
            advanced=True,
            tooltip="H.264 quality: 0 = lossless, 18 = looks lossless, 51 = worst.",
        ),
        widget(RenderSettings, "longest_side", min=0, max=16384, optional=True, advanced=True),
    ]


def _output() -> io.Output:
    return io.Video.Output(display_name="video", tooltip="H.264 with AAC, for `Save Video`.")


def seen_at(latents: Sequence[Input.Latent], fps: float, audio_start: float) -> tuple[float, float]:
    """(frames a second, seconds of the sound before the first): of the widgets, or what the latents say.

    Raises ValueError where they contradict each other.
    """
    timings = {timing for one in latents if (timing := timing_of(one)) is not None}
    if len(timings) > 1:
        said = " and ".join(f"from frame {first} at {rate:g} fps" for rate, first in sorted(timings))
        raise ValueError(
            f"The singers do not sing at one time: {said}. Give both conditionings one `first_frame` and "
            "both audio encodings one `fps`."
        )
    if not timings:
        if fps == 0:
            raise ValueError(
                "The latents do not say their frame rate. Set `fps` as in `Encode SINGER Audio`."
            )
        return fps, max(audio_start, 0.0)
    (timing,) = timings
    start = timing.first / timing.fps
    if fps and abs(fps - timing.fps) >= 0.01:
        raise ValueError(
            f"`fps` is {fps:g}; the latents are for {timing.fps:g} frames a second, as `Encode SINGER Audio` "
            "says. Set `fps` to 0, which takes that."
        )
    if audio_start >= 0 and abs(audio_start - start) > 0.5 / timing.fps:
        raise ValueError(
            f"`audio_start` is {audio_start:g} s; the latents begin at frame {timing.first}, {start:.2f} s "
            "into the song. Set `audio_start` to -1, which takes that, and connect the whole song to `audio`."
        )
    return timing.fps, start


def write_video(
    latents: Sequence[Tensor],
    canvas: Canvas,
    vae: VAE,
    fps: float,
    crf: int,
    audio: Input.Audio | None,
    audio_start: float,
) -> Path:
    """A video of one singer or several, latents (frames, 4, h, w) each, put together by the canvas.

    It lies in ComfyUI's temporary folder. Raises ValueError where they are not equally long.
    """
    frames, folder = len(latents[0]), Path(folder_paths.get_temp_directory())
    if any(len(one) != frames for one in latents):
        raise ValueError(
            f"The singers have {' and '.join(str(len(one)) for one in latents)} frames. Sample all of them "
            "over the same song: stems of one length."
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"singer_{secrets.token_hex(8)}.mp4"
    bar = comfy.utils.ProgressBar(frames)
    with tempfile.TemporaryDirectory(prefix="singer-", dir=scratch_folder()) as scratch:
        sound = audio and write_wave(Path(scratch) / "song.wav", sound_from(audio, audio_start))
        with VideoWriter(path, canvas.size, fps, frames=frames, audio=sound, crf=crf) as writer:
            count = decoded_at_once(vae, latents)
            for parts in zip(*(one.split(count) for one in latents), strict=True):
                comfy.model_management.throw_exception_if_processing_interrupted()
                # f H W C -> f C H W
                decoded = [vae.decode(part).movedim(-1, 1).float().cpu() for part in parts]
                for shown in zip(*decoded, strict=True):
                    writer.write(canvas.compose(shown)[None])
                bar.update(len(parts[0]))
    return path


def shown(path: Path) -> io.NodeOutput:
    """A file of ComfyUI's temporary folder as VIDEO, played in the node."""
    return io.NodeOutput(InputImpl.VideoFromFile(str(path)), ui=player(path))


def player(path: Path) -> ui.PreviewVideo:
    return ui.PreviewVideo([ui.SavedResult(path.name, "", io.FolderType.temp)])


def decoded_at_once(vae: VAE, latents: Sequence[Tensor]) -> int:
    """How many frames `vae.decode` is given: core splits them by the free memory of the VAE's device."""
    scale = vae.spacial_compression_decode()
    pixels = sum(one.shape[-2] * one.shape[-1] * scale**2 for one in latents)
    return max(1, min(int(DECODED_BYTES / (3 * 4 * pixels)), DECODED_FRAMES))


def canvas_of(latents: Tensor, vae: VAE, portrait: Portrait | None, socket: str = "portrait") -> Canvas:
    """Frames as they are, or pasted back. Raises ValueError where the portrait has another size."""
    scale = vae.spacial_compression_decode()
    size = (latents.shape[-2] * scale, latents.shape[-1] * scale)
    if portrait is None:
        return bare(size)
    if portrait.original is None or portrait.crop.size != size:
        raise ValueError(
            f"`{socket}` was prepared for {portrait.crop.size[1]} x {portrait.crop.size[0]} pixels, the "
            f"latents are {size[1]} x {size[0]}. Connect the portrait that was sampled, or none."
        )
    return pasted(portrait)


def canvas_of_two(
    latents: Sequence[Tensor], vae: VAE, first: Portrait | None, second: Portrait | None
) -> Canvas:
    """Side by side, or back in the picture that both portraits are from."""
    left = canvas_of(latents[0], vae, first, socket="first_portrait")
    right = canvas_of(latents[1], vae, second, socket="second_portrait")
    if first is not None and second is not None and _of_one_picture(first, second):
        return in_one_picture(first, second)
    return side_by_side(left, right)


def _of_one_picture(first: Portrait, second: Portrait) -> bool:
    left, right = first.original, second.original
    return left is not None and right is not None and torch.equal(left, right)


def sound_from(audio: Input.Audio, start: float) -> Waveform:
    """The sound without its first `start` seconds. Raises ValueError where nothing is left."""
    waveform = to_waveform(audio, "audio")
    first = round(start * waveform.rate)
    if first >= waveform.length:
        raise ValueError(
            f"`audio_start` is {start} s; the sound has {waveform.seconds:.2f} s. Choose an earlier start."
        )
    return Waveform(waveform.samples[:, first:], waveform.rate, waveform.mapped)
