"""Prepared clips on disk, and random training samples of them.

A data set is a folder of safetensors files ("items"), one for each performance (one person, one song), with
s frames in the order of time. For stage 1, which learns from pairs of pictures, an item may also be a person
without a song: no `features`, and as frames two or more poses in any order.
    latents     (s, 4, h, w)  float16, scaled for the UNet
    features    (s, l, d)     float16 audio features; not needed for stage 1
    boxes       (s, 2, 4)     int16 bounding boxes of silhouette and lips: left, top, right, bottom in pixels;
                              behind them more, such as the eyes', that weigh as the lips do
    thumbnails  (s, 3, h, w)  uint8, the picture at the size of the latents
    identity    (e,)          face embedding; without it the colours of the reference picture stand in
    grey        (4, h, w)     latents of a grey picture, the authors' empty frame
    masks_0..3  (3, n)        in [0, 1], with `region` (H, W) uint8: masks of its own, instead of the boxes'
    portraits   (p, 3, H, W)  uint8, with `portrait_frames` (p,): frames kept as pictures, for a network whose
                              face locator is shown the portrait
    ways        (s, c, h, w)  float16, NaN where unknown: from where the parts of its only portrait come and
                              what is painted over, for a network that predicts motion (`network/warp.py`)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .. import constants
from ..audio.logmel import equalised
from ..files import write_text
from ..network.adapter import audio_windows
from ..network.architecture import LocatorInput
from ..portrait import masks as face_masks
from ..portrait.identity import mean_colours

if TYPE_CHECKING:
    from typing_extensions import Self

MaskRule = Literal["union", "reference"]
UNION = face_masks.MaskOptions(face_ratio=1.0, lip_ratio=1.0)  # numerics section 17
REFERENCE = face_masks.MaskOptions()
DESCRIPTION = "dataset.json"
PORTRAITS = 8  # frames of a performance that are kept as pictures


@dataclass(frozen=True)
class Batch:
    """Tensors, or tuples of them, that have an axis of samples first."""

    def to(self, device: torch.device) -> Self:
        return self.each(lambda x: x.to(device))

    def pick(self, rows: list[int]) -> Self:
        """Some of the samples."""
        return self.each(lambda x: x[rows])

    def each(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = {
            name: tuple(map(change, value)) if isinstance(value, tuple) else change(value)
            for name, value in vars(self).items()
        }
        return type(self)(**values)


@dataclass(frozen=True)
class Sample(Batch):
    """One clip with all that conditions it; with a leading axis b after `collate`.

    latents    f 4 h w    to be learnt
    reference  4 h w      portrait, any frame of the performance, as attention sees it
    base       4 h w      and as a network that predicts motion moves it
    carried    k 4 h w    frames before the clip
    windows    f k l d    audio features around every frame; empty in a pair
    masks      3 n        one a level, level 0 first: full, face, lip
    shown      1|3 H W    input of the face locator: face box, or the portrait in [-1, 1]
    identity   e
    lips       f h w      1 in every frame's lip box, and boxes behind it, 0 elsewhere
    ways       f c h w    first channels of the motion, NaN where unknown; no channels without `ways`
    grey       4 h w      latents of a grey picture
    """

    latents: Tensor
    reference: Tensor
    base: Tensor
    carried: Tensor
    windows: Tensor
    masks: tuple[Tensor, ...]
    shown: Tensor
    identity: Tensor
    lips: Tensor
    ways: Tensor
    grey: Tensor

    def of_frames(self, count: int) -> Sample:
        """A batch with the first frames of its clips alone; the last where `count` is negative."""
        span = slice(count) if count > 0 else slice(count, None)
        cut = {name: getattr(self, name)[:, span] for name in ("latents", "windows", "lips", "ways")}
        return replace(self, **cut)


def collate(samples: list[Sample]) -> Sample:
    """Samples of one size as a batch: every tensor gets a leading axis b."""
    columns = {f.name: [getattr(sample, f.name) for sample in samples] for f in fields(Sample)}
    masks = columns.pop("masks")
    stacked = {name: torch.stack(values) for name, values in columns.items()}
    return Sample(**stacked, masks=tuple(torch.stack(level) for level in zip(*masks, strict=True)))


@dataclass(frozen=True)
class Item:
    """One performance on disk. `portraits`: its frames that are kept as pictures, where they are wanted."""

    path: Path
    frames: int
    portraits: tuple[int, ...] = ()


class ClipDataset:
    """Random clips of the performances in a folder, or pairs of pictures of its people.

    frames, carried  of a clip, and before it; of a pair 1 and 0
    locator_input    what the face locator is shown; for "portrait" the performances hold pictures
    audio_past       frames before a frame that are in its window of audio features
    beginnings       chance that a clip begins its performance: what is carried into it is the portrait
    equalisation     deviation of a random curve on the bands of the clips' log-mel features
    same_pose        for pairs: the chance that the portrait is the very picture to be learnt, else it shows
                     another pose; None for clips
    Raises FileNotFoundError for a missing or empty folder, ValueError where no performance is long enough,
    one is damaged, or pictures or songs are wanted and missing.
    """

    def __init__(
        self,
        folder: Path,
        frames: int,
        carried: int,
        rule: MaskRule = "reference",
        locator_input: LocatorInput = "face",
        same_pose: float | None = None,
        beginnings: float = 0.0,
        audio_past: int = constants.AUDIO_REACH,
        equalisation: float = 0.0,
    ) -> None:
        self.frames, self.carried, self.rule, self.audio_past = frames, carried, rule, audio_past
        self.same_pose, self.beginnings, self.equalisation = same_pose, beginnings, equalisation
        pictures, songs = locator_input == "portrait", same_pose is None
        found = [_item(path, pictures, songs) for path in item_paths(folder)]
        self.items = [item for item in found if item.frames >= frames + carried]
        if not self.items:
            raise ValueError(
                f"No performance in {folder} has the {frames + carried} frames that a clip and its carried "
                f"frames need (the longest has {max(item.frames for item in found)}). Prepare longer videos."
            )

    def sample(self, generator: torch.Generator) -> Sample:
        """A random clip or pair of a random item."""
        return self.of(self.items[_random(len(self.items), generator)], generator)

    def of(self, item: Item, generator: torch.Generator) -> Sample:
        """A random clip of a performance; its portrait is a random frame, or one kept as picture."""
        if self.same_pose is not None:
            return self.pair(item, generator)
        start = self.carried + _random(item.frames - self.frames - self.carried + 1, generator)
        if float(torch.rand((), generator=generator)) < self.beginnings:
            start = 0
        portrait = _random(len(item.portraits) or item.frames, generator)
        clip = self.clip(item, start, item.portraits[portrait] if item.portraits else portrait)
        if not self.equalisation:
            return clip
        return replace(clip, windows=equalised(clip.windows, self.equalisation, generator))

    def pair(self, item: Item, generator: torch.Generator) -> Sample:
        """A random picture of a person to be learnt, with another one as the portrait."""
        frames = range(item.frames)
        portrait = _choice(item.portraits or frames, generator)
        others = [frame for frame in frames if frame != portrait]
        same = float(torch.rand((), generator=generator)) < (self.same_pose or 0.0)
        return self.clip(item, portrait if same or not others else _choice(others, generator), portrait)

    def clip(self, item: Item, start: int, portrait: int) -> Sample:
        """The clip that starts at frame `start`, with frame `portrait` as the reference.

        At 0 the portrait stands still before it, as at the beginning of a song.
        """
        stop, first = start + self.frames, max(start - self.carried, 0)
        with safe_open(item.path, framework="pt") as file:
            latents = file.get_slice("latents")
            near = latents[first:stop].float()
            before, near = near[: -self.frames], near[-self.frames :]
            reference = latents[portrait : portrait + 1][0].float()
            windows = self._windows(file, start, stop)
            boxes = file.get_tensor("boxes").numpy()
            thumbnail = file.get_slice("thumbnails")[portrait : portrait + 1][0].float() / 255
            identity = file.get_tensor("identity").float() if "identity" in file.keys() else None  # noqa: SIM118
            grey = file.get_tensor("grey").float()
            own_masks = _own_masks(file)
            ways = _ways(file, slice(start, stop), near.shape[2:])
            picture = _picture(file, item, portrait)
        size = (near.shape[2] * constants.VAE_STRIDE, near.shape[3] * constants.VAE_STRIDE)
        seen = boxes[:, :2] if self.rule == "union" else boxes[portrait : portrait + 1, :2]
        masks, region = own_masks or self._masks(seen, size)
        return Sample(
            latents=near,
            reference=reference,
            base=reference,
            carried=before if len(before) else reference.expand(self.carried, *reference.shape),
            windows=windows,
            masks=masks,
            shown=region[None] if picture is None else picture,
            identity=mean_colours(thumbnail, masks[0]) if identity is None else identity,
            lips=lip_boxes(boxes[start:stop], near.shape[2:]),
            ways=ways,
            grey=grey,
        )

    def _windows(self, file: Any, start: int, stop: int) -> Tensor:
        """Audio features around the frames from `start` to before `stop`; none in a pair."""
        if self.same_pose is not None:
            return torch.zeros(stop - start, 0, 0, 0)
        features, low = file.get_slice("features"), max(start - self.audio_past, 0)
        near = features[low : stop + constants.AUDIO_REACH].float()
        return audio_windows(near, start - low, stop - low, self.audio_past)

    def _masks(self, boxes: np.ndarray, size: tuple[int, int]) -> tuple[tuple[Tensor, ...], Tensor]:
        """Attention masks and region map for the union of some frames' boxes, (s, 2, 4)."""
        options = UNION if self.rule == "union" else REFERENCE
        both = np.concatenate([boxes[:, :, :2].min(0), boxes[:, :, 2:].max(0)], axis=1)
        face, lip = (
            face_masks.draw_box(
                face_masks.expand_box((int(box[0]), int(box[1]), int(box[2]), int(box[3])), ratio, size), size
            )
            for box, ratio in zip(both, (options.face_ratio, options.lip_ratio), strict=True)
        )
        stages = face_masks.separate(face, lip, options)
        region = torch.from_numpy(np.array(face_masks.region_map(stages.face, size))).float() / 255
        return face_masks.attention_masks(stages, size), region


def _own_masks(file: Any) -> tuple[tuple[Tensor, ...], Tensor] | None:
    """Attention masks and region map that a performance brings along, or None."""
    if "region" not in file.keys():  # noqa: SIM118 - safe_open is no mapping
        return None
    levels = tuple(file.get_tensor(f"masks_{level}") for level in range(face_masks.LEVELS))
    return levels, file.get_tensor("region").float() / 255


def _ways(file: Any, frames: slice, size: torch.Size) -> Tensor:
    """Those of some frames; without channels where the performance brings none along."""
    if "ways" not in file.keys():  # noqa: SIM118 - safe_open is no mapping
        return torch.zeros(frames.stop - frames.start, 0, *size)
    return file.get_slice("ways")[frames].float()


def _picture(file: Any, item: Item, portrait: int) -> Tensor | None:
    """Frame `portrait` in [-1, 1], (3, H, W), where the item keeps pictures."""
    if not item.portraits:
        return None
    row = item.portraits.index(portrait)
    return file.get_slice("portraits")[row : row + 1][0].float() / 127.5 - 1


def lip_boxes(boxes: np.ndarray, size: tuple[int, int] | torch.Size) -> Tensor:
    """(f, h, w): 1 where a latent pixel touches boxes behind a frame's first (half a pixel wider), else 0."""
    maps = torch.zeros(len(boxes), *size)
    for row, regions in zip(maps, boxes[:, 1:].astype(float) / constants.VAE_STRIDE, strict=True):
        for box in regions:
            left, top = np.floor(box[:2] - 0.5).astype(int).clip(0)
            right, bottom = np.ceil(box[2:] + 0.5).astype(int)
            row[top:bottom, left:right] = 1
    return maps


def item_paths(folder: Path) -> list[Path]:
    """The performances of a data set, in order. FileNotFoundError where there are none."""
    paths = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not paths:
        raise FileNotFoundError(f"There are no prepared clips in {folder}. Prepare a data set there first.")
    return paths


def portrait_frames(frames: int) -> Tensor:
    """Which of a performance's frames are kept as pictures, evenly apart, (p,) int64."""
    return torch.linspace(0, frames - 1, min(PORTRAITS, frames)).round().long()


def describe(folder: Path, description: Mapping[str, object]) -> None:
    """Write what a data set was made from; ValueError where the folder already holds another one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / DESCRIPTION
    text = json.dumps(description, indent=1, sort_keys=True)
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"{folder} holds a data set made with other settings (see {DESCRIPTION}). Use an empty folder."
        )
    write_text(path, text)


def _item(path: Path, pictures: bool, songs: bool) -> Item:
    try:
        with safe_open(path, framework="pt") as file:
            frames = file.get_slice("latents").get_shape()[0]
            if songs and "features" not in file.keys():  # noqa: SIM118 - safe_open is no mapping
                raise ValueError(
                    f"{path.name} is a person without a song, which only stage 1 learns from. Set "
                    "`stage = 1`, or prepare videos with sound."
                )
            if not pictures:
                return Item(path, frames)
            if "portraits" not in file.keys():  # noqa: SIM118 - safe_open is no mapping
                raise ValueError(
                    f"{path.name} holds no pictures, which a network is trained on whose `locator_input` is "
                    '"portrait". Prepare the data set again, or set "face".'
                )
            return Item(path, frames, tuple(file.get_tensor("portrait_frames").tolist()))
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} is damaged ({error}). Delete it and prepare the data set again."
        ) from error


def _choice(values: Sequence[int], generator: torch.Generator) -> int:
    return values[_random(len(values), generator)]


def _random(limit: int, generator: torch.Generator) -> int:
    return int(torch.randint(limit, (1,), generator=generator))
