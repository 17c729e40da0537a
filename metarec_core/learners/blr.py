"""Bayesian linear regression on the item vectors of matrix factorisation, for ratings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Self

import torch
from pydantic import Field
from torch import Tensor

from metarec_core.episodes.types import Support, TaskData
from metarec_core.learners.base import FitContext, FitReport, ItemFactors, Shares
from metarec_core.learners.biased_mf import Ratings, biased_factors, less_bias, with_constant
from metarec_core.learners.empirical_bayes import Prior, learn_prior, posteriors
from metarec_core.learners.posterior import Posterior, contrasts, products
from metarec_core.search import Distribution, Integer, Uniform
from metarec_core.section import Section
from metarec_core.training.determinism import deterministic

_START_VARIANCE, _START_NOISE = 0.1, 0.5


class BlrConfig(Section):
    """Bayesian linear regression of ratings on the item vectors of matrix factorisation."""

    search: ClassVar[Mapping[str, Distribution]] = {
        "dim": Integer(4, 64, log=True),
        "reg": Uniform(2.0, 100.0, log=True),
        "sweeps": Integer(2, 20),
    }

    dim: int = Field(20, ge=1, le=512)
    """Dimensions of the item vectors, the constant left out."""

    reg: float = Field(30.0, gt=0.0, le=1e6)
    """Penalty of squared vectors and biases while items are placed."""

    sweeps: int = Field(6, ge=1, le=1000)
    """Turns of users and items."""

    em_steps: int = Field(15, ge=1, le=1000)
    """Steps in which the prior and the noise are learned, for users and for items."""


class BlrTensors(NamedTuple):
    """What is learned, float64.

    Attributes:
        mu: Mean rating, scalar.
        unit: Standard deviation of ratings, scalar.
        items: Vectors ``[I, d + 1]``, the bias last.
        item_noise: Variance of a rating of each item around its regression, ``[I]``.
        prior_mean: ``m``, ``[d + 1]``.
        prior_covariance: ``S``, ``[d + 1, d + 1]``.
    """

    mu: Tensor
    unit: Tensor
    items: Tensor
    item_noise: Tensor
    prior_mean: Tensor
    prior_covariance: Tensor


class Blr:
    """``r = mu + unit (b_i + v_i'w + e)``, ``w ~ N(m, S)``, ``e ~ N(0, noise + t_i)``.

    Items are placed by matrix factorisation with biases
    (:func:`~metarec_core.learners.biased_mf.biased_factors`); ``v_i`` ``[d + 1]`` ends in a
    constant 1, so that ``w`` holds the user's bias. Prior ``(m, S)`` and ``noise`` are those
    under which the training users' ratings are likeliest, by EM
    (:func:`~metarec_core.learners.empirical_bayes.learn_prior`), and so are those of the items,
    each of which is a regression on the users' vectors: ``t_i`` is what its posterior leaves
    open, ``tr(Cov[v_i, b_i] E[w w'])``, so that rare items have wide intervals. An item that nobody
    rated is placed at the mean over ratings, not over items: it is new, not rare, and what is
    rated at all is better liked (MAE .864 instead of .927 on a tenth of ML-1M's items left out of
    training). A new user is a Bayesian linear regression (Bishop 2006, section 3.3) in float64:
    ``A = S^-1 + sum_s v_s v_s' / (noise + t_s)``, variance ``unit^2 (v_i'A^-1 v_i + noise + t_i)``.
    Lists are ordered by the predicted rating.
    """

    name: ClassVar[str] = "blr"
    reads_features: ClassVar[bool] = False
    Config: ClassVar[type[Section]] = BlrConfig

    def __init__(self, config: Section) -> None:
        assert isinstance(config, BlrConfig)
        self.config = config
        self._learned: BlrTensors | None = None
        self._vectors = torch.zeros(0)
        self._precision = torch.zeros(0)

    @property
    def learned(self) -> BlrTensors | None:
        """What is learned; None before."""
        return self._learned

    @learned.setter
    def learned(self, learned: BlrTensors | None) -> None:
        self._learned = learned
        if learned is not None:
            # Once for all: for every batch of users they would cost more than the users.
            self._vectors = with_constant(learned.items)
            precision = torch.linalg.inv(learned.prior_covariance)
            self._precision = (precision + precision.mT) / 2

    def fit(self, train: TaskData, validation: TaskData, context: FitContext) -> FitReport:
        """Place the items, then learn both priors; nothing is chosen on ``validation``."""
        config = self.config
        with deterministic(context.device):
            ratings = Ratings.of(train, context.device)
            _, items = biased_factors(
                ratings,
                dim=config.dim,
                reg=config.reg,
                sweeps=config.sweeps,
                generator=torch.Generator().manual_seed(context.seed),
            )
            prior = self._prior_of_users(ratings, items, _start(items))
            items, spread = self._posteriors_of_items(ratings, items, prior)
            prior = self._prior_of_users(ratings, items, prior)
        self.learned = BlrTensors(
            mu=ratings.mu,
            unit=ratings.unit,
            items=items,
            item_noise=prior.noise + spread,
            prior_mean=prior.mean,
            prior_covariance=prior.covariance,
        )
        return FitReport(
            facts={"mu": float(ratings.mu), "noise_sd": float(ratings.unit * prior.noise.sqrt())}
        )

    def _prior_of_users(self, ratings: Ratings, items: Tensor, start: Prior) -> Prior:
        entries = less_bias(ratings.by_user, items)
        return learn_prior(entries, with_constant(items), start, self.config.em_steps)

    def _posteriors_of_items(
        self, ratings: Ratings, items: Tensor, of_users: Prior
    ) -> tuple[Tensor, Tensor]:
        """Items ``[I, d + 1]``, the bias last, and the variance ``t`` they leave open, ``[I]``."""
        vectors = with_constant(items)
        second = of_users.covariance + of_users.mean.outer(of_users.mean)
        users, _ = posteriors(less_bias(ratings.by_user, items), vectors, of_users, second)
        # An item's last coordinate is its bias: there the user's vector is the constant.
        probe = second.clone()
        probe[-1], probe[:, -1] = of_users.mean, of_users.mean
        probe[-1, -1] = 1.0
        entries, features = less_bias(ratings.by_item, users), with_constant(users)
        prior = learn_prior(entries, features, _start(features), self.config.em_steps)
        placed, spread = posteriors(entries, features, prior, probe)
        counts = torch.from_numpy(entries.counts).to(placed)
        typical = (counts / counts.sum()) @ placed
        return torch.where(counts.unsqueeze(-1) > 0, placed, typical), spread

    def adapt(self, support: Support) -> BlrPredictor:
        """Each user's posterior in closed form, in float64."""
        assert self.learned is not None
        return BlrPredictor(self.learned, self._vectors, self._precision, support)

    def item_factors(self) -> ItemFactors:
        """Item vectors, and ``mu + unit b_i``."""
        assert self.learned is not None
        bias = self.learned.items[:, -1]
        return ItemFactors(self._vectors, self.learned.mu + self.learned.unit * bias)

    def state(self) -> dict[str, Tensor]:
        """The fields of :class:`BlrTensors`."""
        assert self.learned is not None
        return {name: part.cpu().contiguous() for name, part in self.learned._asdict().items()}

    @classmethod
    def from_state(cls, config: Section, state: Mapping[str, Tensor], device: torch.device) -> Self:
        """The learner that :meth:`state` was taken from."""
        learner = cls(config)
        learner.learned = BlrTensors(**{name: part.to(device) for name, part in state.items()})
        return learner


class BlrPredictor:
    """Ratings of ``B`` users, with a Gaussian preference each (in units of ``unit``)."""

    def __init__(
        self, learned: BlrTensors, vectors: Tensor, precision: Tensor, support: Support
    ) -> None:
        self._mu, self._unit = learned.mu, learned.unit
        self._bias, self._noise = learned.items[:, -1], learned.item_noise
        self._vectors = vectors
        self._last: tuple[Tensor, Tensor] | None = None
        items, dim = support.items, vectors.shape[1]
        residual = (support.values.double() - self._mu) / self._unit - self._bias[items]
        self._posterior = Posterior.of(
            self._vectors[items],
            residual * support.mask,
            1.0 / self._noise[items],
            support.mask,
            learned.prior_mean.expand(len(items), dim),
            precision.expand(len(items), dim, dim),
        )

    @property
    def mean(self) -> Tensor:
        """Mean of the preference, ``[B, d + 1]``."""
        return self._posterior.mean

    @property
    def covariance(self) -> Tensor:
        """Covariance of the preference, ``[B, d + 1, d + 1]``."""
        return self._posterior.covariance

    @property
    def query(self) -> Tensor:
        """The preference in values, ``[B, d + 1]``."""
        return self._unit * self._posterior.mean

    def scores(self, items: Tensor | None = None) -> Tensor:
        """The predicted rating, ``[B, K]`` or ``[B, I]``."""
        if items is None:
            return self._mu + self._unit * (self._bias + self.mean @ self._vectors.mT)
        taste = (self._vectors[items] @ self.mean.unsqueeze(-1)).squeeze(-1)
        return self._mu + self._unit * (self._bias[items] + taste)

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predicted rating and predictive variance, ``[B, K]`` or ``[B, I]``."""
        if items is None:
            variance = self._posterior.variance(self._vectors) + self._noise
        else:
            variance = self._whitened(items).square().sum(dim=-1) + self._noise[items]
        return self.scores(items), self._unit.square() * variance

    def _whitened(self, items: Tensor) -> Tensor:
        """Whitened vectors of the items asked for last: first their figures, then their reasons."""
        if self._last is None or self._last[0] is not items:
            self._last = (items, self._posterior.whiten(self._vectors[items]))
        return self._last[1]

    def left_out(self) -> Tensor:
        """Squared standardised errors of the support's ratings, each forecast from the others."""
        return self._posterior.left_out()

    def shares(self, items: Tensor) -> Shares:
        """``mu + unit b_i`` is the item's; prior and support share the preference."""
        prior, support = self._posterior.shares_of(self._whitened(items))
        return Shares(
            item=self._mu + self._unit * self._bias[items],
            prior=self._unit * prior,
            support=self._unit * support,
        )

    def without(self, items: Tensor | None, entries: Tensor) -> Tensor:
        """Ratings without each of some support entries, ``[B, K, N]``, in closed form."""
        bias = self._bias if items is None else self._bias[items]
        taste = products(self._vectors, self._posterior.means_without(entries), items)
        return self._mu + self._unit * (bias.unsqueeze(-1) + taste)

    def contrast_variance(self, groups: Tensor) -> Tensor:
        """Variance of groups' mean ratings less that of the catalogue, ``[B, G]``."""
        variance = self._posterior.variance(contrasts(groups, self._vectors))
        return self._unit.square() * variance

    def score_covariance(self, items: Tensor) -> Tensor:
        """Covariance of predicted ratings under the preference, without noise, ``[B, P, P]``."""
        return self._unit.square() * self._posterior.joint(self._vectors[items])


def _start(vectors: Tensor) -> Prior:
    dim = vectors.shape[1]
    return Prior(
        vectors.new_zeros(dim),
        _START_VARIANCE * torch.eye(dim).to(vectors),
        vectors.new_tensor(_START_NOISE),
    )
