"""The nodes, in the order of a graph: load, hear, look, weigh, condition, sample, write, measure, train."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import library

library.provide()  # below here `singer_core` can be imported

from . import folders, replaced, said
from .audio import (
    SingerAudioEncode,
    SingerAudioEncoderLoader,
    SingerMotionWeights,
    SingerVocalSeparation,
)
from .conditioning import SingerConditioning
from .download import SingerDownload
from .evaluate import SingerEvaluate
from .inputs import SingerPictureLoader, SingerSongLoader
from .loader import SingerDemoLoader, SingerModelLoader
from .portrait import SingerIdentityLoader, SingerPortrait
from .samplers import SingerDDIM, SingerGuider, SingerNoise
from .song import SingerSampler
from .spectral import SingerSelfAdaptiveFilter, SingerSpectralPlot, SingerSpectralWeighting
from .training import SingerTrain
from .video import SingerDuetVideo, SingerVideo


class SingerExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            SingerModelLoader,
            SingerDemoLoader,
            SingerDownload,
            SingerPictureLoader,
            SingerSongLoader,
            SingerVocalSeparation,
            SingerAudioEncoderLoader,
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
    said.listen()
    await replaced.register()
    return SingerExtension()
