"""What the library bears on users' machines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

USES = {
    "diffusers": "from singer_core.network.backbone import SingerNetwork",
    "diffusers, verification": "import verification.runner",
    "transformers": "from singer_core.audio.logmel import LogMelFrontEnd; LogMelFrontEnd(2, 8)._bank()",
}


@pytest.mark.parametrize("library", USES)
def test_a_torchaudio_built_for_another_torch_is_ignored(library: str, tmp_path: Path) -> None:
    package = tmp_path / "torchaudio"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('Could not load this library: _torchaudio.so')")
    info = tmp_path / "torchaudio-2.11.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torchaudio\nVersion: 2.11.0\n")
    search = os.pathsep.join([str(tmp_path), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", USES[library]],
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_oldest_torch_allowed_has_what_is_called():
    project = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    major, minor = re.search(r'"torch>=(\d+)\.(\d+)"', project).groups()
    assert (int(major), int(minor)) >= (2, 6), "torch.accelerator came with 2.6"
