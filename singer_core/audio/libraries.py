"""Optional libraries, imported at use, each with its remedy."""

from __future__ import annotations

import importlib
from types import ModuleType

from ..compat import hide_unusable_torchaudio


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
