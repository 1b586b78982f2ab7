"""`singer batch`: many songs and portraits, over one process or all that `accelerate launch` starts."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import read_text, write_text
from ..settings import Job, required, setting
from . import sing
from .arguments import flat, parse
from .film import canvas_of, fill_stores, write_films

logger = logging.getLogger(__name__)

DESCRIPTION = """
Render the jobs of a file, one JSON object a line, with the arguments of `singer sing` by their names:

  {"defaults": {"checkpoint": "net.pth", "vae": "vae.safetensors", "mode": "enhanced", "steps": 20}}
  {"portrait": "ann.png", "song": "one.mp3", "landmarks": "ann.json", "out": "ann-one.mp4"}
  {"portrait": "bob.png", "song": "two.mp3", "landmarks": "bob.json", "set": {"overlap": 8}, "sections": true}

A line of defaults holds for the lines below it. Paths are relative to the current folder. A job that fails
does not stop the others. The report says what became of each; running the same again leaves out what is
done, goes on with what was begun, and tries again what failed.
"""

EPILOG = """
many processes, each with jobs of its own:
  accelerate launch --num_processes 4 -m singer_core.cli.batch jobs.jsonl

Without accelerators, add --multi_gpu: otherwise accelerate starts one process.
Jobs with "sections" are cut where the voice rests, and their sections are shared out too: on several machines
give a --work-dir that all of them see.

exit status: 0 all jobs are done, 1 some failed, 2 the file cannot be used.
"""

Record = dict[str, Any]  # of one job: line, status, out, seconds, process, error, stamp


@dataclass(frozen=True)
class Arguments:
    jobs: Path = required("One JSON object a line.", positional=True, metavar="JOBS.jsonl")
    report: Path | None = setting(None, "JSON to write (default: JOBS.report.json).")
    again: bool = setting(False, "Render again what the report says is done.")


@dataclass(frozen=True)
class Line:
    """A line of the file, and the video that it wants."""

    number: int
    job: Job

    @property
    def out(self) -> Path:
        return self.job.video

    def stamp(self) -> Record:
        """What the video is made of: all settings, and size and time of every file among them."""
        values = {name: value for name, value in sorted(flat(self.job).items()) if name not in _NO_INPUT}
        return {name: _state(value) for name, value in values.items()}


def _state(value: Any) -> str:
    if not isinstance(value, Path) or not value.exists():
        return str(value)
    return f"{value} {value.stat().st_size} {value.stat().st_mtime_ns}"


_ON = ("keep_clips",)  # what is true where nothing is said
_NO_INPUT = ("out", "preview", "plot", "work_dir", "quiet", "keep_clips")


@dataclass(frozen=True)
class Processes:
    """This process among all that render.

    share  picks this process's part of a list
    wait   returns when all processes are there
    """

    index: int = 0
    count: int = 1
    share: Callable[[Sequence[Any]], Sequence[Any]] = lambda items: items
    wait: Callable[[], None] = lambda: None


def run(given: Arguments) -> int:
    lines = read_jobs(given.jobs)
    report = Report(given.report or given.jobs.with_suffix(".report.json"), processes := find_processes())
    earlier = {} if given.again else report.read()
    processes.wait()  # all have read what the first of them now clears
    report.clear()
    processes.wait()
    report.start()
    todo = [line for line in lines if not is_done(line, earlier)]
    for line in lines:
        if line not in todo and processes.index == 0:
            report.add(earlier[str(line.out)])
    loaded = sing.Loaded()
    if processes.count > 1:
        for line in todo:
            if line.job.how.work.sections:
                _render_sections(line, processes, loaded)
        processes.wait()
    for line in processes.share(todo):
        report.add(_render(line, processes, loaded))
    failed = report.end(len(lines))
    return 1 if failed else 0


def read_jobs(path: Path) -> list[Line]:
    """The jobs of a file. Raises FileNotFoundError, and ValueError naming the line that is wrong."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Give one with a JSON object a line.")
    lines: list[Line] = []
    defaults: dict[str, Any] = {}
    for number, text in enumerate(read_text(path).splitlines(), 1):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
            if not isinstance(values, dict):
                raise ValueError(f"{text[:40]} is no JSON object")
            if set(values) == {"defaults"}:
                defaults |= values["defaults"]
                continue
            lines.append(Line(number, parse(Job, _words({**defaults, **values}), "singer sing")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path.name}, line {number}: {error}") from error
    if not lines:
        raise ValueError(
            f"{path.name} holds no jobs. Write one JSON object a line; `singer batch --help` shows some."
        )
    _check_outputs(path, lines)
    return lines


def _check_outputs(path: Path, lines: Sequence[Line]) -> None:
    first: dict[Path, int] = {}
    for line in lines:
        before, number = first.setdefault(line.out.absolute(), line.number), line.number
        if before != number:
            raise ValueError(f'{path.name}, line {number}: {line.out} is that of line {before}. Give "out".')


def _words(values: Mapping[str, Any]) -> list[str]:
    """The command line of a job: {"set": {"overlap": 4}, "quiet": true} -> --set=overlap=4 --quiet."""
    missing = [f'"{name}"' for name in ("portrait", "song") if name not in values]
    if missing:
        raise ValueError(f"there is no {' and no '.join(missing)}")
    words = ["--quiet"]
    for name, value in values.items():
        option = f"--{name.replace('_', '-')}"
        if value is False and name in _ON:
            words.append(f"--no-{name.replace('_', '-')}")
        if name in ("portrait", "song") or value is None or value is False:
            continue
        if value is True:
            words.append(option)
        elif isinstance(value, dict):
            words += [f"{option}={key}={_text(item)}" for key, item in value.items()]
        else:
            words += [f"{option}={item}" for item in (value if isinstance(value, list) else [value])]
    return [*words, "--", str(values["portrait"]), str(values["song"])]


def _text(value: Any) -> str:
    return ",".join(str(item) for item in value) if isinstance(value, list) else str(value)


def is_done(line: Line, records: Mapping[str, Record]) -> bool:
    """Whether a record says so, of the same inputs, and the video is still as it was written."""
    record = records.get(str(line.out), {})
    with contextlib.suppress(FileNotFoundError):
        state = line.out.stat()
        written = {"size": state.st_size, "time": state.st_mtime_ns}
        return (
            record.get("status") == "done" and record["stamp"] == line.stamp() and record["file"] == written
        )
    return False


def _render_sections(line: Line, processes: Processes, loaded: sing.Loaded) -> None:
    """This process's part of a song; whatever fails here is tried again by the one that joins it."""
    try:
        film = sing.prepare(line.job, loaded)
        fill_stores(film, processes.share(film.sections))
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        logger.warning("Line %d: %s", line.number, error)


def _render(line: Line, processes: Processes, loaded: sing.Loaded) -> Record:
    began = time.monotonic()
    record = {"line": line.number, "out": str(line.out), "process": processes.index, "stamp": line.stamp()}
    try:
        film, job = sing.prepare(line.job, loaded), line.job
        write_films([film], canvas_of(film, job.how), [job.song], job.video, job.how)
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        print(f"singer: line {line.number}: {error}", file=sys.stderr)
        return {**record, "status": "failed", "error": str(error)}
    state = line.out.stat()
    written = {"size": state.st_size, "time": state.st_mtime_ns}
    seconds = round(time.monotonic() - began, 1)
    return {**record, "status": "done", "frames": film.audio.frames, "seconds": seconds, "file": written}


class Report:
    """What became of the jobs: a part of each process, put together by the one that ends last."""

    def __init__(self, path: Path, processes: Processes) -> None:
        self.path = path
        self.processes = processes
        self.records: list[Record] = []

    def read(self) -> dict[str, Record]:
        """Records of earlier runs, also of one that was stopped, by the video's path."""
        records: list[Record] = []
        for path in (self.path, *self._parts()):
            with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
                records += json.loads(path.read_text(encoding="utf-8"))["jobs"]
        return {record["out"]: record for record in records}

    def clear(self) -> None:
        """Remove the parts of an earlier run; the first process does."""
        if self.processes.index == 0:
            for path in self._parts():
                path.unlink(missing_ok=True)

    def start(self) -> None:
        self._write(ended=False)

    def add(self, record: Record) -> None:
        self.records.append(record)
        self._write(ended=False)

    def end(self, jobs: int) -> int:
        """Close this process's part; returns how many of its jobs failed."""
        self._write(ended=True)
        with contextlib.suppress(FileNotFoundError):  # another process put them together just now
            parts = [json.loads(path.read_text(encoding="utf-8")) for path in self._parts()]
            if len(parts) == self.processes.count and all(part["ended"] for part in parts):
                self._join(part["jobs"] for part in parts)
        failed = sum(record["status"] == "failed" for record in self.records)
        print(
            f"singer: {len(self.records) - failed} of {jobs} jobs done here, {failed} failed.",
            file=sys.stderr,
        )
        return failed

    def _join(self, parts: Iterable[list[Record]]) -> None:
        records = sorted((record for part in parts for record in part), key=lambda record: record["line"])
        done = sum(record["status"] == "done" for record in records)
        report = {"done": done, "failed": len(records) - done, "jobs": records}
        write_text(self.path, json.dumps(report, indent=1))
        for path in self._parts():
            path.unlink(missing_ok=True)

    def _parts(self) -> list[Path]:
        return sorted(self.path.parent.glob(f".{self.path.name}.*.part"))

    def _write(self, ended: bool) -> None:
        path = self.path.with_name(f".{self.path.name}.{self.processes.index}.part")
        write_text(path, json.dumps({"ended": ended, "jobs": self.records}))


def find_processes() -> Processes:
    """All processes of `accelerate launch`, shared out as accelerate does; otherwise this one alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ:
            logger.warning(
                "`accelerate launch` was asked for several processes and started one, as it does on CPUs. "
                "Add --multi_gpu, which stands for several processes on any device."
            )
        return Processes()
    import torch

    from ..processes import shared_state

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    # There accelerate would take each process for the only one.
    alone = accelerator is None or accelerator.type == "mps"
    cpu = alone or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    state = shared_state(cpu, "A batch in several processes")

    def share(items: Sequence[Any]) -> Sequence[Any]:
        with state.split_between_processes(list(items)) as mine:
            return mine

    return Processes(state.process_index, state.num_processes, share, state.wait_for_everyone)


def main() -> None:
    """Entry point for `accelerate launch -m`."""
    from . import main as singer

    sys.exit(singer(["batch", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
