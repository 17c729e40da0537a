"""Tasks on disk: sparse interactions in catalogue indices, and the split of the users."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors.numpy import load_file, save_file

from metarec_core.config import EpisodesConfig
from metarec_core.episodes.split import Split
from metarec_core.episodes.times import times_of
from metarec_core.episodes.types import IntArray, InteractionMatrix, TaskData, ValueScale
from metarec_core.errors import ValidationError
from metarec_core.schema import Columns
from metarec_core.storage import StageFacts

_INTERACTIONS = "interactions.safetensors"
_SCALE = "scale.json"


@dataclass(frozen=True, slots=True)
class Tasks:
    """Every user of a dataset as a task, with the part each belongs to.

    Attributes:
        data: Interactions and encoded features; row = user, column = catalogue index.
        split: :class:`~metarec_core.episodes.split.Split` code of each user, ``[U]``.
        user_ids: Ids in row order, ``user_id``.
        catalogue: Items in catalogue order, ``item_id`` and ``title``.
        min_task_interactions: Users with fewer interactions choose and judge nothing.
    """

    data: TaskData
    split: npt.NDArray[np.int8]
    user_ids: pl.Series
    catalogue: pl.DataFrame
    min_task_interactions: int

    def users(self, split: Split) -> IntArray:
        """Rows of the users of ``split`` that have enough interactions.

        Whoever has any trains: leaving out those with few would leave most of what is known of
        rare items out of the statistics, and handicap popularity.
        """
        least = 1 if split is Split.TRAIN else self.min_task_interactions
        enough = self.data.interactions.counts() >= least
        return np.flatnonzero(enough & (self.split == split)).astype(np.int64)

    def part(self, split: Split) -> TaskData:
        """The data of those users alone: nothing of other users is in it."""
        return self.data.select(self.users(split))


def build_episodes(
    clean: Path, features: Path, out: Path, *, scale: ValueScale, config: EpisodesConfig
) -> StageFacts:
    """Write the tasks of a cleaned dataset.

    Args:
        clean: Output of the clean stage (``interactions.parquet``).
        features: Output of the features stage (ids in catalogue order, splits).
        out: Directory to write.
        scale: What values mean.
        config: How users become tasks.

    Raises:
        ValidationError: If train, validation or test has fewer tasks than ``min_tasks``, or tasks
            are to be cut by time and there are none.
    """
    users = pl.read_parquet(features / "users.parquet", columns=[Columns.USER, "split"])
    items = pl.read_parquet(features / "items.parquet", columns=[Columns.ITEM])
    interactions = pl.scan_parquet(clean / "interactions.parquet")
    timed = [Columns.TIME] if Columns.TIME in interactions.collect_schema() else []
    indexed = (
        interactions.join(users.with_row_index("row").lazy(), on=Columns.USER, how="inner")
        .join(items.with_row_index("column").lazy(), on=Columns.ITEM, how="inner")
        .select(
            pl.col("row").cast(pl.Int64),
            pl.col("column").cast(pl.Int64),
            pl.col(Columns.VALUE).cast(pl.Float32),
            *timed,
        )
        .sort("row", "column")
        .collect()
    )
    times = times_of(indexed)
    if config.order == "time" and times is None:
        raise ValidationError(
            "setting episodes.order",
            found="'time', and interactions without times",
            wanted="a time of every interaction",
            next_step="name the column of times in the dataset's descriptor, or set "
            "episodes.order: random",
        )
    counts = np.bincount(indexed["row"].to_numpy(), minlength=len(users)).astype(np.int64)
    split = users["split"].to_numpy()
    sizes = {
        part.name.lower(): int(((counts >= config.min_task_interactions) & (split == part)).sum())
        for part in Split
    }
    _require_tasks(sizes, config, n_users=int((counts > 0).sum()))
    save_file(
        {
            "indptr": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            "items": indexed["column"].to_numpy().copy(),
            "values": indexed[Columns.VALUE].to_numpy().copy(),
        }
        | ({} if times is None else {"times": times}),
        out / _INTERACTIONS,
    )
    meta = asdict(scale) | {
        "min_task_interactions": config.min_task_interactions,
        "by_time": config.order == "time",
    }
    (out / _SCALE).write_text(json.dumps(meta, indent=2, sort_keys=True), encoding="utf-8")
    return StageFacts(
        rows_in=len(indexed),
        rows_out=len(indexed),
        facts={"tasks": sizes, "users": len(users), "items": len(items)},
    )


def load_tasks(episodes: Path, features: Path) -> Tasks:
    """Read what :func:`build_episodes` wrote beside the features it was built from."""
    arrays = load_file(episodes / _INTERACTIONS)
    meta = json.loads((episodes / _SCALE).read_text(encoding="utf-8"))
    min_task_interactions = int(meta.pop("min_task_interactions"))
    by_time = bool(meta.pop("by_time"))
    users = pl.read_parquet(features / "users.parquet", columns=[Columns.USER, "split"])
    return Tasks(
        data=TaskData(
            interactions=InteractionMatrix(
                arrays["indptr"], arrays["items"], arrays["values"], arrays.get("times")
            ),
            user_features=load_file(features / "user_features.safetensors")["features"],
            item_features=load_file(features / "item_features.safetensors")["features"],
            scale=ValueScale.from_json(meta),
            by_time=by_time,
        ),
        split=users["split"].to_numpy(),
        user_ids=users[Columns.USER],
        catalogue=pl.read_parquet(
            features / "items.parquet", columns=[Columns.ITEM, Columns.TITLE]
        ),
        min_task_interactions=min_task_interactions,
    )


def _require_tasks(sizes: dict[str, int], config: EpisodesConfig, n_users: int) -> None:
    short = {part: size for part, size in sizes.items() if size < config.min_tasks}
    if short:
        raise ValidationError(
            "tasks (users with enough interactions, by part)",
            found=f"{', '.join(f'{part}: {size}' for part, size in short.items())}; "
            f"{n_users} user(s) have any interaction",
            wanted=f"at least {config.min_tasks} users a part with "
            f">= {config.min_task_interactions} interactions each",
            next_step="bring more users, or lower episodes.min_tasks / "
            "episodes.min_task_interactions, or raise episodes.test_fraction / "
            "episodes.validation_fraction",
        )
