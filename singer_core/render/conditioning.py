"""What a network is told of a portrait and of a clip of the song."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .. import constants
from ..audio.features import AudioFeatures
from ..network.adapter import SingerAdapter, audio_windows
from ..network.architecture import Architecture
from ..network.conditions import AudioTokens, ClipConditions, ReferenceFeatures
from ..portrait.crop import LIPS_AT
from ..portrait.identity import identity_for
from ..portrait.masks import middle
from ..portrait.portrait import MARGIN, Portrait
from ..settings import SingerOptions
from .clips import Clip
from .sampler import branches_for
from .song import rest_at

# How far from its place in an exact crop a mouth may lie, and how large (67 %) a face may be, in sides.
ASTRAY, FACE_SHARE = 0.05, (0.5, 0.75)


class Network(Protocol):
    """The part of `SingerNetwork` that conditions are made with; ComfyUI's nodes have another of it."""

    @property
    def adapter(self) -> SingerAdapter: ...

    @property
    def architecture(self) -> Architecture: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def reference_features(
        self, latents: Tensor, tokens: Tensor, *, rounded_to: torch.dtype | None = None
    ) -> ReferenceFeatures: ...


@dataclass(frozen=True)
class PortraitConditions:
    """What the network is told of the portrait, the same for all clips; on the network's device.

    tokens        (2, 1, n, d) image tokens [without identity, with it]
    masks         per level (3, 1, n)
    face          (1, c, h, w) face-locator features
    pixels        (3, H, W) in [-1, 1]
    outside_lips  (h, w) in [0, 1]: everything but the mouth
    """

    tokens: Tensor
    masks: tuple[Tensor, ...]
    face: Tensor
    pixels: Tensor
    outside_lips: Tensor


@torch.no_grad()
def portrait_conditions(network: Network, portrait: Portrait) -> PortraitConditions:
    """Tokens, face features, masks and pixels of a portrait; without identity the embedding is 0.

    Raises as `check_size`.
    """
    check_size(network.architecture, portrait)
    adapter, device, dtype = network.adapter, network.device, network.dtype
    identity = identity_for(portrait, network.architecture.identity_width)
    embeddings = torch.stack([torch.zeros_like(identity), identity]).to(device, dtype)
    shown = portrait.locator_input(network.architecture.locator_input).to(device, dtype)
    return PortraitConditions(
        tokens=adapter.image_projection(embeddings)[:, None],
        masks=tuple(mask[:, None].to(device, dtype) for mask in portrait.masks),
        face=adapter.face_locator(shown),
        pixels=portrait.image.to(device) * 2 - 1,
        outside_lips=1 - portrait.lips.to(device, dtype),
    )


def check_size(architecture: Architecture, portrait: Portrait) -> None:
    """Raises ValueError where a network that moves the portrait was trained for another size."""
    size, trained = tuple(portrait.image.shape[-2:]), tuple(architecture.trained_size)
    if architecture.predicts == "motion" and size != trained:
        raise ValueError(
            f"The portrait has {size[1]} x {size[0]} pixels; this model sings {trained[1]} x {trained[0]} "
            "only. Prepare the portrait at that size."
        )


def framing_warning(architecture: Architecture, portrait: Portrait) -> str | None:
    """Why a network that moves the portrait will sing this one badly: it learnt where mouths are.

    None where nothing is wrong, and for other networks.
    """
    if architecture.predicts != "motion":
        return None
    face = portrait.region > 0.5
    y, x = middle(portrait.lips)
    right, down = x - LIPS_AT[0], y - LIPS_AT[1]
    share = max(float(face.any(dim).float().mean()) for dim in (0, 1))
    if max(abs(right), abs(down)) <= ASTRAY and FACE_SHARE[0] <= share <= FACE_SHARE[1]:
        return None
    return (
        f"set `crop` to exact and `margin` to {MARGIN}: the mouth is {right:+.0%} right and {down:+.0%} down "
        f"of where this model learnt mouths, the face's box {share:.0%} of the picture, not 67 %; it sings "
        "such portraits badly."
    )


@torch.no_grad()
def audio_tokens(network: Network, audio: AudioFeatures, clip: Clip) -> Tensor:
    """Audio tokens of a clip before the MSM, (f, m, d)."""
    expected = network.architecture.frame_features
    if audio.features[0].numel() != expected:
        raise ValueError(
            f"The audio features have {tuple(audio.features.shape[1:])} values a frame; this checkpoint "
            f"reads {expected}. Encode the song with the front end that the checkpoint was trained with."
        )
    windows = audio_windows(audio.features, clip.start, clip.stop, network.architecture.audio_past)
    return network.adapter.audio_projection(windows.to(network.device, network.dtype))


@torch.no_grad()
def clip_conditions(
    network: Network,
    options: SingerOptions,
    portrait: PortraitConditions,
    heard: Tensor,
    reference_latents: Tensor,
    weights: Tensor | None = None,
) -> ClipConditions:
    """What a clip is conditioned on; runs the reference UNet.

    heard              (f, m, d) audio tokens before the MSM
    reference_latents  (1 + motion_frames, 4, h, w): portrait, carried frames
    weights            (f, 3), None = 1
    Raises ValueError where the latents are of another network's VAE.
    """
    given, read = reference_latents.shape[1], network.architecture.latent_channels
    if given != read:
        raise ValueError(
            f"The VAE gives latents of {given} channels; this network reads {read}. Take the VAE that it was "
            "trained with."
        )
    both = options.reference_rows == "alternating" and options.guided
    return ClipConditions(
        branches=branches_for(options),
        frames=len(heard),
        audio=AudioTokens(heard),
        masks=portrait.masks,
        weights=(torch.ones(1, 3) if weights is None else weights).to(portrait.face),
        face=portrait.face,
        reference=network.reference_features(
            reference_latents[None].to(network.dtype),
            portrait.tokens if both else portrait.tokens[1:],
            rounded_to=torch.float16 if options.round_reference else None,
        ),
        sfm_strength=options.sfm_strength,
        sfm_gains=tuple(options.sfm_gains),
    )


def own_part(
    audio: AudioFeatures, weights: Tensor | None, options: SingerOptions, clip: Clip, past: int
) -> tuple[Tensor, Tensor | None, float]:
    """What a clip has of its own in the song: for its key. Nothing says where in the song it is.

    past  frames before each that the network hears
    """
    heard = torch.arange(clip.start - past, clip.stop + constants.AUDIO_REACH)
    rest = rest_at(options, audio.activity, clip) if clip.index else 0.0
    return audio.features[heard.clamp(0, len(audio.features) - 1)], rows_of(weights, clip), rest


def rows_of(weights: Tensor | None, clip: Clip) -> Tensor | None:
    """(f, 3) motion weights of a clip; beyond the song's end those of its last frame."""
    if weights is None:
        return None
    return weights[torch.arange(clip.start, clip.stop).clamp_max(len(weights) - 1)]
