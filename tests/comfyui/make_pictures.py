"""Draws every node with what it is wired to, for its help page: python tests/comfyui/make_pictures.py COMFYUI

Needs what make_workflows.py needs. Run make_pages.py afterwards.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))

from editor import Editor
from graphs import Prompt, node
from make_pages import PAGES
from make_workflows import PACK, WORKFLOWS, placeholders, sampled_song, stages
from server import Server

EVALUATED = {
    "1": node("LoadVideo", file="clip.mp4"),
    "2": node("SingerSongLoader", audio="sample song"),
    "3": node("SingerEvaluate", video=["1", 0], audio=["2", 0], fps=25.0, clip_frames=16),
    "4": node("PreviewImage", images=["3", 1]),
}


def with_options() -> Prompt:
    """A clip with the two optional stages."""
    graph = stages()
    graph["9"] = node("SingerVocalSeparation", audio=["8", 0], separator="kim_vocal_2")
    graph["11"]["inputs"]["audio"] = ["9", 0]
    graph["29"] = node("SingerIdentityLoader", identity_model="glintr100.onnx")
    graph["6"]["inputs"]["identity_model"] = ["29", 0]
    return graph


def guided() -> Prompt:
    graph = {**stages(), **sampled_song(node("SingerDDIM"), node("RandomNoise", noise_seed=42))}
    scales = {"reference_scale": 3.5, "audio_scale": 5.0, "rescale": 0.7}
    conditions = {"positive": ["12", 0], "negative": ["12", 1]}
    graph["20"] = node("SingerGuider", model=["1", 0], **conditions, **scales)
    return graph


def trained() -> Prompt:
    return {
        "1": node("VAELoader", vae_name="vae-ft-mse-840000-ema-pruned.safetensors"),
        "2": node("AudioEncoderLoader", audio_encoder_name="wav2vec2-base-960h.safetensors"),
        "3": node("SingerTrain", vae=["1", 0], audio_encoder=["2", 0], data="singer", checkpoint="net.pth"),
        "4": node("PreviewImage", images=["3", 1]),
    }


def fetched() -> Prompt:
    return {"1": node("SingerDownload", file="singer", accept_terms=True)}


def duet() -> Prompt:
    """Each singer with portrait, stem, conditioning and sampler of their own."""
    first = {**stages(), **sampled_song(node("SingerDDIM"), node("RandomNoise", noise_seed=42))}
    second = renumbered({name: dict(drawn) for name, drawn in first.items()}, 100)
    sampled = next(name for name, drawn in first.items() if drawn["class_type"] == "SingerSampler")
    portrait = next(name for name, drawn in first.items() if drawn["class_type"] == "SingerPortrait")
    other = str(100 + int(sampled)), str(100 + int(portrait))
    vae, song = (
        first[sampled]["inputs"]["vae"],
        next(name for name, drawn in first.items() if drawn["class_type"] == "SingerSongLoader"),
    )
    portraits = {"first_portrait": [portrait, 0], "second_portrait": [other[1], 0]}
    films = {"first": [sampled, 0], "second": [other[0], 0]}
    return {
        **first,
        **second,
        "300": node("SingerDuetVideo", **films, vae=vae, audio=[song, 0], **portraits),
        "301": node("SaveVideo", video=["300", 0], filename_prefix="duet", format="mp4", codec="h264"),
    }


OTHERS = {
    "SingerVocalSeparation": with_options,
    "SingerIdentityLoader": with_options,
    "SingerDuetVideo": duet,
    "SingerGuider": guided,
    "SingerTrain": trained,
    "SingerDownload": fetched,
    "SingerEvaluate": lambda: EVALUATED,
}


def around(prompt: Prompt, kind: str) -> Prompt:
    """The first node of a kind with the nodes that feed it and the first two that it feeds."""
    centre = next(name for name, drawn in prompt.items() if drawn["class_type"] == kind)
    feeding = {link[0] for link in _links(prompt[centre])}
    fed = [name for name, drawn in prompt.items() if any(link[0] == centre for link in _links(drawn))]
    kept = {centre, *feeding, *fed[:2]}
    return {name: _within(prompt[name], kept, centre) for name in prompt if name in kept}


def _links(drawn: dict[str, Any]) -> list[list[Any]]:
    return [value for value in drawn["inputs"].values() if isinstance(value, list)]


def _within(drawn: dict[str, Any], kept: set[str], centre: str) -> dict[str, Any]:
    """A node without the links that do not touch the centre."""
    mine = any(link[0] == centre for link in _links(drawn))
    inputs = {
        name: value
        for name, value in drawn["inputs"].items()
        if not isinstance(value, list) or value[0] == centre or (not mine and value[0] in kept)
    }
    return {**drawn, "inputs": inputs}


def graph_of(kind: str) -> Prompt:
    if kind in OTHERS:
        return around(OTHERS[kind](), kind)
    for example in WORKFLOWS.values():
        prompt = example.prompt()
        if any(drawn["class_type"] == kind for drawn in prompt.values()):
            return around(prompt, kind)
    raise KeyError(kind)


def renumbered(prompt: Prompt, first: int) -> Prompt:
    """Ids of its own: the editor remembers pictures by id."""
    ids = {name: str(first + int(name)) for name in prompt}

    def moved(value: Any) -> Any:
        return [ids[value[0]], value[1]] if isinstance(value, list) else value

    return {
        ids[name]: {**drawn, "inputs": {key: moved(value) for key, value in drawn["inputs"].items()}}
        for name, drawn in prompt.items()
    }


def main(comfy: Path, names: list[str]) -> None:
    kinds = names or sorted(path.stem for path in PAGES.glob("Singer*.md"))
    with tempfile.TemporaryDirectory() as folder:
        server = Server(comfy, Path(folder), "singer", PACK)
        placeholders(Path(folder))
        (Path(folder) / "input/singer").mkdir()
        (Path(folder) / "input/clip.mp4").touch()
        with server, Editor(server) as editor:
            for index, kind in enumerate(kinds):
                editor.from_prompt(renumbered(graph_of(kind), 1000 * (index + 1)))
                editor.cutting(PAGES / f"{kind}.jpg")


if __name__ == "__main__":
    main(Path(sys.argv[1]).expanduser(), sys.argv[2:])
