"""Writes workflows/*.json, their pictures and subgraphs/*.json with the real editor.

    python tests/comfyui/make_workflows.py COMFYUI [NAME ...]

Needs ComfyUI's interpreter, playwright and Chromium. Models are empty files of the published names here: the
graphs are drawn, not run.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))

from editor import Editor
from graphs import Prompt, conditioned_by, node
from layout import NOTE_WIDTH, lay_out, set_first_view
from server import Server

from singer_core.downloads import FILES, HUB

PACK = Path(__file__).resolve().parents[2]
# name in a combo -> folder below models, and name in `singer_core.downloads`, if the editor can fetch it
MODELS = {
    "net.pth": ("singer", "singer"),
    "vae-ft-mse-840000-ema-pruned.safetensors": ("vae", "sd-vae-ft-mse"),
    "wav2vec2-base-960h.safetensors": ("audio_encoders", "wav2vec2-base-960h"),
    "mediapipe_face_fp32.safetensors": ("detection", "face-landmarker"),
    "style_sd15.safetensors": ("loras", None),
}
PACK_NAME, PACK_VERSION = "singer-portrait", "0.1.0"  # of pyproject.toml: by these a manager finds the pack
CORE_VERSION = "0.33.0"


@dataclass(frozen=True)
class Example:
    """A workflow: its prompt, the paragraphs of its note, and the nodes that are folded into one."""

    prompt: Callable[[], Prompt]
    note: tuple[str, ...]
    folded: tuple[str, ...] = ()  # its inputs and outputs come in the order of these nodes
    title: str = ""
    widgets: tuple[tuple[str, str], ...] = ()  # (node id, widget) shown on the folded node
    asked: tuple[tuple[str, str], ...] = ()  # (node id, widget) of the app that the editor makes of it
    shown: tuple[str, ...] = ()  # nodes whose results that app shows


def quickstart() -> Prompt:
    return {
        "1": node("SingerDemoLoader"),
        "2": node("SingerAudioEncode", audio=["1", 3]),
        "3": node(
            "SingerConditioning",
            vae=["1", 1],
            portrait=["1", 2],
            singer_audio=["2", 0],
            brighten_bright=False,
        ),
        "4": node("BasicGuider", model=["1", 0], conditioning=["3", 0]),
        "5": node("BasicScheduler", model=["1", 0], steps=1),
        "6": node("KSamplerSelect", sampler_name="euler"),
        "7": node("RandomNoise", noise_seed=42),
        "8": node(
            "SingerSampler",
            noise=["7", 0],
            guider=["4", 0],
            sampler=["6", 0],
            sigmas=["5", 0],
            latent_image=["3", 2],
            overlap=2,
            reanchor=1.0,
            restart_beyond=0.5,
            preview_vae=["1", 1],
            preview_audio=["1", 3],
        ),
        "9": node("SingerVideo", latent=["8", 0], vae=["1", 1], audio=["1", 3], portrait=["1", 2]),
        "10": saved("9", "singer_quickstart"),
    }


def loaded() -> Prompt:
    return {
        "1": node("SingerModelLoader", checkpoint="net.pth"),
        "2": node("VAELoader", vae_name="vae-ft-mse-840000-ema-pruned.safetensors"),
    }


def looked() -> Prompt:
    return {
        "3": node("SingerPictureLoader", image="sample portrait"),
        "6": node("SingerPortrait", image=["3", 0]),
    }


def looked_as_the_authors() -> Prompt:
    """With the masks of the authors' points, instead of those of the face finder."""
    return {
        **looked(),
        "4": node("LoadMediaPipeFaceLandmarker", model_name="mediapipe_face_fp32.safetensors"),
        "5": node(
            "MediaPipeFaceLandmarker",
            face_detection_model=["4", 0],
            image=["3", 0],
            detector_variant="both",
            num_faces=1,
            min_confidence=0.5,
            missing_frame_fallback="empty",
        ),
        "6": node("SingerPortrait", image=["3", 0], face_landmarks=["5", 0]),
    }


def heard() -> Prompt:
    return {
        "8": node("SingerSongLoader", audio="sample song"),
        "10": node("SingerAudioEncoderLoader", audio_encoder="wav2vec2-base-960h.safetensors"),
        "11": node("SingerAudioEncode", audio=["8", 0], audio_encoder=["10", 0]),
    }


def conditioned(length: int, **more: Any) -> dict[str, Any]:
    inputs = {"vae": ["2", 0], "portrait": ["6", 0], "singer_audio": ["11", 0]}
    return node("SingerConditioning", **inputs, length=length, **more)


def ksampled(model: str) -> dict[str, Any]:
    return node("KSampler", **conditioned_by(model, "12"), latent_image=["12", 2])


def saved(video: str, name: str) -> dict[str, Any]:
    kind = {"format": "mp4", "format.codec": "h264"}
    return node("SaveVideo", video=[video, 0], filename_prefix=f"video/{name}", **kind)


def weighting(model: str, mode: str = "initial_noise", scale: str = "sum", **gains: float) -> dict[str, Any]:
    return node("SingerSpectralWeighting", model=[model, 0], mode=mode, scale=scale, **gains)


def filtered(model: str, strength: float = 1.0) -> dict[str, Any]:
    return node("SingerSelfAdaptiveFilter", model=[model, 0], strength=strength)


def stages() -> Prompt:
    return {
        **loaded(),
        **looked(),
        **heard(),
        "12": conditioned(16),
        "13": weighting("1"),
        "14": filtered("13"),
        "15": ksampled("14"),
        "16": node("VAEDecode", samples=["15", 0], vae=["2", 0]),
        "17": node("CreateVideo", images=["16", 0], audio=["8", 0]),
        "18": saved("17", "singer_stages"),
    }


def sampled_song(sampler: dict[str, Any], noise: dict[str, Any], **preview: Any) -> Prompt:
    return {
        "20": node("CFGGuider", **conditioned_by("1", "12")),
        "21": node("BasicScheduler", model=["1", 0]),
        "22": sampler,
        "23": noise,
        "24": node(
            "SingerSampler",
            noise=["23", 0],
            guider=["20", 0],
            sampler=["22", 0],
            sigmas=["21", 0],
            latent_image=["12", 2],
            vae=["2", 0],
            **preview,
        ),
    }


def full_song() -> Prompt:
    return {
        **loaded(),
        **looked(),
        **heard(),
        "19": node(
            "SingerMotionWeights",
            singer_audio=["11", 0],
            mix=["8", 0],
            pose=1.0,
            face=1.0,
            lip=1.0,
            beat=0.0,
            loudness=0.2,
            silence=0.0,
        ),
        "12": conditioned(0, weights=["19", 0]),
        **sampled_song(
            node("KSamplerSelect", sampler_name="euler"),
            node("RandomNoise", noise_seed=42),
            preview_vae=["2", 0],
            preview_audio=["8", 0],
        ),
        "25": node(
            "SingerVideo",
            latent=["24", 0],
            vae=["2", 0],
            audio=["8", 0],
            portrait=["6", 0],
        ),
        "26": saved("25", "singer_song"),
    }


def spectral_playground() -> Prompt:
    graph = {
        **loaded(),
        **looked(),
        **heard(),
        "12": conditioned(16),
        "13": weighting("1", "expected", "trained_length", lh=1.5),
        "14": filtered("13", 0.5),
        "27": node("SingerSpectralPlot", singer_audio=["11", 0], model=["13", 0], first_frame=0, length=100),
        "28": node("PreviewImage", images=["27", 0]),
    }
    for index, model in enumerate(("1", "14")):
        base = 30 + 4 * index
        graph |= {
            str(base): ksampled(model),
            str(base + 1): node("VAEDecode", samples=[str(base), 0], vae=["2", 0]),
            str(base + 2): node("CreateVideo", images=[str(base + 1), 0], audio=["8", 0]),
            str(base + 3): saved(str(base + 2), ("singer_plain", "singer_weighed")[index]),
        }
    return graph


def combined() -> Prompt:
    return {
        **loaded(),
        **looked(),
        **heard(),
        "12": conditioned(16),
        "40": node(
            "LoraLoaderModelOnly", model=["1", 0], lora_name="style_sd15.safetensors", strength_model=0.6
        ),
        "41": node("FreeU_V2", model=["40", 0], b1=1.1, b2=1.1, s1=0.9, s2=0.8),
        "42": node("RescaleCFG", model=["41", 0], multiplier=0.7),
        "15": ksampled("42"),
        "16": node("VAEDecode", samples=["15", 0], vae=["2", 0]),
        "43": node("ImageScaleBy", image=["16", 0], upscale_method="lanczos", scale_by=2.0),
        "17": node("CreateVideo", images=["43", 0], audio=["8", 0]),
        "18": saved("17", "singer_combined"),
    }


def parity() -> Prompt:
    return {
        **loaded(),
        **looked_as_the_authors(),
        **heard(),
        "12": conditioned(0),
        **sampled_song(node("SingerDDIM"), node("SingerNoise")),
        "44": node("SaveLatent", samples=["24", 0], filename_prefix="latents/singer_parity"),
    }


def linked(name: str) -> str:
    """A file of `MODELS` for a note: with its address, and where it goes."""
    return f"[{name}]({link_to(name)['url']}) in models/{MODELS[name][0]}"


def link_to(name: str) -> dict[str, str]:
    """What the editor's dialog of missing models needs to know."""
    folder, key = MODELS[name]
    file = FILES[key]
    link = {"name": name, "url": f"{HUB}/{file.repository}/resolve/main/{file.source}", "directory": folder}
    return link if file.sha256 is None else {**link, "hash": file.sha256, "hash_type": "SHA256"}


THREE, LANDMARKER = list(MODELS)[:3], list(MODELS)[3]
WANTED = (
    f"Three files: {', '.join(map(linked, THREE))} (also as model.safetensors). "
    "`Download SINGER Files` fetches them, too.",
    "Upload your own portrait and song in their loaders. Optional: `Separate Vocals` behind a song that is a "
    "mix; `Load SINGER Identity Model` into the portrait, for more likeness.",
    "Memory beside the weights at 512 x 512 and 16 frames: 2.7 GiB in fp16. Time: not measured with the "
    "published weights; 40 steps of a clip are 80 passes of an SD1.5-sized network over 32 pictures.",
)

WORKFLOWS = {
    "01_quickstart": Example(
        quickstart,
        (
            "Press Run",
            "A small built-in model sings the built-in song. Nothing is downloaded.",
            "Your picture: `Load Image` into `image` of `Load SINGER Demo`; a face from the front, mouth "
            "closed, with room around it. Your song: `Load Audio` into its `audio`.",
            "It sings drawn faces and photographs in one step, at 192 x 192 pixels; your whole picture is "
            "shown, with its own detail. 5 s of song took 19 seconds of one x86 core on the command line, "
            "without a GPU.",
            "Open the folded node (double-click its frame) to see the stages. Larger pictures: 03_full_song.",
        ),
        folded=("7", "4", "6", "5", "3", "2"),
        title="SINGER: portrait + song",
        widgets=(("7", "noise_seed"),),
        asked=(("7", "noise_seed"), ("8", "takes")),
        shown=("10",),
    ),
    "02_stages": Example(
        stages, ("One clip, every stage", "Core's KSampler and VAEDecode do the work.", *WANTED)
    ),
    "03_full_song": Example(
        full_song,
        (
            "A whole song",
            "Motion follows loudness, every frame is pasted back into the picture. Memory does not grow with "
            "the song; after a cancel it goes on from the last finished clip. `Sample SINGER Video` plays it "
            "as it grows.",
            *WANTED,
        ),
        asked=(("3", "image"), ("8", "audio"), ("23", "noise_seed"), ("24", "takes")),
        shown=("26",),
    ),
    "04_spectral_playground": Example(
        spectral_playground,
        (
            "The two spectral modules",
            "The same clip twice: as the authors', and with other wavelet bands. The plot shows what the "
            "bands hold.",
            *WANTED,
        ),
    ),
    "05_combine": Example(
        combined,
        (
            "With everything else",
            "A LoRA for SD1.5 (put yours in), FreeU, RescaleCFG and a picture scaler of core act on the "
            "MODEL and its frames.",
            *WANTED,
        ),
    ),
    "06_parity": Example(
        parity,
        (
            "The authors' numbers",
            "Their noise, their sampler, seed 42; saves latents to compare. "
            f"Core's landmarks mask face and lips: {linked(LANDMARKER)}.",
            *WANTED,
        ),
    ),
}

# Name in the editor's list of nodes -> what is in it, its category there, and what it does.
BLUEPRINTS = {
    "Portrait + Song to Video (SINGER)": (
        Example(
            full_song,
            (),
            folded=tuple(name for name in full_song() if name not in ("3", "8", "26")),
            title="Portrait + Song to Video (SINGER)",
            widgets=(("1", "checkpoint"), ("23", "noise_seed"), ("21", "steps"), ("24", "takes")),
        ),
        "Video generation and editing/Audio to video",
        "A portrait sings a song of any length, with the published weights of SINGER or Hallo.",
    )
}


def graphs_of(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """The graph of a file, and those of its folded nodes."""
    return [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]


def finished(workflow: dict[str, Any]) -> dict[str, Any]:
    """The file with fixed seeds, the pack of every node, and links to its models.

    The editor offers the links where models are missing.
    """
    folded = {graph["id"] for graph in graphs_of(workflow)[1:]}
    for graph in graphs_of(workflow):
        for drawn in graph["nodes"]:
            values = drawn.get("widgets_values")
            if not isinstance(values, list):
                continue
            drawn["widgets_values"] = ["fixed" if v == "randomize" else v for v in values]
            links = [link_to(v) for v in values if isinstance(v, str) and MODELS.get(v, ("", None))[1]]
            if links:
                drawn["properties"]["models"] = links
        for drawn in graph["nodes"]:
            if drawn["type"] in folded:
                continue
            ours = drawn["type"].startswith("Singer")
            said = drawn.setdefault("properties", {})
            said["cnr_id"] = PACK_NAME if ours else "comfy-core"
            said["ver"] = PACK_VERSION if ours else CORE_VERSION
    return workflow


def placeholders(base: Path) -> None:
    """Empty files under the published names, so that the combos list them."""
    for name, (folder, _) in MODELS.items():
        path = base / "models" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def draw_nodes(editor: Editor, example: Example) -> None:
    editor.from_prompt(example.prompt())
    if example.folded:
        editor.fold(example.folded, example.title, example.widgets)
        editor.open(editor.file())  # only now the folded node has its widgets, and its size
    editor.shrink()


def draw(editor: Editor, example: Example) -> dict[str, Any]:
    """The editor's own file of an example."""
    draw_nodes(editor, example)
    editor.add_note("# " + "\n\n## ".join(example.note), NOTE_WIDTH)  # headings: plain text is 10 pixels high
    workflow = finished(editor.file())
    for graph in graphs_of(workflow):
        lay_out(graph)
    set_first_view(workflow)
    if example.shown:
        workflow["extra"]["linearData"] = {"inputs": example.asked, "outputs": example.shown}
    editor.open(workflow)
    return editor.file()


def draw_blueprint(editor: Editor, example: Example, category: str, description: str) -> dict[str, Any]:
    """The file of a folded node that the editor offers among its nodes: that node alone."""
    draw_nodes(editor, example)
    workflow = finished(editor.file())
    (inside,) = workflow["definitions"]["subgraphs"]
    lay_out(inside)
    inside |= {"category": category, "description": description}
    (alone,) = (drawn for drawn in workflow["nodes"] if drawn["type"] == inside["id"])
    for slot in alone["inputs"]:
        slot["link"] = None
    for slot in alone["outputs"]:
        slot["links"] = []
    return workflow | {"nodes": [alone], "links": [], "groups": [], "extra": {}}


def save(workflow: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(workflow, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(comfy: Path, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(comfy, Path(folder), "singer", PACK)
        placeholders(Path(folder))
        with server, Editor(server) as editor:
            for name in names or [*WORKFLOWS, *BLUEPRINTS]:
                if name in BLUEPRINTS:
                    save(draw_blueprint(editor, *BLUEPRINTS[name]), PACK / "subgraphs" / f"{name}.json")
                    continue
                path = PACK / "workflows" / f"{name}.json"
                save(draw(editor, WORKFLOWS[name]), path)
                editor.picture(path.with_suffix(".jpg"))


if __name__ == "__main__":
    main(Path(sys.argv[1]).expanduser(), sys.argv[2:])
