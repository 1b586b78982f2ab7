"""Checkpoint files: what they are, read from keys and shapes, and how they fill a `SingerNetwork`.

Accepted: `net.pth` of SINGER or Hallo, the same tensors as safetensors, and models of other widths in that
layout. The published names, with upstream's accidents ("hidden_spectral_weighting", a "dct_layer" that holds
no DCT), appear in this file only. Reading bytes is `weights.py`; the published names are listed by
`expected_shapes`.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import constants
from ..files import files_below
from ..weights import WeightFile, open_weights
from .adapter import SingerAdapter
from .architecture import Architecture, unet_shapes
from .layers import MotionModule, Toolkit

if TYPE_CHECKING:
    from .backbone import SingerNetwork

logger = logging.getLogger(__name__)

# Published prefix -> ours. First match wins; the denoising UNet's additions are moved to the adapter.
PREFIXES = (
    ("reference_unet.", "reference_unet."),
    ("denoising_unet.hidden_spectral_weighting.weight", "adapter.self_adaptive_filter.bands.weight"),
    ("denoising_unet.hidden_spectral_weighting.fc.", "adapter.self_adaptive_filter.gate."),
    ("denoising_unet.", "unet."),
    ("face_locator.", "adapter.face_locator."),
    ("portrait_warp.", "adapter.portrait_warp."),
    ("imageproj.", "adapter.image_projection."),
    ("audioproj.", "adapter.audio_projection."),
    ("audioembed.dct_layer.weight", "adapter.multi_scale_spectral.kernel.weight"),
    ("audioembed.fc.", "adapter.multi_scale_spectral.gate."),
)
_SITE_MODULE = re.compile(
    r"denoising_unet\.((?:down|up)_blocks\.\d+|mid_block)\.(audio|motion)_modules\.(\d+)\."
)
_OUR_SITE = re.compile(
    r"adapter\.sites\.((?:down|up)_blocks_\d+|mid_block)_attentions_(\d+)\.(audio|motion)\."
)

SMALLEST_BYTES = 1e9  # of a published network: 1.2 GB with 8 bits a value
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")

VARIANTS = {
    "singer": "SINGER network",
    "hallo": "Hallo network (no MSM, no SFM)",
    "stage1": "stage-1 files (no audio and motion modules)",
}


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint; tensors stay on disk until they are asked for.

    variant       key of VARIANTS
    architecture  every width, from the shapes
    """

    file: WeightFile
    variant: str
    architecture: Architecture

    @property
    def names(self) -> dict[str, str]:
        """Published name -> ours, of every tensor that runs."""
        named = ((key, our_key(key, self.architecture)) for key in self.file.shapes)
        return {key: ours for key, ours in named if ours is not None}

    @property
    def distilled_steps(self) -> int:
        """For how many steps without guidance the network was made, by distillation or at once; 0 = any."""
        return int(self.file.metadata.get("singer.distilled_steps", 0))


def find_network(folders: Iterable[Path]) -> Checkpoint | None:
    """The first published network below the folders: SINGER's or Hallo's, told by keys and shapes."""
    for path in (path for folder in folders for path in files_below(folder)):
        if path.stat().st_size >= SMALLEST_BYTES and path.suffix in SUFFIXES:
            with contextlib.suppress(RuntimeError):
                if (found := open_checkpoint(path)).architecture.reads_wav2vec2:
                    return found
    return None


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint, or a folder with the four stage-1 files.

    Raises FileNotFoundError, and RuntimeError for a file that is not a SINGER or Hallo checkpoint; it names
    what the file looks like, three of the missing keys and the counts.
    """
    file = _open_stage1(path) if path.is_dir() else open_weights(path)
    shapes = file.shapes
    if not all(_has(shapes, part) for part in ("denoising_unet.", "reference_unet.")):
        raise RuntimeError(_wrong_file(path, shapes, expected_shapes(Architecture())))
    try:
        arch = read_architecture(shapes, file.metadata)
    except KeyError as error:
        raise RuntimeError(
            _wrong_file(path, shapes, expected_shapes(Architecture()), first=error.args[0])
        ) from error
    learned_later = (".audio_modules.", ".motion_modules.", "audioproj.")
    stage1 = not any(part in key for key in shapes for part in learned_later)
    variant = "stage1" if stage1 else "singer" if arch.msm_kernel or arch.sfm_width else "hallo"
    if not stage1:
        _check_complete(path, shapes, arch)
    return Checkpoint(file, variant, arch)


def load_network(
    checkpoint: Checkpoint, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> SingerNetwork:
    """The network with the checkpoint's weights, for inference. `dtype` None keeps the file's.

    Weights of the file's own dtype stay memory-mapped on the CPU. Raises RuntimeError for stage-1 files.
    """
    if checkpoint.variant == "stage1":
        raise RuntimeError(
            f"{checkpoint.file.path.name} holds {VARIANTS['stage1']}: a start for training that cannot sing. "
            "Load the `net.pth` of SINGER or Hallo."
        )
    from .backbone import SingerNetwork  # diffusers, which ComfyUI's MODEL does without

    with torch.device("meta"):
        network = SingerNetwork(checkpoint.architecture)
    names = checkpoint.names
    state = {names[key]: value for key, value in checkpoint.file.moved(names, dtype, device)}
    network.load_state_dict(state, assign=True)
    logger.info(
        "%s: %s, %s, %d tensors, %d of modules that inference never runs",
        checkpoint.file.path.name,
        VARIANTS[checkpoint.variant],
        network.dtype,
        len(state),
        len(checkpoint.file.shapes) - len(state),
    )
    return network.eval().requires_grad_(False)


def our_key(published: str, arch: Architecture) -> str | None:
    """Name of a published tensor in `SingerNetwork`; None for the motion modules that the authors never run.

    Those of the lowest level, where there is no spatial transformer, are dead weight (numerics section 2).
    """
    match = _SITE_MODULE.match(published)
    if match:
        block, part, layer = match.groups()
        if block in (f"down_blocks.{arch.levels - 1}", "up_blocks.0"):
            return None
        return f"adapter.sites.{block.replace('.', '_')}_attentions_{layer}.{part}.{published[match.end() :]}"
    for prefix, ours in PREFIXES:
        if published.startswith(prefix):
            return ours + published[len(prefix) :]
    raise KeyError(published)


def published_key(ours: str) -> str:
    """The inverse of `our_key`."""
    match = _OUR_SITE.match(ours)
    if match:
        block, layer, part = match.groups()
        block = re.sub(r"_(\d+)$", r".\1", block)
        return f"denoising_unet.{block}.{part}_modules.{layer}.{ours[match.end() :]}"
    for prefix, name in PREFIXES:
        if ours.startswith(name):
            return prefix + ours[len(name) :]
    raise KeyError(ours)


def expected_shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """Published name -> shape of every tensor of a checkpoint, dead ones included; allocates no weights."""
    with torch.device("meta"):
        adapter = SingerAdapter(arch, Toolkit())
        dead = MotionModule(arch.channels[-1], constants.MOTION_HEADS, Toolkit())
    ours = {f"unet.{key}": shape for key, shape in unet_shapes(arch).items()}
    ours |= {f"reference_unet.{k}": shape for k, shape in unet_shapes(arch, with_output=False).items()}
    ours |= {f"adapter.{key}": tuple(value.shape) for key, value in adapter.state_dict().items()}
    shapes = {published_key(key): shape for key, shape in ours.items()}
    for block, layers in ((f"down_blocks.{arch.levels - 1}", arch.layers), ("up_blocks.0", arch.layers + 1)):
        for layer in range(layers):
            for key, value in dead.state_dict().items():
                shapes[f"denoising_unet.{block}.motion_modules.{layer}.{key}"] = tuple(value.shape)
    return shapes


def read_architecture(shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> Architecture:
    """The widths behind published names and shapes; KeyError where a defining tensor is missing.

    Shapes do not show the number of heads. The authors tie it to the width of the SFM's gate; a file of ours
    says it in its metadata (`singer.heads`); without either it is Stable Diffusion's 8. Nor do they show what
    the face locator reads, who sees the carried frames and how far back audio is heard: the face's box, every
    branch, two frames, unless a file of ours says otherwise (`singer.locator_input`, `singer.carried_input`,
    `singer.audio_past`).
    """
    unet, spectral = "denoising_unet.down_blocks.", "denoising_unet.hidden_spectral_weighting."
    levels, layers = 1 + _last(shapes, unet), 1 + _last(shapes, f"{unet}0.resnets.")
    channels = tuple(shapes[f"{unet}{i}.resnets.0.conv1.weight"][0] for i in range(levels))
    sfm_width = shapes[f"{spectral}fc.0.weight"][1] if _has(shapes, spectral) else None
    msm_kernel = shapes["audioembed.dct_layer.weight"] if _has(shapes, "audioembed.") else None
    image_tokens, image_width = shapes["imageproj.proj.weight"][0], shapes["imageproj.norm.weight"][0]
    heads = metadata.get("singer.heads", sfm_width or constants.DEFAULT_HEADS)
    locator = ["face_locator.conv_in.weight"] + [
        f"face_locator.blocks.{i}.weight" for i in range(1, 1 + _last(shapes, "face_locator.blocks."), 2)
    ]
    has_audio = "audioproj.proj1.weight" in shapes
    audio: dict[str, Any] = {}
    if has_audio:
        audio_width = shapes["audioproj.norm.weight"][0]
        audio = {
            "audio_inputs": shapes["audioproj.proj1.weight"][1],
            "audio_past": int(metadata.get("singer.audio_past", constants.AUDIO_REACH)),
            "audio_hidden": shapes["audioproj.proj1.weight"][0],
            "audio_tokens": shapes["audioproj.proj3.weight"][0] // audio_width,
            "audio_width": audio_width,
        }
    return Architecture(
        channels=channels,
        layers=layers,
        heads=int(heads),
        image_width=image_width,
        image_tokens=image_tokens // image_width,
        identity_width=shapes["imageproj.proj.weight"][1],
        latent_channels=shapes["denoising_unet.conv_in.weight"][1],
        face_locator=tuple(shapes[key][0] for key in locator),
        locator_input="portrait" if metadata.get("singer.locator_input") == "portrait" else "face",
        carried_input=(
            "with_portrait" if metadata.get("singer.carried_input") == "with_portrait" else "always"
        ),
        predicts="motion" if _has(shapes, "portrait_warp.") else "frame",
        msm_kernel=msm_kernel,
        sfm_width=sfm_width,
        **audio,
    )


def _last(shapes: Mapping[str, Any], prefix: str) -> int:
    """The highest number that follows `prefix` in a name; KeyError where none does."""
    numbers = [int(key[len(prefix) :].split(".")[0]) for key in shapes if key.startswith(prefix)]
    if not numbers:
        raise KeyError(f"{prefix}0.")
    return max(numbers)


# A stage-1 file holds one bare module; which one is told by a key that only it has.
_STAGE1_SIGNS = (
    ("denoising_unet.", "conv_norm_out.weight"),
    ("reference_unet.", "down_blocks.0.resnets.0.conv1.weight"),
    ("face_locator.", "blocks.0.weight"),
    ("imageproj.", "proj.weight"),
)


def stage1_part(shapes: Mapping[str, Any]) -> str | None:
    """The prefix that a stage-1 file's tensors have in `net.pth`, or None for another kind of file."""
    return next((prefix for prefix, sign in _STAGE1_SIGNS if sign in shapes), None)


def _open_stage1(folder: Path) -> WeightFile:
    parts: dict[str, WeightFile] = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".pth", ".pt", ".safetensors")):
        file = open_weights(path)
        prefix = stage1_part(file.shapes)
        if prefix:
            parts[prefix] = file
    missing = [prefix.rstrip(".") for prefix, _ in _STAGE1_SIGNS if prefix not in parts]
    if missing:
        raise RuntimeError(
            f"{folder} holds no stage-1 file of {', '.join(missing)}. "
            "A folder must hold the four of them; to load `net.pth`, name the file itself."
        )
    return WeightFile.joined(folder, parts)


# What people put in the wrong place: (what it looks like, a piece of one of its keys).
_LOOKS = (
    ("a Stable Diffusion checkpoint in LDM layout", "model.diffusion_model."),
    ("a LoRA", "lora_"),
    ("a wav2vec2 audio encoder", "feature_extractor.conv_layers."),
    ("a VAE", "encoder.conv_in."),
    ("a VAE", "decoder.conv_in."),
    ("a TAESD VAE", "decoder.layers."),
    ("an AnimateDiff motion module", "motion_modules."),
    ("a bare Stable Diffusion UNet, or one of the four stage-1 files", "down_blocks.0.resnets."),
    ("a stage-1 face locator", "conv_in.weight"),
    ("a stage-1 image projection", "proj.weight"),
)


def describe(shapes: Mapping[str, Any]) -> str:
    """What a file that is not a SINGER or Hallo checkpoint looks like, in words."""
    if any(_has(shapes, prefix) for prefix, _ in PREFIXES):
        return "part of a SINGER or Hallo checkpoint"
    return next((words for words, sign in _LOOKS if any(sign in key for key in shapes)), "an unknown model")


def _wrong_file(
    path: Path, found: Mapping[str, Any], expected: Mapping[str, Any], first: str | None = None
) -> str:
    """What to say of a wrong file; names that begin with `first` lead the examples."""
    missing = sorted(set(expected) - set(found), key=lambda key: (not key.startswith(first or key), key))
    unknown = sorted(set(found) - set(expected))
    return (
        f"{path.name} looks like {describe(found)}, not like a SINGER or Hallo `net.pth`: {len(missing)} of "
        f"{len(expected)} tensors are missing{_examples(missing)} and {len(unknown)} of its {len(found)} "
        f"are unknown{_examples(unknown)}. Download `net.pth` of the model repository `yl2333/SINGER`."
    )


def _examples(keys: list[str]) -> str:
    return f" (among them {', '.join(keys[:3])})" if keys else ""


def _check_complete(path: Path, shapes: Mapping[str, tuple[int, ...]], arch: Architecture) -> None:
    expected = expected_shapes(arch)
    if set(expected) != set(shapes):
        raise RuntimeError(_wrong_file(path, shapes, expected))
    wrong = [key for key, shape in expected.items() if shape != shapes[key]]
    if wrong:
        examples = ", ".join(f"{key} {shapes[key]} instead of {expected[key]}" for key in wrong[:3])
        raise RuntimeError(f"{path.name}: {len(wrong)} tensors have the wrong shape ({examples}).")


def _has(shapes: Mapping[str, Any], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in shapes)


def parameter_counts(checkpoint: Checkpoint) -> dict[str, int]:
    """Number of stored values per part, in the order of a forward pass."""
    counts: dict[str, int] = {}
    for key, shape in checkpoint.file.shapes.items():
        counts[_part(key)] = counts.get(_part(key), 0) + torch.Size(shape).numel()
    return counts


def _part(key: str) -> str:
    for words, sign in (
        ("audio modules", ".audio_modules."),
        ("motion modules", ".motion_modules."),
        ("self-adaptive filter (SFM)", "hidden_spectral_weighting."),
        ("reference UNet", "reference_unet."),
        ("denoising UNet", "denoising_unet."),
        ("face locator", "face_locator."),
        ("portrait warp", "portrait_warp."),
        ("image projection", "imageproj."),
        ("audio projection", "audioproj."),
        ("multi-scale spectral (MSM)", "audioembed."),
    ):
        if sign in key:
            return words
    raise KeyError(key)


def spectral_report(checkpoint: Checkpoint) -> dict[str, Any]:
    """Whether the SFM looks trained, and the MSM's expected gains for clips of 16 frames.

    The published training script leaves the SFM frozen. Untrained entries have a standard deviation of about
    1, and the acting sums over 16 of them about 4; such a filter scrambles the features it should weigh.
    """
    arch, report = checkpoint.architecture, dict[str, Any]()
    with torch.device("meta"):
        adapter = SingerAdapter(arch)
    if adapter.self_adaptive_filter is not None:
        gains = _load_part(checkpoint, "adapter.self_adaptive_filter.", adapter.self_adaptive_filter).bands
        entries, sums = gains.weight.std().item(), gains.total().std().item()
        untrained = sums / gains.weight[0, 0, 0].numel() ** 0.5
        report["sfm"] = {
            "entry_std": entries,
            "gain_std": sums,
            "looks_trained": not (0.95 < entries < 1.05 and 0.9 < untrained < 1.1),
        }
    if adapter.multi_scale_spectral is not None:
        module = _load_part(checkpoint, "adapter.multi_scale_spectral.", adapter.multi_scale_spectral)
        gains = module.expected_gains(constants.CLIP_FRAMES)
        report["msm_expected_gains"] = dict(zip(("LL", "LH", "HL", "HH"), gains.tolist(), strict=True))
    return report


def _load_part(checkpoint: Checkpoint, prefix: str, module: Any) -> Any:
    state = {
        ours[len(prefix) :]: checkpoint.file.tensor(key).float()
        for key, ours in checkpoint.names.items()
        if ours.startswith(prefix)
    }
    module.load_state_dict(state, assign=True)
    return module.requires_grad_(False)
