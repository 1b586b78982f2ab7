"""Writes the help pages, web/docs/*.md, from the schema snapshot: python tests/comfyui/make_pages.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PACK = Path(__file__).resolve().parents[2]
PAGES = PACK / "web" / "docs"
Schema = dict[str, Any]
NOTES = {
    "SingerSampler": """Which sampler: `euler`, `ddim` and `SINGER DDIM` do with few steps, `dpmpp_2m` with 10
to 20. Those of second order, such as `heun`, need 20: with 4 they give rubbish, because sampling begins
without any signal.""",
    "SingerPortrait": """The node shows the overview. Where it finds several faces and `face_index` is -1, it
shows them with their numbers, and what comes behind it does not run.""",
    "SingerEvaluate": """Every metric is defined in `docs/evaluation.md`. What cannot be computed is listed in
the report with the remedy: networks go to `models/evaluation`, curves need `matplotlib`, beats need
`librosa`.""",
}


def page(schema: Schema, workflow: str | None, picture: str | None) -> str:
    """The page of a node; `workflow` is the first example that it is wired in."""
    parts = [f"# {schema['display_name']}", schema["description"]]
    if picture is not None:
        parts.append(f"![{schema['display_name']}, wired]({picture})")
    parts += [_inputs(schema), _outputs(schema)]
    parts.append(NOTES.get(schema["name"], ""))
    if workflow is not None:
        parts.append(f"Wired in the example workflow `{workflow}`.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _inputs(schema: Schema) -> str:
    rows = []
    for kind in ("required", "optional"):
        for name in schema["input_order"].get(kind, []):
            _, options = schema["input"][kind][name]
            note = " (optional)" if kind == "optional" else ""
            rows.append(f"| `{name}`{note} | {_default(options)} | {options['tooltip']} |")
    return "\n".join(["| input | default | meaning |", "|---|---|---|", *rows]) if rows else ""


def _default(options: dict[str, Any]) -> str:
    return f"`{json.dumps(options['default'])}`".replace('"', "") if "default" in options else ""


def _outputs(schema: Schema) -> str:
    rows = [
        f"| `{name}` | {tooltip} |"
        for name, tooltip in zip(schema["output_name"], schema["output_tooltips"], strict=True)
    ]
    return "\n".join(["| output | meaning |", "|---|---|", *rows]) if rows else ""


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
    schemas = json.loads((Path(__file__).parent / "schemas.json").read_text(encoding="utf-8"))
    workflows = first_workflows()
    for name, schema in schemas.items():
        picture = f"{name}.jpg" if (PAGES / f"{name}.jpg").is_file() else None
        text = page(schema, workflows.get(name), picture)
        (PAGES / f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
