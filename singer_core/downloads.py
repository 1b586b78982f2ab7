"""Files that users fetch: what there is, under which terms; fetching them on the user's word, finding them.

Nothing here runs by itself, and `huggingface_hub` is imported when a file is fetched. Its session, headers,
token, errors and `HF_ENDPOINT` are used; its `hf_hub_download` is not, because newer releases of it throw the
part of a broken download away.
"""

from __future__ import annotations

import difflib
import errno
import io
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import file_hash, files_below
from .progress import Progress, unwatched

logger = logging.getLogger(__name__)

HUB = "https://huggingface.co"
CACHE = Path("~/.cache/singer")  # where `singer download` puts files by default
VARIABLE = "SINGER_MODELS"  # of the environment: folders with models, separated as in PATH
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ModelFile:
    """One file that others publish.

    purpose     what it is for
    repository  on Hugging Face; None = it is not fetched, only named
    source      its path there
    place       where it belongs, below ComfyUI's models folder
    megabytes   as the page says
    sha256      None where the page says none to those without a login; the server then says it
    elsewhere   where to get a file that is not on Hugging Face
    twin        SHA-256 of another file with the same weights
    """

    purpose: str
    repository: str | None
    source: str
    place: str
    megabytes: int
    terms: str
    sha256: str | None = None
    elsewhere: str = ""
    twin: str | None = None

    def is_in(self, path: Path) -> bool:
        """Whether that file holds it, whatever its name; read only where the size is right."""
        near = abs(path.stat().st_size / 1e6 - self.megabytes) <= 1
        return near and self.sha256 is not None and file_hash(path) in (self.sha256, self.twin)

    @property
    def folder(self) -> str:
        """Of ComfyUI's models folder."""
        return self.place.partition("/")[0]

    @property
    def target(self) -> str:
        """The path below that folder."""
        return self.place.partition("/")[2]

    @property
    def published_name(self) -> str:
        """What a browser saves it as."""
        return self.source.rpartition("/")[2]

    @property
    def page(self) -> str:
        """Where to read the terms, or to get it by hand."""
        return f"{HUB}/{self.repository}" if self.repository else self.elsewhere

    @property
    def size(self) -> str:
        return f"{self.megabytes / 1000:.2f} GB" if self.megabytes >= 1000 else f"{self.megabytes} MB"


# Sizes and hashes as public pages and LFS pointers state them.
FILES: dict[str, ModelFile] = {
    "singer": ModelFile(
        "the network of SINGER", "yl2333/SINGER", "net.pth", "singer/net.pth", 4850, "none stated"
    ),
    "hallo": ModelFile(
        "the network of Hallo, without MSM and SFM",
        "fudan-generative-ai/hallo",
        "hallo/net.pth",
        "singer/hallo/net.pth",
        4850,
        "MIT",
    ),
    "sd-vae-ft-mse": ModelFile(
        "VAE: pictures to latents and back",
        "stabilityai/sd-vae-ft-mse-original",
        "vae-ft-mse-840000-ema-pruned.safetensors",
        "vae/vae-ft-mse-840000-ema-pruned.safetensors",
        335,
        "MIT",
        "735e4c3a447a3255760d7f86845f09f937809baa529c17370d83e4c3758f3c75",
        twin="a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815",  # with diffusers' names
    ),
    "wav2vec2-base-960h": ModelFile(
        "audio encoder: what is sung",
        "facebook/wav2vec2-base-960h",
        "model.safetensors",
        "audio_encoders/wav2vec2-base-960h.safetensors",
        378,
        "Apache-2.0",
        "8aa76ab2243c81747a1f832954586bc566090c83a0ac167df6f31f0fa917d74a",
    ),
    "face-landmarker": ModelFile(
        "ComfyUI's own face landmarks (MediaPipe)",
        "Comfy-Org/mediapipe",
        "detection/mediapipe_face_fp32.safetensors",
        "detection/mediapipe_face_fp32.safetensors",
        5,
        "Apache-2.0",
        "a98c4806081d40eba35102a0f6dc0000c2e1388b72cf24e691703d0605bd888a",
    ),
    "glintr100": ModelFile(
        "identity: who the singer is (ArcFace, optional)",
        "DIAMONIK7777/antelopev2",
        "glintr100.onnx",
        "insightface/glintr100.onnx",
        261,
        "non-commercial research only (insightface)",
        "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf",
    ),
    "kim-vocal-2": ModelFile(
        "vocals out of a mix, the authors' choice",
        "huangjackson/Kim_Vocal_2",
        "Kim_Vocal_2.onnx",
        "audio_separation/Kim_Vocal_2.onnx",
        67,
        "none stated",
        "ce74ef3b6a6024ce44211a07be9cf8bc6d87728cc852a68ab34eb8e58cde9c8b",
    ),
    "mel-band-roformer": ModelFile(
        "vocals out of a mix, best and slowest",
        "KimberleyJSN/melbandroformer",
        "MelBandRoformer.ckpt",
        "audio_separation/MelBandRoformer.ckpt",
        913,
        "see its page",
        "87201f4d31afb5bc79993230fc49446918425574db48c01c405e44f365c7559e",
    ),
    "hdemucs": ModelFile(
        "vocals out of a mix (torchaudio)",
        None,
        "",
        "audio_separation/hdemucs_high_trained.pt",
        335,
        "none stated for the weights, trained on MUSDB18-HQ and internal songs",
        "a004b2790d73ffeaa535db458a1a79b539dfdbafbccc31f275d07e632ebd7816",
        "https://download.pytorch.org/torchaudio/models/hdemucs_high_trained.pt",
    ),
}


def find_file(name: str) -> ModelFile:
    """The file of a name. Raises ValueError naming the nearest known one."""
    if name not in FILES:
        near = difflib.get_close_matches(name, FILES, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"There is no file {name!r}; the nearest name is {near!r}. `singer download` lists all of them."
        )
    return FILES[name]


def model_folders(given: Iterable[Path] = ()) -> list[Path]:
    """Where models are looked for: folders given, of SINGER_MODELS, a ComfyUI around the pack, `CACHE`."""
    named = [Path(folder) for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
    pack = Path(__file__).absolute().parent.parent
    around = [pack.parent.parent / "models"] if pack.parent.name == "custom_nodes" else []
    folders = (folder.expanduser() for folder in (*given, *named, *around, CACHE))
    return [folder for folder in folders if folder.is_dir()]


def find_fetched(name: str, folders: Iterable[Path]) -> Path | None:
    """The first file below the folders that holds the one of this name in `FILES`; None where none does."""
    paths = (path for folder in folders for path in files_below(folder))
    return next((path for path in paths if FILES[name].is_in(path)), None)


def download(name: str, folder: Path, progress: Progress = unwatched) -> Path:
    """Fetch a file of `FILES` into `folder`, the one of its kind (such as models/vae); returns its path.

    A file that is there already is kept and checked. A download that broke off goes on where it stopped; it
    lies beside its place as `.NAME.HASH.part` and gets its name when its hash is right.

    Raises ValueError for an unknown name or a file that is not on Hugging Face, ConnectionError offline,
    PermissionError where the server wants a login or accepted terms, FileNotFoundError where it has no such
    file, RuntimeError for another file than the expected, OSError where the disk is full.
    """
    file = find_file(name)
    if file.repository is None:
        raise ValueError(
            f"{file.target} is not on Hugging Face and is not fetched. Get it from {file.page} ({file.size}) "
            f"and put it into {folder}."
        )
    target = folder / file.target
    if target.exists() and file.sha256 is not None:
        return _checked(target, file.sha256, file)
    try:
        with _explained(file, folder):
            remote = _ask(file)
    except ConnectionError as error:
        if not target.exists():
            raise
        logger.warning("%s is kept, but could not be checked: %s", target, error)
        return target
    if target.exists():
        return _checked(target, remote.sha256, file) if remote.sha256 else target
    part = target.with_name(f".{target.name}.{(remote.sha256 or 'unknown')[:12]}.part")
    with _explained(file, folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(remote, part, progress)
    if remote.sha256 is None:
        logger.warning("%s: the server names no hash; only the size was checked", target.name)
    elif file_hash(part) != remote.sha256:
        part.unlink()
        raise RuntimeError(
            f"{target.name} arrived damaged: its SHA-256 is not {remote.sha256}. It was removed; fetch it "
            "again."
        )
    part.replace(target)
    logger.info("%s: %s", target, file.terms)
    return target


@dataclass(frozen=True)
class _Remote:
    """A file on the server: address of one version, bytes and SHA-256, each None where it is not said."""

    url: str
    headers: dict[str, str]
    size: int | None
    sha256: str | None


def _ask(file: ModelFile) -> _Remote:
    """What the server says of a file. RuntimeError where it is not the one that is known."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    assert file.repository is not None
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    found = get_hf_file_metadata(hf_hub_url(file.repository, file.source, endpoint=endpoint))
    url = hf_hub_url(file.repository, file.source, revision=found.commit_hash, endpoint=endpoint)
    sha256 = found.etag if _SHA256.fullmatch(found.etag or "") else None
    if file.sha256 and sha256 and file.sha256 != sha256:
        raise RuntimeError(
            f"{file.repository} now holds another {file.source} (SHA-256 {sha256[:12]}...) than the one that "
            f"is known to work ({file.sha256[:12]}...). Nothing was fetched; look at {file.page}."
        )
    # Ranges of a compressed transfer could not be joined.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    return _Remote(url, headers, found.size, file.sha256 or sha256)


def _fetch(remote: _Remote, part: Path, progress: Progress) -> None:
    """Complete the file `part` from the server. OSError where it cannot fit on the disk."""
    from huggingface_hub.file_download import http_get

    if remote.size is not None and part.exists() and part.stat().st_size > remote.size:
        part.unlink()
    with _Part(part, remote.size, progress) as stream:
        there = stream.tell()
        missing = (remote.size or 0) - there
        if missing > shutil.disk_usage(part.parent).free:
            raise OSError(errno.ENOSPC, "no room")
        while there != remote.size:
            try:
                http_get(
                    remote.url, stream, resume_size=there, headers=remote.headers, expected_size=remote.size
                )
            except _trouble() as error:
                if stream.tell() == there or not _broke_off(error):
                    raise
                there = stream.tell()
                logger.warning("%s broke off at %d bytes and goes on: %s", part.name, there, error)
            else:
                break


def _trouble() -> tuple[Any, ...]:
    """What network and disk raise. Connection errors of httpx are no OSError, but share a base with these."""
    from huggingface_hub.utils import HfHubHTTPError

    return (OSError, *HfHubHTTPError.__bases__)


def _broke_off(error: Exception) -> bool:
    """Whether it was the connection, not the server's answer nor the disk."""
    from huggingface_hub.utils import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return False
    return isinstance(error, (ConnectionError, TimeoutError)) or getattr(error, "errno", None) is None


class _Part(io.BufferedWriter):
    """A file that is appended to, telling how much of it is there."""

    def __init__(self, path: Path, size: int | None, progress: Progress) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._size, self._progress = size, progress

    def write(self, data: Any) -> int:
        count = super().write(data)
        if self._size:
            self._progress(min(self.tell() / self._size, 1.0))
        return count


@contextmanager
def _explained(file: ModelFile, folder: Path) -> Iterator[None]:
    """Turn what network and disk raise into one error with a remedy."""
    from huggingface_hub.utils import HfHubHTTPError

    by_hand = f"or get it by hand from {file.page} ({file.size}) and put it into {folder} as {file.target}"
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        what = f"{file.repository}/{file.source}"
        if status in (401, 403):
            raise PermissionError(
                f"The server refuses {what} (HTTP {status}): its owner wants a login or accepted terms. "
                f"Accept them on {file.page}, log in with `hf auth login` (or set HF_TOKEN), and try again."
            ) from error
        if status == 404:
            raise FileNotFoundError(
                f"The server has no {what} (HTTP 404): it was moved or is no longer public. Look at "
                f"{file.page}; where HF_ENDPOINT is set, its mirror may lack it."
            ) from error
        raise ConnectionError(
            f"The server answered HTTP {status} for {what}. Try again later: what has arrived is kept; "
            f"{by_hand}."
        ) from error
    except _trouble() as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                f"There is no room for {file.target} ({file.size}) in {folder}. Make room and try again: "
                "what has arrived is kept."
            ) from error
        if not _broke_off(error):
            raise
        said = (str(error).splitlines() or [""])[0].rstrip(". ") or type(error).__name__
        raise ConnectionError(
            f"{file.target} could not be fetched from {os.environ.get('HF_ENDPOINT') or HUB}: {said}. Check "
            "the connection, HF_ENDPOINT and HF_HUB_OFFLINE, and try again: what has arrived is kept; "
            f"{by_hand}."
        ) from error


def _checked(target: Path, sha256: str, file: ModelFile) -> Path:
    """A file that was there before. RuntimeError where it is another."""
    found = file_hash(target)
    if found != sha256:
        raise RuntimeError(
            f"{target} exists but is another file: its SHA-256 is {found[:12]}..., not {sha256[:12]}... It "
            f"was left alone. Move it away and fetch {file.target} again."
        )
    return target
