"""The training loop, on `accelerate`: one process, many devices or many machines.

Chance depends on the seed and the number of the sample alone (`objective.draw`), so nothing of it has to be
saved, a run goes on exactly where it was killed, and devices share a batch without overlap.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..libraries import require
from ..network.backbone import SingerNetwork
from ..portrait.identity import COLOUR_IDENTITY_WIDTH
from .checkpoints import RunState, load_step, metadata_of, newest_step, save_step
from .config import TrainConfig
from .dataset import ClipDataset, Sample, collate
from .distillation import Distillation
from .objective import Draws, Objective, draw, seeded, with_wrong_portrait
from .recipes import memory_estimate, parameter_groups, prepare_parameters, starting_network, teacher_of
from .runlog import Report, RunLog, Sensitivity

logger = logging.getLogger(__name__)

OnReport = Callable[[Report], None]
PROBE = 8  # people by whom it is judged how much the portrait matters
DROPOUTS = (  # what they do not go through
    *("reference_dropout", "audio_dropout", "locator_dropout", "start_dropout", "carried_dropout"),
    *("motion_drop", "motion_noise"),
)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Rate of optimizer step `step` (from 0): linear warm-up, then constant or half a cosine down to 2 %."""
    if config.decay == "constant":
        return config.rate * warm_up(step, config.warmup)
    return config.rate * warm_up(step, config.warmup) * half_cosine(step, config.steps)


def warm_up(step: int, steps: int) -> float:
    return min((step + 1) / max(steps, 1), 1.0)


def half_cosine(step: int, steps: int) -> float:
    """From 1 down to 2 %."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))


class Module(nn.Module):
    """Network and objective as one module: a data-parallel wrapper sees one forward, which gives the loss."""

    def __init__(self, network: SingerNetwork, objective: Objective | Distillation) -> None:
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, batch: Sample, draws: Draws) -> Tensor:
        return self.objective(self.network, batch, draws)


class Trainer:
    """A run in memory. `run` goes on from the newest checkpoint of `config.output`, or begins there.

    Raises what `ClipDataset` and `starting_network` raise, ValueError where data and network do not fit.
    """

    def __init__(self, config: TrainConfig, network: SingerNetwork | None = None) -> None:
        self.config = config
        self.accelerator = new_accelerator(config)
        clip, distilled = config.stage == 2, config.recipe == "distill"
        self.network = starting_network(config) if network is None else network
        self.data = ClipDataset(
            config.data,
            frames=config.frames * (2 if distilled else 1) if clip else 1,
            carried=config.motion_frames if clip else 0,
            rule="union" if config.recipe == "authors" else "reference",
            locator_input=self.network.architecture.locator_input,
            same_pose=None if clip else config.same_pose,
            beginnings=config.beginnings,
            equalisation=config.equalisation,
            audio_past=self.network.architecture.audio_past,
        )
        self._check_data()
        objective = Distillation(config, teacher_of(self.network, config)) if distilled else Objective(config)
        self.trained = prepare_parameters(self.network, config)
        self.step = 0
        if config.gradient_checkpointing:
            for unet in (self.network.unet, self.network.reference_unet):
                unet.enable_gradient_checkpointing()
        self.network.train()
        self.optimizer = build_optimizer(config, self.trained)
        self.average = averaged(self.trained, config.ema) if config.ema else None
        self._resume()
        self.module, self.optimizer = self.accelerator.prepare(
            Module(self.network, objective), self.optimizer
        )
        if self.average is not None:
            self.average.to(self.accelerator.device)
        main = self.accelerator.is_main_process
        self.log = RunLog(config.output, self.step, config.tensorboard) if main else None

    def run(self, on_report: OnReport | None = None, until: int | None = None) -> SingerNetwork:
        """Train to step `config.steps` (or `until`); returns the network."""
        config, began = self.config, time.monotonic()
        last = min(config.steps, until or config.steps)
        losses: list[float] = []
        while self.step < last:
            loss, norm = self._optimizer_step()
            losses.append(loss)
            self.step += 1
            if self.step % config.log_every == 0 or self.step == last:
                rate = learning_rate(config, self.step - 1)
                report = Report(self.step, sum(losses) / len(losses), rate, norm, time.monotonic() - began)
                losses = []
                self._log(report, on_report)
            if config.sensitivity_every and self.step % config.sensitivity_every == 0:
                self._look_at_portraits()
            if self.step % config.save_every == 0 or self.step == last:
                self.save()
        return self.network

    def _optimizer_step(self) -> tuple[float, float]:
        """Mean loss of the step's forwards on all devices, and the gradient norm before clipping."""
        rate = learning_rate(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        total, norm = 0.0, 0.0
        for micro in range(self.config.accumulate):
            batch, draws = self.inputs(micro)
            with self.accelerator.accumulate(self.module):
                loss = self.module(batch, draws)
                total += self._finite(loss)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients and self.config.clip_gradient:
                    clipped = self.accelerator.clip_grad_norm_(
                        self.trained.values(), self.config.clip_gradient
                    )
                    norm = float(clipped) if clipped is not None else 0.0
                self.optimizer.step()
                self.optimizer.zero_grad()
        if self.average is not None:
            self.average.step(self.trained.values())
        return total / self.config.accumulate, norm

    def _finite(self, loss: Tensor) -> float:
        """Mean loss of all devices, before anything is learnt from it."""
        mean = float(self.accelerator.reduce(loss.detach(), "mean"))
        if not math.isfinite(mean):
            raise RuntimeError(
                f"The loss of step {self.step + 1} is {mean}. The last checkpoint is whole; go on from it "
                'with a lower `rate`, or with `precision` "bf16" or "no".'
            )
        return mean

    def inputs(self, micro: int = 0) -> tuple[Sample, Draws]:
        """This device's batch of the current step's forward `micro`, with its chance."""
        config, devices = self.config, self.accelerator.num_processes
        forward = self.step * config.accumulate + micro
        first = (forward * devices + self.accelerator.process_index) * config.batch
        numbers = range(first, first + config.batch)
        batch = collate([self.data.sample(seeded(config.seed, "clip", number)) for number in numbers])
        draws = draw(config, tuple(batch.latents.shape[1:]), numbers, forward)
        return batch.to(self.accelerator.device), draws.to(self.accelerator.device)

    def sensitivity(self) -> Sensitivity | None:
        """How much the portrait matters now; None where a teacher says it, or for data of one person."""
        config, items = self.config, self.data.items
        if config.recipe == "distill":
            return None
        chosen = [items[len(items) * n // PROBE] for n in range(PROBE)] if len(items) >= PROBE else items
        if len(chosen) < 2:
            return None
        numbers = range(len(chosen))
        right = collate([self.data.of(chosen[n], seeded(config.seed, "probe", n)) for n in numbers])
        plain = config.but(**dict.fromkeys(DROPOUTS, 0.0))
        draws = draw(plain, tuple(right.latents.shape[1:]), numbers, 0)
        batches = {"right": right, **with_wrong_portrait(right)}
        losses = {name: self._mean_loss(batch, draws) for name, batch in batches.items()}
        return Sensitivity(self.step, **losses)

    @torch.no_grad()
    def _mean_loss(self, batch: Sample, draws: Draws) -> float:
        """Of the pictures of a batch of any size, as many samples at a time as in training."""
        objective = Objective(self.config.but(ways_weight=0.0))
        device, total = self.accelerator.device, 0.0
        for rows in torch.arange(len(batch.latents)).split(self.config.batch):
            part, chance = batch.pick(rows.tolist()).to(device), draws.pick(rows.tolist()).to(device)
            with self.accelerator.autocast():
                total += len(rows) * float(objective(self.network, part, chance))
        return total / len(batch.latents)

    def _look_at_portraits(self) -> None:
        found = None if self.log is None else self.sensitivity()
        if self.log is not None and found is not None:
            self.log.add(found)
            logger.info("%s", found)

    def save(self) -> Path | None:
        """Write a checkpoint of the current step, on the main process."""
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return None
        average = self.average
        state = RunState(
            step=self.step,
            optimizer=self.optimizer.state_dict(),
            average=None if average is None else average.state_dict(),
            config=self.config.to_json(),
        )
        shadow = None
        if average is not None:
            shadow = dict(zip(self.trained, average.shadow_params, strict=True))
        metadata = metadata_of(self.config, self.network.architecture, self._front_end())
        return save_step(self.config.output, self.network, metadata, state, shadow, self.config.keep)

    def _resume(self) -> None:
        newest = newest_step(self.config.output)
        if newest is None:
            return
        state = load_step(newest, self.network)
        self.optimizer.load_state_dict(state.optimizer)
        if self.average is not None and state.average is not None:
            self.average.load_state_dict(state.average)
        self.step = state.step
        logger.info("going on from %s", newest)

    def _check_data(self) -> None:
        """ValueError where the prepared clips are not what the network reads."""
        arch, sample = self.network.architecture, self.data.sample(seeded(0))
        if arch.reads_wav2vec2 and self.config.equalisation:
            raise ValueError(
                f"`equalisation` is {self.config.equalisation:g}; the network reads wav2vec2 features, which "
                "have no bands. Set it to 0."
            )
        found = {"values of the identity": (len(sample.identity), arch.identity_width)}
        if self.config.stage == 2:
            found["audio features a frame"] = (sample.windows[0, 0].numel(), arch.frame_features)
        for what, (has, reads) in found.items():
            if has != reads:
                raise ValueError(
                    f"The clips in {self.config.data} have {has} {what}; the network reads {reads}. Prepare "
                    "them for this network, or set `architecture` accordingly."
                )
        if arch.predicts == "motion" and self.config.noise_schedule != "scaled_linear":
            raise ValueError(
                f"`noise_schedule` is {self.config.noise_schedule}; a network that predicts motion "
                'reckons with the noise of "scaled_linear". Take that.'
            )

    def _front_end(self) -> dict[str, str]:
        """What the network reads, for those who load it: front end, and the kind of the identity."""
        colours = self.network.architecture.identity_width == COLOUR_IDENTITY_WIDTH
        found = {"singer.identity": "colours" if colours else "embedding"}
        if self.config.stage == 1:
            return found
        layers, width = self.data.sample(seeded(0)).windows.shape[2:]
        return {**found, "singer.audio_layers": str(layers), "singer.audio_width": str(width)}

    def _log(self, report: Report, on_report: OnReport | None) -> None:
        if self.log is None:
            return
        self.log.add(report)
        if on_report is not None:
            on_report(report)


def new_accelerator(config: TrainConfig) -> Any:
    """accelerate's engine under the run's precision. RuntimeError without accelerate."""
    engine = require("accelerate", "Training", "accelerate")
    return engine.Accelerator(
        mixed_precision=config.precision,
        gradient_accumulation_steps=config.accumulate,
        kwargs_handlers=[engine.DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def averaged(trained: dict[str, nn.Parameter], decay: float) -> Any:
    """The running average of the trained parameters."""
    from diffusers.training_utils import EMAModel

    return EMAModel(trained.values(), decay=decay, use_ema_warmup=True, foreach=True)


def build_optimizer(config: TrainConfig, trained: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW; in 8 bits where asked for and bitsandbytes and an accelerator are there."""
    groups: Any = parameter_groups(trained, config)
    arguments: dict[str, Any] = {"lr": config.rate, "betas": config.betas, "eps": config.epsilon}
    if config.eight_bit_adam and not torch.cuda.is_available():
        logger.warning("`eight_bit_adam` needs a GPU, and PyTorch finds none: ordinary AdamW")
    elif config.eight_bit_adam:
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError as error:
            logger.warning(
                "`eight_bit_adam` needs bitsandbytes (%s): ordinary AdamW, which takes 6 bytes more for each "
                "trained value. Install it: pip install bitsandbytes",
                error,
            )
        else:
            return AdamW8bit(groups, **arguments)
    return torch.optim.AdamW(groups, fused=True, **arguments)


def plan(config: TrainConfig) -> dict[str, Any]:
    """What a run would train and need, without training: numbers of values by part, and bytes."""
    network = starting_network(config)
    trained = prepare_parameters(network, config)
    parts: dict[str, int] = {}
    for name, parameter in trained.items():
        part = ".".join(name.split(".")[:2]) if name.startswith("adapter.") else name.split(".")[0]
        parts[part] = parts.get(part, 0) + parameter.numel()
    total = sum(parts.values())
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "trained": total,
        "parts": parts,
        "bytes": memory_estimate(config, network, total),
    }
