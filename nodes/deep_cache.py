"""Fewer full steps: deep features reused between neighbouring ones."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .library import needs_library


class SingerDeepCache(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerDeepCache",
            display_name="SINGER Deep Cache",
            category="SINGER",
            description="Runs the whole network at some steps only, and its outermost levels at the others.",
            search_aliases=["deepcache", "speed", "faster", "acceleration", "tea cache"],
            inputs=[
                io.Model.Input("model", tooltip="A SINGER or Hallo model."),
                io.Int.Input(
                    "interval",
                    default=3,
                    min=1,
                    max=20,
                    tooltip="Every n-th step runs the whole network. 1 = every step: nothing changes.",
                ),
                io.Int.Input(
                    "level",
                    default=1,
                    min=1,
                    max=3,
                    tooltip="Levels that run at the other steps. 1 is fastest; more are nearer to the whole.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Part of the schedule before which every step is whole.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Part of the schedule behind which every step is whole.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model with reused deep features.")],
        )

    @classmethod
    @needs_library
    def execute(
        cls, model: Any, interval: int, level: int, start_percent: float, end_percent: float
    ) -> io.NodeOutput:
        from .shallow import with_deep_cache

        return io.NodeOutput(with_deep_cache(model, interval, level, start_percent, end_percent))
