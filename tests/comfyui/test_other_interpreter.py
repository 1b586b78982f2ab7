"""The tests of this folder, run by the interpreter that ComfyUI runs in."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


@pytest.mark.slow
def test_in_the_interpreter_of_comfyui():
    interpreter = os.environ.get("COMFYUI_PYTHON")
    if interpreter is None:
        pytest.skip("COMFYUI_PYTHON is not set: the tests ran in this interpreter, or were skipped")
    folder = Path(__file__).parent
    environment = {key: value for key, value in os.environ.items() if key != "COMFYUI_PYTHON"}
    done = subprocess.run(
        [interpreter, "-m", "pytest", str(folder), "-q", "-m", "not slow", "-p", "no:cacheprovider"],
        cwd=folder.parents[1],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
