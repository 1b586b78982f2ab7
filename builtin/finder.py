"""Trains the face finder on photographs with meshes, drawn people, and what is beside them."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from singer_core.portrait import finder as f
from singer_core.portrait.image import to_tensor
from singer_core.portrait.landmarks import LIPS, SILHOUETTE
from singer_core.portrait.masks import overlap
from singer_core.weights import save_weights

from .faces import JUDGED, read_entries
from .learning import resume, save_state, set_rate
from .pictures import HELD_OUT_SEED
from .world import Identity, Performance, Song

logger = logging.getLogger(__name__)

WEIGHTS, STATE = "finder.safetensors", "finder-state.pt"
STORED = 384  # pixels of a photograph's side in memory
TURN = math.radians(50)
MISTAKES, LOOK_EVERY = 400, 25  # how many are remembered; steps between looks for new ones
DOUBTED = 0.2  # confidence from which a face where there is none is a mistake
CLEAR = 0.9  # of the face's side, by which a cut's middle lies beside it that is to show none
READ = np.array(f.READ)
FACE_ROWS = [f.READ.index(i) for i in SILHOUETTE]


def _mirror() -> list[int]:
    """For every point that is read, the row of its mirror image."""
    outline, lips = len(SILHOUETTE), list(LIPS)
    other = {SILHOUETTE[i]: SILHOUETTE[-i % outline] for i in range(outline)}
    other |= {lips[i]: lips[10 - i] for i in range(11)} | {lips[i]: lips[30 - i] for i in range(11, 20)}
    other |= {f.FIVE[0]: f.FIVE[1], f.FIVE[1]: f.FIVE[0], f.FIVE[2]: f.FIVE[2]}
    return [f.READ.index(other[i]) for i in f.READ]


MIRROR = _mirror()


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture with one face: `points` (len(READ), 2) in its pixels; `yaw` 0 = frontal."""

    image: Image.Image
    points: Tensor
    yaw: float = 0.0

    def mirrored(self) -> Shown:
        points = self.points[MIRROR] * torch.tensor([-1.0, 1.0]) + torch.tensor(
            [float(self.image.width), 0.0]
        )
        return Shown(ImageOps.mirror(self.image), points, -self.yaw)

    @property
    def box(self) -> tuple[float, float, float]:
        """Middle and larger side of the face."""
        low, high = self.points.amin(0), self.points.amax(0)
        x, y = ((low + high) / 2).tolist()
        return x, y, float((high - low).max())


def photographs(folder: Path, held_out: bool) -> list[Shown]:
    """The sound photographs of a folder with `faces.json`, at most `STORED` pixels wide."""
    found = []
    for name, face in read_entries(folder, held_out)[0].items():
        with Image.open(folder / name) as opened:
            image = opened.convert("RGB")
        scale = min(STORED / max(image.size), 1.0)
        size = round(image.width * scale), round(image.height * scale)
        points = np.array(face["points"], np.float32)[READ, :2] * (np.array(size) / image.size)
        small = image.resize(size, Image.Resampling.LANCZOS)
        found.append(Shown(small, torch.from_numpy(points).float(), face["yaw"]))
    return found


def drawn(count: int, first_seed: int, size: int = 256) -> list[Shown]:
    """As many people of the drawn world, each in some frame of a song."""
    rng, song = np.random.default_rng(first_seed), Song.random(first_seed, 3.0, "pop", accompaniment=False)
    found = []
    for seed in range(first_seed, first_seed + count):
        show = Performance(Identity.random(seed), song, size=size)
        frame = int(rng.integers(len(show)))
        points = torch.from_numpy(show.landmarks(frame)[READ]).float()
        found.append(Shown(Image.fromarray(show.frame(frame)), points))
    return found


def pictures_in(folder: Path | None, held_out: bool) -> list[Image.Image]:
    """The pictures of a folder, at most `STORED` pixels wide: every 13th for judging, or the others.

    ValueError where there are none.
    """
    found: list[Image.Image] = []
    if folder is None:
        return found
    for number, path in enumerate(sorted(folder.glob("*.jpg"))):
        if (number % JUDGED == 0) != held_out:
            continue
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        image.thumbnail((STORED, STORED), Image.Resampling.LANCZOS)
        found.append(image)
    if not found:
        raise ValueError(f"There is no *.jpg in {folder}. Put pictures without a face there.")
    return found


Cuts = tuple[Tensor, Tensor, Tensor]  # (b, 3, H, W), points in them (b, n, 2), whether there is a face (b,)


@dataclass(frozen=True, eq=False)
class Mistake:
    """What was taken for a face: the cut, and the whole picture with the boxes of its true faces."""

    cut: Image.Image
    picture: Image.Image
    boxes: list[tuple[float, float, float]]


class Scenes:
    """Training pictures for all networks, deterministic by seed.

    backgrounds  pictures without a face
    mistakes     what the finder lately took for a face there, or beside somebody's
    """

    def __init__(self, shown: list[Shown], seed: int, backgrounds: Sequence[Image.Image] = ()) -> None:
        self.shown, self.backgrounds, self.rng = shown, backgrounds, np.random.default_rng(seed)
        self.mistakes: deque[Mistake] = deque(maxlen=MISTAKES)

    def look_for_mistakes(self, finder: f.Finder, count: int = 24) -> None:
        """Remember where the finder sees a face that is none, in `count` new pictures without one and as many
        with one."""
        finder.eval()
        with torch.inference_mode():
            for _ in range(count):
                self._remember(finder, self.nothing(STORED), [])
                shown = self._someone()
                self._remember(finder, shown.image, [shown.box])
        finder.train()

    def _remember(
        self, finder: f.Finder, image: Image.Image, boxes: list[tuple[float, float, float]]
    ) -> None:
        for cut in f.candidates(image, finder.detector):
            face = f.point(image, cut, finder)
            seen = f.around_face(face.landmarks.points[list(f.READ)])
            beside = all(math.hypot(seen.x - x, seen.y - y) > CLEAR * side for x, y, side in boxes)
            if face.confidence > DOUBTED and beside:
                longer = max(image.size)
                whole = f.Cut(longer / 2, longer / 2, longer).of(image, f.DETECTOR_SIDE)
                scale = f.DETECTOR_SIDE / longer
                small = [(x * scale, y * scale, side * scale) for x, y, side in boxes]
                self.mistakes.append(Mistake(seen.of(image), whole, small))

    def _mistake(self, share: float) -> Mistake | None:
        if not self.mistakes or self.rng.uniform() > share:
            return None
        return self.mistakes[self.rng.integers(len(self.mistakes))]

    def pointed(self, count: int) -> Cuts:
        """Cuts around faces and around what is none."""
        pictures, points, faces = [], [], []
        for _ in range(count):
            shown, face = self._someone(), self.rng.uniform() > 0.25
            mistake = None if face else self._mistake(0.5)
            cut = self._around(f.around_face(shown.points)) if face else None
            image = cut.of(shown.image) if cut else mistake.cut if mistake else self.nothing(f.CUT_SIDE)
            pictures.append(self._pixels(image))
            points.append(cut.to_cut(shown.points) if cut else shown.points)
            faces.append(face)
        return torch.stack(pictures), torch.stack(points), torch.tensor(faces)

    def mouths(self, count: int) -> Cuts:
        """Cuts around mouths."""
        pictures, points = [], []
        for _ in range(count):
            shown = self._someone()
            cut = self._around(f.around_mouth(shown.points), wild=False)
            pictures.append(self._pixels(cut.of(shown.image, f.MOUTH_SIDE)))
            points.append(cut.to_cut(shown.points[f.LIP_ROWS]))
        return torch.stack(pictures), torch.stack(points), torch.ones(count, dtype=torch.bool)

    def whole(self, count: int) -> tuple[Tensor, list[Tensor]]:
        """Pictures (b, 3, 192, 192), and of each (n, 3): middle and larger side of its faces in pixels."""
        made = [self._scene() for _ in range(count)]
        return torch.stack([self._pixels(image) for image, _ in made]), [boxes for _, boxes in made]

    def _someone(self) -> Shown:
        shown = self.shown[self.rng.integers(len(self.shown))]
        return shown.mirrored() if self.rng.uniform() < 0.5 else shown

    def _around(self, true: f.Cut, wild: bool | None = None) -> f.Cut:
        """A cut as the detector (`wild`), or an earlier look, would place it; None = one or the other."""
        wild = bool(self.rng.uniform() < 0.4) if wild is None else wild
        angle = self.rng.uniform(-TURN, TURN) if wild else self.rng.normal(0, math.radians(5))
        x, y, size = self.rng.normal(0, (0.08, 0.08, 0.2) if wild else (0.03, 0.03, 0.06))
        return f.Cut(
            true.x + x * true.side, true.y + y * true.side, true.side * math.exp(size), true.angle + angle
        )

    def _beside(self, shown: Shown) -> f.Cut | None:
        """A cut that shows no face, or None where the picture has no room for one."""
        x, y, side = shown.box
        for _ in range(8):
            size = side * self.rng.uniform(0.3, 1.5)
            left, top = self.rng.uniform(0, shown.image.width), self.rng.uniform(0, shown.image.height)
            if math.hypot(left - x, top - y) > CLEAR * max(side, size / f.MARGIN):
                return f.Cut(left, top, size, self.rng.uniform(-TURN, TURN))
        return None

    def nothing(self, size: int) -> Image.Image:
        """A picture without a face: a part of a background, or of what is beside somebody, noise, figures."""
        kind = self.rng.uniform()
        if kind < 0.5 and self.backgrounds:
            return self._part(self.backgrounds[int(self.rng.integers(len(self.backgrounds)))], size)
        if kind < 0.8:
            shown = self._someone()
            if cut := self._beside(shown):
                return cut.of(shown.image, size)
        cells = int(self.rng.integers(1, 24))
        noise = self.rng.uniform(0, 256, (cells, cells, 3)).astype(np.uint8)
        image = Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)
        pen = ImageDraw.Draw(image)
        for _ in range(int(self.rng.integers(0, 6))):
            box = np.sort(self.rng.uniform(0, size, (2, 2)), axis=0).flatten().tolist()
            colour = tuple(int(c) for c in self.rng.integers(0, 256, 3))
            (pen.ellipse, pen.rectangle)[int(self.rng.integers(2))](box, fill=colour)
        return image

    def _part(self, image: Image.Image, size: int) -> Image.Image:
        """Some part of a picture, often turned or mirrored."""
        side = min(image.size) * math.exp(self.rng.uniform(math.log(0.25), 0))
        x, y = (self.rng.uniform(side / 2, length - side / 2) for length in image.size)
        angle = self.rng.uniform(-TURN, TURN) if self.rng.uniform() < 0.5 else 0.0
        part = f.Cut(x, y, side, angle).of(image, size)
        return ImageOps.mirror(part) if self.rng.uniform() < 0.5 else part

    def _scene(self) -> tuple[Image.Image, Tensor]:
        """One to three people, one mostly, or none, before nothing in particular."""
        side = f.DETECTOR_SIDE
        mistake = self._mistake(0.4)
        image, boxes = (mistake.picture.copy(), list(mistake.boxes)) if mistake else (self.nothing(side), [])
        for _ in range(int(self.rng.choice(4, p=(0.3, 0.45, 0.15, 0.1)))):
            shown = self._someone()
            x, y, size = shown.box
            share = math.exp(self.rng.uniform(math.log(0.08), math.log(0.9)))
            offset = self.rng.uniform(-0.5, 0.5, 2) * max(1 - share, 0) / share * size
            cut = f.Cut(x - offset[0], y - offset[1], size / share, self.rng.uniform(-TURN, TURN))
            points = (cut.to_cut(shown.points) + 1) * (side / 2)
            new = Shown(image, points).box
            if any(not f.apart(new, box) for box in boxes) or not all(0 < v < side for v in new[:2]):
                continue
            mask = cut.of(Image.new("L", shown.image.size, 255), side)
            hidden = [box for box in boxes if mask.getpixel((int(box[0]), int(box[1])))]
            image.paste(cut.of(shown.image, side), mask=mask)
            boxes = [box for box in boxes if box not in hidden] + [new]
        return image, torch.tensor(boxes).reshape(-1, 3)

    def _pixels(self, image: Image.Image) -> Tensor:
        """(3, H, W) in [-1, 1] with another light, colour, focus and grain."""
        pixels = to_tensor(image)
        if self.rng.uniform() < 0.2:
            pixels = pixels.mean(0, keepdim=True).expand(3, -1, -1)
        if self.rng.uniform() < 0.25:
            factor = self.rng.uniform(1.3, 3.0)
            small = F.interpolate(pixels[None], scale_factor=1 / factor, mode="area")
            pixels = F.interpolate(small, pixels.shape[-2:], mode="bilinear")[0]
        gain = torch.from_numpy(self.rng.uniform(0.75, 1.25, (3, 1, 1))).float()
        pixels = (pixels * gain).clamp(0, 1) ** self.rng.uniform(0.6, 1.6)
        grain = torch.from_numpy(self.rng.standard_normal(pixels.shape, dtype=np.float32))
        return ((pixels + grain * self.rng.uniform(0, 0.05)).clamp(0, 1)) * 2 - 1


def pointer_loss(pointer: f.Pointer, pictures: Tensor, points: Tensor, faces: Tensor) -> Tensor:
    """Error of the points after every round, and of the confidence."""
    found, logit = pointer(pictures)
    error = F.smooth_l1_loss(found, points.expand_as(found), reduction="none", beta=0.02).sum(-1)
    placed = error[:, faces].mean()
    return placed + 0.1 * F.binary_cross_entropy_with_logits(logit, faces.float())


def detector_loss(detector: f.Detector, pictures: Tensor, boxes: list[Tensor]) -> Tensor:
    """Focal loss of the scores, cells around a face's middle aside; error of middles and sizes."""
    answer = detector(pictures)
    stride, cells = f.DETECTOR_STRIDE, answer.shape[-1]
    centre = (torch.arange(cells) + 0.5) * stride
    loss = answer.new_zeros(())
    for found, faces in zip(answer, boxes, strict=True):
        target, counted = torch.zeros(cells, cells), torch.ones(cells, cells)
        for x, y, side in faces.tolist():
            right, down = (x - centre)[None, :].expand(cells, -1), (y - centre)[:, None].expand(-1, cells)
            distance = torch.hypot(right, down)
            near = distance <= max(0.15 * side, distance.min().item() + 1e-3)
            counted[(distance < 0.4 * side) & ~near] = 0
            target[near], counted[near] = 1, 1
            wanted = torch.stack(
                [right / stride, down / stride, torch.full_like(right, math.log(side / stride))]
            )
            loss = loss + 0.5 * F.smooth_l1_loss(found[1:, near], wanted[:, near], beta=0.2)
        each = F.binary_cross_entropy_with_logits(found[0], target, reduction="none")
        hard = (found[0].sigmoid().detach() - target).abs().square()
        loss = loss + (each * hard * counted).sum() / max(len(faces), 1)
    return loss / len(pictures)


def train_finder(
    folder: Path,
    faces: Path | None,
    backgrounds: Path | None,
    steps: int,
    batch: int = 32,
    people: int = 500,
    rate: float = 2e-3,
    start: Path | None = None,
) -> f.Finder:
    """Train all networks, or go on from `folder`'s last state; writes `finder.safetensors` there.

    faces        folder of photographs with meshes
    backgrounds  folder of pictures without a face, of anything
    start        weights to begin with
    """
    finder = f.load_finder(start).train() if start else f.Finder()
    parameters = list(finder.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-3)
    folder.mkdir(parents=True, exist_ok=True)
    first = resume(folder / STATE, finder, optimizer)
    shown = drawn(people, 0) + (photographs(faces, held_out=False) if faces else [])
    scenes = Scenes(shown, first, pictures_in(backgrounds, held_out=False))
    for step in range(first, steps):
        if step % LOOK_EVERY == 0:
            scenes.look_for_mistakes(finder)
        set_rate(optimizer, rate, step, steps)
        point = pointer_loss(finder.pointer, *scenes.pointed(batch))
        lips = pointer_loss(finder.lips, *scenes.mouths(2 * batch))
        detect = detector_loss(finder.detector, *scenes.whole(batch // 4))
        optimizer.zero_grad()
        (point + lips + detect).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            errors = [float(loss.detach()) for loss in (point, lips, detect)]
            logger.info("%d of %d: points %.4f, lips %.4f, detector %.4f", step + 1, steps, *errors)
        if (step + 1) % 500 == 0 or step + 1 == steps:
            save_finder(folder / WEIGHTS, finder)
            save_state(folder / STATE, finder, optimizer, step + 1)
    return finder.eval()


def save_finder(path: Path, finder: f.Finder) -> None:
    """In half precision, without counters."""
    kept = ((k, v.half()) for k, v in finder.state_dict().items() if v.is_floating_point())
    save_weights(path, kept, {"singer.finder": "1"})


def box_of(points: NDArray[np.float32] | Tensor) -> tuple[float, float, float, float]:
    """left, top, right, bottom of points (n, 2)."""
    found = torch.as_tensor(points)
    return (*found.amin(0).tolist(), *found.amax(0).tolist())


def judge_finder(
    finder: f.Finder, faces: Path | None, backgrounds: Path | None, people: int = 60, nobody: int = 400
) -> dict[str, float]:
    """Recall and overlaps on people never trained on, by kind, and the share of pictures without a face in
    which one is found."""
    kinds = {"drawn": drawn(people, HELD_OUT_SEED)}
    if faces:
        shown = photographs(faces, held_out=True)
        kinds["frontal"] = [one for one in shown if abs(one.yaw) < 0.15]
        kinds["turned"] = [one for one in shown if 0.15 <= abs(one.yaw) < 0.3]
    found: dict[str, float] = {}
    for kind, shown in kinds.items():
        overlaps = [_overlaps(finder, one) for one in shown]
        hits = [one for one in overlaps if one]
        found[f"{kind} recall"] = len(hits) / len(shown)
        found[f"{kind} face IoU"], found[f"{kind} lips IoU"] = np.median(hits, axis=0).tolist()
    people_shown = [one for shown in kinds.values() for one in shown]
    scenes = Scenes(people_shown, HELD_OUT_SEED, pictures_in(backgrounds, held_out=True))
    empty = [bool(f.find_faces(scenes.nothing(256), finder)) for _ in range(nobody)]
    return {**found, "false faces": sum(empty) / nobody}


def _overlaps(finder: f.Finder, shown: Shown) -> tuple[float, float] | None:
    """Of face and lips with what was found; None where nothing overlaps the face by half."""
    for face in f.find_faces(shown.image, finder):
        points = face.landmarks.points[list(f.READ)]
        both = [overlap(box_of(points[rows]), box_of(shown.points[rows])) for rows in (FACE_ROWS, f.LIP_ROWS)]
        if both[0] >= 0.5:
            return both[0], both[1]
    return None
