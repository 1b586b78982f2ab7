"""What `Sample SINGER Video` shows while it samples: the finished seconds, as a video that grows.

The video lies in ComfyUI's temporary folder. Core tells the editor what a node has put out when it is done;
here it is told so before, too, but seldom: what is shown begins anew each time, so it is left alone until it
could have been seen twice. In words, core's text of progress says how far the song is.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import folder_paths
import torch
from comfy.sd import VAE
from comfy_api.latest import Input, ui
from comfy_execution.utils import get_executing_context
from torch import Tensor

from singer_core.audio.waveform import Waveform, write_wave
from singer_core.files import scratch_folder
from singer_core.render.preview import Pace, loudness_of, minutes, strip
from singer_core.render.song import FinishedClip
from singer_core.render.video import VideoWriter, probe_video, read_frames

from .said import say, server
from .video import canvas_of, decoded_at_once, player, sound_from

SECONDS = 5  # that the video is left alone at least
STRIP = 8  # the picture of the sound is so many times lower than that below it


def _new_file() -> Path:
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"singer_preview_{secrets.token_hex(8)}.mp4"


@dataclass(frozen=True)
class Preview:
    """A video of the finished part of a song, with its audio and a picture of that where it is given."""

    vae: VAE
    audio: Input.Audio | None
    path: Path = field(default_factory=_new_file)

    def of(
        self, song: Iterator[FinishedClip], latents: Tensor, start: int, fps: float, clips: int
    ) -> Generator[FinishedClip, None, None]:
        """The clips of a song, each written and shown before it is handed on.

        latents  (frames, 4, h, w) as many as there will be, of that size
        start    frame of the audio that is the first
        clips    as many there will be
        """
        size, frames = canvas_of(latents, self.vae, None).size, len(latents)
        sound = self._sound(start / fps, frames / fps)
        levels = torch.zeros(0) if sound is None else loudness_of(sound, size[1])
        pace, seen, reached, left = Pace(), 0.0, "", clips
        try:
            with _growing(self.path, size, fps, frames, sound) as writer:
                for done in song:
                    for part in done.latents[: done.frames].split(decoded_at_once(self.vae, [latents])):
                        writer.write(_below(self.vae.decode(part), levels, (done.stop - start) / frames))
                    count, sung = done.clip.index + 1, minutes(writer.written / fps)
                    reached = f"{sung} of {minutes(frames / fps)}, clip {count} of {clips}"
                    left = clips - count
                    say(f"{reached}, {minutes(pace.left(left))} left" if left else reached)
                    if time.monotonic() > seen:
                        self.show()
                        seen = time.monotonic() + max(2 * writer.written / fps, SECONDS)
                    yield done
        finally:
            if reached and left:
                say(f"Stopped at {reached}.")
            if sound is not None and self.path.exists():
                _coloured(self.path, levels, fps, frames)
            self.show()

    def _sound(self, start: float, seconds: float) -> Waveform | None:
        if self.audio is None:
            return None
        sound = sound_from(self.audio, start)
        return Waveform(sound.block(0, round(seconds * sound.rate)), sound.rate)

    def show(self) -> None:
        """Have the editor show the video as it is now."""
        running = get_executing_context()
        if running is None or not self.path.exists():
            return
        editor = server()
        if editor is not None and editor.client_id is not None:
            told = {"node": running.node_id, "display_node": running.node_id, "prompt_id": running.prompt_id}
            editor.send_sync("executed", {**told, "output": self.output().as_dict()}, editor.client_id)

    def output(self) -> ui.PreviewVideo:
        return player(self.path)


@contextlib.contextmanager
def _growing(
    path: Path, size: tuple[int, int], fps: float, frames: int, sound: Waveform | None
) -> Iterator[VideoWriter]:
    """A writer of the pictures, with the sound and a picture of it above them where there is one."""
    with tempfile.TemporaryDirectory(prefix="singer-", dir=scratch_folder()) as scratch:
        audio = None if sound is None else write_wave(Path(scratch) / "song.wav", sound)
        high, wide = size
        high += 0 if sound is None else high // STRIP
        with VideoWriter(path, (high, wide), fps, frames=frames, audio=audio, growing=True) as writer:
            yield writer


def _below(pictures: Tensor, levels: Tensor, done: float) -> Tensor:
    """Pictures (f, H, W, 3) as (f, 3, strip + H, W), below that of the sound, if its `levels` are known."""
    pictures = pictures.movedim(-1, 1).float().cpu()
    if not len(levels):
        return pictures
    above = strip(levels, pictures.shape[-2] // STRIP, done)  # a player's buttons lie over the lower edge
    return torch.cat([above.expand(len(pictures), -1, -1, -1), pictures], dim=-2)


def _coloured(video: Path, levels: Tensor, fps: float, frames: int) -> None:
    """Colour the sound in every frame as in the last: a player stands at the first."""
    info = probe_video(video)
    above = strip(levels, info.size[0] // (STRIP + 1), info.frames / frames)
    with VideoWriter(video, info.size, fps, frames=info.frames, audio=video) as writer:
        for picture in read_frames(video):
            writer.write(torch.cat([above, picture[:, above.shape[1] :] / 255], dim=1)[None])
