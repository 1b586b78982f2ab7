"""Who sings: everything about a drawn person that does not change from frame to frame.

Lengths are in hundredths of the picture's side; (50, 50) is its middle, y points down. Colours: RGB, 0..255.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]

SKINS: tuple[Colour, ...] = (
    (250, 214, 186),
    (246, 203, 168),
    (238, 188, 148),
    (224, 168, 124),
    (204, 144, 100),
    (176, 117, 78),
    (146, 94, 64),
    (118, 75, 53),
)
HAIRS: tuple[Colour, ...] = (
    (48, 40, 44),
    (76, 52, 42),
    (118, 76, 50),
    (154, 78, 48),
    (224, 176, 102),
    (240, 220, 176),
    (214, 112, 58),
    (172, 168, 176),
    (238, 138, 164),
    (72, 146, 160),
    (138, 100, 182),
)
EYES: tuple[Colour, ...] = ((92, 60, 40), (128, 92, 46), (76, 128, 84), (72, 128, 176), (110, 124, 142))
CLOTHES: tuple[Colour, ...] = (
    (232, 106, 90),
    (242, 174, 84),
    (88, 142, 168),
    (106, 158, 128),
    (150, 112, 170),
    (238, 232, 220),
    (70, 76, 104),
    (222, 134, 158),
)
BACKGROUNDS: tuple[tuple[Colour, Colour, Colour], ...] = (  # top, bottom, accent
    ((255, 226, 190), (248, 176, 146), (255, 244, 222)),
    ((250, 236, 200), (240, 200, 132), (255, 250, 230)),
    ((196, 226, 220), (126, 182, 184), (236, 248, 240)),
    ((226, 212, 240), (186, 160, 212), (250, 238, 250)),
    ((206, 228, 246), (246, 224, 204), (255, 250, 240)),
    ((214, 226, 196), (154, 184, 144), (242, 248, 230)),
    ((92, 84, 134), (52, 50, 92), (246, 178, 150)),
    ((250, 208, 210), (228, 146, 160), (255, 238, 236)),
)
HAIR_STYLES = (
    *("short", "quiff", "side", "buzz", "curly", "afro", "bald"),
    *("bob", "long", "wavy", "curtain", "bun", "ponytail"),
)
SHORT_STYLES = 7  # the first so many styles are those a beard may go with
CLOTHES_STYLES = ("crew", "vneck", "collar", "hoodie", "turtleneck", "stripes")
BACKDROPS = ("sun", "bokeh", "rays", "hills", "plain")
NOSES = ("button", "line", "soft")


def blend(first: Sequence[float], second: Sequence[float], share: float) -> Colour:
    """`first` with a share of `second`, 0..1."""
    r, g, b = (round((1 - share) * x + share * y) for x, y in zip(first, second, strict=True))
    return min(max(r, 0), 255), min(max(g, 0), 255), min(max(b, 0), 255)


def shaded(colour: Colour, share: float) -> Colour:
    """The colour in warm shadow: darker, with red fading last."""
    return blend(colour, (colour[0] * 0.55, colour[1] * 0.38, colour[2] * 0.38), share)


def lit(colour: Colour, share: float) -> Colour:
    """The colour in warm light."""
    return blend(colour, (255, 250, 236), share)


def glowing(colour: Colour, share: float) -> Colour:
    """Skin in warm light: brighter, with its hue kept."""
    factor = min(1.28, 252.0 / max(colour))
    return blend(colour, blend([factor * c for c in colour], (255, 236, 222), 0.16), share)


@dataclass(frozen=True)
class FaceShape:
    """Half widths at four heights, and where forehead and chin end."""

    forehead: float
    cheek: float
    jaw: float
    chin: float
    top: float
    bottom: float


@dataclass(frozen=True)
class Eyes:
    """Half distance of the pupils, y, half width and half height of an eye, tilt, colour of the iris."""

    apart: float
    y: float
    width: float
    height: float
    tilt: float
    colour: Colour
    lashes: bool


@dataclass(frozen=True)
class Mouth:
    """y of the closed lips, half width at rest, gap at opening 1, lip thickness, upturn of the corners."""

    y: float
    width: float
    gap: float
    fullness: float
    smile: float
    colour: Colour


@dataclass(frozen=True)
class Identity:
    """A drawn person in front of a background.

    zoom, x, y    framing: scale of the whole figure and shift of its middle
    beard         "none", "stubble", "beard" or "moustache"
    glasses       "none", "round" or "square"
    """

    seed: int
    shape: FaceShape
    eyes: Eyes
    mouth: Mouth
    skin: Colour
    hair: Colour
    hair_style: str
    brow_thickness: float
    brow_arch: float
    nose: str
    nose_y: float
    blush: float
    freckles: bool
    beard: str
    glasses: str
    earrings: bool
    clothes: str
    clothes_colour: Colour
    accent: Colour
    backdrop: str
    background: tuple[Colour, Colour, Colour]
    zoom: float
    x: float
    y: float

    @staticmethod
    def random(seed: int) -> Identity:
        """A person; the same seed gives the same person."""
        rng = np.random.default_rng([seed, 0])
        tone = int(rng.integers(len(SKINS)))
        skin = _jitter(rng, SKINS[tone], 5)
        style = HAIR_STYLES[rng.integers(len(HAIR_STYLES))]
        short = HAIR_STYLES.index(style) < SHORT_STYLES
        natural = rng.uniform() < 0.8
        hair = _jitter(rng, _pick(rng, HAIRS[: 7 if tone < 4 else 4] if natural else HAIRS[7:]), 8)
        clothes, accent = rng.choice(len(CLOTHES), 2, replace=False)
        beards = ("none", "none", "stubble", "beard", "moustache")
        return Identity(
            seed=seed,
            shape=_random_shape(rng),
            eyes=_random_eyes(rng, short),
            mouth=_random_mouth(rng, skin, short),
            skin=skin,
            hair=hair,
            hair_style=style,
            brow_thickness=float(rng.uniform(0.9, 1.5) if short else rng.uniform(0.65, 1.1)),
            brow_arch=float(rng.uniform(0.5, 2.0)),
            nose=NOSES[rng.integers(len(NOSES))],
            nose_y=float(rng.uniform(58.5, 61.0)),
            blush=float(rng.uniform(0.25, 0.8)),
            freckles=bool(rng.uniform() < 0.2),
            beard=beards[rng.integers(len(beards))] if short else "none",
            glasses=("none", "none", "none", "round", "square")[rng.integers(5)],
            earrings=bool(not short and rng.uniform() < 0.5),
            clothes=CLOTHES_STYLES[rng.integers(len(CLOTHES_STYLES))],
            clothes_colour=CLOTHES[clothes],
            accent=CLOTHES[accent],
            backdrop=BACKDROPS[rng.integers(len(BACKDROPS))],
            background=BACKGROUNDS[rng.integers(len(BACKGROUNDS))],
            zoom=float(rng.uniform(0.92, 1.02)),
            x=float(rng.uniform(-1.5, 1.5)),
            y=float(rng.uniform(-0.5, 1.5)),
        )


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[rng.integers(len(colours))]


def _jitter(rng: np.random.Generator, colour: Colour, amount: int) -> Colour:
    return blend(
        colour, [c + d for c, d in zip(colour, rng.integers(-amount, amount + 1, 3), strict=True)], 1.0
    )


def _random_shape(rng: np.random.Generator) -> FaceShape:
    cheek = rng.uniform(23.0, 26.0)
    return FaceShape(
        forehead=float(cheek * rng.uniform(0.90, 0.96)),
        cheek=float(cheek),
        jaw=float(cheek * rng.uniform(0.76, 0.88)),
        chin=float(cheek * rng.uniform(0.30, 0.42)),
        top=float(rng.uniform(22.0, 24.0)),
        bottom=float(rng.uniform(80.0, 83.5)),
    )


def _random_eyes(rng: np.random.Generator, short: bool) -> Eyes:
    return Eyes(
        apart=float(rng.uniform(10.3, 11.8)),
        y=float(rng.uniform(48.5, 50.5)),
        width=float(rng.uniform(5.2, 6.2)),
        height=float(rng.uniform(4.0, 5.2)),
        tilt=float(rng.uniform(-0.05, 0.14)),
        colour=_pick(rng, EYES),
        lashes=bool(rng.uniform() < (0.08 if short else 0.85)),
    )


def _random_mouth(rng: np.random.Generator, skin: Colour, short: bool) -> Mouth:
    red = (196, 62, 74) if not short else (188, 84, 80)
    return Mouth(
        y=float(rng.uniform(68.6, 69.8)),
        width=float(rng.uniform(8.6, 10.6)),
        gap=float(rng.uniform(10.5, 12.5)),
        fullness=float(rng.uniform(1.25, 2.0)),
        smile=float(rng.uniform(1.0, 2.0)),
        colour=blend(skin, red, float(rng.uniform(0.35, 0.75) if not short else rng.uniform(0.3, 0.45))),
    )
