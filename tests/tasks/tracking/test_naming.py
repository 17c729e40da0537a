from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name

from metarec_core.config import Config
from tasks.tracking.naming import MAX_VALUE, flat_numbers, flat_params, metric_name, shortened


@given(st.text())
def test_mlflow_accepts_every_sanitised_metric_name(name: str) -> None:
    _validate_metric_name(metric_name(name))


def test_numbers_are_flattened_and_the_rest_is_left_out() -> None:
    facts = {"ndcg@10": {"5": 0.25}, "reused": False, "title": "x", "list": [1], "none": None}
    assert flat_numbers(facts) == {"ndcg_at_10/5": 0.25, "reused": 0.0}


def test_every_setting_becomes_a_parameter_with_a_legal_name() -> None:
    params = flat_params(Config())
    assert params["seed"] == "7"
    assert params["dataset.name"] == "ml-100k"
    for name, value in params.items():
        _validate_param_name(name)
        assert len(value) <= MAX_VALUE


def test_long_values_are_cut_and_still_differ() -> None:
    one, other = shortened("x" * 600), shortened("x" * 599 + "y")
    assert len(one) == MAX_VALUE
    assert one != other
    assert shortened("x" * MAX_VALUE) == "x" * MAX_VALUE
