"""Many processes that share one job, on `accelerate`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from .libraries import require

WAITING = timedelta(days=30)  # for the others' longest song, perhaps; torch gives up after minutes


def shared_state(cpu: bool, purpose: str) -> Any:
    """accelerate's state of this process among the others. RuntimeError without accelerate.

    purpose  what needs it, for the error
    """
    return require("accelerate", purpose, "accelerate").PartialState(cpu=cpu, timeout=WAITING)
