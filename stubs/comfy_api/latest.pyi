from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeAlias, TypedDict

from torch import Tensor

class AudioInput(TypedDict):
    waveform: Tensor
    sample_rate: int

class LatentInput(TypedDict, total=False):
    samples: Tensor
    noise_mask: Tensor | None
    batch_index: list[int]
    singer_timing: Any  # nodes.sockets.Timing

class VideoComponents:
    images: Tensor
    audio: AudioInput | None
    frame_rate: Fraction

class VideoInput:
    def get_active_trim_window(self) -> tuple[float, float]: ...
    def get_components(self) -> VideoComponents: ...
    def get_stream_source(self) -> object: ...

class VideoFromFile(VideoInput):
    def __init__(self, file: str) -> None: ...

class Input:
    Audio: TypeAlias = AudioInput
    Latent: TypeAlias = LatentInput
    Video: TypeAlias = VideoInput

class InputImpl:
    VideoFromFile: TypeAlias = VideoFromFile

class ComfyExtension: ...

class io:
    class Input:
        id: str

    class Output: ...

    class UploadType:
        image: io.UploadType
        audio: io.UploadType

    class ComfyNode: ...

    class Schema:
        def __init__(
            self,
            *,
            node_id: str,
            display_name: str,
            category: str,
            description: str,
            search_aliases: list[str],
            inputs: Sequence[io.Input],
            outputs: Sequence[io.Output],
            is_output_node: bool = False,
        ) -> None: ...

    class FolderType:
        temp: io.FolderType

    class NodeOutput:
        def __init__(self, *args: object, ui: object = None, block_execution: str | None = None) -> None: ...

    class Socket:
        """Stands for every kind of socket."""

        class Input(io.Input):
            def __init__(self, id: str, *, tooltip: str, optional: bool = False) -> None: ...

        class Output(io.Output):
            def __init__(self, *, display_name: str, tooltip: str) -> None: ...

    class Widget(Socket):
        """Stands for every kind of widget."""

        class Input(io.Input):
            def __init__(
                self,
                id: str,
                *,
                tooltip: str,
                default: Any = None,
                optional: bool = False,
                advanced: bool = False,
                min: float = ...,
                max: float = ...,
                step: float = ...,
                round: bool = True,
                control_after_generate: bool = False,
                options: Sequence[str] = ...,
                upload: io.UploadType | None = None,
            ) -> None: ...

    class MultiType:
        class Input(io.Input):
            def __init__(
                self, id: str, types: Sequence[type[io.Socket]], *, tooltip: str, optional: bool = False
            ) -> None: ...

    class Audio(Socket): ...
    class AudioEncoder(Socket): ...
    class Conditioning(Socket): ...
    class Guider(Socket): ...
    class Image(Socket): ...
    class Latent(Socket): ...
    class Mask(Socket): ...
    class Model(Socket): ...
    class Noise(Socket): ...
    class Sampler(Socket): ...
    class Sigmas(Socket): ...
    class Vae(Socket): ...

    class NodeReplace:
        def __init__(
            self,
            new_node_id: str,
            old_node_id: str,
            old_widget_ids: list[str] | None = None,
            input_mapping: list[dict[str, Any]] | None = None,
            output_mapping: list[dict[str, Any]] | None = None,
        ) -> None: ...

    class Video(Socket): ...
    class Boolean(Widget): ...
    class Combo(Widget): ...
    class Float(Widget): ...
    class Int(Widget): ...
    class String(Widget): ...

    @staticmethod
    def Custom(io_type: str) -> type[io.Socket]: ...

class ui:
    class PreviewImage:
        def __init__(self, image: Tensor, *, cls: type[io.ComfyNode]) -> None: ...

    class PreviewText:
        def __init__(self, value: str) -> None: ...

    class PreviewVideo:
        def __init__(self, values: list[ui.SavedResult]) -> None: ...
        def as_dict(self) -> dict[str, object]: ...

    class SavedResult:
        def __init__(self, filename: str, subfolder: str, type: io.FolderType) -> None: ...

class _NodeReplacement:
    async def register(self, node_replace: io.NodeReplace) -> None: ...

class ComfyAPI:
    node_replacement: _NodeReplacement
