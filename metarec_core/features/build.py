"""The features stage: clean tables become imputed tables and matrices of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors.numpy import save_file

from metarec_core.config import EpisodesConfig
from metarec_core.episodes.split import Split, split_users
from metarec_core.features.encoder import FeatureEncoder
from metarec_core.ingest.descriptor import DatasetDescriptor
from metarec_core.schema import Columns, Table
from metarec_core.storage import StageFacts

SPLIT = "split"


def build_features(
    clean: Path,
    out: Path,
    *,
    descriptor: DatasetDescriptor,
    config: EpisodesConfig,
    seed: int,
    codes: npt.NDArray[np.int8] | None = None,
) -> StageFacts:
    """Write imputed tables, matrices and encoders of users and items.

    Statistics come from training rows alone: users of the training split, and items with at
    least one interaction by such a user. Users are sorted by id; items too, and their row number
    is the catalogue index.

    Args:
        clean: Output of the clean stage.
        out: Directory to write: ``users.parquet`` (``user_id``, ``split``, features),
            ``items.parquet`` (``item_id``, ``title``, features), ``user_features.safetensors``
            and ``item_features.safetensors`` (``features``, ``[U, Fu]`` and ``[I, Fi]`` float32),
            and the encoders ``user_encoder`` and ``item_encoder``.
        descriptor: Which features there are.
        config: Fractions of the users held out.
        seed: Seed of the reduction of texts.
        codes: Split code of each user, sorted by id; the stable hash's by default. For
            cross-validation.

    Returns:
        ``rows_in`` and ``rows_out`` count users and items together; ``facts`` has ``splits``,
        and by table ``columns`` (encoded), ``imputed`` (cells by feature) and ``fitted_on``.
    """
    users = pl.read_parquet(clean / f"{Table.USERS}.parquet").sort(Columns.USER)
    items = pl.read_parquet(clean / f"{Table.ITEMS}.parquet").sort(Columns.ITEM)
    if codes is None:
        codes = split_users(users[Columns.USER], config.validation_fraction, config.test_fraction)
    users = users.with_columns(pl.Series(SPLIT, codes, dtype=pl.Int8))
    in_training = users.filter(pl.col(SPLIT) == Split.TRAIN)
    seen = (
        pl.scan_parquet(clean / f"{Table.INTERACTIONS}.parquet")
        .join(in_training.lazy().select(Columns.USER), on=Columns.USER, how="semi")
        .select(pl.col(Columns.ITEM).unique())
        .collect()
    )
    facts: dict[str, Any] = {
        "splits": {part.name.lower(): int(np.sum(codes == part)) for part in Split},
        Table.USERS.value: _encode(
            Table.USERS, users, in_training, [Columns.USER, SPLIT], out, descriptor, seed
        ),
        Table.ITEMS.value: _encode(
            Table.ITEMS,
            items,
            items.join(seen, on=Columns.ITEM, how="semi", maintain_order="left"),
            [Columns.ITEM, Columns.TITLE],
            out,
            descriptor,
            seed,
        ),
    }
    rows = len(users) + len(items)
    return StageFacts(rows_in=rows, rows_out=rows, facts=facts)


def _encode(
    table: Table,
    frame: pl.DataFrame,
    training: pl.DataFrame,
    keys: list[str],
    out: Path,
    descriptor: DatasetDescriptor,
    seed: int,
) -> dict[str, Any]:
    stem = {Table.USERS: "user", Table.ITEMS: "item"}[table]
    specs = descriptor.features(table)
    encoder = FeatureEncoder.fit(training, specs, seed)
    encoder.save(out, f"{stem}_encoder")
    save_file({"features": encoder.encode(frame)}, out / f"{stem}_features.safetensors")
    imputed = encoder.impute(frame)
    flags = [f"{name}:missing" for name in specs if f"{name}:missing" in imputed.columns]
    imputed.select([*keys, *specs, *flags]).write_parquet(out / f"{table}.parquet")
    return {
        "rows": len(frame),
        "columns": len(encoder.names),
        "imputed": encoder.missing(frame),
        "fitted_on": len(training),
    }
