"""Widgets made from the library's settings: default, range and words stand in `singer_core/settings.py`."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints

from comfy_api.latest import io


def widget(settings: type, name: str, id: str | None = None, **changes: Any) -> io.Input:
    """The widget of a field of `settings`.

    id       its name in the node, where that is another
    changes  arguments of the widget that this node wants otherwise, such as `tooltip` or `options`
    """
    (field,) = (field for field in dataclasses.fields(settings) if field.name == name)
    hint = get_type_hints(settings)[name]
    given = {"default": field.default, "tooltip": field.metadata["help"], **_range(field.metadata)}
    if get_origin(hint) is Literal:
        given["options"] = list(get_args(hint))
    if field.metadata.get("expert"):
        given["advanced"] = True
    given |= changes
    kind = io.Combo if "options" in given else {bool: io.Boolean, int: io.Int, float: io.Float}[hint]
    return kind.Input(id or name, **given)


def _range(metadata: Any) -> dict[str, Any]:
    return dict(zip(("min", "max", "step"), metadata["slider"], strict=False))
