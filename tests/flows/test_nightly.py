"""Whole nights on a small dataset: what they leave behind, and what bad input never touches."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from metarec_core.config import Config, load_config
from metarec_core.errors import (
    ConfigError,
    DatasetError,
    MetarecError,
    StorageError,
    ValidationError,
)
from metarec_core.home import Home
from metarec_core.reporting.lists import read_list
from metarec_core.reporting.status import RunStatus, load_status
from metarec_core.schema import RECOMMENDATIONS_SCHEMA
from metarec_core.storage import hash_directory, hash_files, read_manifest

MONDAY, TUESDAY = date(2026, 3, 2), date(2026, 3, 3)
STAGES = [
    "ingest",
    "validate_raw",
    "clean",
    "validate_clean",
    "features",
    "episodes",
    "train",
    "gate",
    "diversity",
    "recommend",
    "appraise",
]
ADDITIVE = ["item", "prior", "support", "rest", "beyond"]
QUICK = (
    "training.threads=1",
    "cleaning.threads=1",
    "learners.gaussian.taste_dim=4",
    "learners.gaussian.exposure_dim=8",
    "learners.gaussian.hidden=8",
    "learners.gaussian.loop.epochs=12",
    "learners.amortised.dim=8",
    "learners.amortised.hidden=8",
    "learners.amortised.loop.epochs=4",
    "learners.gaussian.loop.batch_tasks=16",
    "gate.resamples=200",
)


@dataclass(frozen=True)
class World:
    """A home and a team's own dataset."""

    home: Home
    dataset: Any

    def config(self, *overrides: str) -> Config:
        return load_config(None, [f"dataset.name={self.dataset.descriptor}", *QUICK, *overrides])

    def night(self, *overrides: str, day: date = MONDAY, flow: str = "nightly") -> RunStatus:
        from flows import nightly as flows

        return getattr(flows, flow)(self.config(*overrides), day)

    def served(self) -> dict[str, str]:
        """Hashes of everything a reader may use: lists, and who is champion."""
        from tasks.tracking import champion, open_store

        found = champion(open_store(self.home))
        published = self.home.lists / "latest" / "recommendations.parquet"
        return {
            "champion": found.uri if found else "",
            "lists": hash_directory(published.parent) if published.exists() else "",
        }


@pytest.fixture(scope="module")
def first_night(
    prefect: None, tmp_path_factory: pytest.TempPathFactory, make_own_dataset: Callable
) -> Iterator[tuple[World, RunStatus]]:
    """One night on good data; the world is only to be read."""
    root = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        world = World(Home(root / "home"), make_own_dataset(root / "shop"))
        patch.setenv("METAREC_HOME", str(world.home.root))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield world, world.night()


@pytest.fixture
def world(
    first_night: tuple[World, RunStatus], tmp_path: Path, make_own_dataset: Callable
) -> World:
    """The same home, and a fresh copy of the dataset that a test may spoil."""
    return World(first_night[0].home, make_own_dataset(tmp_path / "shop"))


def test_a_night_runs_every_stage_and_accounts_for_its_time(
    first_night: tuple[World, RunStatus],
) -> None:
    world, status = first_night
    assert status.state == "completed"
    assert [stage.name for stage in status.stages] == STAGES
    assert not any(stage.reused for stage in status.stages)
    staged = sum(stage.seconds for stage in status.stages)
    assert status.seconds == pytest.approx(staged + status.overhead_seconds, abs=0.01)
    assert status == load_status(world.home)


def test_status_has_the_documented_shape(first_night: tuple[World, RunStatus]) -> None:
    tree = json.loads(load_status(first_night[0].home).model_dump_json())
    assert {
        "run_date",
        "state",
        "stages",
        "overhead_seconds",
        "champion",
        "gate",
        "paths",
    } <= set(tree)
    assert {"name", "state", "seconds", "reused", "rows_in", "rows_out"} == set(tree["stages"][0])
    assert {"version", "metrics"} <= set(tree["champion"])
    assert {"verdict", "reason", "remark"} == set(tree["gate"])
    assert {"lists", "summary", "data_docs", "mlflow"} <= set(tree["paths"])
    for name in ("summary", "data_docs"):
        assert Path(tree["paths"][name]).is_file(), name
    assert Path(tree["paths"]["lists"]).is_dir()


def test_everybody_gets_a_list_whose_reasons_sum_to_its_scores(
    first_night: tuple[World, RunStatus],
) -> None:
    world, status = first_night
    lists = pl.read_parquet(Path(str(status.paths.lists)), hive_partitioning=False)
    assert lists.schema == RECOMMENDATIONS_SCHEMA
    assert lists["user_id"].n_unique() == 220
    assert (lists.group_by("user_id").len()["len"] == 10).all()
    assert set(lists.filter(pl.col("user_id") == "c219")["segment"]) == {"0"}
    totals = lists.select(
        pl.col("reasons")
        .list.eval(
            pl.element()
            .filter(pl.element().struct.field("kind").is_in(ADDITIVE))
            .struct.field("share")
        )
        .list.sum()
        .alias("sum"),
        "score",
    )
    assert (totals["sum"] - totals["score"]).abs().max() < 1e-5
    seen = world.dataset.read("interactions").select(user_id="customer", item_id="article")
    assert lists.join(seen, on=["user_id", "item_id"]).is_empty()


def test_the_manifest_of_the_lists_says_who_made_them(
    first_night: tuple[World, RunStatus],
) -> None:
    world, status = first_night
    manifest = json.loads((world.home.lists / "latest" / "manifest.json").read_text())
    assert manifest["run_id"] == status.run_id
    assert manifest["run_date"] == str(MONDAY)
    assert str(manifest["model"]["version"]) == status.champion.version
    assert manifest["mlflow_run_id"]
    assert read_manifest(world.home.lake / "recommend" / manifest["key"]).rows_out == 2200


def test_mlflow_holds_one_run_a_night_and_a_nested_run_a_stage(
    first_night: tuple[World, RunStatus],
) -> None:
    from tasks.tracking import open_store

    world, status = first_night
    store = open_store(world.home)
    runs = store.client.search_runs([store.experiment_id], max_results=500)
    night = next(run for run in runs if run.data.tags.get("metarec.run_id") == status.run_id)
    nested = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == night.info.run_id]
    assert sorted(run.info.run_name for run in nested) == sorted(STAGES)
    assert {run.info.status for run in (night, *nested)} == {"FINISHED"}
    assert night.data.tags["prefect.flow_run_id"]
    assert night.data.params["learners.gaussian.loop.epochs"] == "12"
    train = next(run for run in nested if run.info.run_name == "train")
    assert len(store.client.get_metric_history(train.info.run_id, "gaussian/loss")) == 12
    assert train.inputs.dataset_inputs


def test_the_same_night_again_reuses_what_it_built(first_night: tuple[World, RunStatus]) -> None:
    world, first = first_night
    before = world.served()
    again = world.night()
    reused = {stage.name: stage.reused for stage in again.stages}
    # The gate judges anew: there is a champion now.
    assert [name for name, found in reused.items() if not found] == ["gate"]
    assert again.gate.verdict == "unchanged"
    assert again.champion.version == first.champion.version
    assert world.served()["champion"] == before["champion"]
    third = world.night()
    assert all(stage.reused for stage in third.stages)


@pytest.mark.slow
def test_another_home_gives_the_same_bytes(
    prefect: None,
    first_night: tuple[World, RunStatus],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, _ = first_night
    other = World(Home(tmp_path / "home"), world.dataset)
    monkeypatch.setenv("METAREC_HOME", str(other.home.root))
    other.night()
    files = [
        hash_files(home.lists / "latest" / "recommendations.parquet")
        for home in (world.home, other.home)
    ]
    assert files[0] == files[1] != {}


def test_recommend_only_publishes_for_another_day_and_trains_nothing(world: World) -> None:
    status = world.night(day=TUESDAY, flow="recommend")
    assert "train" not in [stage.name for stage in status.stages]
    assert (world.home.lists / "latest").readlink().name == f"run_date={TUESDAY}"
    rows = read_list(world.home, "c1", TUESDAY).rows
    assert set(rows["run_date"]) == {TUESDAY}
    world.night(day=date(2026, 3, 1), flow="recommend")
    # An older date is filled in behind the newest lists.
    assert (world.home.lists / "latest").readlink().name == f"run_date={TUESDAY}"


RULES = """
table: rules.csv
categories: kinds
caps: {toys: 2}
quotas: {books: 1}
"""
RULES_TABLE = """rule,item_id,user_id,segment,position
deny,a0,,,
pin,a9,,5-9,1
deny,a9,c1,,
"""


def write_rules(directory: Path, table: str = RULES_TABLE) -> str:
    directory.joinpath("rules.yaml").write_text(RULES)
    directory.joinpath("rules.csv").write_text(table)
    return f"recommend.rules={directory / 'rules.yaml'}"


@pytest.mark.slow
def test_lists_obey_rules_and_the_preset_and_the_report_shows_what_they_cost(
    world: World, tmp_path: Path
) -> None:
    day = date(2026, 3, 4)
    status = world.night(
        write_rules(tmp_path),
        "recommend.diversity.method=mmr",
        "recommend.diversity.preset=gentle",
        day=day,
        flow="recommend",
    )
    lists = pl.read_parquet(Path(str(status.paths.lists)), hive_partitioning=False)
    kinds = world.dataset.read("items").select(item_id="article", kinds="kinds")
    held = (
        lists.join(kinds, on="item_id")
        .group_by("user_id")
        .agg(toys=(pl.col("kinds") == "toys").sum(), books=(pl.col("kinds") == "books").sum())
    )
    assert held["toys"].max() == 2
    flags = dict(lists.group_by("user_id").agg(pl.col("rule_flags").explode()).iter_rows())
    for user, _, books in held.iter_rows():
        assert books >= 1 or any(flag.startswith("quota unmet: books") for flag in flags[user])
    assert "a0" not in set(lists["item_id"])
    pinned = lists.filter(pl.col("rule_flags").list.contains("pinned"))
    assert set(pinned["item_id"]) <= {"a9"}
    assert set(pinned["rank"]) <= {1}
    report = Path(str(status.paths.report)).read_text(encoding="utf-8")
    for part in ("Accuracy and diversity", "The lists of the night", "Reasons"):
        assert part in report
    (made,) = [
        manifest
        for manifest in map(read_manifest, (world.home.lake / "diversity").iterdir())
        if manifest.facts["chosen"]["method"] == "mmr"
    ]
    frontier = pl.read_parquet(world.home.lake / "diversity" / made.key / "frontier.parquet")
    assert {"none", "mmr", "dpp", "xquad", "calibrated"} <= set(frontier["method"])
    ndcg = {
        (method, strength): value
        for method, strength, metric, value, *_ in frontier.iter_rows()
        if metric == "ndcg_at_10"
    }
    chosen = made.facts["chosen"]["strength"]
    assert ndcg["mmr", chosen] >= 0.99 * ndcg["none", 0.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("rule,item_id,position\ndeny,a1,\npin,a1,1\n", "a1"),
        ("rule,item_id,position\npin,a1,99\n", "99"),
        ("rule,item_id\nallow,nothing\n", "nothing is in the catalogue"),
    ],
)
def test_rules_that_cannot_be_kept_stop_the_night_before_anything_is_published(
    world: World, tmp_path: Path, table: str, said: str
) -> None:
    from metarec_core.errors import ConfigError

    before = world.served()
    with pytest.raises(ConfigError, match=said):
        world.night(write_rules(tmp_path, table), day=date(2026, 3, 5), flow="recommend")
    assert world.served() == before
    assert load_status(world.home).state == "failed"


@pytest.mark.slow
def test_train_only_leaves_the_lists_alone(world: World) -> None:
    before = world.served()["lists"]
    status = world.night("seed=8", flow="train")
    assert [stage.name for stage in status.stages] == STAGES[:-3]
    assert status.paths.lists is None
    assert world.served()["lists"] == before


def spoil_missing_file(world: World) -> None:
    world.dataset.table("interactions").unlink()


def spoil_missing_column(world: World) -> None:
    world.dataset.write("interactions", world.dataset.read("interactions").drop("article"))


def spoil_unparsable(world: World) -> None:
    path = world.dataset.table("interactions")
    lines = path.read_text().splitlines()
    lines[7] = "c1,a2,many,1700000000"
    path.write_text("\n".join(lines) + "\n")


def spoil_empty(world: World) -> None:
    world.dataset.write("interactions", world.dataset.read("interactions").clear())


def spoil_one_user(world: World) -> None:
    rows = world.dataset.read("interactions").filter(pl.col("customer") == "c1")
    world.dataset.write("interactions", rows)


def spoil_off_scale(world: World) -> None:
    rows = world.dataset.read("interactions").with_columns(stars=pl.lit("50"))
    world.dataset.write("interactions", rows)


def spoil_descriptor(world: World) -> None:
    world.dataset.descriptor.write_text("name: [")


def spoil_everything(world: World) -> None:
    shutil.rmtree(world.dataset.root)


BAD_INPUT = [
    (spoil_missing_file, DatasetError, "interactions.csv"),
    (spoil_missing_column, DatasetError, "article"),
    (spoil_unparsable, DatasetError, "many"),
    (spoil_empty, DatasetError, "interactions"),
    (spoil_one_user, ValidationError, "user"),
    (spoil_off_scale, ValidationError, "value"),
    (spoil_descriptor, DatasetError, "shop.yaml"),
    (spoil_everything, DatasetError, "shop.yaml"),
]


@pytest.mark.parametrize(
    ("spoil", "kind", "named"), BAD_INPUT, ids=[case[0].__name__ for case in BAD_INPUT]
)
def test_bad_input_fails_clearly_and_touches_nothing(
    world: World, spoil: Callable[[World], None], kind: type[MetarecError], named: str
) -> None:
    before = world.served()
    spoil(world)
    with pytest.raises(kind, match=named) as caught:
        world.night(day=TUESDAY)
    assert caught.value.next_step
    assert world.served() == before
    status = load_status(world.home)
    assert status.state == "failed"
    assert status.error.message == str(caught.value)
    summary = Path(str(status.paths.summary)).read_text()
    assert "unchanged" in summary
    assert caught.value.next_step.split()[0] in summary


def test_an_unwritable_home_fails_before_anything_starts(
    prefect: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("METAREC_HOME", str(tmp_path / "file" / "home"))
    from flows.nightly import nightly

    with pytest.raises(StorageError, match="METAREC_HOME"):
        nightly(Config())


def test_lists_that_break_the_rules_are_not_published(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ranker gone wrong: it recommends what the user has seen."""
    from metarec_core.serving import tonight

    honest = tonight.audience_of

    def forgetful(*args, **kwargs):
        translation = honest(*args, **kwargs)
        matrix = translation.audience.histories
        empty = matrix.select(matrix.counts().argsort()[:0])
        blank = type(matrix)(indptr=matrix.indptr * 0, items=empty.items, values=empty.values)
        from dataclasses import replace

        return replace(translation, audience=replace(translation.audience, histories=blank))

    monkeypatch.setattr(tonight, "audience_of", forgetful)
    before = world.served()
    with pytest.raises(ValidationError, match="recommendations"):
        world.night(day=date(2026, 3, 9), flow="recommend")
    assert world.served() == before


def test_recommending_without_a_champion_says_what_to_do(
    prefect: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_own_dataset: Callable
) -> None:
    lonely = World(Home(tmp_path / "home"), make_own_dataset(tmp_path / "shop"))
    monkeypatch.setenv("METAREC_HOME", str(lonely.home.root))
    with pytest.raises(MetarecError, match="no champion yet"):
        lonely.night(flow="recommend")


def test_unknown_settings_never_become_a_run() -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        load_config(None, ["gate.resample=5"])


@pytest.mark.slow
def test_the_readme_s_script_pulls_the_champion_from_anywhere(
    first_night: tuple[World, RunStatus], tmp_path: Path
) -> None:
    """As it stands in the README, with this store and articles of the shop."""
    world, _ = first_night
    readme = Path(__file__).resolve().parents[2] / "README.md"
    script = readme.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    script = script.replace(
        "http://127.0.0.1:5000", f"sqlite:///{world.home.mlflow / 'mlflow.db'}"
    ).replace("[50, 172, 98, 1]", "['a1', 'a2', 'a3', 'a4']")
    assert "'a1'" in script
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": os.environ["PATH"], "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
    )
    assert result.returncode == 0, result.stderr
    assert "Article" in result.stdout
    assert len(result.stdout.strip().splitlines()) == 1 + 5
