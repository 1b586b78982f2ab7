"""The pack in the real editor: every workflow opens without complaint, and Run shows a video."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from editor import SIZE, Editor, find_chromium
from graphs import Prompt
from make_workflows import BLUEPRINTS, MODELS
from make_workflows import WORKFLOWS as EXAMPLES

PACK = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))
BARS = {"left": 60, "top": 85}  # of the editor, over the graph

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def editor(request):
    pytest.importorskip("playwright", reason="no playwright: pip install playwright")
    if find_chromium() is None:
        pytest.skip("no Chromium on the PATH")
    server = request.getfixturevalue("server")
    for name, (folder, _) in MODELS.items():  # for the combos
        path = server.base / "models" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with Editor(server) as editor:
        yield editor


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_opens_whole(editor, path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    prompt = editor.open(workflow)
    assert editor.unknown_nodes() == []
    assert [text for text in editor.alerts() if "nvalid" in text or "issing" in text] == []
    assert sorted(node["class_type"] for node in prompt.values()) == sorted(kinds(workflow))
    assert editor.errors == []
    assert_runs(prompt, EXAMPLES[path.stem].prompt())


def assert_runs(prompt: Prompt, example: Prompt) -> None:
    """The same nodes with the same wires; what the example does not say is the node's own default."""
    found = {name.split(":")[-1]: node for name, node in prompt.items()}  # "11:2" is 2 in the folded node 11
    assert wires(found) == wires(example)
    for name, node in example.items():
        said = {key: value for key, value in node["inputs"].items() if not isinstance(value, list)}
        assert found[name]["class_type"] == node["class_type"]
        assert said.items() <= found[name]["inputs"].items()


def wires(prompt: Prompt) -> set[tuple[str, str, str, int]]:
    return {
        (name, key, value[0].split(":")[-1], value[1])
        for name, node in prompt.items()
        for key, value in node["inputs"].items()
        if isinstance(value, list)
    }


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_is_one_node_with_the_wires_of_its_example(editor, name):
    workflow = json.loads((PACK / "subgraphs" / f"{name}.json").read_text(encoding="utf-8"))
    (node,) = workflow["nodes"]
    assert {slot["name"] for slot in node["inputs"]} >= {"image", "audio"}
    example = BLUEPRINTS[name][0]
    prompt = {key.split(":")[-1]: node for key, node in editor.open(workflow).items()}
    assert set(prompt) == set(example.folded) and editor.unknown_nodes() == [] == editor.errors
    inside = {wire for wire in wires(example.prompt()) if {wire[0], wire[2]} <= set(prompt)}
    assert wires(prompt) == inside


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_wires_keep_clear_of_nodes(editor, path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    editor.open(workflow)
    assert editor.covered() == []
    if "definitions" in workflow:
        editor.enter_folded()
        assert editor.covered() == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_note_can_be_read_at_first_sight(editor, path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    for width, height in ((1600, 900), SIZE.values()):
        editor.page.set_viewport_size({"width": width, "height": height})
        editor.open(workflow)
        note = editor.note()
        assert BARS["left"] < note["left"] < note["right"] < width
        assert BARS["top"] < note["top"] < note["bottom"] < height
        assert round(note["letters"]) >= 12 and not note["cut"]


def kinds(workflow: dict) -> list[str]:
    """Kinds of the nodes that run: those in folded graphs, but neither the folded nodes nor notes."""
    folded = {graph["id"]: graph for graph in workflow.get("definitions", {}).get("subgraphs", [])}
    graphs_ = [workflow, *folded.values()]
    found = [node["type"] for graph in graphs_ for node in graph["nodes"]]
    return [kind for kind in found if kind not in folded and kind != "MarkdownNote"]


def test_workflows_have_pictures_and_no_paths_of_a_machine(editor):
    assert len(WORKFLOWS) >= 6
    for path in WORKFLOWS:
        assert path.with_suffix(".jpg").is_file()
        text = path.read_text(encoding="utf-8")
        assert "/root" not in text and "/home" not in text and "127.0.0.1" not in text


@pytest.mark.slow
def test_run_shows_the_video(editor):
    """The quick start as a user meets it: opened, Run pressed, the video in three nodes."""
    editor.open(json.loads((PACK / "workflows/01_quickstart.json").read_text(encoding="utf-8")))
    editor.page.get_by_role("button", name="Run", exact=True).first.click()
    editor.page.wait_for_function("document.querySelectorAll('video').length >= 3", timeout=900_000)
    assert list((editor.server.base / "output/video").glob("singer_quickstart*.mp4"))
    assert editor.errors == []
    if "UPDATE_PICTURES" in os.environ:
        editor.page.wait_for_timeout(3000)
        editor.picture(PACK / "docs/images/quickstart.jpg")
