"""What a registered model states about itself: columns, parameters, an example, requirements."""

from __future__ import annotations

import re
from importlib.metadata import version

import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array, Object, Property

from metarec_core.learners.modes import PERSONALISED
from metarec_core.schema import Columns
from metarec_core.serving.bundle import Bundle
from metarec_core.serving.recommender import RECOMMEND

SERVING_DISTRIBUTIONS = (
    "mlflow",
    "numba",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "pydantic",
    "PyYAML",
    "safetensors",
    "torch",
)
"""Everything that loading the model and predicting imports; a test holds it to that."""

DEFAULT_K = 10
DEFAULT_REASONS = 3

_EXAMPLE_RATINGS = 3


def requirements() -> list[str]:
    """``name==version`` of what serving needs, as installed here.

    A local label such as ``+cpu`` is dropped: it names a build that other indexes lack.

    >>> requirements()[0].startswith("mlflow==3.")
    True
    """
    return [f"{name}=={re.sub(r'[+].*', '', version(name))}" for name in SERVING_DISTRIBUTIONS]


def signature(bundle: Bundle) -> ModelSignature:
    """Columns and parameters of the model that serves ``bundle``.

    MLflow drops columns that a signature does not name, and refuses integers where it says
    string and ``int64`` where it says double. So every column has the type Any (checked by the
    model itself), the user features of the bundle are named, and none is required: which ones are
    needed depends on the task, and the model says so itself.
    """
    names = [Columns.USER, Columns.ITEM, Columns.RATING, *user_columns(bundle)]
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(AnyType(), name, required=False) for name in names
    ]
    params = [
        ParamSpec("k", DataType.long, DEFAULT_K),
        ParamSpec("exclude", DataType.string, [], (-1,)),
        ParamSpec("candidates", DataType.string, [], (-1,)),
        ParamSpec("reasons", DataType.long, DEFAULT_REASONS),
        ParamSpec("mode", DataType.string, PERSONALISED),
        ParamSpec("task", DataType.string, RECOMMEND),
    ]
    return ModelSignature(Schema(inputs), _outputs(), ParamSchema(params))


def input_example(bundle: Bundle) -> pd.DataFrame:
    """Two users: one with a few ratings, one without any."""
    items = bundle.catalogue[Columns.ITEM].head(_EXAMPLE_RATINGS).to_list()
    known = [("a new user", item, bundle.scale.maximum) for item in items]
    return pd.DataFrame(
        [*known, ("nobody yet", None, None)], columns=[Columns.USER, Columns.ITEM, Columns.RATING]
    )


def user_columns(bundle: Bundle) -> list[str]:
    """Names of the user features that the bundle reads."""
    return list(bundle.user_encoder.specs)


def _outputs() -> Schema:
    reason = Object(
        [
            Property("kind", DataType.string),
            Property("item_id", DataType.string, required=False),
            Property("title", DataType.string, required=False),
            Property("feature", DataType.string, required=False),
            Property("value", DataType.double, required=False),
            Property("share", DataType.double),
            Property("rank", DataType.integer, required=False),
        ]
    )
    return Schema(
        [
            ColSpec(DataType.string, Columns.USER),
            ColSpec(DataType.integer, Columns.RANK),
            ColSpec(DataType.string, Columns.ITEM),
            ColSpec(DataType.string, Columns.TITLE),
            ColSpec(DataType.double, Columns.SCORE),
            ColSpec(DataType.double, Columns.RATING, required=False),
            ColSpec(DataType.double, Columns.SD, required=False),
            ColSpec(DataType.double, Columns.P_RELEVANT, required=False),
            ColSpec(DataType.string, Columns.SEGMENT),
            ColSpec(DataType.integer, Columns.SUPPORT_SIZE),
            ColSpec(Array(reason), Columns.REASONS),
            ColSpec(Array(DataType.string), Columns.RULE_FLAGS),
            ColSpec(DataType.string, "ignored", required=False),
        ]
    )
