"""A network that reads the support set and returns the preference: lists by a softmax."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from metarec_core.episodes.sampling import EpisodeSampler
from metarec_core.episodes.types import Support, TaskData
from metarec_core.errors import ModelError
from metarec_core.learners.amortised_net import (
    AmortisedNet,
    ContentPart,
    Evidence,
    ItemTable,
    NetSizes,
)
from metarec_core.learners.amortised_predictor import AmortisedPredictor
from metarec_core.learners.amortised_start import begin
from metarec_core.learners.amortised_training import (
    Arrivals,
    DropRates,
    Objective,
    Top,
    calibrate,
    describe,
)
from metarec_core.learners.base import FitContext, FitReport, ItemFactors
from metarec_core.learners.fading import Fading
from metarec_core.learners.leave_out import LeaveOut
from metarec_core.learners.modes import PERSONALISED, Mode
from metarec_core.learners.transfer import Start
from metarec_core.schema import Feedback
from metarec_core.search import Distribution, Integer, Uniform
from metarec_core.section import Section
from metarec_core.training.determinism import deterministic
from metarec_core.training.loop import LoopConfig
from metarec_core.training.loop import train as run_loop

_TENTH = 10
"""Few users make small batches, so that an epoch still has some steps."""


class ReaderConfig(Section):
    """A network that reads the support, trained by a softmax over the catalogue."""

    search: ClassVar[Mapping[str, Distribution]] = {
        "dim": Integer(64, 300, log=True),
        "dropout": Uniform(0.3, 0.6),
        "mode_dropout": Uniform(0.0, 0.3),
        "loop.learning_rate": Uniform(0.001, 0.01, log=True),
        "loop.weight_decay": Uniform(0.1, 1.0, log=True),
    }

    dim: int = Field(200, ge=1, le=4096)
    """Dimensions of the preference."""

    hidden: int = Field(400, ge=1, le=16_384)
    """Hidden units of each residual layer."""

    layers: int = Field(2, ge=0, le=16)
    """Residual layers."""

    dropout: float = Field(0.5, ge=0.0, lt=1.0)
    """Chance that a unit is dropped in a training step."""

    id_dropout: float = Field(0.05, ge=0.0, lt=1.0)
    """Chance that an item is treated as new in a training step: it must do with content."""

    feature_dropout: float = Field(0.05, ge=0.0, lt=1.0)
    """Chance that an item's content, or a user's features, are unknown in a training step."""

    mode_dropout: float = Field(0.1, ge=0.0, lt=1.0)
    """Chance that a training step does without ids or without features, half each: what makes
    one model good in every mode."""

    relevant_only: float = Field(0.8, ge=0.0, le=1.0)
    """Chance that a training support is cut to its relevant interactions; explicit feedback."""

    top: int = Field(10, ge=1, le=10_000)
    """Place that a target must come near to count in full: lists are read from their heads."""

    tail_weight: float = Field(0.05, ge=0.0, le=1.0)
    """Weight of a target far below that place; 1 is the plain likelihood."""

    max_support: int = Field(64, ge=1, le=4096)
    """Largest support set in training; never above ``episodes.max_support``."""

    loop: LoopConfig = LoopConfig(
        epochs=60,
        patience=60,
        batch_tasks=256,
        learning_rate=0.003,
        weight_decay=0.1,
        schedule="one_cycle",
    )
    """Training loop."""


class AmortisedConfig(ReaderConfig):
    """A network that reads the support, trained by a softmax over the catalogue."""

    mode: Mode = PERSONALISED
    """Signals of training: all of them, interactions only or features only. A model of all
    signals also serves the other two."""


class Amortised:
    """``w_u = h(support, x_u)`` by one network for all users: an amortised posterior mean.

    Items have values ``V_i = keep_i E_i + C c_i`` from their id and their content ``c_i``, and keys
    ``K_i = V_i M + keep_i E'_i + C' c_i``; ``keep_i`` is 0 for an item that nobody met. With ``n``
    the number of liked interactions of a support (event weights count ``log(1 + weight)``):

    - ``s = tanh(sum_liked K_s / sqrt(n + 1) + a sum_disliked K_s / sqrt(n' + 1) + N sizes + U x)``;
    - preference ``N(w, g C)``, ``w = s + B gelu(A s)``, ``g`` predicted from ``s`` and the sizes;
    - list score ``V_i' w + keep_i (b_i + c log-share_i) + (1 - keep_i) (a' c_i + o)``; where the
      future is forecast, past choices fade from the share (:class:`Fading`), and a training user's
      share is that of the moment when the user came.

    It is a conditional neural process (Garnelo et al. 2018) with the multinomial likelihood of
    Mult-VAE (Liang et al. 2018): a softmax over all items but the support, summed over the
    relevant interactions outside of it, divided by their number in the batch, so that a task
    weighs as much as it asks. The covariance says how far the mean will still move: ``g`` maximises
    the Gaussian likelihood of the preference that is read from *all* interactions of a training
    user; its level by support size, and ``C``, are then those of the validation users' moves.

    Columns of content are scaled alike. Scores are linear in an item's content but not in the
    support: what an interaction brings is found by reading the support again without it. Values of
    interactions are not forecast. Inference is in float64.
    """

    name: ClassVar[str] = "amortised"
    Config: ClassVar[type[Section]] = AmortisedConfig

    def __init__(self, config: Section) -> None:
        assert isinstance(config, ReaderConfig)
        self.config = config
        self.mode = self._trained_mode()
        self.explicit = True
        self.relevant_from = 0.0
        self.net: nn.Module = nn.Module()
        self._wide: nn.Module = nn.Module()
        self._table: ItemTable | None = None
        self._content: ContentPart | None = None
        self._start: Start | None = None

    def start_from(self, start: Start | None) -> None:
        """Begin the next ``fit`` from what another dataset taught; None: from scratch.

        Raises:
            ModelError: If the source is a learner of another kind.
        """
        known = start.knowledge if start is not None else None
        if known is not None and type(known.learner) is not type(self):
            raise ModelError(
                f"start of learner {self.name}",
                found=f"a source of learner {known.learner.name}",
                wanted=f"a fitted {self.name}",
                next_step="fit the source with the same learner",
            )
        self._start = start

    def _trained_mode(self) -> Mode:
        assert isinstance(self.config, AmortisedConfig)
        return self.config.mode

    def _fading(self, train: TaskData) -> Fading | None:
        """How popularity fades where the future is forecast."""
        return Fading.learn(train) if train.by_time else None

    def fit(self, train: TaskData, validation: TaskData, context: FitContext) -> FitReport:
        """Meta-train over the users of ``train``; ``validation`` chooses the epoch."""
        self.explicit = train.scale.feedback is Feedback.EXPLICIT
        self.relevant_from = train.scale.relevant_from
        train, validation = (_seen_in(self.mode, data) for data in (train, validation))
        # Layers are initialised from the global generator: it is seeded here and then put back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            net = AmortisedNet(
                NetSizes(
                    n_items=train.n_items,
                    id_items=0 if self.mode == "content" else train.n_items,
                    item_features=train.item_features.shape[1],
                    user_features=train.user_features.shape[1],
                    dim=self.config.dim,
                    hidden=self.config.hidden,
                    layers=self.config.layers,
                )
            )
        fading = self._fading(train)
        describe(net, train, fading)
        if self._start is not None:
            known = self._start.knowledge
            source = known.learner.net if known and isinstance(known.learner, Amortised) else None
            assert source is None or isinstance(source, AmortisedNet)
            begin(net, source, self._start, train, fading)
            self._start = None
        self.net = net
        rates = DropRates(
            units=self.config.dropout,
            ids=self.config.id_dropout,
            features=self.config.feature_dropout,
            modes=self.config.mode_dropout * (self.mode == PERSONALISED),
            not_relevant=self.config.relevant_only,
        )
        top = Top(self.config.top, self.config.tail_weight)
        arrivals = None if fading is None else Arrivals.of(train, fading, context.device)
        objective = Objective(net, rates, top, validation, context, arrivals)
        sampler = EpisodeSampler(
            train,
            max_support=min(context.max_support, self.config.max_support),
            max_query=train.n_items,
            batch_size=max(1, min(self.config.loop.batch_tasks, train.n_users // _TENTH)),
        )
        with deterministic(context.device):
            report = run_loop(objective, sampler, self.config.loop, context)
            calibrate(net, validation, objective.tasks, context.device)
        self._finish()
        return report

    def _finish(self) -> None:
        """Hold the network and the item table of its mode in the precision of inference."""
        self.net.eval()
        self._wide = copy.deepcopy(self.net).double().requires_grad_(False)
        self._read_items()

    def _read_items(self) -> None:
        """Make the item table, and the part of it that content makes, of the present mode."""
        assert isinstance(self._wide, AmortisedNet)
        known = torch.ones_like(self._wide.met)
        keep = 0.0 * known if self.mode == "content" else self._wide.met
        shown = 0.0 * known if self.mode == "collaborative" else known
        self._table = self._wide.items(keep, shown)
        self._content = self._wide.content(keep, shown)

    def in_mode(self, mode: Mode) -> Self:
        """The same model with other signals; tensors are shared.

        Raises:
            ModelError: If it was not trained for that mode.
        """
        trained = self._trained_mode()
        if mode == PERSONALISED:
            mode = trained
        if trained not in (PERSONALISED, mode):
            raise ModelError(
                f"mode of learner {self.name}",
                found=repr(mode),
                wanted=f"{trained!r}, in which it was trained, or {PERSONALISED!r} for the same",
                next_step="ask for that mode, or train learner 'amortised' with all signals",
            )
        view = copy.copy(self)
        view.mode = mode
        view._read_items()
        return view

    def adapt(self, support: Support) -> AmortisedPredictor:
        """Read a batch of supports, in float64."""
        assert isinstance(self._wide, AmortisedNet)
        assert self._table is not None
        assert self._content is not None
        features = support.user_features.double()
        if self.mode == "collaborative":
            features = features[:, : self._wide.sizes.user_features] * 0.0
        wide = Support(support.items, support.values.double(), support.mask, features)
        evidence = Evidence.of(wide, self.relevant_from, self._wide.unit, explicit=self.explicit)
        return AmortisedPredictor(
            self._wide.preference(self._table, evidence),
            self._table,
            self._wide.shape,
            self._content,
            evidence,
            LeaveOut(self.adapt, support),
        )

    def item_factors(self) -> ItemFactors:
        """Values and appeal of the items, in the mode that is asked for."""
        assert self._table is not None
        return ItemFactors(self._table.values, self._table.appeal)

    def state(self) -> dict[str, Tensor]:
        """The network's tensors, and how values are read."""
        tensors = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        tensors["explicit"] = torch.tensor(self.explicit)
        tensors["relevant_from"] = torch.tensor(self.relevant_from, dtype=torch.float64)
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    @classmethod
    def from_state(cls, config: Section, state: Mapping[str, Tensor], device: torch.device) -> Self:
        """The learner that :meth:`state` was taken from."""
        learner = cls(config)
        tensors = {name[4:]: tensor for name, tensor in state.items() if name.startswith("net.")}
        net = AmortisedNet(
            NetSizes(
                n_items=len(tensors["met"]),
                id_items=len(tensors["id_keys"]),
                item_features=tensors["content_keys"].shape[1],
                user_features=tensors["user"].shape[1],
                dim=tensors["content_keys"].shape[0],
                hidden=learner.config.hidden,
                layers=learner.config.layers,
            )
        )
        net.load_state_dict(tensors)
        learner.net = net.to(device)
        learner.explicit = bool(state["explicit"])
        learner.relevant_from = float(state["relevant_from"])
        learner._finish()
        return learner


def _seen_in(mode: Mode, data: TaskData) -> TaskData:
    """What a mode trains on: without features where they do not count."""
    if mode != "collaborative":
        return data
    return replace(
        data, user_features=data.user_features[:, :0], item_features=data.item_features[:, :0]
    )
