"""Libraries of others, imported at use, each with its remedy."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from types import ModuleType

logger = logging.getLogger(__name__)


def require(module: str, purpose: str, package: str) -> ModuleType:
    """The module, or RuntimeError saying what needs it and how to get it.

    module   dotted name, e.g. "librosa.beat"
    purpose  what needs it, to start the message with
    package  what pip installs
    """
    hide_unusable_torchaudio()
    try:
        return importlib.import_module(module)
    except ImportError as error:
        remedy = f"Install it: pip install {package}"
        raise RuntimeError(f"{purpose} needs {package} ({error}). {remedy}") from error
    except OSError as error:  # a compiled extension built for another torch, torchaudio's as a rule
        remedy = "A package was built for another torch. Where it is torchaudio: pip uninstall torchaudio"
        raise RuntimeError(f"{purpose} cannot load {module} ({error}). {remedy}") from error


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
