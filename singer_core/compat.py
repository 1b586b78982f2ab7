"""Work-arounds for what users' machines really hold, each with its reason."""

from __future__ import annotations

import importlib.util
import logging
import sys

logger = logging.getLogger(__name__)


def hide_unusable_torchaudio() -> None:
    """Make a torchaudio that cannot be imported look as if it were not installed.

    diffusers and transformers import torchaudio wherever it is installed, and fail with it where it was built
    for another torch, as PyPI's last torchaudio was. To be called before either is imported.
    """
    if "torchaudio" in sys.modules or importlib.util.find_spec("torchaudio") is None:
        return
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError) as error:
        logger.info("torchaudio cannot be imported and is ignored: %s", error)
        sys.modules["torchaudio"] = None  # type: ignore[assignment]
