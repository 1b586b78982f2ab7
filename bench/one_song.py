"""The built-in singer sings one file at one step a clip; what it took, as JSON (bench/long_songs.py memory).

frames      of the video
peak        memory of this process in MB (Linux)
times       CPU seconds of this process when each clip had been kept
kilobytes   a frame on disk
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from torch import Tensor

from singer_core.cli import main as singer
from singer_core.render.store import ClipStore
from singer_core.render.video import probe_video


def main() -> None:
    song = Path(sys.argv[1])
    times, sizes, save = [], [], ClipStore.save

    def watched(store: ClipStore, index: int, latents: Tensor) -> None:
        save(store, index, latents)
        times.append(time.process_time())
        sizes.append(store.path(index).stat().st_size / len(latents))

    ClipStore.save = watched  # type: ignore[method-assign]
    out = song.with_suffix(".mp4")
    arguments = ["demo", "--audio", str(song), "--out", str(out), "--quiet"]
    assert singer([*arguments, "--device", "cpu", "--work-dir", str(song.parent / "work")]) == 0
    # not getrusage, which counts the process that started this one
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert peak is not None
    found = {"frames": probe_video(out).frames, "peak": int(peak[1]) * 1024 / 1e6, "times": times}
    print(json.dumps({**found, "kilobytes": max(sizes) / 1000}))


if __name__ == "__main__":
    main()
