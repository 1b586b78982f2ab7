"""Where the nodes of a workflow go: from left to right in the order of the paper, no wire under a node.

The sheet has three rows. What a kind of node is for says its row and group, what it is wired to says its
column. A wire to the next column is drawn as it comes; one that passes columns runs there at one height,
its lane, clear of all nodes, between the editor's reroute points.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

Graph = dict[str, Any]  # of a workflow's file, or of a folded node in it
NOTE = "MarkdownNote"
VIEWER = "PreviewImage"
SHEET = (
    {
        "Load": "SingerSongLoader SingerAudioEncoderLoader",
        "Hear": "SingerAudioEncode",
        "Weigh": "SingerMotionWeights",
    },
    {
        "Load": "SingerPictureLoader LoadMediaPipeFaceLandmarker SingerDemoLoader Inputs",
        "See": "MediaPipeFaceLandmarker SingerPortrait",
        "Sing": "SingerConditioning CFGGuider SingerGuider BasicGuider BasicScheduler KSamplerSelect "
        "SingerDDIM RandomNoise SingerNoise KSampler SingerSampler Folded",
        "Write": "VAEDecode ImageScaleBy CreateVideo SingerVideo SaveVideo SaveLatent Outputs",
    },
    {
        "Load": "SingerModelLoader VAELoader",
        "Weigh": "SingerSpectralWeighting SingerSelfAdaptiveFilter SingerSpectralPlot LoraLoaderModelOnly "
        "FreeU_V2 RescaleCFG",
    },
)
PLACES = {
    kind: (row, group)
    for row, groups in enumerate(SHEET)
    for group, kinds in groups.items()
    for kind in kinds.split()
}
PHASES = (("Load",), ("Hear", "See", "Weigh"), ("Sing",), ("Write",))  # each begins right of the one before
COLOURS = {
    "Load": "#7fb2e5",
    "Hear": "#7fd1c7",
    "See": "#a9b4f0",
    "Weigh": "#d79be8",
    "Sing": "#9fd69a",
    "Write": "#f0c674",
}
SHOWN = {
    VIEWER: 270,
    "SingerPortrait": 500,
    "SingerSampler": 750,
    "SingerVideo": 460,
    "SaveVideo": 400,
}  # least height: room for the picture after a run
WIDTH = 270  # least
TITLE = 30  # of a node, above its box
BADGE = 22  # with the name of its pack, above that
ASIDE = 110  # a picture lies lower than what it shows, for wires to pass
TALL = 250  # a wire that climbs more bends much
HELD = 240  # one that climbs twice as much is held upright so often
GAP = 54  # between nodes of a column
GUTTER = 100  # between columns
PAD = 20  # of a group around its nodes
HEAD = 36  # of a group, above that
BAND = 84  # between two rows of groups: room for three lanes
LANE = 24  # between two lanes: a reroute point is 20 wide
CLEAR = 14  # between a lane and a node
END = 16  # from a column's side to a lane's end
NOTE_WIDTH = 460
# What the editor's bars leave of a window of 1600 x 900: from here, so much. A larger window shows more.
VIEW_AT, VIEW = (80, 100), (1500, 770)
LEAST_SCALE, MOST_SCALE = 0.8, 1.1  # texts can be read; nothing looks blown up


@dataclass(eq=False)
class Box:
    """A node, or a folded node's side for inputs or outputs."""

    drawn: dict[str, Any]  # its entry in the file
    kind: str
    width: float
    height: float
    x: float = 0
    y: float = 0
    row: int = 0
    group: str = ""
    column: int = 0
    wires_in: list[Wire] = field(default_factory=list)
    wires_out: list[Wire] = field(default_factory=list)

    def slot(self, side: str, index: int) -> float:
        """Height of a socket on the sheet; those of widgets lie below the plain ones."""
        if self.kind in ("Inputs", "Outputs"):
            return self.y + 24 + 20 * index
        slots = self.drawn[side]
        plain = [i for i, slot in enumerate(slots) if "widget" not in slot]
        if index in plain:
            return self.y + 14 + 20 * plain.index(index)
        rows = max(len(plain), len(self.drawn["outputs"]))
        return self.y + 16 + 20 * rows + 24 * (index - len(plain))


@dataclass(eq=False)
class Wire:
    id: int
    source: Box
    out: int
    target: Box
    into: int

    @property
    def start(self) -> float:
        return self.source.slot("outputs", self.out)

    @property
    def end(self) -> float:
        return self.target.slot("inputs", self.into)


@dataclass(eq=False)
class Lane:
    """The height at which all long wires of one output pass the columns from `first` to `last`."""

    wires: list[Wire]
    y: float = 0

    @property
    def first(self) -> int:
        return self.wires[0].source.column + 1

    @property
    def last(self) -> int:
        return max(wire.target.column for wire in self.wires) - 1


def lay_out(graph: Graph) -> None:
    """Give nodes, notes, groups and reroute points of a graph their places."""
    boxes = read_boxes(graph)
    choose_columns(boxes)
    stack(boxes)
    for box in boxes:
        write_box(box)
    graph["groups"] = frames(boxes)
    write_lanes(graph, find_lanes(boxes), boxes)
    top = min(frame["bounding"][1] for frame in graph["groups"])
    for note in notes(graph):
        note["pos"] = [-NOTE_WIDTH - GUTTER, top + TITLE]


def notes(graph: Graph) -> list[dict[str, Any]]:
    return [node for node in graph["nodes"] if node["type"] == NOTE]


def set_first_view(graph: Graph) -> None:
    """The note and what follows it: all of the graph where that can be read, else its beginning."""
    areas = [frame["bounding"] for frame in graph["groups"]]
    areas += [[*note["pos"], *note["size"]] for note in notes(graph)]
    left, top = min(area[0] for area in areas), min(area[1] for area in areas)
    width = max(area[0] + area[2] for area in areas) - left
    height = max(area[1] + area[3] for area in areas) - top
    scale = min(MOST_SCALE, max(LEAST_SCALE, min(VIEW[0] / width, VIEW[1] / height)))
    spare = [max(0, room / scale - side) / 2 for room, side in zip(VIEW, (width, height), strict=True)]
    offset = [at / scale + free - edge for at, free, edge in zip(VIEW_AT, spare, (left, top), strict=True)]
    graph["extra"]["ds"] = {"scale": scale, "offset": offset}


def read_boxes(graph: Graph) -> list[Box]:
    """What the sheet holds, each after what it is wired to."""
    drawn = sorted((node for node in graph["nodes"] if node["type"] != NOTE), key=lambda node: node["order"])
    boxes = {node["id"]: Box(node, kind_of(node), *least_size(node)) for node in drawn}
    if "inputNode" in graph:
        sides = {"Inputs": graph["inputNode"], "Outputs": graph["outputNode"]}
        ends = {side["id"]: Box(side, kind, *side["bounding"][2:]) for kind, side in sides.items()}
        boxes = {-10: ends[-10], **boxes, -20: ends[-20]}
    for id_, origin, out, target, into in map(ends_of, graph["links"]):
        wire = Wire(id_, boxes[origin], out, boxes[target], into)
        wire.source.wires_out.append(wire)
        wire.target.wires_in.append(wire)
    for box in boxes.values():
        viewed = box.wires_in[0].source.kind if box.kind == VIEWER else box.kind
        box.row, box.group = PLACES[viewed]
        box.wires_in.sort(key=lambda wire: wire.into)
    return list(boxes.values())


def kind_of(node: dict[str, Any]) -> str:
    return "Folded" if len(node["type"]) == 36 and "-" in node["type"] else node["type"]


def least_size(node: dict[str, Any]) -> tuple[float, float]:
    width, height = node["size"]
    return max(width, WIDTH), max(height, SHOWN.get(node["type"], 0))


def ends_of(link: Any) -> tuple[int, int, int, int, int]:
    """A link of a file, (id, origin, its slot, target, its slot): a list, in folded nodes an object."""
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    return tuple(link[key] for key in keys) if isinstance(link, dict) else tuple(link[:5])


def choose_columns(boxes: list[Box]) -> None:
    """Each node right of what it is wired to, and no earlier than its group needs it."""
    start = 0
    for phase in PHASES:
        members = [box for box in boxes if box.group in phase]
        for box in members:
            box.column = max([start, *(first_column_behind(wire) for wire in box.wires_in)])
        for box in reversed(members):
            needed = [wire.target.column for wire in box.wires_out if wire.target.group == box.group]
            box.column = min(needed, default=box.column + 1) - 1
        start = max((box.column + 1 for box in members), default=start)


def first_column_behind(wire: Wire) -> int:
    """Where the target of a wire may stand. Over two rows it needs a lane, thus a column to pass."""
    return wire.source.column + 1 + (abs(wire.source.row - wire.target.row) > 1)


def stack(boxes: list[Box]) -> None:
    """Columns of one width each; in a row a node is level with what it is wired to, or lower."""
    x = 0.0
    for column in range(max(box.column for box in boxes) + 1):
        members = [box for box in boxes if box.column == column]
        width = max(box.width for box in members)
        for box in members:
            box.x, box.width = x, width
        x += width + GUTTER
    top = 0.0
    for row in sorted({box.row for box in boxes}):
        members = [box for box in boxes if box.row == row]
        for column in sorted({box.column for box in members}):
            stack_column([box for box in members if box.column == column], top)
        top = max(box.y + box.height for box in members) + PAD + BAND + HEAD + PAD + TITLE


def stack_column(members: list[Box], top: float) -> None:
    """Nodes of one column and row, in the order in which their wires end."""
    free = top
    for box in sorted(members, key=lambda box: min((wire.into for wire in box.wires_out), default=0)):
        levels = [wire.source.y for wire in box.wires_in if wire.source.row == box.row]
        box.y = max([free, *levels[:1]]) + ASIDE * (box.kind == VIEWER)
        free = box.y + box.height + GAP + TITLE


def write_box(box: Box) -> None:
    if "bounding" in box.drawn:
        box.drawn["bounding"] = [box.x, box.y, box.width, box.height]
    else:
        box.drawn |= {"pos": [box.x, box.y], "size": [box.width, box.height]}


def frames(boxes: list[Box]) -> list[dict[str, Any]]:
    """The groups, each around its nodes."""
    found = []
    for number, name in enumerate(COLOURS):
        members = [box for box in boxes if box.group == name and "bounding" not in box.drawn]
        if members:
            left, top = min(box.x for box in members), min(box.y for box in members) - TITLE - HEAD
            right = max(box.x + box.width for box in members)
            bottom = max(box.y + box.height for box in members)
            bounding = [left - PAD, top - PAD, right - left + 2 * PAD, bottom - top + 2 * PAD]
            frame = {"id": number + 1, "title": name, "bounding": bounding, "color": COLOURS[name]}
            found.append(frame | {"font_size": 24, "flags": {}})
    return found


def find_lanes(boxes: list[Box]) -> list[Lane]:
    """A lane for every output with long wires; the shortest are laid first, straight where they can be."""
    outputs = defaultdict(list)
    for wire in (wire for box in boxes for wire in box.wires_out):
        if wire.target.column > wire.source.column + 1:
            outputs[wire.source, wire.out].append(wire)
    lanes: list[Lane] = []
    for lane in sorted(map(Lane, outputs.values()), key=lambda lane: lane.last - lane.first):
        start, ends = lane.wires[0].start, [wire.end for wire in lane.wires]
        taken = list(taken_heights(lane, boxes, lanes))
        heights = [start, *ends, *chain(*taken)]
        free = [y for y in heights if not any(low < y < high for low, high in taken)]
        lane.y = min(free, key=lambda y: bend(y - start) + sum(bend(y - end) for end in ends) / len(ends))
        lanes.append(lane)
    return lanes


def bend(climb: float) -> float:
    """What it costs that a wire leaves or enters its lane: little, where it need not climb far."""
    return abs(climb) + 3 * max(0, abs(climb) - TALL)


def taken_heights(lane: Lane, boxes: list[Box], lanes: list[Lane]) -> Iterator[tuple[float, float]]:
    """From where to where a lane must not run: through nodes, titles of groups, and beside other lanes."""
    for box in boxes:
        if lane.first <= box.column <= lane.last:
            yield box.y - TITLE - BADGE - CLEAR, box.y + box.height + CLEAR
    for frame in frames(boxes):
        left, top, width, height = frame["bounding"]
        if any(lane.first <= box.column <= lane.last and left < box.x < left + width for box in boxes):
            yield top - CLEAR, top + HEAD
            yield top + height - CLEAR, top + height + CLEAR
    for other in lanes:
        if lane.first <= other.last + 1 and other.first <= lane.last + 1:
            yield other.y - LANE, other.y + LANE


def turns(lane: Lane, sides: dict[int, tuple[float, float]]) -> Iterator[tuple[float, float, list[Wire]]]:
    """Where a lane begins and where wires leave it, with the wires that come so far."""
    start = lane.wires[0].start
    if lane.y != start:
        x = sides[lane.first][0] - END
        yield from ((x, y, lane.wires) for y in (*held_at(start, lane.y), lane.y))
    for column in sorted({wire.target.column for wire in lane.wires}):
        x = sides[column - 1][1] + END
        onward = [wire for wire in lane.wires if wire.target.column >= column]
        if column <= lane.last or any(wire.end != lane.y for wire in onward):
            yield x, lane.y, onward
        for wire in (wire for wire in onward if wire.target.column == column):
            yield from ((x, y, [wire]) for y in held_at(lane.y, wire.end))


def held_at(start: float, end: float) -> list[float]:
    """Heights of a climb over a whole row, which would bend under its neighbours."""
    parts = int(abs(end - start) / HELD) + 1
    return [start + (end - start) * part / parts for part in range(1, parts)] if parts > 2 else []


def write_lanes(graph: Graph, lanes: list[Lane], boxes: list[Box]) -> None:
    """As reroute points; a wire knows its last one, each point the one before."""
    sides = {box.column: (box.x, box.x + box.width) for box in boxes}
    points: list[dict[str, Any]] = []
    last: dict[int, dict[str, int]] = {}
    for lane in lanes:
        for x, y, wires in turns(lane, sides):
            ids = [wire.id for wire in wires]
            points.append({"id": len(points) + 1, "pos": [x, y], "linkIds": ids, **last.get(ids[0], {})})
            last |= {link: {"parentId": len(points)} for link in ids}
    if "inputNode" in graph:
        graph["reroutes"] = points
        graph["links"] = [{**link, **last.get(link["id"], {})} for link in graph["links"]]
    else:
        extensions = [{"id": link, **parent} for link, parent in last.items()]
        graph["extra"] |= {"reroutes": points, "linkExtensions": extensions}
