"""Draws the map of the house, its packages and who imports whom: python docs/house_map.py [ROOT [PICTURE]]"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = "singer_core"
ROWS = (  # arrows may point down and sideways
    ("nodes", "cli", "builtin", "verification"),
    ("render", "training", "evaluation", "demo"),
    ("audio", "portrait", "network"),
    ("settings", "options"),
    ("base",),
)
BASE = "base"  # the single files of the library
WIDTH, HEIGHT = 1120, 760
BOX_WIDTH, BOX_HEIGHT = 190, 64
DOWN, UP = "#5b7f9d", "#c0392b"
Arrows = Counter[tuple[str, str]]


@dataclass
class Part:
    """A package of the map; `base` stands for the single files of the library."""

    files: int = 0
    lines: int = 0


def modules(root: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Every file of the house with its dotted name."""
    for folder in (LIBRARY, "nodes", "builtin"):
        for path in sorted((root / folder).rglob("*.py")):
            yield path, path.relative_to(root).with_suffix("").parts


def part_of(name: tuple[str, ...]) -> str | None:
    """The part that a module belongs to; None for what is not ours or is only a title."""
    if name[0] in ("nodes", "builtin"):
        return name[0]
    if name[0] != LIBRARY or len(name) == 1 or name[1] in ("__init__", "__version__"):
        return None
    return name[1] if any(name[1] in row for row in ROWS) else BASE


def imported(path: Path, name: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Dotted names that a file imports, also inside functions; relative ones resolved."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = name[: len(name) - node.level] if node.level else ()
            module = (*above, *(node.module or "").split(".")) if node.module else above
            yield from ((*module, *alias.name.split(".")) for alias in node.names)


def read_house(root: Path) -> tuple[dict[str, Part], Arrows]:
    """The parts, and how many times one imports out of another."""
    parts: dict[str, Part] = {}
    arrows: Arrows = Counter()
    for path, name in modules(root):
        mine = part_of(name)
        if mine is None:
            continue
        part = parts.setdefault(mine, Part())
        part.files += 1
        part.lines += len(path.read_text(encoding="utf-8").splitlines())
        theirs = {part_of(found) for found in imported(path, name)}
        arrows.update((mine, other) for other in theirs if other not in (None, mine))
    return parts, arrows


def places(parts: dict[str, Part]) -> dict[str, tuple[float, float]]:
    """The middle of every part's box."""
    rows = [[name for name in row if name in parts] for row in ROWS]
    rows = [row for row in rows if row]
    return {
        name: (WIDTH * (column + 0.5) / len(row), HEIGHT * (line + 0.5) / len(rows))
        for line, row in enumerate(rows)
        for column, name in enumerate(row)
    }


def arrow(start: tuple[float, float], end: tuple[float, float], files: int) -> str:
    """A curve from box to box, as thick as many files need it; one that points up is red."""
    (x0, y0), (x1, y1) = start, end
    level, colour = y0 == y1, UP if y1 < y0 else DOWN
    side = BOX_HEIGHT / 2 * (1 if y1 > y0 else -1)
    y0, y1 = y0 + side, y1 - (-side if level else side)
    bend = 40 if level else (y1 - y0) / 2
    curve = f"M {x0:.0f} {y0:.0f} C {x0:.0f} {y0 + bend * (-1 if level else 1):.0f}, "
    curve += f"{x1:.0f} {y1 - bend:.0f}, {x1:.0f} {y1:.0f}"
    width = 1 + files**0.5 / 2
    style = f'fill="none" stroke="{colour}" stroke-width="{width:.1f}" stroke-opacity="0.6"'
    return f'<path d="{curve}" {style} marker-end="url(#{"up" if colour == UP else "down"})"/>'


def box(name: str, part: Part, middle: tuple[float, float]) -> str:
    x, y = middle
    label = "single files" if name == BASE else name
    size = f"{part.files} file{'s' * (part.files > 1)}, {part.lines:,} lines"
    corner = f'x="{x - BOX_WIDTH / 2:.0f}" y="{y - BOX_HEIGHT / 2:.0f}"'
    return (
        f'<rect {corner} width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8" fill="#f4efe6" stroke="#6b6255"/>'
        f'<text x="{x:.0f}" y="{y - 4:.0f}" font-size="17" font-weight="bold">{label}</text>'
        f'<text x="{x:.0f}" y="{y + 17:.0f}" font-size="13">{size}</text>'
    )


def head(name: str, colour: str) -> str:
    size = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9"'
    return (
        f'<marker id="{name}" {size} markerUnits="userSpaceOnUse" orient="auto">'
        f'<path d="M 0 0 L 8 4 L 0 8 z" fill="{colour}"/></marker>'
    )


def drawing(root: Path) -> str:
    """The map as SVG."""
    parts, arrows = read_house(root)
    middle = places(parts)
    drawn = [arrow(middle[a], middle[b], files) for (a, b), files in sorted(arrows.items())]
    boxes = [box(name, part, middle[name]) for name, part in parts.items()]
    attributes = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" text-anchor="middle"'
    heads = f"<defs>{head('down', DOWN)}{head('up', UP)}</defs>"
    ground = '<rect width="100%" height="100%" fill="white"/>'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}>',
        heads,
        ground,
        *drawn,
        *boxes,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def main(root: Path = ROOT, picture: Path = ROOT / "docs/images/house.svg") -> None:
    picture.write_text(drawing(root), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
