"""What is printed of a list: intervals, shares with their kinds, places without, tastes."""

import json
from datetime import date

import polars as pl
import pytest

from metarec_core.episodes.types import ValueScale
from metarec_core.ranking.tastes import TASTES_SCHEMA
from metarec_core.reporting.shown import Shown
from metarec_core.schema import REASON_TYPE, RECOMMENDATIONS_SCHEMA, Feedback
from metarec_core.serving.portrait import WITHOUT_SCHEMA, Portrait

STARS = ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0)
EVENTS = ValueScale(Feedback.IMPLICIT, 0.0, 100.0, 1.0)


def reason(kind: str, share: float, title: str | None = None, value: float | None = None, **more):
    return {
        "kind": kind,
        "item_id": title and title[:3],
        "title": title,
        "feature": None,
        "value": value,
        "share": share,
        "rank": None,
        **more,
    }


REASONS = [
    reason("item", 0.5),
    reason("prior", -0.25),
    reason("support", 0.4, "Star Wars (1977)", 5.0),
    reason("support", -0.3, "Alien, The (1979)", 3.0),
    reason("rest", 0.15),
    reason("beyond", 0.7),
]
LONGER = [
    *REASONS,
    reason("deletion", 0.2, "Star Wars (1977)", 5.0),
    reason("deletion", 0.001, "Alien, The (1979)", 3.0),
    reason("feature", 0.3, feature="War"),
    reason("feature", 0.001, feature="year"),
]


def rows(*reasons: list[dict], size: int = 7, rating: float | None = 4.6, **more) -> pl.DataFrame:
    n = len(reasons)
    columns = {
        "run_date": [date(2026, 11, 24)] * n,
        "user_id": ["7"] * n,
        "rank": list(range(1, n + 1)),
        "item_id": [f"i{place}" for place in range(n)],
        "title": [f"Film {place}, The (1995)" for place in range(n)],
        "score": [1.2] * n,
        "rating": [rating] * n,
        "sd": [None if rating is None else 0.5] * n,
        "p_relevant": [None] * n,
        "segment": ["few"] * n,
        "support_size": [size] * n,
        "reasons": list(reasons),
        "rule_flags": [[]] * n,
    }
    return pl.DataFrame(columns | more, schema=RECOMMENDATIONS_SCHEMA, strict=False)


def test_without_a_model_the_list_alone_is_explained() -> None:
    lines = Shown(rows(REASONS, REASONS[:2]), STARS, "model version 3", None, ["Gone."]).lines()
    assert lines == [
        "User 7: 7 ratings known; list of 2026-11-24, made by model version 3",
        "",
        "1. The Film 0 (1995)",
        "   Predicted rating 4.6, nine times in ten between 3.8 and 5.0; list score 1.200.",
        (
            "   Because you rated Star Wars (1977) 5, and for your other ratings taken together; "
            "against it: your 3 for The Alien (1979)."
        ),
        (
            "   The score of 1.20 has these exact shares: +0.50 from the item "
            "itself, -0.25 from what is known of you beside your ratings, +0.40 from your 5 for "
            "Star Wars (1977), -0.30 from your 3 for The Alien (1979) and +0.15 from your 5 other "
            "ratings."
        ),
        (
            "   The other +0.70 comes from a network that is not linear in your history, so it has "
            "no exact shares."
        ),
        "2. The Film 1 (1995)",
        "   Predicted rating 4.6, nine times in ten between 3.8 and 5.0; list score 1.200.",
        (
            "   Nothing of yours is known yet: it is here for the item itself, although it suits "
            "people like you less than others."
        ),
        (
            "   The score of 1.20 has these exact shares: +0.50 from the item "
            "itself and -0.25 from what is known of you beside your ratings."
        ),
        "",
        "Gone.",
    ]


TASTES = pl.DataFrame(
    [
        ("7", "genres", "War", 9, 0.9, 0.7, 1.1, 0.4),
        ("7", "year", "1990s", 9, -0.2, -0.5, 0.1, 0.3),
        ("7", "runtime", "up to 90", 9, 0.2, -0.5, 0.9, 0.1),
        ("7", "genres", "Drama", 9, 0.12, 0.11, 0.13, 0.1),
    ],
    schema=TASTES_SCHEMA,
    orient="row",
)


@pytest.fixture
def portrait() -> Portrait:
    without = [
        ("i0", 1, 1.2, "Sta", "Star Wars (1977)", 5.0, 14, 0.4),
        ("i1", 2, 1.1, None, None, None, None, None),
        ("i2", 1, 1.2, None, None, None, None, None),
    ]
    return Portrait(
        reasons=pl.Series([LONGER, None, LONGER], dtype=pl.List(REASON_TYPE)),
        without=pl.DataFrame(without, schema=WITHOUT_SCHEMA, orient="row"),
        tastes=TASTES,
    )


def test_a_model_says_more(portrait: Portrait) -> None:
    frame = rows(
        REASONS,
        REASONS,
        REASONS,
        REASONS,
        p_relevant=[0.78, None, None, None],
        rule_flags=[[], [], [], ["pinned", "short: only 4 open items"]],
    )
    four = pl.concat([portrait.reasons, portrait.reasons[:1]])
    shown = Shown(frame, STARS, "", Portrait(four, portrait.without, portrait.tastes))
    lines = [line.strip() for line in shown.lines()]
    assert lines[0] == "User 7: 7 ratings known; list of 2026-11-24"
    assert lines[3].endswith("; 78% likely to be 4 or more; list score 1.200.")
    for line in (
        "Without your 5 for Star Wars (1977) it would be number 14 of the catalogue instead of 1.",
        ("Without any one of your ratings it would still be number 2 of the catalogue or better."),
        "Without any one of your ratings it would still be number 1 of the catalogue.",
        (
            "The other +0.70 comes from a network that is not linear in your history; asked again "
            "it changes by -0.20 without your 5 for Star Wars (1977)."
        ),
        "Within the part of the score that is linear in its content, exactly: War +0.30.",
        "Rules and re-ranking: pinned; short: only 4 open items.",
        "What you like, and how sure the model is",
        (
            "You like War more than most people do: +0.90, nine times in ten between +0.70 and "
            "+1.10 (+0.40)."
        ),
        (
            "You like the 1990s less than most people do: -0.20, nine times in ten between -0.50 "
            "and +0.10 (+0.30)."
        ),
    ):
        assert line in lines
    # What the model is not sure of, or what is next to nothing, is left out.
    assert not [line for line in lines if "runtime" in line or "Drama" in line]
    # The second entry is unknown to the model: the list's own reasons stand.
    second = lines[lines.index("2. The Film 1 (1995)") :]
    assert "no exact shares" in second[4]


def test_events_and_people_of_whom_nothing_is_known(portrait: Portrait) -> None:
    frame = rows(REASONS[:2], size=0, rating=None, p_relevant=[0.5])
    shown = Shown(frame, EVENTS, "", Portrait(portrait.reasons[:1], portrait.without, TASTES))
    lines = [line.strip() for line in shown.lines()]
    assert lines[0] == "User 7: 0 interactions known; list of 2026-11-24"
    assert lines[3] == "50% likely to be among your next ten; list score 1.200."
    assert not [line for line in lines if line.startswith("Without")]
    assert lines[-1].startswith("Nothing of your history is known")


def test_json_holds_it_all(portrait: Portrait) -> None:
    frame = rows(REASONS, REASONS, REASONS)
    found = json.loads(Shown(frame, STARS, "model version 3", portrait, ["Gone."]).to_json())
    assert found["user_id"] == "7"
    assert found["source"] == "model version 3"
    assert found["missing"] == ["Gone."]
    assert [one["label"] for one in found["tastes"]] == TASTES["label"].to_list()
    first, second, _ = found["list"]
    assert first["interval_90"] == pytest.approx([4.6 - 1.6449 * 0.5, 5.0], abs=1e-4)
    assert first["without"]["place_without"] == 14
    assert first["sentence"].startswith("Because you rated Star Wars (1977) 5")
    assert [one["kind"] for one in first["reasons"]].count("deletion") == 2
    assert [one["kind"] for one in second["reasons"]].count("deletion") == 0


def test_no_rows_no_lines() -> None:
    nothing = Shown(rows(), STARS)
    assert nothing.lines() == []
    assert json.loads(nothing.to_json())["list"] == []


@pytest.mark.parametrize(
    ("feature", "label", "said"),
    [
        ("genres", "Film-Noir", "Film-Noir"),
        ("year", "1980s", "the 1980s"),
        ("runtime", "80 to 90", "runtime 80 to 90"),
        ("runtime", "over 90", "runtime over 90"),
    ],
)
def test_kinds_of_items_have_names(feature: str, label: str, said: str) -> None:
    tastes = pl.DataFrame(
        [("7", feature, label, 9, 0.9, None, None, 0.4)], schema=TASTES_SCHEMA, orient="row"
    )
    portrait = Portrait(
        pl.Series([None], dtype=pl.List(REASON_TYPE)), WITHOUT_SCHEMA.to_frame(), tastes
    )
    lines = Shown(rows(REASONS), STARS, "", portrait).lines()
    assert f"You like {said} more than most people do: +0.90 (+0.40)." in lines
    assert lines[-1] == "This model does not know how sure it is of your tastes."
