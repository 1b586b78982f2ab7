"""The nodes, in the order of a graph: load, hear, look, weigh, condition, sample, write, measure, train."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import library

library.provide()

from . import folders  # noqa: E402 - below here `singer_core` can be imported
from .audio import SingerAudioEncode, SingerMotionWeights, SingerVocalSeparation  # noqa: E402
from .conditioning import SingerConditioning  # noqa: E402
from .download import SingerDownload  # noqa: E402
from .evaluate import SingerEvaluate  # noqa: E402
from .loader import SingerDemoLoader, SingerModelLoader  # noqa: E402
from .portrait import SingerIdentityLoader, SingerPortrait  # noqa: E402
from .sampling import SingerDDIM, SingerGuider, SingerNoise, SingerSampler  # noqa: E402
from .spectral import SingerSelfAdaptiveFilter, SingerSpectralPlot, SingerSpectralWeighting  # noqa: E402
from .training import SingerTrain  # noqa: E402
from .video import SingerDuetVideo, SingerVideo  # noqa: E402


class SingerExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            SingerModelLoader,
            SingerDemoLoader,
            SingerDownload,
            SingerVocalSeparation,
            SingerAudioEncode,
            SingerMotionWeights,
            SingerIdentityLoader,
            SingerPortrait,
            SingerSpectralWeighting,
            SingerSelfAdaptiveFilter,
            SingerSpectralPlot,
            SingerConditioning,
            SingerNoise,
            SingerDDIM,
            SingerGuider,
            SingerSampler,
            SingerVideo,
            SingerDuetVideo,
            SingerEvaluate,
            SingerTrain,
        ]


async def comfy_entrypoint() -> SingerExtension:
    folders.register()
    return SingerExtension()
