"""Writes the help pages, web/docs/*.md and */zh.md, from the schema snapshot and the translations:

python tests/comfyui/make_pages.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

PACK = Path(__file__).resolve().parents[2]
PAGES = PACK / "web" / "docs"
Schema = dict[str, Any]


class Words(NamedTuple):
    """What a page says beside the schema."""

    inputs: str
    outputs: str
    optional: str
    wired: str
    example: str
    notes: dict[str, str]


def page(schema: Schema, words: Words, workflow: str | None, picture: str | None) -> str:
    """The page of a node; `workflow` is the first example that it is wired in."""
    parts = [f"# {schema['display_name']}", schema["description"]]
    if picture is not None:
        parts.append(f"![{words.wired.format(schema['display_name'])}]({picture})")
    parts += [_inputs(schema, words), _outputs(schema, words)]
    parts.append(words.notes.get(schema["name"], ""))
    if workflow is not None:
        parts.append(words.example.format(workflow))
    return "\n\n".join(part for part in parts if part) + "\n"


def in_chinese(schema: Schema, said: dict[str, Any]) -> Schema:
    """The schema with the texts of locales/zh/nodeDefs.json."""
    inputs = {
        kind: {
            name: [drawn, {**options, "tooltip": said["inputs"][name]["tooltip"]}]
            for name, (drawn, options) in group.items()
        }
        for kind, group in schema["input"].items()
        if kind != "hidden"
    }
    outputs = [said["outputs"][str(index)] for index in range(len(schema["output"]))]
    return {
        **schema,
        "display_name": said["display_name"],
        "description": said["description"],
        "input": inputs,
        "output_name": [one["name"] for one in outputs],
        "output_tooltips": [one["tooltip"] for one in outputs],
    }


def _inputs(schema: Schema, words: Words) -> str:
    rows = []
    for kind in ("required", "optional"):
        for name in schema["input_order"].get(kind, []):
            _, options = schema["input"][kind][name]
            note = words.optional if kind == "optional" else ""
            rows.append(f"| `{name}`{note} | {_default(options)} | {options['tooltip']} |")
    return "\n".join([words.inputs, "|---|---|---|", *rows]) if rows else ""


def _default(options: dict[str, Any]) -> str:
    return f"`{json.dumps(options['default'])}`".replace('"', "") if "default" in options else ""


def _outputs(schema: Schema, words: Words) -> str:
    rows = [
        f"| `{name}` | {tooltip} |"
        for name, tooltip in zip(schema["output_name"], schema["output_tooltips"], strict=True)
    ]
    return "\n".join([words.outputs, "|---|---|", *rows]) if rows else ""


def first_workflows() -> dict[str, str]:
    """Node id -> name of the first example with it, subgraphs included."""
    found: dict[str, str] = {}
    for path in sorted((PACK / "workflows").glob("*.json")):
        workflow = json.loads(path.read_text(encoding="utf-8"))
        graphs = [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]
        for drawn in (node for graph in graphs for node in graph["nodes"]):
            found.setdefault(drawn["type"], path.stem)
    return found


def main() -> None:
    here = Path(__file__).parent
    schemas = json.loads((here / "schemas.json").read_text(encoding="utf-8"))
    translated = json.loads((PACK / "locales/zh/nodeDefs.json").read_text(encoding="utf-8"))
    words = {
        language: Words(**said)
        for language, said in json.loads((here / "pages.json").read_text(encoding="utf-8")).items()
    }
    workflows = first_workflows()
    for name, schema in schemas.items():
        wired = workflows.get(name), f"{name}.jpg" if (PAGES / f"{name}.jpg").is_file() else None
        (PAGES / name).mkdir(exist_ok=True)
        chinese = page(in_chinese(schema, translated[name]), words["zh"], *wired)
        (PAGES / f"{name}.md").write_text(page(schema, words["en"], *wired), encoding="utf-8")
        (PAGES / name / "zh.md").write_text(chinese, encoding="utf-8")


if __name__ == "__main__":
    main()
