"""What the editor shows below a node: what it was warned of, above how far it is."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest


@pytest.fixture
def shown(core, monkeypatch):
    """Node -> the text below it."""
    texts: dict[str, str] = {}
    instance = SimpleNamespace(send_progress_text=lambda text, node: texts.__setitem__(node, text))
    monkeypatch.setattr("server.PromptServer", SimpleNamespace(instance=instance), raising=False)
    return texts


def test_warnings_stand_below_the_node_until_it_runs_without(shown, pack):
    from comfy_execution.utils import CurrentNodeContext

    said, library = pack("said"), logging.getLogger("singer_core.portrait.portrait")
    library.warning("outside of a prompt")
    with CurrentNodeContext("prompt", "3:8"):  # node 8 of the folded graph 3
        said.begin()
        assert shown == {}
        library.warning("The face is %d pixels large.", 70)
        logging.getLogger(pack("model").__name__).warning("It is off the middle.")
        library.info("nothing")
        said.say("0:01 of 0:08")
    warned = "The face is 70 pixels large.\nIt is off the middle."
    assert shown == dict.fromkeys(("3:8", "3"), f"{warned}\n0:01 of 0:08")
    with CurrentNodeContext("prompt", "3:9"):
        said.begin()
        said.say()
    assert shown["3"] == shown["3:9"] == warned
    with CurrentNodeContext("another", "3:8"):
        said.begin()
    assert shown["3"] == shown["3:8"] == "No warnings."


def test_a_node_of_the_pack_begins_anew(shown, pack):
    from comfy_execution.utils import CurrentNodeContext

    with CurrentNodeContext("prompt", "5"):
        logging.getLogger("singer_core").warning("old")
        pack("samplers").SingerDDIM.execute()
    assert shown == {"5": "No warnings."}
