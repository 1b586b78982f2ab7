"""Finished clips of a run on disk, so that a song that was cancelled goes on where it stopped.

A run is told by its content wherever that can be read: the model's file and options, conditions, noise,
sampler, VAE. What holds more than data, such as a patched model, is told by a name that it is given here for
as long as it lives: ComfyUI keeps it between two runs of the same graph.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy.samplers import KSAMPLER, CFGGuider, Sampler
from comfy.sd import VAE
from torch import Tensor

from singer_core.render.store import FORMAT, ClipStore, clean, fingerprint, work_folder

from .model import REFERENCE, condition_run, load_singer
from .samplers import SplitGuider
from .sockets import Cond

_NAME = "singer_name"  # attribute under which an object keeps its name


@contextlib.contextmanager
def kept_clips(
    guider: CFGGuider,
    sampler: Sampler,
    vae: VAE | None,
    given: tuple[object, ...],
    clips: int,
    for_later: bool = False,
) -> Iterator[ClipStore]:
    """The store of a run, emptied once the run is done, unless its clips are still wanted.

    given  whatever else determines the latents: tensors, numbers, texts, dataclasses
    """
    root = work_folder()
    parts = (_guider(guider), _sampler(sampler), _vae(vae))
    key = fingerprint(FORMAT, "ComfyUI", torch.__version__, parts, given)
    with ClipStore(root, key, clips) as store:
        clean(root)  # now that one's own is in use
        yield store
        if not for_later:
            store.remove()


def _guider(guider: CFGGuider) -> str:
    """Content of a guider with its model and conditions, else its name."""
    if type(guider) not in (CFGGuider, SplitGuider):
        return _named(guider)
    model = _model(guider.model_patcher)
    conds = {name: [_cond(cond) for cond in part] for name, part in guider.original_conds.items()}
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


def _cond(cond: Cond) -> Cond:
    return {key: value for key, value in cond.items() if key != "uuid"}  # drawn anew for every guider


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
    return _named(vae) if not isinstance(network, torch.nn.Module) else _weights(network)


def _weights(network: torch.nn.Module) -> str:
    state: dict[str, Tensor] = network.state_dict()
    return fingerprint(type(network).__name__, state)


def _named(thing: object) -> str:
    """A name that no other object has or had."""
    if not hasattr(thing, _NAME):
        setattr(thing, _NAME, uuid.uuid4().hex)
    return getattr(thing, _NAME)
