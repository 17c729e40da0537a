"""The registered model: MLflow runs this file, beside its copy of metarec_core, to load one.

It is logged as code, so nothing is pickled; whoever loads it needs the stated requirements and
neither this repository nor its stages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from metarec_core.serving.bundle import load_bundle
from metarec_core.serving.recommender import RECOMMEND, Recommendations, Recommender

_NULLABLE = ("rating", "sd", "p_relevant", "ignored")
_LISTS = ("reasons", "rule_flags")


class RecommenderModel(PythonModel):
    """Ranked recommendations for users of whom a few interactions are known, or none.

    Input: a frame of ``user_id, item_id, rating``, one row an interaction, and optional columns
    of the dataset's user features. Ids may be numbers or strings. A row without ``item_id``
    introduces a user with features only, who is served from the prior.

    Parameters: ``k`` (length of each list), ``exclude`` (item ids never recommended),
    ``candidates`` (item ids to rank; an empty list, the default, means the whole catalogue),
    ``reasons`` (interactions named in each entry's reasons) and ``mode`` (``personalised``: all
    signals; ``collaborative``: interactions alone; ``content``: features alone). Item ids in
    parameters are strings. ``task`` is ``recommend`` by default.

    With ``task="similar_items"`` the answer is, for each ``item_id`` of the rows, the ``k``
    nearest: ``item_id, rank, similar_item_id, similar_title, similarity, source``; with
    ``task="similar_users"``, for each user of the rows, the ``k`` nearest of the others in them:
    ``user_id, rank, similar_user_id, similarity``. Similarities are cosines.

    Output: a frame of ``user_id, rank, item_id, title, score, rating, sd, p_relevant, segment,
    support_size, reasons, rule_flags, ignored``, users in order of first appearance. ``rating`` and
    ``sd`` (predictive) are null for a learner that predicts no value, and ``p_relevant`` where the
    model has no calibration. ``reasons`` is a list of dictionaries ``kind, item_id, title, feature,
    value, share, rank``; the shares of kinds ``item, prior, support, rest`` and ``beyond`` sum to
    the score. ``rule_flags`` says why a list is shorter than asked. What could not be used,
    an unknown item say, is no error: ``ignored`` describes it on every row of its user (null
    otherwise), the frame's ``attrs["ignored"]`` lists it row by row, and a warning is logged.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the bundle that the model was logged with."""
        self._recommender = Recommender(load_bundle(Path(context.artifacts["bundle"])))

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Rank items for every user of ``model_input``; see the class.

        Raises:
            ConfigError: If a parameter is out of range.
            ModelError: If columns do not fit, or the model does not have the mode.
        """
        settings = params or {}
        task, k = settings.get("task", RECOMMEND), settings.get("k", 10)
        if task != RECOMMEND:
            return self._recommender.similar(task, model_input, k=k).to_pandas()
        # A parameter of MLflow's has a default, so "no candidates given" is an empty list.
        answer = self._recommender.recommend(
            model_input,
            k=k,
            exclude=settings.get("exclude"),
            candidates=settings.get("candidates") or None,
            reasons=settings.get("reasons", 3),
            mode=settings.get("mode", "personalised"),
        )
        return _as_pandas(answer)


def _as_pandas(answer: Recommendations) -> pd.DataFrame:
    """Plain values that JSON can hold: lists and dictionaries, and None instead of NaN."""
    rows = answer.annotated()
    frame = rows.drop(_LISTS).to_pandas()
    for name in _LISTS:
        # Before "ignored", the last one.
        lists = pd.Series(rows[name].to_list(), dtype=object)
        frame.insert(len(frame.columns) - 1, name, lists)
    for name in _NULLABLE:
        if rows[name].has_nulls():
            frame[name] = pd.Series(rows[name].to_list(), dtype=object)
    frame.attrs["ignored"] = answer.ignored.to_dicts()
    return frame


set_model(RecommenderModel())
