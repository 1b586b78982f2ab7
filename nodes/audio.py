"""From a song to what the network hears: vocals, features, motion weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING

import comfy.model_management as mm
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import Input, io
from torch import Tensor, nn
from torch.nn import functional as F

from singer_core.audio.activity import level_vocals, loudness_curve, with_activity
from singer_core.audio.features import AudioFeatures
from singer_core.audio.logmel import LogMelFrontEnd
from singer_core.audio.motion import beat_times, motion_weights
from singer_core.audio.separation import load_separator
from singer_core.audio.wav2vec2 import Wav2Vec2FrontEnd
from singer_core.audio.waveform import Waveform
from singer_core.downloads import FILES
from singer_core.marks import read_marks
from singer_core.settings import MotionResponse, SongSettings

from . import folders
from .library import needs_library, progress_bar
from .sockets import SingerAudio, SingerWeights, checked, to_audio, to_waveform, widget

if TYPE_CHECKING:
    from comfy.audio_encoders.audio_encoders import AudioEncoderModel
    from comfy.audio_encoders.wav2vec2 import LayerGroupNormConv, Wav2Vec2Model

# Kernels and strides of every wav2vec2 (Baevski et al. 2020, section 4.2); core builds them in.
KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
PASS_BYTES = 1 << 30  # of one block of convolutions or one encoder window
ENCODER = FILES["wav2vec2-base-960h"]
CHUNK_BYTES = 2 << 30  # activations of one chunk of the largest separator, MelBand-RoFormer


class SingerVocalSeparation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerVocalSeparation",
            display_name="Separate Vocals",
            category="SINGER",
            description="Splits a song into the singing voice and the rest; both sum to the song.",
            search_aliases=["vocal remover", "stems", "demucs", "acapella", "instrumental", "uvr"],
            inputs=[
                io.Audio.Input("audio", tooltip="The song: 8 to 192 kHz, mono to 7.1."),
                widget(
                    SongSettings,
                    "separator",
                    default="kim_vocal_2",
                    tooltip="kim_vocal_2: the authors' choice, 67 MB; hdemucs: 335 MB; mel_band_roformer: "
                    "913 MB, best and slowest; none: the song is vocals already. Files go to "
                    "models/audio_separation.",
                ),
            ],
            outputs=[
                io.Audio.Output(
                    display_name="vocals", tooltip="The voice, same length and rate as the song."
                ),
                io.Audio.Output(display_name="accompaniment", tooltip="The song less the voice."),
            ],
        )

    @classmethod
    @needs_library
    def execute(cls, audio: Input.Audio, separator: str) -> io.NodeOutput:
        vocals, rest = separated(separator, to_waveform(audio, "audio"), progress_bar())
        return io.NodeOutput(to_audio(vocals), to_audio(rest))


class SingerAudioEncoderLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerAudioEncoderLoader",
            display_name="Load SINGER Audio Encoder",
            category="SINGER",
            description="Loads wav2vec2 with core's own code, also where a browser saved it as "
            "model.safetensors.",
            search_aliases=["wav2vec2", "audio encoder", "speech model"],
            inputs=[
                io.Combo.Input(
                    "audio_encoder",
                    options=folders.names_with(ENCODER),
                    tooltip="wav2vec2-base-960h in models/audio_encoders (378 MB).",
                )
            ],
            outputs=[
                io.AudioEncoder.Output(
                    display_name="audio_encoder", tooltip="For `Encode SINGER Audio`, or any node of core's."
                )
            ],
        )

    @classmethod
    @needs_library
    def execute(cls, audio_encoder: str) -> io.NodeOutput:
        from comfy.audio_encoders.audio_encoders import load_audio_encoder_from_sd  # many files of core's

        path = folders.path_with(ENCODER, audio_encoder)
        loaded = load_audio_encoder_from_sd(comfy.utils.load_torch_file(path, safe_load=True))
        if loaded is None:
            raise RuntimeError(
                f"{audio_encoder} is no audio encoder that ComfyUI knows. Put {ENCODER.published_name} of "
                f"{ENCODER.page} into models/{ENCODER.folder}."
            )
        return io.NodeOutput(loaded)


class SingerAudioEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerAudioEncode",
            display_name="Encode SINGER Audio",
            category="SINGER",
            description="Turns vocals into features for every video frame of the song.",
            search_aliases=["wav2vec2", "audio embedding", "speech features", "lip sync"],
            inputs=[
                io.Audio.Input("audio", tooltip="The voice alone gives the best lips; a mix works too."),
                io.AudioEncoder.Input(
                    "audio_encoder",
                    optional=True,
                    tooltip="wav2vec2-base-960h for the published models. Not connected: log-mel energies, "
                    "for small models trained on them.",
                ),
                widget(SongSettings, "fps"),
                widget(SongSettings, "levelling"),
                io.Int.Input(
                    "sub_frames",
                    default=4,
                    min=1,
                    max=64,
                    advanced=True,
                    tooltip="Parts that log-mel energies cut a frame into; without an audio encoder only.",
                ),
                io.Int.Input(
                    "bands",
                    default=32,
                    min=1,
                    max=1024,
                    advanced=True,
                    tooltip="Mel bands of the log-mel energies; without an audio encoder only.",
                ),
            ],
            outputs=[
                SingerAudio.Output(
                    display_name="singer_audio", tooltip="Features per frame, frame count and vocal activity."
                )
            ],
        )

    @classmethod
    @needs_library
    def execute(
        cls,
        audio: Input.Audio,
        fps: float,
        levelling: float,
        sub_frames: int,
        bands: int,
        audio_encoder: AudioEncoderModel | None = None,
    ) -> io.NodeOutput:
        waveform = to_waveform(audio, "audio")
        front_end = LogMelFrontEnd(sub_frames, bands) if audio_encoder is None else hearing(audio_encoder)
        heard = level_vocals(waveform, levelling) if levelling else waveform
        features = front_end.encode(heard, fps, progress=progress_bar())
        return io.NodeOutput(with_activity(features, waveform))


class SingerMotionWeights(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SingerMotionWeights",
            display_name="SINGER Motion Weights",
            category="SINGER",
            description="Weighs how strongly head, face and lips follow the song, frame by frame.",
            search_aliases=["pose weight", "lip weight", "head motion", "beat", "expression"],
            inputs=[
                SingerAudio.Input(
                    "singer_audio", tooltip="Gives frame count, frame rate and vocal activity."
                ),
                io.Audio.Input(
                    "mix",
                    optional=True,
                    tooltip="The whole song, for beats and loudness. Without it `beat` and `loudness` do "
                    "nothing.",
                ),
                *(widget(MotionResponse, name) for name in ("pose", "face", "lip")),
                widget(
                    MotionResponse,
                    "beat",
                    tooltip="On a beat the pose weight is (1 + this) times as large. Needs `mix`.",
                ),
                widget(
                    MotionResponse,
                    "loudness",
                    tooltip="0 to 1: how far the face follows loudness; at 1 its weight doubles 20 dB above "
                    "the median. Needs `mix`.",
                ),
                widget(MotionResponse, "silence"),
                widget(MotionResponse, "marks", optional=True),
            ],
            outputs=[SingerWeights.Output(display_name="weights", tooltip="Pose, face and lip per frame.")],
        )

    @classmethod
    def validate_inputs(cls, marks: str | None = None) -> bool | str:
        return checked(lambda: read_marks(marks or "", math.inf))

    @classmethod
    @needs_library
    def execute(
        cls,
        singer_audio: AudioFeatures,
        pose: float,
        face: float,
        lip: float,
        beat: float,
        loudness: float,
        silence: float,
        mix: Input.Audio | None = None,
        marks: str = "",
    ) -> io.NodeOutput:
        response = MotionResponse(pose, face, lip, beat, loudness, silence, marks)
        song = None if mix is None else to_waveform(mix, "mix")
        frames, fps = singer_audio.frames, singer_audio.fps
        weights = motion_weights(
            frames,
            fps,
            response,
            activity=singer_audio.activity,
            loudness=loudness_curve(song, fps, frames) if song and loudness else None,
            beats=beat_times(song) if song and beat else None,
        )
        return io.NodeOutput(weights)


def separated(name: str, song: Waveform, progress: Callable[[float], None]) -> tuple[Waveform, Waveform]:
    """(vocals, accompaniment); the separator's network is owned by a patcher and loaded right before use.

    Kim_Vocal_2 has no network of torch: onnxruntime keeps it, on core's device where it can.
    """
    device = mm.get_torch_device()
    at_once = device if name == "kim_vocal_2" else None
    separator = load_separator(name, folders.paths_of(folders.SEPARATION), at_once)
    network = getattr(separator, "module", None)
    if network is not None:
        # Layers of others do not cast their weights, so they are loaded whole.
        patcher = ModelPatcher(network, device, mm.unet_offload_device())
        mm.load_models_gpu([patcher], memory_required=CHUNK_BYTES, force_full_load=True)
    return separator.separate(song, progress)


def hearing(audio_encoder: AudioEncoderModel) -> Wav2Vec2FrontEnd:
    """The library's front end on an AUDIO_ENCODER, loaded. Raises ValueError where it is no wav2vec2."""
    model = audio_encoder.model
    if not hasattr(model, "feature_projection"):
        raise ValueError(
            f"`audio_encoder` is a {type(model).__name__}; SINGER hears through wav2vec2. Load "
            "wav2vec2-base-960h with `Load Audio Encoder`."
        )
    mm.load_models_gpu([audio_encoder.patcher], memory_required=PASS_BYTES)
    return Wav2Vec2FrontEnd(CoreWav2Vec2(model, audio_encoder.load_device))


class CoreWav2Vec2:
    """A loaded `comfy.audio_encoders.wav2vec2.Wav2Vec2Model`, seen as transformers' class of that name.

    Both are one network with the same parameter names; what differs is where activations and sizes stand.
    """

    def __init__(self, model: Wav2Vec2Model, device: torch.device) -> None:
        encoder, layers = model.encoder, list(model.feature_extractor.conv_layers)
        self.config = SimpleNamespace(
            num_hidden_layers=len(encoder.layers),
            hidden_size=encoder.layer_norm.weight.shape[0],
            conv_kernel=KERNELS,
            conv_stride=STRIDES,
            do_stable_layer_norm=encoder.do_stable_layer_norm,
        )
        self.feature_extractor = SimpleNamespace(conv_layers=[_first_layer(layers[0], device), *layers[1:]])
        self.feature_projection = lambda x: (model.feature_projection(x),)
        self.encoder = encoder
        self._device = device

    def parameters(self) -> Iterator[Tensor]:
        """One tensor on the device that computes; weights may lie elsewhere until they are used."""
        yield torch.empty(0, device=self._device)

    def eval(self) -> CoreWav2Vec2:
        return self

    def requires_grad_(self, _requires: bool) -> CoreWav2Vec2:
        return self


class _FirstLayer:
    """The first convolution with its norm, whose statistics the front end takes over the whole song."""

    def __init__(self, layer: LayerGroupNormConv, norm: nn.Module) -> None:
        self.conv, self.layer_norm, self.activation, self._layer = layer.conv, norm, F.gelu, layer

    def __call__(self, x: Tensor) -> Tensor:
        return self._layer(x)


def _first_layer(layer: LayerGroupNormConv, device: torch.device) -> _FirstLayer:
    norm = layer.layer_norm
    if isinstance(norm, nn.GroupNorm):
        own = nn.GroupNorm(norm.num_groups, norm.num_channels, norm.eps, device=device)
        own.load_state_dict({"weight": norm.weight, "bias": norm.bias})
        norm = own
    return _FirstLayer(layer, norm)
