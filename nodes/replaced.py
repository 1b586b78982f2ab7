"""Nodes that are gone, and what the editor offers in their place."""

from __future__ import annotations

import sys

from comfy_api.latest import ComfyAPI, io

DEEP_CACHE = io.NodeReplace(
    old_node_id="SingerDeepCache",
    new_node_id="EasyCache",
    old_widget_ids=["interval", "level", "start_percent", "end_percent"],
    input_mapping=[
        {"new_id": "model", "old_id": "model"},
        {"new_id": "reuse_threshold", "set_value": 0.2},  # core's default
        {"new_id": "start_percent", "old_id": "start_percent"},
        {"new_id": "end_percent", "old_id": "end_percent"},
        {"new_id": "verbose", "set_value": False},
    ],
    output_mapping=[{"new_idx": 0, "old_idx": 0}],
)


async def register() -> None:
    """Tell core's server; programs that load nodes alone have none."""
    server = getattr(sys.modules.get("server"), "PromptServer", None)
    if hasattr(server, "instance"):
        await ComfyAPI().node_replacement.register(DEEP_CACHE)
