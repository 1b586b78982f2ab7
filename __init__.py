"""SINGER for ComfyUI: `nodes/` holds the nodes, `singer_core/` the library that they call."""

from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
