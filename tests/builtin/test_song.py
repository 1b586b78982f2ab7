"""The synthetic singer: what is heard is what the score and the curves declare."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import find_peaks, resample_poly

from builtin.world import STYLES, VOWELS, Song
from builtin.world.articulation import articulate
from builtin.world.phonetics import PHONEMES
from builtin.world.score import Score
from builtin.world.voice import response, sing

RATE = 16000
FRAME = 640  # samples of a video frame at 25 fps
STYLE_NAMES = tuple(STYLES)


@pytest.fixture(scope="module")
def songs() -> dict[str, Song]:
    return {style: Song.random(3, 8.0, style) for style in STYLE_NAMES}


def levels(sound: NDArray[np.float32], hop: int = FRAME) -> tuple[NDArray, NDArray]:
    """Times of the middles and RMS of consecutive pieces."""
    pieces = sound[: len(sound) // hop * hop].reshape(-1, hop)
    return (np.arange(len(pieces)) + 0.5) * hop / RATE, np.sqrt((pieces**2).mean(axis=1))


def track(sound: NDArray[np.float32], window: int = 1024, hop: int = 80) -> tuple[NDArray, NDArray, NDArray]:
    """Times, pitch (Hz) and periodicity 0..1 by normalised autocorrelation, independent of the synthesis."""
    taper = np.hanning(window)
    pieces = np.lib.stride_tricks.sliding_window_view(sound, window)[::hop] * taper
    lags = slice(RATE // 700, RATE // 60)
    own = np.fft.irfft(np.abs(np.fft.rfft(taper, 2 * window)) ** 2)[: lags.stop]
    full = np.fft.irfft(np.abs(np.fft.rfft(pieces, 2 * window, axis=1)) ** 2)[:, : lags.stop]
    curve = (full / own / (full[:, :1] / own[0] + 1e-9))[:, lags]
    inner = curve[:, 1:-1]
    peaks = (
        (inner > curve[:, :-2]) & (inner >= curve[:, 2:]) & (inner > 0.9 * curve.max(axis=1, keepdims=True))
    )
    best = peaks.argmax(axis=1) + 1
    rows = np.arange(len(curve))
    left, top, right = (curve[rows, best + d] for d in (-1, 0, 1))
    shift = 0.5 * (left - right) / (left - 2 * top + right - 1e-12)
    return (rows * hop + window / 2) / RATE, RATE / (best + shift + lags.start), top


@pytest.mark.parametrize("style", STYLE_NAMES)
def test_same_seed_same_bits_other_seed_other_song(style: str) -> None:
    first, again, other = (Song.random(seed, 3.0, style) for seed in (5, 5, 6))
    assert first.vocals.tobytes() == again.vocals.tobytes() and first.mix.tobytes() == again.mix.tobytes()
    assert first.curves.opening.tobytes() == again.curves.opening.tobytes()
    assert not np.array_equal(first.vocals, other.vocals)


def test_a_song_has_the_asked_length_and_stays_within_full_scale(songs: dict[str, Song]) -> None:
    for song in songs.values():
        assert song.vocals.shape == song.mix.shape == (8 * RATE,) and song.vocals.dtype == np.float32
        assert np.abs(song.vocals).max() <= 1.0 and np.abs(song.mix).max() <= 1.0
    assert len(Song.random(0, 1.23, rate=44100).vocals) == round(1.23 * 44100)
    assert np.array_equal(Song.random(0, 2.0, accompaniment=False).backing, np.zeros(2 * RATE))


def test_mouth_is_closed_and_voice_silent_in_rests(songs: dict[str, Song]) -> None:
    for style, song in songs.items():
        curves = song.curves
        assert 0.05 < (~curves.sung).mean() < 0.5, style
        assert (curves.opening[~curves.sung] == 0.0).all()
        assert curves.opening.min() == 0.0 and 0.6 < curves.opening.max() <= 1.0
        times, level = levels(song.vocals)
        near = np.interp(times, curves.times, curves.sung.astype(float), left=0, right=0)
        far = (near == 0) & (np.roll(near, 1) == 0) & (np.roll(near, -1) == 0)
        assert level[far].max() < 0.02 * level.max(), style


@pytest.mark.parametrize("style", STYLE_NAMES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_opening_follows_the_vocal_level(style: str, seed: int) -> None:
    song = Song.random(seed, 6.0, style)
    times, level = levels(song.vocals)
    assert np.corrcoef(level, song.curves.at("opening", times))[0, 1] >= 0.8


def test_lips_touch_on_bilabial_consonants(songs: dict[str, Song]) -> None:
    touched = 0
    for style, song in songs.items():
        for note in song.score.notes:
            if PHONEMES[note.onset].closed:
                middle = note.start - 0.5 * note.onset_seconds(STYLES[style])
                assert song.curves.at("opening", np.array([middle]))[0] < 1e-3
                touched += 1
    assert touched > 5


def test_vowels_open_and_round_as_they_should() -> None:
    opening: dict[str, list[float]] = {vowel: [] for vowel in VOWELS}
    rounding: dict[str, list[float]] = {vowel: [] for vowel in VOWELS}
    for seed in range(6):
        song = Song.random(seed, 8.0, accompaniment=False)
        for note in song.score.notes:
            middle = np.array([0.5 * (note.start + note.end)])
            if note.end - note.start > 0.3 and song.curves.at("vowel", middle)[0] == VOWELS.index(note.vowel):
                opening[note.vowel].append(song.curves.at("opening", middle)[0])
                rounding[note.vowel].append(song.curves.at("rounding", middle)[0])
    wide, round_ = ({v: float(np.mean(values)) for v, values in d.items()} for d in (opening, rounding))
    assert wide["a"] > wide["o"] > wide["e"] > wide["i"] and wide["a"] > 2 * wide["u"]
    assert min(round_["o"], round_["u"]) > 0.6 and max(round_["a"], round_["e"], round_["i"]) < 0.05


@pytest.mark.parametrize("style", ["pop", "operatic"])
def test_sung_pitch_is_the_declared_pitch(songs: dict[str, Song], style: str) -> None:
    song = songs[style]
    times, pitch, _ = track(song.vocals)
    clear = song.curves.at("tone", times) > 0.3
    cents = 1200 * np.log2(pitch / song.curves.at("pitch", times))[clear]
    assert clear.sum() > 300 and np.median(np.abs(cents)) < 10


def test_styles_differ_in_vibrato() -> None:
    def extent(style: str) -> float:
        found = []
        for seed in range(5):
            song = Song.random(seed, 8.0, style, accompaniment=False)
            times, pitch, _ = track(song.vocals)
            for note in song.score.notes:
                steady = (times > note.start + 0.5) & (times < note.end - 0.15)
                if steady.sum() > 36:  # 0.18 s, one cycle
                    cents = 1200 * np.log2(pitch[steady] / np.median(pitch[steady]))
                    found.append(np.sqrt(2) * np.std(cents))  # amplitude of a sine
        return float(np.median(found))

    assert 20 < extent("pop") < 50
    assert 70 < extent("operatic") < 125


def test_styles_differ_in_syllable_rate() -> None:
    def heard(style: str) -> float:
        song = Song.random(1, 8.0, style, accompaniment=False)
        _, level = levels(song.vocals, 160)
        smooth = np.convolve(level, np.hanning(7) / np.hanning(7).sum(), mode="same")
        return len(find_peaks(smooth, prominence=0.08 * smooth.max())[0]) / (8 * song.curves.sung.mean())

    def declared(style: str) -> float:
        song = Song.random(1, 8.0, style, accompaniment=False)
        return len(song.score.notes) / (8 * song.curves.sung.mean())

    assert 7.0 < declared("rap") < 8.6 and declared("operatic") < 1.2
    assert heard("rap") > 5.5 and heard("rap") > 2.0 * heard("pop") and heard("operatic") < 2.0


def test_growl_is_noise_and_pop_is_tone(songs: dict[str, Song]) -> None:
    def periodicity(style: str) -> float:
        times, _, top = track(songs[style].vocals)
        return float(np.median(top[songs[style].curves.at("tone", times) > 0.3]))

    assert periodicity("pop") > 0.85 and periodicity("growl") < 0.6


@pytest.mark.parametrize("style", ["pop", "rap"])
@pytest.mark.parametrize("seed", [2, 4, 7])
def test_drums_fall_on_the_declared_beats(style: str, seed: int) -> None:
    """At every beat the energy jumps within 30 ms, more than at any quarter beat after one."""
    song = Song.random(seed, 8.0, style)
    assert np.allclose(np.diff(song.beats), 60.0 / song.tempo)

    def jump(seconds: float) -> float:
        k = round(seconds * RATE)
        before, after = song.backing[k - 480 : k], song.backing[k : k + 480]
        return float((after**2).mean() / ((before**2).mean() + 1e-9))

    inside = song.beats[(song.beats > 0.05) & (song.beats < 7.5)]
    away = [jump(beat + 15.0 / song.tempo) for beat in inside]
    assert min(jump(beat) for beat in inside) > max(4.0, *away)


def test_notes_start_on_half_or_quarter_beats_and_vowels_are_labelled(songs: dict[str, Song]) -> None:
    for song in songs.values():
        for note in song.score.notes:
            place = (note.start - song.beats[0]) * song.tempo / 60.0
            assert abs(4 * place - round(4 * place)) < 1e-6
        labels = song.curves.vowel
        assert set(np.unique(labels)) <= {-1, 0, 1, 2, 3, 4}
        assert (labels[~song.curves.sung] == -1).all()


def test_formant_response_peaks_at_the_formants() -> None:
    formants = np.array(PHONEMES["a"].formants)[:, None]
    widths = np.full(5, 60.0)
    frequency = np.arange(0.0, 3000.0, 2.0)
    gain = np.abs(response(frequency[:, None], formants, widths))[:, 0]
    assert gain[0] == pytest.approx(1.0)
    peaks = frequency[find_peaks(gain)[0]]
    assert np.allclose(peaks, PHONEMES["a"].formants[:3], atol=30.0)


def test_another_rate_sings_the_same_song() -> None:
    low, high = Song.random(8, 4.0, accompaniment=False), Song.random(8, 4.0, accompaniment=False, rate=48000)
    assert low.score == high.score and np.array_equal(low.curves.opening, high.curves.opening)
    again = resample_poly(high.vocals, 1, 3)
    _, level = levels(low.vocals)
    _, other = levels(again.astype(np.float32))
    assert np.corrcoef(level, other)[0, 1] > 0.99


def test_tone_is_levelled_to_its_curve_whatever_the_vowel() -> None:
    score = Score.random(np.random.default_rng(1), 4.0, "pop")
    curves = articulate(score, 4.0, np.random.default_rng(2))
    sound = sing(curves, score.singer, "pop", RATE, np.random.default_rng(3)).astype(np.float32)
    times, level = levels(sound)
    tone = curves.at("tone", times)
    steady = (tone > 0.25) & (curves.at("vowel", times) >= 0)
    ratio = level[steady] / tone[steady]
    assert steady.sum() > 30 and ratio.std() / ratio.mean() < 0.25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 2.0, "style": "yodel"}, "Unknown style 'yodel'"),
        ({"seconds": 0.2}, "at least 0.5"),
        ({"seconds": float("nan")}, "at least 0.5"),
        ({"seconds": 2.0, "rate": 4000}, "8000 or more"),
    ],
)
def test_bad_input_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Song.random(0, **arguments)


def test_the_shortest_song_may_have_no_note() -> None:
    for seed in range(8):
        song = Song.random(seed, 0.5)
        assert np.isfinite(song.mix).all() and (song.curves.opening[~song.curves.sung] == 0).all()
