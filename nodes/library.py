"""Makes the library beside this folder importable as `singer_core`, whatever the pack's folder is called."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "singer_core"


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
