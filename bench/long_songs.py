"""Long songs with the built-in model: memory, time per clip, kills, seams and drift (docs/long_songs.md).

python bench/long_songs.py memory --seconds 10 600
python bench/long_songs.py kills --count 20
python bench/long_songs.py seams --seconds 60 --songs 2
python bench/long_songs.py seams --seconds 24 --only enhanced "enhanced --sections"
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RUN = "import sys; from singer_core.cli import main; sys.exit(main(sys.argv[1:]))"
MEGABYTE = 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    memory = parts.add_parser("memory")
    memory.add_argument("--seconds", type=float, nargs="+", default=[10, 600])
    memory.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    kills = parts.add_parser("kills")
    kills.add_argument("--count", type=int, default=20)
    kills.add_argument("--steps", type=int, default=4)
    kills.add_argument("--seed", type=int, default=0)
    seams = parts.add_parser("seams")
    seams.add_argument("--seconds", type=float, default=60)
    seams.add_argument("--songs", type=int, default=2)
    seams.add_argument("--steps", type=int, default=8)
    seams.add_argument("--shortest", type=float, default=8, help="seconds of a section at least")
    seams.add_argument("--only", nargs="+", help="names of rows")
    rests = parts.add_parser("rests")
    rests.add_argument("--seconds", type=float, default=14)
    rests.add_argument("--steps", type=int, default=8)
    args = parser.parse_args()
    if args.part == "memory" and args.worker:
        memory_worker(args.worker)
    else:
        parts_of = {"memory": measure_memory, "kills": measure_kills}
        {**parts_of, "seams": measure_seams, "rests": measure_rests}[args.part](args)


# Memory and time per clip


def song_file(folder: Path, seconds: float) -> Path:
    """A synthetic voice repeated to the length wanted: phrases of 20 s."""
    import torch

    from singer_core.audio.waveform import Waveform
    from singer_core.audio.wavfile import write_wave
    from singer_core.training.synthetic import Song

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
            command = [sys.executable, __file__, "memory", "--worker", str(song)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seen = json.loads(done.stdout.splitlines()[-1])
        spent = np.diff(seen["times"])
        edges = f"{spent[:10].mean():.3f} | {spent[-10:].mean():.3f}"
        row = f"| {seconds:g} s | {seen['frames']} | {seen['peak']:.0f} | {edges} | {seen['kilobytes']:.1f} |"
        print(row, flush=True)


def memory_worker(song: Path) -> None:
    """Sing a file at one step a clip; print frames, peak memory and the CPU time of every clip."""
    import resource

    from singer_core.cli import main as singer
    from singer_core.render.store import ClipStore
    from singer_core.render.video import probe_video

    times, sizes, save = [], [], ClipStore.save

    def watched(store: ClipStore, index: int, latents: object) -> None:
        save(store, index, latents)  # type: ignore[arg-type]
        times.append(time.process_time())
        sizes.append(store.path(index).stat().st_size / 16)

    ClipStore.save = watched  # type: ignore[method-assign]
    out = song.with_suffix(".mp4")
    arguments = [
        "demo",
        "--audio",
        str(song),
        "--steps",
        "1",
        "--out",
        str(out),
        "--quiet",
        "--device",
        "cpu",
    ]
    assert singer([*arguments, "--work-dir", str(song.parent / "work")]) == 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE
    frames = probe_video(out).frames
    print(json.dumps({"frames": frames, "peak": peak, "times": times, "kilobytes": max(sizes) / 1000}))


# Kills


def measure_kills(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film, work = folder / "out" / "film.mp4", folder / "work"
        film.parent.mkdir()
        command = [sys.executable, "-c", RUN, "demo", "--device", "cpu", "--quiet", "--out", str(film)]
        command += ["--steps", str(args.steps), "--work-dir", str(work)]
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
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
        subprocess.run(command, check=True, capture_output=True)
        left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        print(f"An unbroken run takes {whole:.1f} s. {kills} kills at random moments; in between")
        print(f"{finished} runs came to their end. Files afterwards: {', '.join(left)}.")
        print(f"The last file is {'byte-identical' if film.read_bytes() == unbroken else 'DIFFERENT'}.")


# Seams and drift


def rows(steps: int) -> dict[str, object]:
    """Name -> options, guidance as the built-in model wants it."""
    from singer_core.options import MODES

    few = {"steps": steps, "reference_scale": 1.0, "audio_scale": 1.0}
    found: dict[str, object] = {name: mode.but(**few) for name, mode in MODES.items()}
    enhanced = MODES["enhanced"].but(**few)
    paper = MODES["paper"].but(**few)
    found["paper, latents carried"] = paper.but(carry="latents")
    found["paper, latents carried, overlap 4"] = paper.but(carry="latents", overlap=4)
    found["the same, shared noise"] = paper.but(carry="latents", overlap=4, clip_noise="shared")
    found["the same, shared noise, overlap 8"] = paper.but(carry="latents", overlap=8, clip_noise="shared")
    for name, off in (
        ("clip_noise", "fresh"),
        ("hold_colours", 0.0),
        ("reanchor", 0.0),
    ):
        found[f"enhanced, {name} {off}"] = enhanced.but(**{name: off})
    found["enhanced, hold_colours 1"] = enhanced.but(hold_colours=1.0)
    found["enhanced, reanchor 1"] = enhanced.but(reanchor=1.0)
    found["enhanced --sections"] = enhanced
    return found


def measure_seams(args: argparse.Namespace) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    import held_out as h
    import torch

    from singer_core.audio.activity import with_activity
    from singer_core.audio.waveform import Waveform
    from singer_core.render.pipeline import SingerPipeline
    from singer_core.render.sections import join_sections, plan_sections

    models = h.Models.load(*h.packaged())
    print("| mode | seam ratio | drift, grey levels | largest drift | sync | CPU s |")
    print("|---|---:|---:|---:|---:|---:|")
    chosen = rows(args.steps)
    for name in ["truth", *chosen] if args.only is None else args.only:
        found = []
        for number in range(args.songs):
            show = h.performance(number, args.seconds)
            heard = h.features_of(show)
            song = show.song
            vocals = Waveform(torch.from_numpy(np.asarray(song.vocals, np.float32))[None], song.rate)
            heard = with_activity(heard, vocals)
            portrait, began = h.portrait_of(show), time.process_time()
            options = chosen.get(name, chosen["official"])
            pipeline = SingerPipeline(models.network, models.vae, options)
            places = [(clip.start, options.overlap) for clip in pipeline.plan(heard)[1:]]
            if name == "truth":
                frames = h.true_frames(show)
            elif "--sections" in name:
                shortest = round(args.shortest * heard.fps)
                sections = plan_sections(heard.activity, heard.frames, shortest)
                places = [(section.start, section.shared) for section in sections[1:]]
                frames = as_frames(
                    join_sections(
                        sections,
                        lambda s, p=pipeline, q=portrait, a=heard: p.render(q, a, 1, span=s.span),
                        models.vae.decode,
                    )
                )
            else:
                frames = as_frames(clip.pictures for clip in pipeline.render(portrait, heard, 1))
            frames = frames[: len(show)]
            spent = time.process_time() - began
            found.append([seam_ratio(frames, places), *drifts(frames), sync(h, show, frames), spent])
        ratio, drift, largest, together, spent = np.nanmean(found, axis=0)
        name = f"{name} ({len(places)} joints)" if "--sections" in name else name
        numbers = f"{ratio:.3f} | {drift:.2f} | {largest:.2f} | {together:.2f} | {spent:.0f}"
        print(f"| {name} | {numbers} |", flush=True)


def measure_rests(args: argparse.Namespace) -> None:
    """What the silence gate does to the mouth where nothing is sung."""
    sys.path.insert(0, str(Path(__file__).parent))
    import held_out as h
    import torch

    from singer_core.audio.activity import vocal_activity
    from singer_core.audio.motion import MotionResponse, motion_weights
    from singer_core.audio.waveform import Waveform
    from singer_core.render.pipeline import SingerPipeline

    models, show = h.Models.load(*h.packaged()), h.performance(0, args.seconds)
    heard, vocals = h.features_of(show), np.asarray(show.song.vocals, np.float32)
    activity = vocal_activity(Waveform(torch.from_numpy(vocals)[None], show.song.rate), 25.0, heard.frames)
    pipeline = SingerPipeline(models.network, models.vae, h.DEMO.but(steps=args.steps))
    rest = h.resting(show.motion.sung)
    print("| --silence | opening in rests | opening while singing | motion in rests over singing | sync |")
    print("|---:|---:|---:|---:|---:|")
    for silence in (0.0, 0.5, 1.0):
        weights = motion_weights(heard.frames, 25.0, MotionResponse(silence=silence), activity).tensor
        clips = pipeline.render(h.portrait_of(show), heard, 1, weights)
        frames = as_frames(clip.pictures for clip in clips)[: len(show)]
        opening = h.openings(show, frames)
        numbers = [opening[rest].mean(), opening[show.motion.sung].mean()]
        numbers += [h.rest_motion(opening, show.motion.sung), sync(h, show, frames)]
        print(f"| {silence:g} | {' | '.join(f'{number:.3f}' for number in numbers)} |", flush=True)


def as_frames(pictures: object) -> np.ndarray:
    """(s, H, W, 3) uint8."""
    parts = [(p.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8) for p in pictures]  # type: ignore[attr-defined]
    return np.concatenate(parts)


def seam_ratio(frames: np.ndarray, places: list[tuple[int, int]]) -> float:
    """Mean frame difference where parts meet, all of a cross-fade, over that everywhere else."""
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean((1, 2, 3))
    seam = np.zeros(len(change), bool)
    for start, shared in places:
        seam[start - 1 : start + shared] = True
    return float(change[seam].mean() / change[~seam].mean()) if seam.any() else float("nan")


def drifts(frames: np.ndarray, span: int = 25) -> tuple[float, float]:
    """Grey levels from the first second's mean colour to the last second's, and to the farthest one."""
    means = np.stack([part.mean((0, 1, 2)) for part in np.array_split(frames, max(len(frames) // span, 2))])
    far = np.abs(means - means[0]).mean(-1)
    return float(far[-1]), float(far.max())


def sync(h: object, show: object, frames: np.ndarray) -> float:
    """Correlation of the mouth's opening with the true one."""
    made, true = h.openings(show, frames), show.motion.opening  # type: ignore[attr-defined]
    return float(h.correlation(made, true, h.best_lag(made, true)))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
