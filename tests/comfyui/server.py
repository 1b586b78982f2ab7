"""A real ComfyUI server on the CPU, in folders of its own, spoken to over HTTP; and small files for it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

# On a busy machine; nothing waits so long elsewhere.
START_SECONDS = 600
RUN_SECONDS = 900
REPLY_SECONDS = 600

SONG_FRAMES = 10  # two clips of four and a half one


class Server:
    """`with Server(comfy, base, pack_name, pack) as server`: the pack is linked below base/custom_nodes."""

    def __init__(self, comfy: Path, base: Path, pack_name: str, pack: Path) -> None:
        self.base, self.log = base, base / "server.log"
        for name in (
            "custom_nodes",
            "input",
            "output",
            "temp",
            "user/default",
            "models/singer",
            "models/vae",
        ):
            (base / name).mkdir(parents=True, exist_ok=True)
        (base / "custom_nodes" / pack_name).symlink_to(pack, target_is_directory=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.command = [
            *(sys.executable, str(comfy / "main.py"), "--cpu", "--use-pytorch-cross-attention"),
            *("--listen", "127.0.0.1", "--port", str(self.port), "--base-directory", str(base)),
            *("--disable-api-nodes", "--database-url", "sqlite:///:memory:", "--cache-none"),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(self.base)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=self.base
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.get("system_stats")
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
            else:
                return self
        self.__exit__()
        raise RuntimeError(f"ComfyUI did not start:\n{self.said()[-3000:]}")

    def __exit__(self, *_error: object) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=REPLY_SECONDS)

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=REPLY_SECONDS) as reply:
            return json.loads(reply.read() or b"null")

    def post(self, path: str, data: Any) -> Any:
        """The reply, also of a refusal (HTTP 400)."""
        body = json.dumps(data).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{path}", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=REPLY_SECONDS) as reply:
                return json.loads(reply.read() or b"null")
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    def queue(self, prompt: dict[str, Any]) -> str:
        return self.post("prompt", {"prompt": prompt})["prompt_id"]

    def wait(self, prompt_id: str) -> dict[str, Any]:
        """The history entry of a finished prompt."""
        end = time.monotonic() + RUN_SECONDS
        while time.monotonic() < end:
            history = self.get(f"history/{prompt_id}")
            if history:
                return history[prompt_id]
            time.sleep(0.2)
        raise TimeoutError(f"The prompt is not done after {RUN_SECONDS} s:\n{self.said()[-3000:]}")

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        return self.wait(self.queue(prompt))


def save_taesd(path: Path) -> None:
    """A random TAESD: the smallest VAE that core loads from models/vae."""
    from comfy.taesd.taesd import TAESD

    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = {k: v for k, v in TAESD().state_dict().items() if k.startswith("taesd_")}
        save_file({key: torch.randn_like(value) * 0.05 for key, value in state.items()}, path)


def save_inputs(folder: Path) -> None:
    pixels = (torch.rand(160, 160, 3, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()
    Image.fromarray(pixels).save(folder / "portrait.png")
    for name, (top, bottom, left, right) in {"face": (30, 130, 40, 120), "lip": (95, 115, 60, 100)}.items():
        mask = np.zeros((160, 160, 3), np.uint8)
        mask[top:bottom, left:right] = 255
        Image.fromarray(mask).save(folder / f"{name}.png")
    time_ = np.arange(int(16_000 * SONG_FRAMES / 25)) / 16_000
    with wave.open(str(folder / "song.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((np.sin(2 * np.pi * 220 * time_) * 9000).astype("<i2").tobytes())
