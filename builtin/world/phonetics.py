"""Vowels, consonants and styles of the synthetic singer: what each sounds like and how the mouth forms it.

Formants are rounded averages of adult voices at vocal-tract scale 1 (the order of Peterson and Barney, 1952);
a singer multiplies them by a personal factor. Mouth shapes are the drawing's own: opening 0..1, rounding
0..1, spread 0..1 (corners pulled apart).
"""

from __future__ import annotations

from dataclasses import dataclass

Formants = tuple[float, float, float, float, float]  # Hz

VOWELS = "aeiou"
REST = -1  # vowel label of a moment without a vowel

BANDWIDTHS: Formants = (75.0, 95.0, 130.0, 180.0, 260.0)  # Hz, at -3 dB
UPPER_FORMANTS = ((5600.0, 420.0), (6900.0, 520.0))  # Hz and width: the same for every vowel


@dataclass(frozen=True)
class Phoneme:
    """One sound of the lyrics.

    formants             Hz, at vocal-tract scale 1
    opening .. spread    mouth target, each 0..1
    voicing              level of the sung tone, relative to a vowel
    breath               level of noise shaped by the formants (h)
    hiss                 level of band noise: fricatives, and the burst that ends a stop
    hiss_centre          Hz, middle of the band noise
    seconds              nominal length of a consonant
    closed               the lips touch (m, b, p)
    stop                 silent closure followed by a burst
    """

    formants: Formants
    opening: float
    rounding: float = 0.0
    spread: float = 0.3
    voicing: float = 1.0
    breath: float = 0.0
    hiss: float = 0.0
    hiss_centre: float = 4000.0
    seconds: float = 0.0
    closed: bool = False
    stop: bool = False


PHONEMES: dict[str, Phoneme] = {
    "a": Phoneme((740, 1150, 2550, 3450, 4350), opening=1.0, spread=0.35),
    "e": Phoneme((490, 1850, 2500, 3450, 4350), opening=0.60, spread=0.75),
    "i": Phoneme((300, 2250, 2950, 3500, 4400), opening=0.34, spread=1.0),
    "o": Phoneme((490, 860, 2450, 3350, 4250), opening=0.70, rounding=0.70, spread=0.0),
    "u": Phoneme((320, 750, 2300, 3300, 4200), opening=0.38, rounding=1.0, spread=0.0),
    "m": Phoneme((270, 1000, 2150, 3200, 4200), 0.0, voicing=0.26, seconds=0.085, closed=True),
    "b": Phoneme((240, 800, 2200, 3200, 4200), 0.0, voicing=0.12, seconds=0.075, closed=True),
    "p": Phoneme(
        (300, 800, 2200, 3200, 4200),
        0.0,
        voicing=0.0,
        hiss=0.10,
        hiss_centre=900,
        seconds=0.085,
        closed=True,
        stop=True,
    ),
    "n": Phoneme((270, 1500, 2500, 3300, 4300), 0.14, voicing=0.26, seconds=0.075),
    "l": Phoneme((360, 1150, 2750, 3400, 4300), 0.22, voicing=0.38, seconds=0.070),
    "r": Phoneme((410, 1200, 1700, 3200, 4200), 0.22, rounding=0.3, voicing=0.38, seconds=0.070),
    "w": Phoneme((310, 650, 2250, 3300, 4200), 0.14, rounding=1.0, spread=0.0, voicing=0.34, seconds=0.075),
    "y": Phoneme((280, 2250, 2950, 3500, 4400), 0.20, spread=0.9, voicing=0.36, seconds=0.065),
    "d": Phoneme((250, 1700, 2600, 3300, 4300), 0.16, voicing=0.10, seconds=0.065),
    "t": Phoneme(
        (300, 1700, 2600, 3300, 4300),
        0.14,
        voicing=0.0,
        hiss=0.16,
        hiss_centre=4800,
        seconds=0.080,
        stop=True,
    ),
    "k": Phoneme(
        (300, 1900, 2300, 3300, 4300),
        0.20,
        voicing=0.0,
        hiss=0.15,
        hiss_centre=2100,
        seconds=0.080,
        stop=True,
    ),
    "s": Phoneme(
        (320, 1700, 2600, 3300, 4300),
        0.10,
        spread=0.6,
        voicing=0.0,
        hiss=0.13,
        hiss_centre=6300,
        seconds=0.10,
    ),
    "f": Phoneme((320, 1100, 2200, 3300, 4300), 0.06, voicing=0.0, hiss=0.06, hiss_centre=5200, seconds=0.09),
    "h": Phoneme((600, 1300, 2500, 3400, 4300), 0.30, voicing=0.0, breath=0.15, seconds=0.07),
    "": Phoneme((500, 1500, 2500, 3500, 4500), 0.0, voicing=0.0),  # rest
}


@dataclass(frozen=True)
class Style:
    """How a genre sings.

    tempo            beats a minute, lowest and highest
    bars             rhythms of one bar, in beats; every bar lasts four
    endings          rhythms of a phrase's last bar; negative = rest
    onsets           consonants to draw from, "-" = none
    vowels           vowels to draw from
    vibrato          cents, half of the peak-to-peak extent; vibrato_rate in Hz; vibrato_delay in seconds
    glide            seconds a step between two notes takes
    articulation     seconds the mouth needs from one target to the next
    consonant        factor on consonant lengths
    transpose        semitones added to the singer's middle pitch
    melodic          chance of moving to another scale step
    jaw              factor on the vowels' opening
    ring             gain of the singer's formant near 2.9 kHz, 0 = none
    noise            share of the tone that is noise, 0..1
    roughness        depth of the period-doubled amplitude modulation, 0..1
    band             instruments of the accompaniment
    """

    tempo: tuple[float, float]
    bars: tuple[tuple[float, ...], ...]
    endings: tuple[tuple[float, ...], ...]
    onsets: str
    vowels: str
    vibrato: float
    vibrato_rate: float
    vibrato_delay: float
    glide: float
    articulation: float
    consonant: float = 1.0
    transpose: int = 0
    melodic: float = 0.85
    jaw: float = 1.0
    ring: float = 0.0
    noise: float = 0.03
    roughness: float = 0.0
    band: tuple[str, ...] = ("keys", "bass", "drums")


STYLES: dict[str, Style] = {
    "pop": Style(
        tempo=(84, 126),
        bars=((1, 1, 0.5, 0.5, 1), (0.5, 0.5, 1, 0.5, 0.5, 1), (1.5, 0.5, 1, 1), (0.5, 0.5, 0.5, 0.5, 2)),
        endings=((1, 1, 1, -1), (0.5, 0.5, 1.5, -1.5), (1, 0.5, 0.5, 1, -1), (1.5, 0.5, -2)),
        onsets="--llnnmmbdtkswyrhpf",
        vowels="aaaeeiioou",
        vibrato=32,
        vibrato_rate=5.6,
        vibrato_delay=0.28,
        glide=0.09,
        articulation=0.14,
    ),
    "operatic": Style(
        tempo=(60, 76),
        bars=((2, 2), (3, 1), (4,), (1, 3)),
        endings=((3, -1), (1, 2, -1), (2, -2)),
        onsets="----llmnrwdb",
        vowels="aaaaoooeiu",
        vibrato=95,
        vibrato_rate=5.4,
        vibrato_delay=0.12,
        glide=0.16,
        articulation=0.18,
        jaw=1.1,
        ring=1.0,
        noise=0.01,
        band=("strings", "bass"),
    ),
    "rap": Style(
        tempo=(122, 130),
        bars=((0.25,) * 16, (0.25,) * 12 + (0.5, 0.25, 0.25), (0.25,) * 6 + (0.5,) + (0.25,) * 8),
        endings=((0.25,) * 12 + (0.5, -0.5), (0.25,) * 10 + (0.5, -1.0), (0.25,) * 8 + (-2.0,)),
        onsets="-bbddttkkppmnlrsfy",
        vowels="aaeeiiou",
        vibrato=0,
        vibrato_rate=5.0,
        vibrato_delay=1.0,
        glide=0.05,
        articulation=0.075,
        consonant=0.55,
        transpose=-3,
        melodic=0.3,
        jaw=0.85,
        noise=0.06,
        band=("bass", "drums"),
    ),
    "growl": Style(
        tempo=(96, 132),
        bars=((1, 1, 2), (2, 2), (1, 0.5, 0.5, 2), (1.5, 0.5, 2)),
        endings=((1, 2, -1), (2, -2), (1, 1, 1, -1)),
        onsets="--bdkkrrhwp",
        vowels="aaaoooe",
        vibrato=0,
        vibrato_rate=5.0,
        vibrato_delay=1.0,
        glide=0.05,
        articulation=0.13,
        transpose=-9,
        melodic=0.45,
        noise=0.8,
        roughness=0.7,
        band=("guitar", "bass", "drums"),
    ),
}
