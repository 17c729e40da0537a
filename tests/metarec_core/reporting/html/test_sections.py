"""What the sections say, against figures worked out one by one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.errors import StorageError
from metarec_core.ranking.diversity.frontier import FRONTIER_SCHEMA, choose_strength
from metarec_core.ranking.stream import write_stream
from metarec_core.reporting.html.charts import finite, in_script
from metarec_core.reporting.html.explanations import explanations_section
from metarec_core.reporting.html.frontier import LESS_IS_MORE, frontier_section
from metarec_core.reporting.html.lists import flags_section, metrics_section, spread_section
from metarec_core.reporting.html.profile import ListsProfile, profile_lists
from metarec_core.reporting.html.record import FRAMES, ChosenPoint, find_frame
from metarec_core.reporting.html.reliability import reliability_section
from metarec_core.schema import segment

Parsed = Callable[[str], Any]


def rows_of(body: str, parsed: Parsed) -> str:
    text: str = parsed(body).text
    return text


def test_the_table_names_the_largest_affordable_strength(
    world: SimpleNamespace, parsed: Parsed
) -> None:
    built = frontier_section(world.frontier(), None)
    assert built is not None
    text = rows_of(built[0], parsed)
    assert "list NDCG@10 lost standard error" in text
    assert "by score alone 0.4000 0.00% 0.00% 0.500" in text
    assert "mmr at 0.5 0.3975 0.62% 0.10% 1.000" in text
    assert "dpp at 0.25 0.3981 0.47% 0.05% 0.750" in text
    assert "over 1,200 users." in text
    assert "The ring" not in text


@settings(max_examples=60, deadline=None)
@given(
    losses=st.lists(
        st.tuples(st.floats(0.0, 0.02), st.one_of(st.none(), st.floats(0.0, 0.01))),
        min_size=1,
        max_size=6,
    ),
    pure=st.floats(0.01, 1.0),
)
def test_affordable_is_what_the_preset_would_take(
    losses: list[tuple[float, float | None]], pure: float, parsed: Parsed
) -> None:
    """Up to it no strength may have lost more: one that does again behind it is luck."""
    rows: list[tuple[object, ...]] = [
        ("none", 0.0, "ndcg_at_10", pure, 9, 0.0),
        ("none", 0.0, "novelty", 1.0, None, None),
    ]
    for step, (loss, error) in enumerate([(0.0, 0.0), *losses]):
        rows.append(("mmr", step / 10, "ndcg_at_10", pure * (1.0 - loss), 9, error))
        rows.append(("mmr", step / 10, "novelty", 2.0, None, None))
    frame = pl.DataFrame(rows, schema=FRONTIER_SCHEMA, orient="row")
    chosen = choose_strength(frame, "mmr")
    built = frontier_section(frame, ChosenPoint("mmr", chosen))
    assert built is not None
    text = rows_of(built[0], parsed)
    assert (
        f"mmr at {chosen:g} {pure * (1.0 - [(0.0, 0.0), *losses][round(10 * chosen)][0]):.4f}"
        in (text)
    )
    assert len(re.findall(r"mmr at [\d.]+ [\d.]+ ", text)) == 1


def test_luck_behind_a_loss_is_not_affordable(parsed: Parsed) -> None:
    rows: list[tuple[object, ...]] = [
        ("none", 0.0, "ndcg_at_10", 0.3, 9, 0.0),
        ("none", 0.0, "novelty", 1.0, None, None),
    ]
    for strength, accuracy in ((0.0, 0.3), (0.1, 0.299), (0.2, 0.29), (0.3, 0.2975)):
        rows.append(("mmr", strength, "ndcg_at_10", accuracy, 9, 0.001))
        rows.append(("mmr", strength, "novelty", 1.0 + strength, None, None))
    built = frontier_section(pl.DataFrame(rows, schema=FRONTIER_SCHEMA, orient="row"), None)
    assert built is not None
    text = rows_of(built[0], parsed)
    assert "mmr at 0.1 0.2990 0.33% 0.10%" in text
    assert "mmr at 0.3" not in text


def layers(spec: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [layer for layer in spec["layer"] if layer["mark"]["type"] == kind]


def values(spec: dict[str, Any], layer: dict[str, Any]) -> list[dict[str, Any]]:
    data = layer.get("data", spec.get("data"))
    found: list[dict[str, Any]] = spec["datasets"][data["name"]]
    return found


def test_the_ring_and_the_diamond_mark_their_points(world: SimpleNamespace) -> None:
    built = frontier_section(world.frontier(), ChosenPoint("mmr", 0.25))
    assert built is not None
    body, charts = built
    assert "mmr at 0.25" in body
    for chart in charts:
        points = layers(chart.spec, "point")
        [ring] = [one for one in points if one["mark"].get("style") == ["chosen"]]
        [diamond] = [one for one in points if one["mark"].get("style") == ["pure"]]
        [row] = values(chart.spec, ring)
        assert (row["method"], row["strength"]) == ("mmr", 0.25)
        assert [row["method"] for row in values(chart.spec, diamond)] == ["none"]
        [limit] = layers(chart.spec, "rule")
        assert values(chart.spec, limit) == [{"accuracy": pytest.approx(0.396)}]


def test_right_is_always_more_diverse(world: SimpleNamespace) -> None:
    built = frontier_section(world.frontier(), None)
    assert built is not None
    turned = {
        chart.title
        for chart in built[1]
        if layers(chart.spec, "line")[0]["encoding"]["x"]["scale"]["reverse"]
    }
    assert turned == {"Category calibration error", "Gini", "Popularity lift"}
    assert len(turned) == len(LESS_IS_MORE)


def test_a_point_that_was_not_tried_is_not_marked(world: SimpleNamespace) -> None:
    built = frontier_section(world.frontier(), ChosenPoint("mmr", 0.33))
    assert built is not None
    for chart in built[1]:
        styles = [one["mark"].get("style") for one in layers(chart.spec, "point")]
        assert ["chosen"] not in styles


@pytest.mark.parametrize(
    ("learner", "shown"), [("champion", "champion"), ("average", "average"), ("gone", "average")]
)
def test_reliability_is_that_of_the_model_in_service(
    world: SimpleNamespace, learner: str, shown: str
) -> None:
    bins = world.reliability()
    built = reliability_section(bins, learner)
    assert built is not None
    body, charts = built
    assert f"as {shown} states it" in body
    assert [chart.title for chart in charts] == ["All users", "1-4 interactions known"]
    own = bins.filter((pl.col("learner") == shown) & (pl.col("segment") == "all")).to_dicts()
    total = sum(row["pairs"] for row in own)
    error = sum(abs(row["stated"] - row["observed"]) * row["pairs"] for row in own) / total
    assert f"{error:.4f} over {total:,} pairs" in charts[0].hint


def test_explanations_show_figures_and_curves(world: SimpleNamespace, parsed: Parsed) -> None:
    figures = pl.DataFrame(
        {
            "metric": ["places_lost", "left_the_list", "own_figure", "completeness"],
            "value": [3.0, 0.25, 1.0, 1.5e-7],
        }
    )
    built = explanations_section(figures, world.curves())
    assert built is not None
    text = rows_of(built[0], parsed)
    assert (
        "Places lost mean places that an entry falls, by score alone, without its strongest reason "
        "3.0000"
    ) in text
    assert (
        "Fell out of the first of the first entries by score alone, as many as "
        "recommend.explanations.entries says, the share that is no longer among as many first ones "
        "without its strongest reason 0.2500"
    ) in text
    assert "Own figure – 1.0000" in text
    assert (
        "Completeness largest difference between a score and the sum of its shares 1.5e-07" in text
    )
    [chart] = built[1]
    assert len(values(chart.spec, chart.spec["layer"][0])) == 10
    assert explanations_section(None, None) is None
    only = explanations_section(figures, None)
    assert only is not None
    assert only[1] == []


def test_metrics_have_a_column_a_segment(parsed: Parsed) -> None:
    frame = pl.DataFrame(
        {
            "metric": ["novelty", "novelty", "novelty", "own_figure"],
            "segment": ["5-9", "10-19", "all", "all"],
            "value": [2.0, 4.0, 1.0, 3.0],
        }
    )
    built = metrics_section(frame)
    assert built is not None
    text = rows_of(built[0], parsed)
    assert "figure what it is all 5-9 10-19 Novelty" in text
    assert "in bits 1.0000 2.0000 4.0000 Own figure – 3.0000 – –" in text


def test_spread_and_flags_tell_what_is_there(profile: ListsProfile, parsed: Parsed) -> None:
    spread = spread_section(profile)
    assert spread is not None
    assert [chart.title for chart in spread[1]] == [
        "Score",
        "Predicted rating",
        "Sd",
        "P(relevant)",
    ]
    score = spread[1][0].spec
    assert score["layer"][0]["encoding"]["x"]["sort"] == ["0", "5-9", "20-49"]
    flags = flags_section(profile)
    assert flags is not None
    text = rows_of(flags[0], parsed)
    assert "only 1 open item 1" in text
    assert "pinned 2 33.3% quota:Drama 1 16.7%" in text


@settings(max_examples=25, deadline=None)
@given(
    users=st.lists(
        st.tuples(
            st.integers(0, 60),
            st.lists(
                st.tuples(
                    st.floats(-5, 5),
                    st.one_of(st.none(), st.floats(0, 1)),
                    st.lists(st.sampled_from(["pinned", "quota:A", "short: few"]), max_size=2),
                ),
                min_size=1,
                max_size=4,
            ),
        ),
        max_size=8,
    ),
    n_shards=st.integers(1, 3),
)
def test_a_profile_equals_what_counting_gives(
    users: list[Any],
    n_shards: int,
    world: SimpleNamespace,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    template = world.lists()
    entries = [
        {
            "user_id": str(number),
            "rank": rank,
            "score": score,
            "p_relevant": chance,
            "segment": segment(size),
            "rule_flags": flags,
        }
        for number, (size, rows) in enumerate(users)
        for rank, (score, chance, flags) in enumerate(rows, start=1)
    ]
    frame = pl.DataFrame(entries, schema=template.schema)
    place = tmp_path_factory.mktemp("shards")
    paths = [place / f"shard-{index:05d}.parquet" for index in range(n_shards)]
    for index, path in enumerate(paths):
        write_stream(path, [frame[index::n_shards]])
    got = profile_lists(paths)
    assert (got.users, got.entries) == (len(users), len(entries))
    counts = Counter(flag for row in entries for flag in row["rule_flags"])
    few = counts.pop("short: few", 0)
    assert dict(got.flags.iter_rows()) == counts
    assert got.flags["entries"].is_sorted(descending=True)
    assert dict(got.short.iter_rows()) == ({"few": few} if few else {})
    for row in got.spread.iter_rows(named=True):
        own = sorted(
            one[row["figure"]]
            for one in entries
            if one["segment"] == row["segment"] and one[row["figure"]] is not None
        )
        assert row["count"] == len(own)
        assert (
            own[0] <= row["p05"] <= row["p25"] <= row["p50"] <= row["p75"] <= row["p95"] <= own[-1]
        )
        if len(own) % 2:
            assert row["p50"] == median(own)
    there = {(row["segment"], name) for row in entries for name in ("score", "p_relevant")
             if row[name] is not None}  # fmt: skip
    found = {(row["segment"], row["figure"]) for row in got.spread.iter_rows(named=True)}
    assert found == there


def test_the_frame_of_the_last_stage_counts(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("gate", "recommend", "other")]
    for number, place in enumerate(places[:2]):
        place.mkdir()
        frame = pl.DataFrame({"metric": ["novelty"], "value": [float(number)]})
        frame.write_parquet(place / "list_metrics.parquet")
    found = find_frame("list_metrics", places)
    assert found is not None
    assert found["value"].item() == 1.0
    assert find_frame("frontier", places) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"no parquet", "Error"), (None, "no column strength, metric, n_users, loss_se")],
)
def test_a_damaged_frame_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "frontier.parquet"
    if content is None:
        pl.DataFrame({"method": ["mmr"], "value": [1.0]}).write_parquet(path)
    else:
        path.write_bytes(content)
    with pytest.raises(StorageError, match=rf"frontier\.parquet.*{words}"):
        find_frame("frontier", [tmp_path])


def test_frames_are_those_that_stages_write() -> None:
    from metarec_core.calibration.reliability import RELIABILITY_SCHEMA

    assert set(FRAMES["frontier"]) == set(FRONTIER_SCHEMA)
    assert set(FRAMES["reliability"]) <= set(RELIABILITY_SCHEMA)


def test_scripts_hold_no_end_of_a_script() -> None:
    text = in_script({"</script>": "<!-- \u2028 &"})
    assert "<" not in text
    assert "\u2028" not in text
    frame = pl.DataFrame({"a": [1.0, float("nan"), float("-inf")], "b": [1, 2, 3], "c": ["x"] * 3})
    assert finite(frame).rows() == [(1.0, 1, "x"), (None, 2, "x"), (None, 3, "x")]
