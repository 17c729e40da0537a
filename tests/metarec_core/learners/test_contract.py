"""What every learner must do; a new one in the registry is picked up by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from metarec_core.episodes.sampling import evaluation_episodes
from metarec_core.episodes.types import Support, TaskData
from metarec_core.learners.average_predictor import AveragePredictor
from metarec_core.learners.base import (
    Counterfactual,
    Deletions,
    FactorLearner,
    FactorPredictor,
    FeatureShares,
    GaussianPredictor,
    Learner,
    LinearPredictor,
    UncertainContrasts,
    UncertainScores,
)
from metarec_core.learners.leave_out import LeaveOut
from metarec_core.learners.registry import LEARNERS

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=sorted(LEARNERS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def learner(name: str, fit, train_data: TaskData, validation_data: TaskData) -> Learner:
    return fit(name, train_data, validation_data)


@pytest.fixture(scope="module")
def support(test_data: TaskData) -> Support:
    """Supports of 0 to 12 interactions."""
    sizes = np.minimum(np.arange(25) % 13, test_data.interactions.counts())
    return padded(test_data, sizes, width=12)


def padded(data: TaskData, sizes: np.ndarray, width: int) -> Support:
    users = np.arange(data.n_users)
    rows, positions = data.interactions.entries(users)
    columns = positions - data.interactions.indptr[rows]
    kept = columns < sizes[rows]
    rows, positions, columns = rows[kept], positions[kept], columns[kept]
    items = np.zeros((len(users), width), dtype=np.int64)
    values = np.zeros((len(users), width), dtype=np.float32)
    mask = np.zeros((len(users), width), dtype=bool)
    items[rows, columns] = data.interactions.items[positions]
    values[rows, columns] = data.interactions.values[positions]
    mask[rows, columns] = True
    features = torch.from_numpy(data.user_features)
    return Support(*map(torch.from_numpy, (items, values, mask)), features)


def rows_of(support: Support, rows: list[int]) -> Support:
    return Support(
        support.items[rows],
        support.values[rows],
        support.mask[rows],
        support.user_features[rows],
    )


def some_items(n_users: int, n_items: int, k: int = 7) -> Tensor:
    return torch.randint(n_items, (n_users, k), generator=torch.Generator().manual_seed(0))


def outputs(learner: Learner, support: Support) -> list[Tensor]:
    predictor = learner.adapt(support)
    return [predictor.scores(), *predictor.mean_var()]


def assert_same(left: list[Tensor], right: list[Tensor], tolerance: float = 1e-5) -> None:
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance, equal_nan=True)


def test_shapes_and_numbers(learner: Learner, support: Support, test_data: TaskData) -> None:
    predictor = learner.adapt(support)
    items = some_items(25, test_data.n_items)
    for asked, shape in ((None, (25, test_data.n_items)), (items, (25, 7))):
        scores = predictor.scores(asked)
        mean, variance = predictor.mean_var(asked)
        assert scores.shape == mean.shape == variance.shape == shape
        assert torch.isfinite(scores).all()
        if not mean.isnan().all():
            assert torch.isfinite(mean).all()
            assert (variance > 0).all()
        assert bool(mean.isnan().all()) == bool(variance.isnan().all())


def test_no_gradient_is_kept(learner: Learner, support: Support) -> None:
    assert torch.is_grad_enabled()
    assert not any(tensor.requires_grad for tensor in outputs(learner, support))


def test_the_seed_decides(
    name: str, fit, train_data: TaskData, validation_data: TaskData, learner: Learner
) -> None:
    torch.manual_seed(99)
    again = fit(name, train_data, validation_data).state()
    state = learner.state()
    assert state.keys() == again.keys()
    assert all(torch.equal(state[key], again[key]) for key in state)


def test_adapting_twice_gives_the_same_bits(learner: Learner, support: Support) -> None:
    before = rows_of(support, list(range(25)))
    first, second = outputs(learner, support), outputs(learner, support)
    assert_same(first, second, tolerance=0.0)
    for field in ("items", "values", "mask", "user_features"):
        assert torch.equal(getattr(support, field), getattr(before, field))


def test_query_values_do_not_reach_the_scores(learner: Learner, test_data: TaskData) -> None:
    """Queries are given away by a tell-tale value; nothing that is predicted may change."""

    def tasks(data: TaskData):
        users = np.arange(data.n_users)
        return evaluation_episodes(
            data, users, support_sizes=[0, 1, 4], max_query=8, seed=5
        ).batches(100)

    matrix = test_data.interactions
    values = matrix.values.copy()
    for batch in tasks(test_data):
        episode = batch.episode
        for row, user in enumerate(batch.users):
            asked = episode.items[row][episode.mask[row]].numpy()
            start, end = matrix.indptr[user], matrix.indptr[user + 1]
            values[start:end][np.isin(matrix.items[start:end], asked)] = 1000.0
    planted = replace(test_data, interactions=replace(matrix, values=values))

    for clean, telling in zip(tasks(test_data), tasks(planted), strict=True):
        assert (telling.episode.values[telling.episode.mask] == 1000.0).all()
        assert torch.equal(clean.episode.support.values, telling.episode.support.values)
        got = outputs(learner, telling.episode.support)
        expected = outputs(learner, clean.episode.support)
        assert_same(got, expected, tolerance=0.0)


def test_other_users_of_the_batch_do_not_matter(learner: Learner, support: Support) -> None:
    together = outputs(learner, support)
    for row in (0, 5, 12):
        alone = outputs(learner, rows_of(support, [row]))
        assert_same([tensor[row : row + 1] for tensor in together], alone)


def test_the_order_of_the_support_does_not_matter(learner: Learner, support: Support) -> None:
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    shuffled = Support(
        support.items[:, order],
        support.values[:, order],
        support.mask[:, order],
        support.user_features,
    )
    assert_same(outputs(learner, support), outputs(learner, shuffled))


@pytest.mark.parametrize("filler", [0, 3])
def test_padding_does_not_matter(learner: Learner, support: Support, filler: int) -> None:
    extra = torch.zeros(25, 9)
    wider = Support(
        torch.cat([support.items, extra.long() + filler], dim=1),
        torch.cat([support.values, extra + filler], dim=1),
        torch.cat([support.mask, extra.bool()], dim=1),
        support.user_features,
    )
    assert_same(outputs(learner, support), outputs(learner, wider))


def test_an_empty_support_gives_the_prior(learner: Learner, support: Support) -> None:
    nothing = Support(
        support.items[:, :0], support.values[:, :0], support.mask[:, :0], support.user_features
    )
    masked = replace(support, mask=torch.zeros_like(support.mask))
    assert_same(outputs(learner, nothing), outputs(learner, masked))
    alike = replace(nothing, user_features=nothing.user_features[:1].expand(25, -1))
    prior = outputs(learner, alike)
    assert torch.isfinite(prior[0]).all()
    assert_same(prior, [tensor[:1].expand(25, -1) for tensor in prior])


def test_a_support_longer_than_any_in_training(
    learner: Learner, support: Support, test_data: TaskData
) -> None:
    n = test_data.n_items
    everything = Support(
        torch.arange(n)[None],
        torch.tensor([1.0, 5.0]).repeat(n // 2)[None],
        torch.ones(1, n, dtype=torch.bool),
        support.user_features[:1],
    )
    assert torch.isfinite(learner.adapt(everything).scores()).all()


def test_the_whole_catalogue_equals_its_items(
    learner: Learner, support: Support, test_data: TaskData
) -> None:
    predictor = learner.adapt(support)
    items = some_items(25, test_data.n_items)
    whole = [predictor.scores(), *predictor.mean_var()]
    single = [predictor.scores(items), *predictor.mean_var(items)]
    assert_same([tensor.gather(1, items) for tensor in whole], single)


def test_shares_sum_to_the_scores(learner: Learner, support: Support, test_data: TaskData) -> None:
    predictor = learner.adapt(support)
    if not isinstance(predictor, LinearPredictor):
        assert not hasattr(predictor, "shares")
        return
    items = some_items(25, test_data.n_items)
    shares = predictor.shares(items)

    assert shares.support.shape == (25, 7, 12)
    assert (shares.support.masked_select(~support.mask[:, None, :]) == 0).all()
    torch.testing.assert_close(shares.total(), predictor.scores(items), atol=1e-5, rtol=1e-5)


def test_scores_are_queries_times_item_factors(
    learner: Learner, support: Support, test_data: TaskData
) -> None:
    predictor = learner.adapt(support)
    assert isinstance(predictor, FactorPredictor) == isinstance(learner, FactorLearner)
    if not isinstance(learner, FactorLearner):
        return
    assert isinstance(predictor, FactorPredictor)
    factors = learner.item_factors()
    items = some_items(25, test_data.n_items)

    assert factors.vectors.dtype == factors.appeal.dtype == predictor.query.dtype == torch.float64
    assert len(factors.vectors) == len(factors.appeal) == test_data.n_items
    products = predictor.query @ factors.vectors.mT + factors.appeal
    for asked, expected in ((None, products), (items, products.gather(1, items))):
        scores = predictor.scores(asked).double()
        torch.testing.assert_close(scores, expected, atol=1e-9, rtol=1e-9)


def rounding_of(learner: Learner, support: Support) -> float:
    """1e-9 where all is in float64; an average may have members in float32."""
    members = getattr(learner, "members", [])
    made = [learner, *(member.learner for member in members)]
    exact = all(one.adapt(support).scores().dtype == torch.float64 for one in made)
    return 1e-9 if exact else 1e-5


def smaller(support: Support, entry: int) -> Support:
    """The supports without the column ``entry``: nothing of it is left, not even padding."""
    kept = [column for column in range(support.items.shape[1]) if column != entry]
    return Support(
        support.items[:, kept],
        support.values[:, kept],
        support.mask[:, kept],
        support.user_features,
    )


def scores_without(
    learner: Learner, support: Support, items: Tensor | None, entries: Tensor
) -> Tensor:
    """Scores without each entry: the learner's own way, or the one that is there for all."""
    predictor = learner.adapt(support)
    if isinstance(predictor, Counterfactual):
        return predictor.without(items, entries)
    return LeaveOut(learner.adapt, support).without(predictor.scores(items), items, entries)


def test_scores_without_an_entry_are_those_of_a_refit(
    learner: Learner, support: Support, test_data: TaskData
) -> None:
    predictor = learner.adapt(support)
    items = some_items(25, test_data.n_items)
    tolerance = rounding_of(learner, support)
    entries = torch.tensor([0, 3, 11, -1]).expand(25, -1)

    listed = scores_without(learner, support, items, entries)
    whole = scores_without(learner, support, None, entries)

    assert listed.shape == (25, 7, 4)
    assert whole.shape == (25, test_data.n_items, 4)
    assert listed.dtype == whole.dtype == torch.float64
    for place, entry in enumerate((0, 3, 11)):
        refit = learner.adapt(smaller(support, entry))
        assert_same([whole[..., place]], [refit.scores().double()], tolerance)
        assert_same([listed[..., place]], [refit.scores(items).double()], tolerance)
    assert_same([whole[..., 3]], [predictor.scores().double()], tolerance)


def test_leaving_out_by_adapting_again_is_a_refit(
    learner: Learner, support: Support, test_data: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = learner.adapt(support)
    entries = torch.arange(12).expand(25, -1)
    monkeypatch.setattr("metarec_core.learners.leave_out._PAIRS", 7)
    scores = LeaveOut(learner.adapt, support).without(predictor.scores(), None, entries)
    tolerance = rounding_of(learner, support)
    assert_same([scores], [scores_without(learner, support, None, entries)], tolerance)
    refit = learner.adapt(smaller(support, 5)).scores().double()
    assert_same([scores[..., 5]], [refit], tolerance)


def test_deletions_are_what_the_score_beyond_shares_loses(
    learner: Learner, support: Support, test_data: TaskData
) -> None:
    predictor = learner.adapt(support)
    if not isinstance(predictor, LinearPredictor):
        # Without shares nothing is beyond them; which learners have none, test_registry knows.
        assert not isinstance(predictor, Deletions)
        return
    items = some_items(25, test_data.n_items)
    beyond = predictor.shares(items).beyond
    assert isinstance(predictor, Deletions) == (beyond is not None)
    if not isinstance(predictor, Deletions):
        return
    entries = torch.tensor([2, -1, 7]).expand(25, -1)
    lost, hints = predictor.deletions(items, entries), predictor.hints(items)

    assert lost.shape == (25, 7, 3)
    assert hints.shape == support.mask.shape
    assert (hints >= 0).all()
    assert not hints[~support.mask].any()
    assert not lost[..., 1].any()
    gone = ~support.mask[:, [2, 7]]
    assert not lost[..., [0, 2]].mT[gone].any()
    if learner.name != "average":
        # An average holds its weights fixed: see its own tests.
        refit = learner.adapt(smaller(support, 7))
        expected = (predictor.scores(items) - refit.scores(items)).double()
        assert_same([lost[..., 2]], [expected], 1e-9)


def test_feature_shares_have_a_column_each(
    learner: Learner, support: Support, test_data: TaskData
) -> None:
    predictor = learner.adapt(support)
    if not isinstance(predictor, FeatureShares):
        return
    shares = predictor.feature_shares(some_items(25, test_data.n_items))
    assert shares.shape == (25, 7, test_data.item_features.shape[1])
    assert shares.dtype == torch.float64
    assert torch.isfinite(shares).all()
    assert shares.any()


def test_variance_of_contrasts_is_that_of_score_differences(
    learner: Learner, support: Support, test_data: TaskData
) -> None:
    predictor = learner.adapt(support)
    if not isinstance(predictor, UncertainContrasts):
        return
    n_items = test_data.n_items
    groups = torch.zeros(2, n_items, dtype=torch.float64)
    groups[0, [1, 5, 8]], groups[1, 4] = 1.0 / 3.0, 1.0
    variance = predictor.contrast_variance(groups)
    assert variance.shape == (25, 2)
    assert_same([predictor.contrast_variance(groups.to_sparse())], [variance], 1e-12)
    assert isinstance(predictor, UncertainScores)
    everything = torch.arange(n_items).expand(25, -1)
    weights = groups - 1.0 / n_items
    covariance = predictor.score_covariance(everything)
    expected = ((weights @ covariance) * weights).sum(dim=-1)
    if isinstance(predictor, AveragePredictor):
        # Both are bounds; that of one contrast at a time is the closer one.
        assert (variance <= expected * (1.0 + 1e-9)).all()
        return
    assert_same([variance], [expected], 1e-9)


def test_covariances_are_symmetric_positive_definite(learner: Learner, support: Support) -> None:
    predictor = learner.adapt(support)
    if not isinstance(predictor, GaussianPredictor):
        # Half of it would be taken for the whole: readers ask for either attribute.
        assert not hasattr(predictor, "mean")
        assert not hasattr(predictor, "covariance")
        return
    covariance = predictor.covariance

    assert predictor.mean.shape == covariance.shape[:2]
    torch.testing.assert_close(covariance, covariance.mT, atol=1e-6, rtol=1e-5)
    assert (torch.linalg.eigvalsh(covariance) > 0).all()


def test_saved_and_loaded_it_gives_the_same_scores(
    learner: Learner, support: Support, tmp_path: Path
) -> None:
    state = learner.state()
    assert all(tensor.device == CPU and not tensor.requires_grad for tensor in state.values())
    save_file({key: tensor.clone() for key, tensor in state.items()}, tmp_path / "weights")
    config = type(learner).Config.model_validate_json(learner.config.model_dump_json())

    loaded = type(learner).from_state(config, load_file(tmp_path / "weights"), CPU)

    got, expected = outputs(loaded, support), outputs(learner, support)
    assert_same(got, expected, tolerance=0.0)
    again = loaded.state()
    assert state.keys() == again.keys()
    assert all(torch.equal(state[key], again[key]) for key in state)


def test_no_features_at_all(name: str, fit, planted_without_features: TaskData) -> None:
    data = planted_without_features
    learner = fit(name, data, data)
    assert torch.isfinite(learner.adapt(padded(data, np.full(40, 5), width=5)).scores()).all()
