"""Core's text below the node that runs: what it was warned of, and how far it is.

The editor shows such a text until the next one, so a node that has been warned says so when it runs again.
Of a folded graph the outer node shows what is said inside.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from comfy_execution.utils import get_executing_context

if TYPE_CHECKING:
    from server import PromptServer


class _Warnings(logging.Handler):
    """Warnings of the library and of the nodes, by the id of the node that ran."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.of: dict[str, list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        running = get_executing_context()
        if running is not None:
            self.of.setdefault(running.node_id, []).append(record.getMessage())
            say()


_warnings = _Warnings()


def listen() -> None:
    for name in ("singer_core", __package__):
        logging.getLogger(name).addHandler(_warnings)


def begin() -> None:
    """A node runs: what it was warned of before is gone."""
    running = get_executing_context()
    if running is not None and _warnings.of.pop(running.node_id, []):
        say("No warnings.")


def say(*text: str) -> None:
    """Show a text below the node that runs, its warnings above."""
    running = get_executing_context()
    if running is not None and (editor := server()) is not None:
        outer = _outer(running.node_id)
        warned = [line for node, lines in _warnings.of.items() if _outer(node) == outer for line in lines]
        for node in {running.node_id, outer}:
            editor.send_progress_text("\n".join([*warned, *text]), node)


def _outer(node: str) -> str:
    return node.split(":")[0]


def server() -> PromptServer | None:
    from server import PromptServer  # there where a prompt runs; tests load the pack without it

    return getattr(PromptServer, "instance", None)
