"""The library beside this folder: importable as `singer_core` whatever the pack's folder is called."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import ParamSpec, TypeVar

import comfy.model_management
import comfy.utils
import folder_paths

from . import said

FOLDER = Path(__file__).resolve().parent.parent / "singer_core"
TICKS = 1000  # of a progress bar

# Packages whose name on PyPI is not the name they are imported by.
_PYPI = {"pywt": "pywavelets", "imageio_ffmpeg": "imageio-ffmpeg"}

P = ParamSpec("P")
T = TypeVar("T")


def provide() -> None:
    """Register `singer_core`, unless this process has one already. `sys.path` stays as it is."""
    if "singer_core" in sys.modules:
        return
    spec = spec_from_file_location(
        "singer_core", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"There is no library at {FOLDER}. Install the pack again.")
    module = module_from_spec(spec)
    sys.modules["singer_core"] = module
    spec.loader.exec_module(module)


def needs_library(execute: Callable[P, T]) -> Callable[P, T]:
    """For `execute` of a node, which calls the library: temporary files lie in ComfyUI's temporary folder.

    Says what to install where a package is missing.
    """

    @functools.wraps(execute)
    def run(*given: P.args, **named: P.kwargs) -> T:
        from singer_core.files import scratch_in  # after `provide`

        said.begin()
        try:
            with scratch_in(Path(folder_paths.get_temp_directory())):
                return execute(*given, **named)
        except ModuleNotFoundError as error:
            package = _PYPI.get(error.name or "", error.name)
            raise RuntimeError(
                f"SINGER needs the Python package {package}, which is not installed. Run `{sys.executable} "
                f"-m pip install {package}` and restart ComfyUI."
            ) from error

    return run


def progress_bar() -> Callable[[float], None]:
    """A report for the library's long jobs; raises where the user has pressed cancel."""
    bar = comfy.utils.ProgressBar(TICKS)

    def report(done: float) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(round(done * TICKS))

    return report
