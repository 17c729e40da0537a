"""Episodic training: epochs of sampled tasks, averaged weights, early stopping, resume."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from metarec_core.episodes.sampling import EpisodeSampler
from metarec_core.episodes.types import Episode
from metarec_core.learners.base import FitContext, FitReport
from metarec_core.section import Section
from metarec_core.training.checkpoint import Checkpoint

_RISE = 0.3
_START = 0.04


class LoopConfig(Section):
    """How a network is trained over episodes."""

    epochs: int = Field(80, ge=1, le=10_000)
    """Most passes over the training tasks."""

    patience: int = Field(12, ge=1, le=1000)
    """Epochs without a better validation loss before training stops."""

    batch_tasks: int = Field(64, ge=1, le=4096)
    """Tasks a gradient step; learners may take fewer where there are few tasks."""

    learning_rate: float = Field(0.005, gt=0.0, le=1.0)
    """Largest step size of AdamW."""

    schedule: Literal["constant", "one_cycle"] = "constant"
    """Step sizes: constant after a warm-up of one epoch; or a rise over three tenths of all epochs
    and a fall to nothing (patience should then be as long as the epochs)."""

    weight_decay: float = Field(2.0, ge=0.0, le=10.0)
    """Decoupled weight decay of AdamW."""

    average: float = Field(0.99, ge=0.0, lt=1.0)
    """Decay a step of the exponential moving average of the weights, which is what is kept."""

    keep: Literal["best", "last"] = "best"
    """Whose weights are kept: those of the epoch with the best validation loss, or those of the
    last one, after all ``epochs`` and whatever validation says."""

    clip: float = Field(5.0, gt=0.0, le=1000.0)
    """Largest norm of a gradient."""


class EpisodicModel(Protocol):
    """What the loop needs of a model: losses of a batch, in training and in validation."""

    net: nn.Module

    def loss(self, net: nn.Module, episode: Episode, generator: torch.Generator) -> Tensor:
        """Training loss of a batch, a scalar with gradient."""
        ...

    def validate(self, net: nn.Module) -> Mapping[str, float]:
        """Metrics on the validation tasks; ``loss`` chooses the epoch."""
        ...


@dataclass
class _Progress:
    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    curves: dict[str, list[float]] = field(default_factory=dict)


def train(
    model: EpisodicModel, sampler: EpisodeSampler, config: LoopConfig, context: FitContext
) -> FitReport:
    """Train ``model.net`` in place; it ends with the averaged weights of the epoch to keep.

    A checkpoint is written after every epoch where ``context.work`` says, and training goes on
    from it: a run that was killed ends with the very weights of one that was not.

    Returns:
        Facts (epochs, best epoch, best loss), curves by epoch, and as the choice the number of
        epochs, for learners whose section of the loop is called ``loop``.
    """
    net = model.net.to(context.device)
    average = get_ema_multi_avg_fn(config.average)  # type: ignore[no-untyped-call]
    averaged = AveragedModel(net, multi_avg_fn=average)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    rng = np.random.default_rng(context.seed)
    generator = torch.Generator().manual_seed(context.seed)
    best = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    progress = _Progress()
    checkpoint = Checkpoint(_path(context), net, averaged, optimizer, rng, generator)
    restored = checkpoint.restore(context.device)
    if restored is not None:
        progress, best = _Progress(**restored.progress), restored.best

    while not _finished(progress, config):
        progress.epoch += 1
        losses: list[Tensor] = []
        net.train()
        for episode in sampler.epoch(rng):
            set_rate(optimizer, config, progress.epoch, len(losses), sampler.batches_per_epoch)
            optimizer.zero_grad(set_to_none=True)
            loss = model.loss(net, episode.to(context.device), generator)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), config.clip)
            optimizer.step()
            averaged.update_parameters(net)
            losses.append(loss.detach())
        net.eval()
        metrics = {"train_loss": float(torch.stack(losses).mean())}
        metrics |= dict(model.validate(averaged.module))
        for name, value in metrics.items():
            progress.curves.setdefault(name, []).append(value)
        if metrics["loss"] < progress.best_loss or config.keep == "last":
            progress.best_loss, progress.best_epoch = metrics["loss"], progress.epoch
            best = {name: tensor.clone() for name, tensor in averaged.module.state_dict().items()}
        checkpoint.save(vars(progress), best)
        if context.progress is not None:
            context.progress(progress.epoch, config.epochs, metrics)

    net.load_state_dict(best)
    return FitReport(
        facts={
            "epochs": float(progress.epoch),
            "best_epoch": float(progress.best_epoch),
            "best_loss": progress.best_loss,
            "tasks": float(sampler.n_tasks),
        },
        curves=progress.curves,
        chosen={"loop": {"epochs": max(progress.best_epoch, 1), "keep": "last"}},
    )


def _finished(progress: _Progress, config: LoopConfig) -> bool:
    stale = progress.epoch - progress.best_epoch >= config.patience
    return progress.epoch >= config.epochs or (progress.epoch > 0 and stale)


def set_rate(
    optimizer: torch.optim.Optimizer, config: LoopConfig, epoch: int, step: int, steps: int
) -> None:
    """The step size of a step: a function of its number, so that nothing need be resumed."""
    if config.schedule == "one_cycle":
        share = _one_cycle(((epoch - 1) * steps + step + 1) / (config.epochs * steps))
    else:
        # A linear rise over the first epoch: Cholesky factors dislike early leaps.
        share = 1.0 if epoch > 1 else (step + 1) / steps
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * share


def _one_cycle(position: float) -> float:
    """Share of the largest step size at a position in (0, 1]: two cosines (Smith & Topin 2018)."""
    if position < _RISE:
        return _START + (1.0 - _START) * 0.5 * (1.0 - math.cos(math.pi * position / _RISE))
    return 0.5 * (1.0 + math.cos(math.pi * (position - _RISE) / (1.0 - _RISE)))


def _path(context: FitContext) -> Path | None:
    return None if context.work is None else context.work / "checkpoint.pt"
