"""By what a run of the graph is known again, so that the clips it has finished are found.

It is told by its content wherever that can be read: the model's file and options, conditions, noise,
sampler, VAE. What holds more than data, such as a patched model, is told by a name that it is given here for
as long as it lives: ComfyUI keeps it between two runs of the same graph.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy.samplers import KSAMPLER, CFGGuider, Sampler
from comfy.sd import VAE
from torch import Tensor, nn

from singer_core.render.store import FORMAT, ClipStore, chained, clean, fingerprint, work_folder

from .model import REFERENCE, condition_run, load_singer
from .samplers import SplitGuider
from .sockets import SONG, STAND_IN, Cond

NAME = "singer_name"  # attribute under which an object keeps its name


@contextlib.contextmanager
def kept_clips(
    guider: CFGGuider,
    sampler: Sampler,
    vae: VAE | None,
    given: tuple[object, ...],
    frames: int,
    parts: Iterable[object],
) -> Iterator[ClipStore]:
    """The store of a run.

    given   what else all clips share: tensors, numbers, texts, dataclasses
    frames  of the run; tensors of the guider with so many rows are no part of what clips share
    parts   what each clip has of its own
    """
    root = work_folder()
    run = (_guider(guider, frames), _sampler(sampler), _vae(vae))
    shared = fingerprint(FORMAT, "ComfyUI", torch.__version__, run, given)
    with ClipStore(root, shared, chained(shared, parts)) as store:
        clean(root)  # now that one's own is in use
        yield store


def _guider(guider: CFGGuider, frames: int) -> str:
    """Content of a guider with its model and what all clips share of its conditions, else its name."""
    if type(guider) not in (CFGGuider, SplitGuider):
        return _named(guider)
    model = _model(guider.model_patcher)
    conds = {name: [_cond(cond, frames) for cond in part] for name, part in guider.original_conds.items()}
    scales = {name: value for name, value in vars(guider).items() if isinstance(value, (int, float))}
    try:
        return fingerprint(type(guider).__name__, scales, model, guider.model_options, conds)
    except TypeError:  # patches, ControlNets, hooks: no plain data
        return _named(guider)


def _model(patcher: ModelPatcher) -> object:
    """The file of an unpatched model of ours; anything else has no content that could be read."""
    made = patcher.cached_patcher_init
    touched = (
        patcher.patches,
        patcher.object_patches,
        patcher.weight_wrapper_patches,
        patcher.hook_patches,
        patcher.injections,
        *(reference.patches for reference in patcher.get_additional_models_with_key(REFERENCE)),
    )
    wrappers = {kind: keys for kind, keys in patcher.wrappers.items() if any(keys.values())}
    own = {WrappersMP.SAMPLER_SAMPLE: {"singer": [condition_run]}}
    callbacks = [call for keys in patcher.callbacks.values() for calls in keys.values() for call in calls]
    if made is None or made[0] is not load_singer or any(touched) or wrappers != own or callbacks:
        return object()  # no fingerprint: the guider goes by its name
    path, options, dtype = made[1]
    state = os.stat(path)
    return str(path), state.st_size, state.st_mtime_ns, options, dtype


def _cond(cond: Cond, frames: int) -> Cond:
    kept = {key: value for key, value in cond.items() if not has_rows(value, frames)}
    kept.pop("uuid", None)  # drawn anew for every guider
    if SONG in kept:
        heard = bool(cond["cross_attn"].any())  # of the stand-in, which is another for every song
        kept |= {STAND_IN: None, "cross_attn": heard}
        kept[SONG] = (kept[SONG].portrait, kept[SONG].references, kept[SONG].brighten)
    return kept


def _sampler(sampler: Sampler) -> object:
    if type(sampler) is not KSAMPLER:
        return _named(sampler)
    function = sampler.sampler_function
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
    if "<" in name or not name.strip("."):  # made inside a function: its variables are part of it
        return _named(sampler)
    try:
        return name, fingerprint(sampler.extra_options, sampler.inpaint_options)
    except TypeError:
        return _named(sampler)


def _vae(vae: VAE | None) -> str | None:
    if vae is None:
        return None
    network = getattr(vae, "first_stage_model", None)
    return fingerprint(network) if isinstance(network, nn.Module) else _named(vae)


def _named(thing: object) -> str:
    """A name that no other object has or had."""
    if not hasattr(thing, NAME):
        setattr(thing, NAME, uuid.uuid4().hex)
    return getattr(thing, NAME)


def has_rows(value: Any, frames: int) -> bool:
    """Whether it is a tensor with a row for every frame of a run."""
    return isinstance(value, Tensor) and value.ndim > 1 and len(value) == frames
