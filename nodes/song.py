"""Conditioning of a song: what the conditioning node makes, and how it is cut to the clips of a long run."""

from __future__ import annotations

from typing import Any

import comfy.model_management as mm
import torch
from torch import Tensor

from singer_core import constants
from singer_core.audio.features import AudioFeatures
from singer_core.network.conditions import CONDITIONAL, UNCONDITIONAL, Branch
from singer_core.portrait.portrait import Portrait
from singer_core.render.run import SongConditions

from .sockets import BRANCH, SONG

Conditioning = list[tuple[None, dict[str, Any]]]


def frames_from(audio: AudioFeatures, first: int, length: int) -> int:
    """How many frames of the song to make. Raises ValueError where they lie outside it."""
    left = audio.frames - first
    if left <= 0:
        raise ValueError(f"`first_frame` is {first}; the song has {audio.frames} frames. Choose a lower one.")
    if length > left + left % 2:
        raise ValueError(
            f"`length` is {length}; from frame {first} on the song has {left} frames. Set 0 for all of them."
        )
    return length or left


def empty_latents(portrait: Portrait, frames: int) -> Tensor:
    """Zeros (frames, 4, h, w) of the portrait's size, in the memory of one frame."""
    h, w = (side // constants.VAE_STRIDE for side in portrait.image.shape[-2:])
    zeros = torch.zeros(1, constants.LATENT_CHANNELS, h, w, device=mm.intermediate_device())
    return zeros.expand(frames, -1, -1, -1)


def condition_song(
    vae: Any,
    portrait: Portrait,
    audio: AudioFeatures,
    start: int,
    weights: Tensor | None,
    previous: Tensor | None,
    motion_frames: int,
    brighten: bool,
) -> tuple[Conditioning, Conditioning]:
    """(positive, negative), which share one song. `previous` IMAGE (k, H, W, 3) are the frames before it."""
    song = SongConditions(
        portrait,
        audio,
        encode_references(vae, portrait, _last(previous, portrait, motion_frames), motion_frames, brighten),
        start,
        weights,
        brighten,
    )
    return _entry(song, CONDITIONAL), _entry(song, UNCONDITIONAL)


def encode_references(
    vae: Any, portrait: Portrait, carried: Tensor | None, motion_frames: int, brighten: bool
) -> Tensor:
    """Unscaled latents (1 + motion_frames, 4, h, w) of [portrait, carried frames].

    carried  IMAGE (motion_frames, H, W, 3); None = the portrait, standing still
    """
    picture = portrait.image.permute(1, 2, 0)[None]  # C H W -> 1 H W C
    if carried is None:
        return _encode(vae, picture, brighten).expand(1 + motion_frames, -1, -1, -1)
    return _encode(vae, torch.cat([picture, carried.to(picture)]), brighten)


def cut_conds(
    conds: dict[str, list[dict[str, Any]]], song: SongConditions, rows: Tensor, frames: int
) -> dict[str, list[dict[str, Any]]]:
    """A guider's conditions for one clip.

    song    what the clip sings, in place of the whole
    rows    frames of the clip, in the run
    frames  of the run; tensors and ControlNet hints with so many rows are cut
    """
    controls: dict[int, Any] = {}  # both sides share one, or core would not run them as one batch
    return {name: [_cut(cond, song, rows, frames, controls) for cond in part] for name, part in conds.items()}


def _cut(
    cond: dict[str, Any], song: SongConditions, rows: Tensor, frames: int, controls: dict[int, Any]
) -> dict[str, Any]:
    out = {key: _rows(value, rows, frames) for key, value in cond.items()}
    if "control" in out:
        out["control"] = _cut_control(out["control"], rows, frames, controls)
    if SONG in out:
        out[SONG] = song
    return out


def _cut_control(control: Any, rows: Tensor, frames: int, controls: dict[int, Any]) -> Any:
    """A copy of a chain of ControlNets that shows the clip's frames; one copy of each."""
    if id(control) not in controls:
        copy = controls[id(control)] = control.copy()
        copy.cond_hint_original = _rows(control.cond_hint_original, rows, frames)
        if control.previous_controlnet is not None:
            copy.set_previous_controlnet(_cut_control(control.previous_controlnet, rows, frames, controls))
    return controls[id(control)]


def _rows(value: Any, rows: Tensor, frames: int) -> Any:
    if isinstance(value, Tensor) and value.ndim > 1 and len(value) == frames:
        return value[rows.to(value.device)]
    return value


def _entry(song: SongConditions, branch: Branch) -> Conditioning:
    return [(None, {SONG: song, BRANCH: branch})]


def _encode(vae: Any, pixels: Tensor, brighten: bool) -> Tensor:
    """IMAGE (k, H, W, 3) -> latents (k, 4, h, w)."""
    if brighten and pixels.min() >= 0.5:
        pixels = pixels * 2 - 1  # taken for [-1, 1] by the authors' pre-processing (numerics section 13)
    return vae.encode(pixels)


def _last(previous: Tensor | None, portrait: Portrait, count: int) -> Tensor | None:
    if previous is None:
        return None
    size = (portrait.image.shape[1], portrait.image.shape[2])
    if tuple(previous.shape[1:3]) != size or len(previous) < count:
        raise ValueError(
            f"`previous_frames` are {len(previous)} pictures of {previous.shape[2]} x {previous.shape[1]}; "
            f"at least {count} of the portrait's {size[1]} x {size[0]} are needed. Connect decoded frames of "
            "this portrait, before paste-back."
        )
    return previous[-count:, ..., :3]
