"""How the workflows look, told from their files. test_editor.py asks the editor about wires and notes."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # importlib mode leaves the folder out

from layout import COLOURS, NOTE, TITLE, ends_of
from make_workflows import graphs_of

FILES = sorted((Path(__file__).resolve().parents[2] / "workflows").glob("*.json"))
GRAPHS = [graph for path in FILES for graph in graphs_of(json.loads(path.read_text(encoding="utf-8")))]
MARGIN = 16  # of a group around its nodes

Area = tuple[float, float, float, float]  # left, top, right, bottom

pytestmark = pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.get("name", graph["id"][:8]))


def area(node: dict[str, Any]) -> Area:
    """A node with its title."""
    (left, top), (width, height) = node["pos"], node["size"]
    return left, top - TITLE, left + width, top + height


def bounds(group: dict[str, Any]) -> Area:
    left, top, width, height = group["bounding"]
    return left, top, left + width, top + height


def meet(one: Area, other: Area, gap: float = 0) -> bool:
    return all(one[i] < other[i + 2] + gap and other[i] < one[i + 2] + gap for i in (0, 1))


def inside(inner: Area, outer: Area, margin: float = 0) -> bool:
    return all(outer[i] + margin <= inner[i] and inner[i + 2] <= outer[i + 2] - margin for i in (0, 1))


def members(graph: dict[str, Any], group: dict[str, Any]) -> list[Area]:
    nodes = [area(node) for node in graph["nodes"] if node["type"] != NOTE]
    return [node for node in nodes if inside(node, bounds(group), MARGIN)]


def test_nodes_have_air_around_them(graph):
    for one, other in itertools.combinations(map(area, graph["nodes"]), 2):
        assert not meet(one, other, gap=20)


def test_every_node_lies_in_one_group_and_touches_no_other(graph):
    nodes = [area(node) for node in graph["nodes"] if node["type"] != NOTE]
    held = [node for group in graph["groups"] for node in members(graph, group)]
    assert sorted(held) == sorted(nodes)
    for one, other in itertools.combinations(map(bounds, graph["groups"]), 2):
        assert not meet(one, other)


def test_groups_stand_in_the_order_of_the_paper(graph):
    lefts = {group["title"]: group["bounding"][0] for group in graph["groups"]}
    assert list(lefts) == [name for name in COLOURS if name in lefts]
    before = [lefts[name] for name in ("Load", "Hear", "Sing", "Write") if name in lefts]
    assert before == sorted(before)
    assert all(
        lefts.get("Load", 0) <= lefts[name] < lefts["Sing"] for name in ("See", "Weigh") if name in lefts
    )


def test_wires_run_to_the_right(graph):
    places = {node["id"]: area(node) for node in graph["nodes"]}
    for _, origin, _, target, _ in map(ends_of, graph["links"]):
        if origin in places and target in places:
            assert places[origin][2] < places[target][0]
