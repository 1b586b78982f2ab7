"""Prompts for the server tests: node id -> {class_type, inputs}, as the editor sends them."""

from __future__ import annotations

from typing import Any

Prompt = dict[str, Any]
# Widgets of a node where a graph says nothing else.
WIDGETS: dict[str, dict[str, Any]] = {
    "SingerModelLoader": {
        "weight_dtype": "default",
        "noise_schedule": "official",
        "reference_rows": "alternating",
        "round_reference": True,
    },
    "SingerAudioEncode": {"fps": 25.0, "levelling": 0.0, "sub_frames": 4, "bands": 32},
    "SingerPortrait": {
        "width": 512,
        "height": 512,
        "crop": "face",
        "margin": 0.4,
        "face_index": -1,
        "lip_height": 0.0,
    },
    "SingerConditioning": {"first_frame": 0, "length": 0, "motion_frames": 2, "brighten_bright": True},
    "SingerSpectralWeighting": {"ll": 1.0, "lh": 1.0, "hl": 1.0, "hh": 1.0, "wavelet": "haar"},
    "SingerSelfAdaptiveFilter": {"strength": 1.0, "ll": 1.0, "lh": 1.0, "hl": 1.0, "hh": 1.0},
    "SingerNoise": {"noise_seed": 42, "clip_frames": 16},
    "SingerSampler": {
        "clip_frames": 16,
        "motion_frames": 2,
        "overlap": 0,
        "clip_noise": "fresh",
        "hold_colours": 0.0,
        "reanchor": 0.0,
        "keep_clips": True,
    },
    "SingerVideo": {"fps": 0.0, "audio_start": -1.0, "crf": 18},
    "BasicScheduler": {"scheduler": "simple", "steps": 40, "denoise": 1.0},
    "CFGGuider": {"cfg": 3.5},
    "KSampler": {
        "seed": 42,
        "steps": 40,
        "cfg": 3.5,
        "sampler_name": "euler",
        "scheduler": "simple",
        "denoise": 1.0,
    },
    "CreateVideo": {"fps": 25.0},
}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": {**WIDGETS.get(kind, {}), **inputs}}


def prepared(length: int = 0, checkpoint: str = "tiny.safetensors") -> Prompt:
    """Everything up to the conditioning, on the small random network."""
    return {
        "model": node("SingerModelLoader", checkpoint=checkpoint, weight_dtype="fp32"),
        "vae": node("VAELoader", vae_name="taesd.safetensors"),
        "song": node("LoadAudio", audio="song.wav"),
        "audio": node("SingerAudioEncode", audio=["song", 0], sub_frames=2, bands=3),
        "image": node("LoadImage", image="portrait.png"),
        "face": node("LoadImageMask", image="face.png", channel="red"),
        "lip": node("LoadImageMask", image="lip.png", channel="red"),
        "portrait": node(
            "SingerPortrait",
            image=["image", 0],
            face_mask=["face", 0],
            lip_mask=["lip", 0],
            width=128,
            height=128,
        ),
        "conditioning": node(
            "SingerConditioning",
            vae=["vae", 0],
            portrait=["portrait", 0],
            singer_audio=["audio", 0],
            length=length,
        ),
    }


def conditioned_by(model: str, conditioning: str) -> dict[str, Any]:
    """The inputs that a guider or KSampler takes from a model and `SingerConditioning`."""
    return {"model": [model, 0], "positive": [conditioning, 0], "negative": [conditioning, 1]}


def whole_song(prefix: str, steps: int = 2, **changes: Any) -> Prompt:
    """Clip by clip, written while it is decoded; also saves the latents."""
    return {
        **prepared(**changes),
        "guider": node("CFGGuider", **conditioned_by("model", "conditioning")),
        "sigmas": node("BasicScheduler", model=["model", 0], steps=steps),
        "sampler": node("SingerDDIM"),
        "noise": node("SingerNoise", clip_frames=4),
        "samples": node(
            "SingerSampler",
            noise=["noise", 0],
            guider=["guider", 0],
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            latent_image=["conditioning", 2],
            vae=["vae", 0],
            clip_frames=4,
        ),
        "latents": node("SaveLatent", samples=["samples", 0], filename_prefix=prefix),
        "video": node(
            "SingerVideo",
            latent=["samples", 0],
            vae=["vae", 0],
            audio=["song", 0],
            portrait=["portrait", 0],
        ),
        "save": node("SaveVideo", video=["video", 0], filename_prefix=prefix, format="mp4", codec="h264"),
    }


def one_clip(prefix: str) -> Prompt:
    """One clip with core's own sampler, decoder and video nodes."""
    return {
        **prepared(length=4),
        "samples": node(
            "KSampler",
            **conditioned_by("model", "conditioning"),
            latent_image=["conditioning", 2],
            steps=2,
        ),
        "frames": node("VAEDecode", samples=["samples", 0], vae=["vae", 0]),
        "video": node("CreateVideo", images=["frames", 0], audio=["song", 0]),
        "save": node("SaveVideo", video=["video", 0], filename_prefix=prefix, format="mp4", codec="h264"),
    }
