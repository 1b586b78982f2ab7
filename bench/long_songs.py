"""Long songs with the built-in model: memory, time per clip, kills, seams and drift (docs/long_songs.md).

python -m bench.long_songs memory --seconds 10 600
python -m bench.long_songs kills --count 20 --steps 1
python -m bench.long_songs seams --seconds 60 --songs 2 --out seams.jsonl
python -m bench.long_songs seams --seconds 24 --only enhanced "enhanced --sections"
python -m bench.long_songs rests
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from builtin import held_out as h
from singer_core.audio.activity import with_activity
from singer_core.audio.motion import MotionResponse, motion_weights
from singer_core.audio.waveform import Waveform
from singer_core.render.pipeline import SingerPipeline
from singer_core.render.sections import join_sections, plan_sections
from singer_core.settings import MODES, SingerOptions

RUN = "import sys; from singer_core.cli import main; sys.exit(main(sys.argv[1:]))"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    memory = parts.add_parser("memory")
    memory.add_argument("--seconds", type=float, nargs="+", default=[10, 600])
    kills = parts.add_parser("kills")
    kills.add_argument("--count", type=int, default=20)
    kills.add_argument("--steps", type=int, default=h.DEMO.steps)
    kills.add_argument("--seed", type=int, default=0)
    seams = parts.add_parser("seams")
    seams.add_argument("--seconds", type=float, default=60)
    seams.add_argument("--first", type=int, default=0, help="number of the first singer")
    seams.add_argument("--songs", type=int, default=2)
    seams.add_argument("--steps", type=int, default=h.DEMO.steps)
    seams.add_argument("--out", type=Path, help="JSON lines of results; a run that was stopped goes on there")
    seams.add_argument("--shortest", type=float, default=8, help="seconds of a section at least")
    seams.add_argument("--only", nargs="+", help="names of rows")
    rests = parts.add_parser("rests")
    rests.add_argument("--seconds", type=float, default=14)
    rests.add_argument("--songs", type=int, default=2)
    args = parser.parse_args()
    parts_of = {"memory": measure_memory, "kills": measure_kills}
    {**parts_of, "seams": measure_seams, "rests": measure_rests}[args.part](args)


# Memory and time per clip


def song_file(folder: Path, seconds: float) -> Path:
    """A synthetic voice repeated to the length wanted: phrases of 20 s."""
    from builtin.world import Song
    from singer_core.audio.waveform import write_wave

    song = Song.random(7, 20.0, accompaniment=False)
    samples = np.resize(song.vocals, round(seconds * song.rate)).astype(np.float32)
    return write_wave(folder / f"{seconds:g}s.wav", Waveform(torch.from_numpy(samples)[None], song.rate))


def measure_memory(args: argparse.Namespace) -> None:
    print(
        "| song | frames | peak memory, MB | CPU s a clip, first ten | last ten | clips on disk, KB a frame |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for seconds in args.seconds:
        with tempfile.TemporaryDirectory() as folder:
            song = song_file(Path(folder), seconds)
            command = [sys.executable, str(Path(__file__).with_name("one_song.py")), str(song)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seen = json.loads(done.stdout.splitlines()[-1])
        spent = np.diff(seen["times"])
        edges = f"{spent[:10].mean():.3f} | {spent[-10:].mean():.3f}"
        row = f"| {seconds:g} s | {seen['frames']} | {seen['peak']:.0f} | {edges} | {seen['kilobytes']:.1f} |"
        print(row, flush=True)


# Kills


def measure_kills(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film, work = folder / "out" / "film.mp4", folder / "work"
        film.parent.mkdir()
        command = [sys.executable, "-c", RUN, "demo", "--device", "cpu", "--quiet", "--out", str(film)]
        command += ["--steps", str(args.steps), "--work-dir", str(work)]
        began = time.monotonic()
        subprocess.run([*command, "--no-keep-clips"], check=True, capture_output=True)
        whole = time.monotonic() - began
        unbroken = film.read_bytes()
        film.unlink()
        moments, kills, finished = random.Random(args.seed), 0, 0
        while kills < args.count:
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            try:
                process.wait(moments.uniform(0, 0.75 * whole))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                if os.environ.get("VERBOSE"):
                    print(f"kill {kills}: {len(list(work.glob('*/clip-*')))} clips", flush=True)
                continue
            finished += 1  # went through before its moment came: the next kills begin anew
            assert film.read_bytes() == unbroken
            film.unlink()
            shutil.rmtree(work)
        subprocess.run(command, check=True, capture_output=True)
        kept = {*work.glob("*/clip-*"), *work.glob("*/lock")}
        files = {path for path in folder.rglob("*") if path.is_file()}
        left = sorted(str(path.relative_to(folder)) for path in files - kept)
        print(f"An unbroken run takes {whole:.1f} s. {kills} kills at random moments; in between")
        print(f"{finished} runs came to their end. Files afterwards: {', '.join(left)}.")
        print(f"The last file is {'byte-identical' if film.read_bytes() == unbroken else 'DIFFERENT'}.")


# Seams and drift


TRUTH, SECTIONS = "truth", "enhanced, sections"


def rows(steps: int) -> dict[str, SingerOptions]:
    """Name -> options, guided as the built-in model wants it."""
    wanted = {"steps": steps, "reference_scale": h.DEMO.reference_scale, "audio_scale": h.DEMO.audio_scale}
    modes = {name: mode.but(**wanted) for name, mode in MODES.items()}
    enhanced = modes["enhanced"]
    return {
        TRUTH: enhanced,
        **modes,
        "demo": h.DEMO.but(steps=steps),
        "enhanced, reanchor 0": enhanced.but(reanchor=0.0),
        "enhanced, overlap 0": enhanced.but(overlap=0),
        "enhanced, hold_colours 1": enhanced.but(hold_colours=1.0),
        "enhanced, clip_noise shared": enhanced.but(clip_noise="shared"),
        SECTIONS: enhanced,
    }


def measure_seams(args: argparse.Namespace) -> None:
    models, chosen = h.Models.load(*h.packaged()), rows(args.steps)
    ledger = h.Ledger(args.out or Path(tempfile.mkdtemp()) / "seams.jsonl")
    names, songs = args.only or list(chosen), range(args.first, args.first + args.songs)
    print("| mode | song | seam ratio | drift, grey levels | largest drift | sync | CPU s |")
    print("|---|---|---:|---:|---:|---:|---:|")
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for number in songs:
        for name in names:
            numbers = seams_of(models, chosen[name], name, number, args, ledger)
            found[name].append(numbers)
            print_row(name, str(number), numbers)
    for name in names if len(songs) > 1 else ():
        print_row(name, "mean", [float(x) for x in np.nanmean(found[name], axis=0)])


def print_row(name: str, song: str, numbers: list[float]) -> None:
    ratio, drift, largest, sync, spent = numbers
    print(
        f"| {name} | {song} | {ratio:.3f} | {drift:.2f} | {largest:.2f} | {sync:.2f} | {spent:.0f} |",
        flush=True,
    )


def seams_of(
    models: h.Models,
    options: SingerOptions,
    name: str,
    number: int,
    args: argparse.Namespace,
    ledger: h.Ledger,
) -> list[float]:
    """Seam ratio, drift to the last and to the farthest second, sync, CPU seconds; kept in the ledger."""
    names = {"row": name, "song": number, "seconds": args.seconds, "shortest": args.shortest}
    key = h.key_of(models, options, **names)
    if key in ledger.found:
        return ledger.found[key]["numbers"]
    show = h.performance(number, args.seconds, models.size)
    began = time.process_time()
    frames, places = sung(models, options, name, show, args.shortest)
    spent = time.process_time() - began
    drifts = h.drifts(frames)
    sync = h.sync(h.openings(show, frames), show.motion.opening)
    numbers = [h.seam_ratio(frames, places), float(drifts[-1]), float(drifts.max()), sync, spent]
    return ledger.add(key, {"numbers": numbers})["numbers"]


def sung(
    models: h.Models, options: SingerOptions, name: str, show: h.Performance, shortest: float
) -> tuple[h.Frames, list[tuple[int, int]]]:
    """All frames of a song, and the places where its parts meet."""
    if name == TRUTH:
        return h.true_frames(show), h.joints(len(show), options)
    heard, portrait = h.features_of(show), h.portrait_of(show)
    heard = with_activity(heard, vocals_of(show))
    pipeline = SingerPipeline(models.network, models.vae, options)
    if name != SECTIONS:
        frames = h.as_frames(clip.pictures for clip in pipeline.render(portrait, heard, 1))
        return frames[: len(show)], h.joints(len(show), options)
    assert heard.activity is not None
    sections = plan_sections(heard.activity, heard.frames, round(shortest * heard.fps))
    pictures = join_sections(
        sections, lambda section: pipeline.render(portrait, heard, 1, span=section.span), models.vae.decode
    )
    places = [(section.start, section.shared) for section in sections[1:]]
    return h.as_frames(pictures)[: len(show)], places


def vocals_of(show: h.Performance) -> Waveform:
    return Waveform(torch.from_numpy(np.asarray(show.song.vocals, np.float32))[None], show.song.rate)


# Rests


def measure_rests(args: argparse.Namespace) -> None:
    """What the silence gate does to the mouth where nothing is sung; the options of `singer demo`."""
    models = h.Models.load(*h.packaged())
    pipeline = SingerPipeline(models.network, models.vae, h.DEMO)
    print("| --silence | song | opening in rests | opening when sung | motion in rests over sung | sync |")
    print("|---:|---|---:|---:|---:|---:|")
    for number in range(args.songs):
        show = h.performance(number, args.seconds, models.size)
        heard = with_activity(h.features_of(show), vocals_of(show))
        rest = h.resting(show.motion.sung)
        for silence in (0.0, 0.5, 1.0):
            response = MotionResponse(silence=silence)
            weights = motion_weights(heard.frames, heard.fps, response, heard.activity)
            clips = pipeline.render(h.portrait_of(show), heard, 1, weights)
            opening = h.openings(show, h.as_frames(clip.pictures for clip in clips)[: len(show)])
            numbers = [opening[rest].mean(), opening[show.motion.sung].mean()]
            numbers += [h.rest_motion(opening, show.motion.sung), h.sync(opening, show.motion.opening)]
            print(f"| {silence:g} | {number} | {' | '.join(f'{x:.3f}' for x in numbers)} |", flush=True)


if __name__ == "__main__":
    main()
