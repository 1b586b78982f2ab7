"""Learning of small networks on their own: the rate of a step, and a state from which a run goes on."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from singer_core.files import renamed_on_success
from singer_core.training.trainer import half_cosine, warm_up
from singer_core.weights import load_plain

logger = logging.getLogger(__name__)

WARM_UP = 100  # steps


def set_rate(optimizer: Optimizer, rate: float, step: int, steps: int) -> None:
    """Warm-up, then half a cosine."""
    for group in optimizer.param_groups:
        group["lr"] = rate * warm_up(step, WARM_UP) * half_cosine(step, steps)


def save_state(path: Path, network: nn.Module, optimizer: Optimizer, step: int) -> None:
    state = {"weights": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    with renamed_on_success(path) as temporary:
        torch.save(state, temporary)


def resume(path: Path, network: nn.Module, optimizer: Optimizer) -> int:
    """The step to go on from; 0 where there is no state."""
    if not path.is_file():
        return 0
    state = load_plain(path)
    network.load_state_dict(state["weights"])
    optimizer.load_state_dict(state["optimizer"])
    logger.info("going on from step %d of %s", state["step"], path)
    return int(state["step"])
