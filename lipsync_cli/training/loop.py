"""The one training loop: one process, several GPUs or several machines (`accelerate launch`), resumed bit for bit."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset

from lipsync_cli.core.errors import LipsyncError, UsageError
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.training.checkpoints import load_latest, save_checkpoint
from lipsync_cli.training.log import RunLog
from lipsync_cli.training.objective import Batch, Objective
from lipsync_cli.training.optimiser import OptimConfig, build_optimiser, learning_rate


@dataclass(frozen=True)
class LoopConfig:
    """How long and how to train.

    steps: optimiser steps in all.  batch_size: examples per step over all processes.  precision: "no" or "bf16".
    log_every, validate_every, checkpoint_every: in steps; validate_every 0 validates only at the end.
    workers: processes per training process that make examples; 0 makes them in the training process.
    """

    steps: int = 400_000
    batch_size: int = 6144
    precision: str = "bf16"
    seed: int = 0
    optim: OptimConfig = field(default_factory=OptimConfig)
    log_every: int = 50
    validate_every: int = 5000
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3
    workers: int = 8


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its folder, the steps done, the last validation's metrics."""

    run: Path
    steps: int
    metrics: dict[str, float]


class _Examples(Dataset):
    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def __getitem__(self, index: int) -> Batch:
        return self._objective.example(index)


def train(
    objective: Objective, config: LoopConfig, run: Path, *, cpu: bool = False, progress: Progress = SILENT
) -> TrainResult:
    """Train until `config.steps` are done, going on from the run's newest checkpoint.

    Writes log.jsonl, checkpoints/ and, at the end, the model folder `model/` into `run`.
    Raises: UsageError when the batch does not divide over the processes; LipsyncError when the loss is not finite.
    """
    accelerator = Accelerator(mixed_precision=config.precision, cpu=cpu)
    if config.batch_size % accelerator.num_processes:
        raise UsageError(
            f"batch_size {config.batch_size} does not divide over {accelerator.num_processes} processes.",
            f"--set loop.batch_size={-(-config.batch_size // accelerator.num_processes) * accelerator.num_processes}",
        )
    set_seed(config.seed)
    module = objective.build()
    optimiser = build_optimiser(module, config.optim)
    module, optimiser = accelerator.prepare(module, optimiser)
    first = load_latest(accelerator, run)
    log = RunLog(run, first) if accelerator.is_main_process else None
    metrics = _steps(objective, config, run, accelerator, module, optimiser, first, log, progress)
    if accelerator.is_main_process:
        objective.export(accelerator.unwrap_model(module), run / "model", metrics)
    if log:
        log.close()
    accelerator.end_training()
    return TrainResult(run=run, steps=config.steps, metrics=metrics)


def _steps(objective, config, run, accelerator, module, optimiser, first, log, progress) -> dict[str, float]:
    """Run the steps that are left; returns the last validation."""
    meter = _Meter(accelerator)
    metrics: dict[str, float] = {}
    batches = _batches(objective, config, accelerator, first)
    shown = progress if accelerator.is_main_process else SILENT
    validated = False  # its metrics are empty on every process but the first
    with shown.stage("train", config.steps - first, "steps") as stage:
        for step, batch in enumerate(batches, first):
            done = step + 1
            meter.add(
                _step(
                    accelerator,
                    module,
                    optimiser,
                    batch,
                    learning_rate(step, config.steps, config.optim),
                    config,
                )
            )
            stage.advance()
            if done % config.log_every == 0 or done == config.steps:
                values = meter.take(done, config.batch_size)
                stage.note(f"loss {values['loss']:.4f}")
                if log:
                    log.write("train", done, values)
            if done == config.steps or (config.validate_every and done % config.validate_every == 0):
                metrics, validated = _validate(objective, accelerator, module, shown), True
                if log:
                    log.write("validate", done, metrics)
            if done % config.checkpoint_every == 0 or done == config.steps:
                meter.check(done)  # a checkpoint that holds infinities would replace one that does not
                save_checkpoint(accelerator, run, done, config.keep_checkpoints)
    return metrics if validated else _validate(objective, accelerator, module, shown)


def _batches(
    objective: Objective, config: LoopConfig, accelerator: Accelerator, first: int
) -> Iterator[Batch]:
    """This process's share of every global batch from step `first` on: example n of step s is number s·batch + n."""
    share = config.batch_size // accelerator.num_processes
    start = accelerator.process_index * share
    numbers = ([s * config.batch_size + start + n for n in range(share)] for s in range(first, config.steps))
    loader = DataLoader(
        _Examples(objective),
        batch_sampler=numbers,
        # Its own, or starting a loader would move the random numbers that dropout draws, and a resumed run with them.
        generator=torch.Generator(),
        num_workers=config.workers,
        pin_memory=accelerator.device.type == "cuda",
    )
    for batch in loader:
        yield {name: tensor.to(accelerator.device, non_blocking=True) for name, tensor in batch.items()}


def _step(
    accelerator, module, optimiser, batch: Batch, lr: float, config: LoopConfig
) -> dict[str, torch.Tensor]:
    for group in optimiser.param_groups:
        group["lr"] = lr
    optimiser.zero_grad()
    with accelerator.autocast():
        losses = module(batch)
    accelerator.backward(losses["loss"])
    norm = accelerator.clip_grad_norm_(module.parameters(), config.optim.clip_norm)
    optimiser.step()
    return {name: value.detach().float() for name, value in losses.items()} | {
        "grad_norm": torch.as_tensor(norm).detach()
    }


def _validate(objective, accelerator, module, progress: Progress) -> dict[str, float]:
    """On the first process; the others wait, so that no process runs ahead into a collective call."""
    metrics: dict[str, float] = {}
    if accelerator.is_main_process:
        plain = accelerator.unwrap_model(module).eval()
        with torch.no_grad():
            metrics = objective.validate(plain, accelerator.device, progress)
        plain.train()
    accelerator.wait_for_everyone()
    return metrics


class _Meter:
    """Means over steps and processes, without waiting for the device at every step."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._reset()

    def _reset(self) -> None:
        self._rows: list[dict[str, torch.Tensor]] = []
        self._started = time.perf_counter()

    def add(self, values: dict[str, torch.Tensor]) -> None:
        self._rows.append(values)

    def check(self, done: int) -> dict[str, float]:
        """Means over steps and processes since the last `take`. Raises: LipsyncError when one is not finite."""
        if not self._rows:
            return {}
        names = list(self._rows[0])
        means = torch.stack(
            [torch.stack([row[name].reshape(()) for row in self._rows]).mean() for name in names]
        )
        reduced: Any = self._accelerator.reduce(means, "mean")
        values = dict(zip(names, reduced.tolist(), strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                raise LipsyncError(
                    f"{name} became {value} by step {done}.", "lower loop.optim.lr and train again"
                )
        return values

    def take(self, done: int, batch_size: int) -> dict[str, float]:
        """`check`, with examples per second; starts anew."""
        values = self.check(done)
        values["examples_per_s"] = len(self._rows) * batch_size / (time.perf_counter() - self._started)
        self._reset()
        return values
