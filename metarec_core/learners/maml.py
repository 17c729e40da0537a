"""MAML, FOMAML, ANIL and Reptile: layers that a few gradient steps adapt to a user."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from metarec_core.episodes.sampling import EpisodeSampler
from metarec_core.episodes.types import Episode, Support, TaskData
from metarec_core.learners.base import FitContext, FitReport, ItemFactors
from metarec_core.learners.item_net import ItemTable, NetSizes, start_from_baselines
from metarec_core.learners.leave_out import LeaveOut
from metarec_core.learners.losses import list_nll, rating_parts
from metarec_core.learners.maml_net import Fast, MamlNet, Variant, adapt_batch
from metarec_core.learners.maml_predictor import MamlPredictor
from metarec_core.learners.objective import LossWeights, Objective, Parts
from metarec_core.schema import Feedback
from metarec_core.search import Distribution, Integer, Uniform
from metarec_core.section import Section
from metarec_core.training.determinism import deterministic
from metarec_core.training.loop import LoopConfig
from metarec_core.training.loop import train as run_loop

_TENTH = 10
"""A batch is taken out of the item statistics that it meets: it must leave most of them."""


class MamlConfig(Section):
    """Gradient-based meta-learning (MAML, FOMAML, ANIL, Reptile) over a MeLU-like network."""

    search: ClassVar[Mapping[str, Distribution]] = {
        "inner_steps": Integer(1, 10, log=True),
        "inner_rate": Uniform(0.01, 1.0, log=True),
        "list_rate": Uniform(0.2, 20.0, log=True),
        "damping": Uniform(0.5, 50.0, log=True),
        "id_dropout": Uniform(0.0, 0.5),
        "list_weight": Uniform(0.1, 10.0, log=True),
        "loop.learning_rate": Uniform(0.0005, 0.02, log=True),
        "loop.weight_decay": Uniform(0.01, 10.0, log=True),
    }

    variant: Variant = Variant.FOMAML
    """``maml`` differentiates through the steps, ``fomaml`` does not; ``anil`` adapts the head
    alone; ``reptile`` moves the start towards where the steps end. ``fomaml`` errs by as little as
    ``maml`` (.744 and .742 stars on ML-1M) in two fifths of its time."""

    inner_steps: int = Field(3, ge=1, le=50)
    """Gradient steps on a support."""

    inner_rate: float = Field(0.1, gt=0.0, le=10.0)
    """Step size of the layers; a factor of it for each is learned, save by ``reptile``, which
    forecasts worse after its steps than before them when they are large."""

    list_rate: float = Field(2.0, gt=0.0, le=100.0)
    """Step size of the list vector; a factor of it is learned, save by ``reptile``."""

    damping: float = Field(5.0, ge=0.1, le=1000.0)
    """Interactions at which the gradient of a support counts for half."""

    item_dim: int = Field(16, ge=1, le=512)
    """Dimensions of the item vectors that ratings are forecast from."""

    exposure_dim: int = Field(64, ge=1, le=512)
    """Dimensions of the vectors that order lists."""

    hidden: int = Field(32, ge=1, le=4096)
    """Hidden units of the encoders and of both adapted layers."""

    id_dropout: float = Field(0.1, ge=0.0, lt=1.0)
    """Chance that an item's id part is dropped in a training step: it must do with content."""

    item_shrinkage: float = Field(10.0, gt=0.0, le=1000.0)
    """Interactions at which an item's id part counts for half; rarer items lean on content."""

    absolute_weight: float = Field(0.3, ge=0.0, le=100.0)
    """Weight of the mean absolute error beside the rating likelihood."""

    list_weight: float = Field(1.0, gt=0.0, le=100.0)
    """Weight of the softmax likelihood over the catalogue beside the rating likelihood."""

    loop: LoopConfig = LoopConfig(epochs=20, patience=20, weight_decay=0.5)
    """Training loop."""


class Maml:
    """Start ``theta_0``, adapted to a user by ``theta <- theta - rate * d L(support) / d theta``.

    - Rating ``~ N(mu + unit (b_i + f([v_i; u]; theta)), unit^2 (s_i + t(n)))``: ``v_i`` from id
      and content, ``u`` from user features, ``f`` two hidden layers and a head, adapted to each
      user; the embeddings are not (MeLU, Lee et al. 2019). ``s_i`` is the noise of an item,
      ``t(n)`` what is not known of a user with ``n`` interactions, falling with ``n``.
    - List score ``a_i + x_i' z``: ``a_i`` begins at log popularity, ``z`` begins at ``z_0(u)``
      and is adapted by the same steps (a context vector: CAVIA, Zintgraf et al. 2019).
    - ``L(support) = [sum_s (y_s - f_s)^2 / 2 - sum_s p_s log softmax(a + X z)_s] / (n + c)``,
      ``y_s`` residuals, ``p_s = p_0 + p_1 y_s``: one interaction moves less than twenty.

    What the query says of the adapted network trains everything else, step sizes included
    (Meta-SGD, Li et al. 2017), and ``variant`` says how it reaches the start:

    - ``maml``: through the steps (Finn et al. 2017); ``fomaml``: as if the steps were constant;
    - ``anil``: through the steps, which change only the head and ``z`` (Raghu et al. 2020);
    - ``reptile``: the start is drawn towards the end of steps on support and query together
      (Nichol et al. 2018); the embeddings learn from the query as in ``fomaml``.

    Shapes: ``v_i [d + 1]``, ``u [h]``, hidden layers ``[h]``, ``x_i`` and ``z [e]``; a batch of
    users adds a first dimension ``B`` to ``theta``. Inference is in float64.
    """

    name: ClassVar[str] = "maml"
    Config: ClassVar[type[Section]] = MamlConfig

    def __init__(self, config: Section) -> None:
        assert isinstance(config, MamlConfig)
        self.config = config
        self.explicit = True
        self.net: nn.Module = nn.Module()
        self._wide: tuple[MamlNet, ItemTable] | None = None
        self._table: ItemTable | None = None

    def fit(self, train: TaskData, validation: TaskData, context: FitContext) -> FitReport:
        """Meta-train over the users of ``train``; ``validation`` chooses the epoch."""
        self.explicit = train.scale.feedback is Feedback.EXPLICIT
        # Layers are initialised from the global generator: it is seeded here and then put back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            net = self.build(
                train.n_items, train.item_features.shape[1], train.user_features.shape[1]
            )
        others = start_from_baselines(net, train, context.device)
        parts = partial(
            meta_loss,
            config=self.config,
            explicit=self.explicit,
            relevant_from=train.scale.relevant_from,
        )
        weights = LossWeights(
            self.config.list_weight, self.config.absolute_weight, self.config.id_dropout
        )
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
            self._keep(net, net.items(objective.item_features))
        return report

    def build(self, n_items: int, item_features: int, user_features: int) -> MamlNet:
        """An untrained network for so many items and features."""
        config = self.config
        sizes = NetSizes(
            n_items,
            item_features,
            user_features,
            config.item_dim,
            config.exposure_dim,
            config.hidden,
        )
        rates = {"layers": config.inner_rate, "list": config.list_rate}
        return MamlNet(sizes, config.item_shrinkage, rates=rates, damping=config.damping)

    def _keep(self, net: MamlNet, table: ItemTable) -> None:
        """Hold network and item table, and once for all in the precision of inference."""
        self.net, self._table = net, table
        wide = ItemTable(*(tensor.detach().double() for tensor in table))
        self._wide = (copy.deepcopy(net).double().requires_grad_(False), wide)

    def adapt(self, support: Support) -> MamlPredictor:
        """Take the steps of each user of the batch, in float64."""
        assert self._wide is not None
        with torch.no_grad():
            return MamlPredictor(
                *self._wide,
                support,
                steps=self.config.inner_steps,
                variant=self.config.variant,
                explicit=self.explicit,
                others=LeaveOut(self.adapt, support),
            )

    def item_factors(self) -> ItemFactors:
        """Exposure vectors and appeal."""
        assert self._wide is not None
        table = self._wide[1]
        return ItemFactors(table.exposure, table.appeal)

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
        net = learner.build(
            len(table.bias), tensors["content.skip"].shape[1], tensors["user.skip"].shape[1]
        )
        net.load_state_dict(tensors)
        learner._keep(net.to(device).eval(), table)
        learner.explicit = bool(state["explicit"])
        return learner


def meta_loss(
    net: MamlNet,
    table: ItemTable,
    episode: Episode,
    *,
    config: MamlConfig,
    explicit: bool,
    relevant_from: float,
) -> Parts:
    """Parts of the loss of queries under adapted networks, each a sum and its number of terms."""
    steps = partial(
        adapt_batch, net, table, steps=config.inner_steps, variant=config.variant, explicit=explicit
    )
    fast, user = steps(episode.support)
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    if config.variant is Variant.REPTILE:
        fast = {name: tensor.detach() for name, tensor in fast.items()}
        if net.training:
            parts["pull"] = _pull(net, steps(everything(episode))[0], episode.support)
    if explicit:
        items = episode.items
        standard = table.bias[items] + net.forecast(fast, table.taste[items], user)
        extra = net.extra_variance(episode.support.sizes).unsqueeze(-1)
        parts |= rating_parts(standard, table.noise[items] + extra, episode, net.mu, net.unit)
    logits = table.appeal + fast["list"] @ table.exposure.mT
    return {**parts, "list_nll": list_nll(logits, episode, relevant_from)}


def everything(episode: Episode) -> Support:
    """Support and query together, what Reptile takes its steps on."""
    support = episode.support
    return Support(
        torch.cat([support.items, episode.items], dim=1),
        torch.cat([support.values, episode.values], dim=1),
        torch.cat([support.mask, episode.mask], dim=1),
        support.user_features,
    )


def _pull(net: MamlNet, ends: Fast, support: Support) -> tuple[Tensor, Tensor]:
    """``|start - end|^2 / (2 rate)``: its gradient is Reptile's, the sum of the steps'."""
    rates = net.rates()
    total = torch.zeros((), device=support.items.device)
    for name, start in net.start(support.user_features).items():
        distance = (start - ends[name].detach()).square().sum()
        total = total + 0.5 * distance / rates[name].detach()
    return total, torch.tensor(len(support.items), device=total.device)
