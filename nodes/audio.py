"""From a song to what the network hears: vocals, features, motion weights."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .library import needs_library
from .sockets import SingerAudio, SingerWeights, frame_rate

SEPARATORS = ["kim_vocal_2", "hdemucs", "mel_band_roformer", "none"]


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
                io.Combo.Input(
                    "separator",
                    options=SEPARATORS,
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
    def execute(cls, audio: Any, separator: str) -> io.NodeOutput:
        from .separator import ManagedSeparator
        from .sound import progress_bar, to_audio, to_waveform

        waveform = to_waveform(audio, "audio")
        vocals, rest = ManagedSeparator(separator).separate(waveform, progress_bar())
        return io.NodeOutput(to_audio(vocals), to_audio(rest))


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
                frame_rate("Frames per second of the video. The model was trained at 25."),
                io.Float.Input(
                    "levelling",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 to 1: how far quiet verses are brought to the loudness of the whole. 0 = off, "
                    "the reference.",
                ),
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
        audio: Any,
        fps: float,
        levelling: float,
        sub_frames: int,
        bands: int,
        audio_encoder: Any = None,
    ) -> io.NodeOutput:
        from singer_core.audio.activity import level_vocals, with_activity
        from singer_core.audio.logmel import LogMelFrontEnd
        from singer_core.audio.wav2vec2 import Wav2Vec2FrontEnd

        from .encoder import loaded_encoder
        from .sound import progress_bar, to_waveform

        waveform = to_waveform(audio, "audio")
        if audio_encoder is None:
            front_end: Any = LogMelFrontEnd(sub_frames, bands)
        else:
            front_end = Wav2Vec2FrontEnd(loaded_encoder(audio_encoder))
        heard = level_vocals(waveform, levelling) if levelling else waveform
        features = front_end.encode(heard, fps, progress=progress_bar())
        return io.NodeOutput(with_activity(features, waveform))


class SingerMotionWeights(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        response = {"min": 0.0, "max": 1.0, "step": 0.05, "default": 0.0}
        weight = {"min": 0.0, "max": 4.0, "step": 0.05, "default": 1.0}
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
                io.Float.Input(
                    "pose", **weight, tooltip="Weight of head and body; 1 = as trained, 0 = none."
                ),
                io.Float.Input("face", **weight, tooltip="Weight of the face; 1 = as trained, 0 = none."),
                io.Float.Input("lip", **weight, tooltip="Weight of the lips; 1 = as trained, 0 = none."),
                io.Float.Input(
                    "beat",
                    min=0.0,
                    max=4.0,
                    step=0.05,
                    default=0.0,
                    tooltip="On a beat the pose weight is (1 + this) times as large. Needs `mix`.",
                ),
                io.Float.Input(
                    "loudness",
                    **response,
                    tooltip="0 to 1: how far the face follows loudness; at 1 its weight doubles 20 dB above "
                    "the median. Needs `mix`.",
                ),
                io.Float.Input(
                    "silence",
                    **response,
                    tooltip="0 to 1: how far the lip weight sinks where nothing is sung. The built-in model "
                    "closes its mouth best at 0.",
                ),
            ],
            outputs=[SingerWeights.Output(display_name="weights", tooltip="Pose, face and lip per frame.")],
        )

    @classmethod
    @needs_library
    def execute(
        cls,
        singer_audio: Any,
        pose: float,
        face: float,
        lip: float,
        beat: float,
        loudness: float,
        silence: float,
        mix: Any = None,
    ) -> io.NodeOutput:
        from singer_core.audio.activity import loudness_curve
        from singer_core.audio.motion import MotionResponse, beat_times, motion_weights

        from .sound import to_waveform

        response = MotionResponse(pose, face, lip, beat, loudness, silence)
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
        return io.NodeOutput(weights.tensor)
