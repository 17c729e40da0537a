"""The flagship: a meta-learned Gaussian preference in closed form, with content and exposure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from metarec_core.episodes.sampling import EpisodeSampler
from metarec_core.episodes.types import Episode, Support, TaskData
from metarec_core.learners.base import FitContext, FitReport, ItemFactors
from metarec_core.learners.gaussian_net import GaussianNet
from metarec_core.learners.gaussian_predictor import GaussianListPredictor, rating_weight
from metarec_core.learners.item_net import ItemTable, NetSizes, start_from_baselines
from metarec_core.learners.losses import list_nll, rating_parts
from metarec_core.learners.objective import LossWeights, Objective, Parts
from metarec_core.learners.posterior import entries
from metarec_core.schema import Feedback
from metarec_core.search import Distribution, Integer, Uniform
from metarec_core.section import Section
from metarec_core.training.determinism import deterministic
from metarec_core.training.loop import LoopConfig
from metarec_core.training.loop import train as run_loop

_TENTH = 10
"""A batch is taken out of the item statistics that it meets: it must leave most of them."""


class GaussianConfig(Section):
    """Closed-form Gaussian preference with content encoder, learned prior and exposure term."""

    search: ClassVar[Mapping[str, Distribution]] = {
        "taste_dim": Integer(4, 32, log=True),
        "exposure_dim": Integer(16, 128, log=True),
        "hidden": Integer(16, 256, log=True),
        "id_dropout": Uniform(0.0, 0.5),
        "absolute_weight": Uniform(0.0, 1.0),
        "list_weight": Uniform(0.1, 10.0, log=True),
        "loop.learning_rate": Uniform(0.0005, 0.02, log=True),
        "loop.weight_decay": Uniform(0.01, 10.0, log=True),
    }

    taste_dim: int = Field(8, ge=1, le=512)
    """Dimensions of the rating head."""

    exposure_dim: int = Field(64, ge=1, le=512)
    """Dimensions of the exposure head, which orders lists."""

    hidden: int = Field(64, ge=1, le=4096)
    """Hidden units of the content encoder and of the prior networks."""

    id_dropout: float = Field(0.1, ge=0.0, lt=1.0)
    """Chance that an item's id part is dropped in a training step: it must do with content."""

    item_shrinkage: float = Field(10.0, gt=0.0, le=1000.0)
    """Interactions at which an item's id part counts for half; rarer items lean on content."""

    absolute_weight: float = Field(0.3, ge=0.0, le=100.0)
    """Weight of the mean absolute error beside the rating likelihood."""

    list_weight: float = Field(1.0, ge=0.0, le=100.0)
    """Weight of the softmax likelihood over the catalogue beside the rating likelihood; with 0
    only ratings are learned, several times as quickly, and lists are ordered by popularity and
    forecast."""

    loop: LoopConfig = LoopConfig()
    """Training loop."""


class Gaussian:
    """Preference ``w_u ~ N(m(x_u), S(x_u))`` before, ``N(w, A^-1)`` after a support.

    With item vectors ``v_i = keep_i E_i + f(c_i)`` that end in a constant 1, noise variance
    ``s_i`` of each item and residuals ``y_s = (r_s - mu) / unit - b_s``, ``unit`` the standard
    deviation of values around their biases:

    - ``A = S^-1 + sum_s v_s v_s' / s_s``, ``w = A^-1 (S^-1 m + sum_s v_s y_s / s_s)``;
    - rating ``~ N(mu + unit (b_i + v_i' w), unit^2 (v_i' A^-1 v_i + s_i))``: Bayesian linear
      regression over learned features, with a learned prior (ALPaCA, Harrison et al. 2018),
      prior and features trained episodically by predictive likelihood;
    - list score ``a_i + x_i' z + g (b_i + v_i' w)``, where ``z`` is the posterior of a second
      head of the same form over exposure vectors ``x_i``, whose observations are the choices
      themselves; trained by a softmax over the catalogue. What people choose at all is
      informative: rating forecasts alone rank worse than popularity.

    Both heads are linear in the support, so every reason is exact. Inference is in float64.
    """

    name: ClassVar[str] = "gaussian"
    Config: ClassVar[type[Section]] = GaussianConfig

    def __init__(self, config: Section) -> None:
        assert isinstance(config, GaussianConfig)
        self.config = config
        self.explicit = True
        self.net: nn.Module = nn.Module()
        self._table: ItemTable | None = None
        self._wide: ItemTable | None = None

    def fit(self, train: TaskData, validation: TaskData, context: FitContext) -> FitReport:
        """Meta-train over the users of ``train``; ``validation`` chooses the epoch."""
        self.explicit = train.scale.feedback is Feedback.EXPLICIT
        # Layers are initialised from the global generator: it is seeded here and then put back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            net = GaussianNet(
                NetSizes(
                    n_items=train.n_items,
                    item_features=train.item_features.shape[1],
                    user_features=train.user_features.shape[1],
                    taste=self.config.taste_dim,
                    exposure=self.config.exposure_dim if self._list_weight else 0,
                    hidden=self.config.hidden,
                    lift=self.config.taste_dim + 1 if self.explicit else 0,
                ),
                self.config.item_shrinkage,
            )
        self.net = net
        others = start_from_baselines(net, train, context.device)
        lists = self._list_weight
        parts = partial(
            _parts,
            explicit=self.explicit,
            lists=lists > 0,
            relevant_from=train.scale.relevant_from,
        )
        weights = LossWeights(lists, self.config.absolute_weight, self.config.id_dropout)
        objective = Objective(net, weights, others, parts, validation, context)
        sampler = EpisodeSampler(
            train,
            max_support=context.max_support,
            max_query=context.max_query,
            batch_size=max(1, min(self.config.loop.batch_tasks, train.n_users // _TENTH)),
        )
        with deterministic(context.device):
            report = run_loop(objective, sampler, self.config.loop, context)
        net.eval()
        with torch.no_grad():
            self._keep(net.items(objective.item_features))
        return report

    @property
    def _list_weight(self) -> float:
        """Weight of lists; implicit feedback has nothing else to learn."""
        weight = self.config.list_weight
        return weight if self.explicit else weight or 1.0

    def _keep(self, table: ItemTable) -> None:
        """Hold the finished item table, and once for all in the precision of inference."""
        self._table = table
        self._wide = ItemTable(*(tensor.detach().double() for tensor in table))

    def adapt(self, support: Support) -> GaussianListPredictor:
        """Both posteriors in closed form, in float64."""
        assert self._wide is not None
        assert isinstance(self.net, GaussianNet)
        with torch.no_grad():
            return GaussianListPredictor(self.net, self._wide, support, self.explicit)

    def item_factors(self) -> ItemFactors:
        """Exposure vectors, followed by taste vectors where ratings are forecast."""
        assert self._wide is not None
        table = self._wide
        if not self.explicit:
            return ItemFactors(table.exposure, table.appeal)
        weight = rating_weight(self.net, self.explicit)
        return ItemFactors(
            torch.cat([table.exposure, table.taste], dim=1), table.appeal + weight * table.bias
        )

    def state(self) -> dict[str, Tensor]:
        """The network's tensors, the finished item table, and whether feedback is explicit."""
        assert self._table is not None
        tensors = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        tensors |= {f"table.{name}": tensor for name, tensor in self._table._asdict().items()}
        tensors["explicit"] = torch.tensor(self.explicit)
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    @classmethod
    def from_state(cls, config: Section, state: Mapping[str, Tensor], device: torch.device) -> Self:
        """The learner that :meth:`state` was taken from."""
        learner = cls(config)
        tensors = {n[4:]: t for n, t in state.items() if n.startswith("net.")}
        table = ItemTable(**{n[6:]: t.to(device) for n, t in state.items() if n[:6] == "table."})
        net = GaussianNet(
            NetSizes(
                n_items=len(table.bias),
                item_features=tensors["content.skip"].shape[1],
                user_features=tensors["taste_prior.encoder.skip"].shape[1],
                taste=table.taste.shape[1] - 1,
                exposure=table.exposure.shape[1],
                hidden=tensors["content.inner"].shape[0],
                lift=table.lift.shape[1],
            ),
            learner.config.item_shrinkage,
        )
        net.load_state_dict(tensors)
        learner.net = net.to(device).eval()
        learner._keep(table)
        learner.explicit = bool(state["explicit"])
        return learner


def _parts(
    net: GaussianNet,
    table: ItemTable,
    episode: Episode,
    *,
    explicit: bool,
    lists: bool,
    relevant_from: float,
) -> Parts:
    """Sum and number of targets of each part of the loss."""
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    taste = net.taste_posterior(table, episode.support) if explicit else None
    if taste is not None:
        vectors = entries(table.taste, episode.items)
        mean = table.bias[episode.items] + (vectors @ taste.mean.unsqueeze(-1)).squeeze(-1)
        variance = taste.variance(vectors) + table.noise[episode.items]
        parts |= rating_parts(mean, variance, episode, net.mu, net.unit)
    if lists:
        choice = net.exposure_posterior(table, episode.support).mean @ table.exposure.mT
        logits = table.appeal + choice
        if taste is not None:
            logits = logits + net.rating_weight * (table.bias + taste.mean @ table.taste.mT)
        parts["list_nll"] = list_nll(logits, episode, relevant_from)
    return parts
