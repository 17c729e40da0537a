"""Settings of diversity that cannot be meant."""

import pytest
from pydantic import ValidationError

from metarec_core.ranking.diversity.settings import MOST_JOINT, DiversityConfig


@pytest.mark.parametrize("method", ["sample", "mean_variance"])
def test_a_covariance_that_does_not_fit_is_refused_before_anything_runs(method):
    with pytest.raises(ValidationError, match=rf"pool {MOST_JOINT + 1} .* at most {MOST_JOINT}"):
        DiversityConfig(method=method, pool=MOST_JOINT + 1)
    assert DiversityConfig(method=method, pool=MOST_JOINT).reorders
    assert DiversityConfig(method="mmr", pool=10 * MOST_JOINT).reorders


def test_a_preset_needs_a_method():
    with pytest.raises(ValidationError, match="wanted a method"):
        DiversityConfig(preset="gentle")
    assert DiversityConfig(method="dpp", strength=0.0, preset="gentle").reorders
    assert not DiversityConfig(method="dpp", strength=0.0).reorders
