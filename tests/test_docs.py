"""The documents name only what is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("bench", "builtin", "docs", "nodes", "singer_core", "stubs", "tests", "web", "workflows")
PACKAGES = ("audio", "cli", "demo", "evaluation", "network", "portrait", "render", "training")


def quoted(document: Path) -> set[str]:
    """Paths and dotted names in backticks."""
    return set(
        re.findall(
            r"`(\w[\w.]*/[\w./]*|\w[\w.]*\.(?!csv|png|safetensors)\w+)`", document.read_text(encoding="utf-8")
        )
    )


def bases(first: str) -> list[Path]:
    """Where a name that begins so may lie, if it is one of ours."""
    own = [ROOT] if first in FOLDERS else []
    return [*own, ROOT / "singer_core"] if own or first in PACKAGES else []


def defines(path: Path, name: str) -> bool:
    """Whether a file has a class, function or value of that name at its top level."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = getattr(node, "targets", [getattr(node, "target", node)])
        if name in {getattr(target, "id", getattr(target, "name", None)) for target in targets}:
            return True
    return False


def exists(name: str) -> bool:
    """Whether a path, or a dotted module with at most one name in it, is there."""
    first, *_ = re.split(r"[./]", name)
    if "/" in name:
        return any((base / name).exists() for base in bases(first))
    for base in bases(first):
        inside = base.joinpath(*name.split("."))
        if inside.is_dir() or inside.with_suffix(".py").is_file():
            return True
        files = inside.parent.with_suffix(".py"), inside.parent / "__init__.py"
        if any(defines(file, inside.name) for file in files if file.is_file()):
            return True
    return False


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_name_of_ours_in_a_document_exists(document):
    ours = {name for name in quoted(document) if bases(re.split(r"[./]", name)[0])}
    assert [name for name in sorted(ours) if not exists(name)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(document):
    text = document.read_text(encoding="utf-8")
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    assert [link for link in sorted(links) if link and not (document.parent / link).exists()] == []
