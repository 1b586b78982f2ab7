"""Writes workflows/*.json and their pictures with the real editor: python tests/comfyui/make_workflows.py

Needs ComfyUI's interpreter, playwright and Chromium. Models are empty files of the published names here: the
graphs are drawn, not run.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))

from editor import Editor
from graphs import Prompt, node
from server import Server

PACK = Path(__file__).resolve().parents[2]
HUB = "https://huggingface.co"
# name in a combo -> (folder below models, link)
MODELS = {
    "net.pth": ("singer", f"{HUB}/yl2333/SINGER/resolve/main/net.pth"),
    "sd-vae-ft-mse.safetensors": (
        "vae",
        f"{HUB}/stabilityai/sd-vae-ft-mse/resolve/main/diffusion_pytorch_model.safetensors",
    ),
    "wav2vec2-base-960h.safetensors": (
        "audio_encoders",
        f"{HUB}/facebook/wav2vec2-base-960h/resolve/main/model.safetensors",
    ),
    "mediapipe_face_fp32.safetensors": ("detection", None),
    "glintr100.safetensors": ("insightface", None),
    "style_sd15.safetensors": ("loras", None),
}


def loaded() -> Prompt:
    return {
        "1": node(
            "SingerModelLoader",
            checkpoint="net.pth",
            weight_dtype="default",
            noise_schedule="official",
            reference_rows="alternating",
            round_reference=True,
        ),
        "2": node("VAELoader", vae_name="sd-vae-ft-mse.safetensors"),
    }


def looked() -> Prompt:
    return {
        "3": node("LoadImage", image="portrait.png"),
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
        "6": node(
            "SingerPortrait",
            image=["3", 0],
            face_landmarks=["5", 0],
            identity_model=["29", 0],
            width=512,
            height=512,
            crop="face",
            margin=0.4,
            face_index=-1,
            lip_height=0.0,
        ),
        "7": node("PreviewImage", images=["6", 1]),
        "29": node("SingerIdentityLoader", identity_model="glintr100.safetensors"),
    }


def heard() -> Prompt:
    return {
        "8": node("LoadAudio", audio="song.wav"),
        "9": node("SingerVocalSeparation", audio=["8", 0], separator="kim_vocal_2"),
        "10": node("AudioEncoderLoader", audio_encoder_name="wav2vec2-base-960h.safetensors"),
        "11": node(
            "SingerAudioEncode",
            audio=["9", 0],
            audio_encoder=["10", 0],
            fps=25.0,
            levelling=0.0,
            sub_frames=4,
            bands=32,
        ),
    }


def conditioned(length: int, **more: Any) -> dict[str, Any]:
    return node(
        "SingerConditioning",
        vae=["2", 0],
        portrait=["6", 0],
        singer_audio=["11", 0],
        first_frame=0,
        length=length,
        motion_frames=2,
        brighten_bright=True,
        **more,
    )


def ksampled(model: str, seed: int = 42) -> dict[str, Any]:
    return node(
        "KSampler",
        model=[model, 0],
        positive=["12", 0],
        negative=["12", 1],
        latent_image=["12", 2],
        seed=seed,
        steps=40,
        cfg=3.5,
        sampler_name="euler",
        scheduler="simple",
        denoise=1.0,
    )


def saved(video: str, name: str) -> dict[str, Any]:
    kind = {"format": "mp4", "format.codec": "h264"}
    return node("SaveVideo", video=[video, 0], filename_prefix=f"video/{name}", **kind)


def weighting(model: str, mode: str = "initial_noise", scale: str = "sum", **gains: float) -> dict[str, Any]:
    bands = {"ll": 1.0, "lh": 1.0, "hl": 1.0, "hh": 1.0, **gains}
    kind = "SingerSpectralWeighting"
    return node(kind, model=[model, 0], mode=mode, scale=scale, **bands, wavelet="haar")


def filtered(model: str, strength: float = 1.0) -> dict[str, Any]:
    bands = {"ll": 1.0, "lh": 1.0, "hl": 1.0, "hh": 1.0}
    return node("SingerSelfAdaptiveFilter", model=[model, 0], strength=strength, **bands)


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
        "17": node("CreateVideo", images=["16", 0], audio=["8", 0], fps=25.0),
        "18": saved("17", "singer_stages"),
    }


def sampled_song(sampler: dict[str, Any], noise: dict[str, Any], model: str = "1", **vae: Any) -> Prompt:
    return {
        "20": node("CFGGuider", model=[model, 0], positive=["12", 0], negative=["12", 1], cfg=3.5),
        "21": node("BasicScheduler", model=[model, 0], scheduler="simple", steps=40, denoise=1.0),
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
            clip_frames=16,
            motion_frames=2,
            overlap=0,
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
            silence=0.5,
        ),
        "12": conditioned(0, weights=["19", 0]),
        **sampled_song(node("KSamplerSelect", sampler_name="euler"), node("RandomNoise", noise_seed=42)),
        "25": node(
            "SingerVideo",
            latent=["24", 0],
            vae=["2", 0],
            audio=["8", 0],
            portrait=["6", 0],
            fps=25.0,
            audio_start=0.0,
            crf=18,
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
            str(base + 2): node("CreateVideo", images=[str(base + 1), 0], audio=["8", 0], fps=25.0),
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
        "17": node("CreateVideo", images=["43", 0], audio=["8", 0], fps=25.0),
        "18": saved("17", "singer_combined"),
    }


def parity() -> Prompt:
    return {
        **loaded(),
        **looked(),
        **heard(),
        "12": conditioned(0),
        **sampled_song(node("SingerDDIM"), node("SingerNoise", noise_seed=42, clip_frames=16)),
        "44": node("SaveLatent", samples=["24", 0], filename_prefix="latents/singer_parity"),
    }


WORKFLOWS = {
    "02_stages": stages,
    "03_full_song": full_song,
    "04_spectral_playground": spectral_playground,
    "05_combine": combined,
    "06_parity": parity,
}


def finished(workflow: dict[str, Any]) -> dict[str, Any]:
    """The file with fixed seeds and links to its models, which the editor offers where they are missing."""
    for drawn in workflow["nodes"]:
        drawn["widgets_values"] = [
            "fixed" if v == "randomize" else v for v in drawn.get("widgets_values") or []
        ]
        names = [value for value in drawn["widgets_values"] if value in MODELS]
        links = [
            {"name": name, "url": MODELS[name][1], "directory": MODELS[name][0]}
            for name in names
            if MODELS[name][1]
        ]
        if links:
            drawn["properties"]["models"] = links
    return workflow


def placeholders(base: Path) -> None:
    """Empty files under the published names, so that the combos list them."""
    files = [base / "models" / folder / name for name, (folder, _) in MODELS.items()]
    for path in [*files, base / "input/portrait.png", base / "input/song.wav"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def main(comfy: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(comfy, Path(folder), "singer", PACK)
        placeholders(Path(folder))
        with server, Editor(server) as editor:
            for name, graph in WORKFLOWS.items():
                workflow = finished(editor.from_prompt(graph()))
                path = PACK / "workflows" / f"{name}.json"
                path.write_text(json.dumps(workflow, indent=1) + "\n", encoding="utf-8")
                editor.open(workflow)
                editor.picture(path.with_suffix(".jpg"))


if __name__ == "__main__":
    main(Path(sys.argv[1]).expanduser())
