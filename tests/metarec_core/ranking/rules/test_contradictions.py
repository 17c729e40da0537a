from __future__ import annotations

from datetime import date

import pytest

from metarec_core.errors import ConfigError

JAN, FEB, MAR, APR, MAY = (date(2024, month, 1) for month in range(1, 6))


def row(rule, item="i0", **cells):
    return {"rule": rule, "item_id": item, **cells}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [row("deny"), row("allow")],
            [
                "rules table t.csv, rows 1, 2",
                "deny 'i0' for everyone and allow 'i0' for everyone",
                "an item either denied, or allowed or pinned within one scope",
            ],
        ),
        (
            [row("pin", user_id="u1", position=2), row("deny", user_id="u1")],
            ["rows 1, 2", "pin 'i0' at rank 2 for user 'u1' and deny 'i0' for user 'u1'"],
        ),
        (
            [row("allow", segment="0"), row("deny", "i9"), row("deny", segment="0")],
            ["rows 1, 3", "allow 'i0' for segment 0 and deny 'i0' for segment 0"],
        ),
        (
            [row("deny", **{"from": MAR, "until": MAY}), row("allow", **{"from": APR})],
            ["from 2024-03-01 until 2024-05-01", "allow 'i0' for everyone from 2024-04-01"],
        ),
        (
            [row("pin", position=1), row("pin", "i1", position=1)],
            ["rows 1, 2", "one pin at a rank", "part their dates ('until' is exclusive)"],
        ),
        (
            [row("pin", position=1), row("pin", position=2)],
            ["rows 1, 2", "an item pinned at one rank"],
        ),
        (
            # A long row far ahead overlaps, though the one just before it does not.
            [
                row("deny", until=MAY),
                row("deny", **{"from": JAN, "until": FEB}),
                row("allow", **{"from": APR}),
            ],
            ["rows 1, 3"],
        ),
        (
            # Of several rows against one the first is named, though another starts earlier.
            [row("deny"), row("allow", **{"from": APR}), row("allow", **{"from": MAR})],
            ["rows 1, 2"],
        ),
        (
            [row("pin", position=4)],
            ["row 1, column position", "a pin at rank 4", "a rank up to 3", "recommend.k"],
        ),
    ],
)
def test_rows_that_cannot_be_obeyed_together_are_named(night, rows, said):
    with pytest.raises(ConfigError) as caught:
        night().compile(rows)
    for text in said:
        assert text in str(caught.value)


@pytest.mark.parametrize(
    "rows",
    [
        [row("deny", until=MAR), row("allow", **{"from": MAR})],
        [row("deny", "i0"), row("allow", "i1")],
        [row("deny", user_id="u1"), row("allow", segment="0")],
        [row("deny", user_id="u1"), row("allow", user_id="u2")],
        [row("pin", user_id="u1", position=1), row("pin", "i1", position=1)],
        [row("pin", position=1, until=APR), row("pin", "i1", position=1, **{"from": APR})],
        # What is over by the run date is no longer judged.
        [row("deny", until=MAR), row("pin", position=1, until=FEB)],
        [row("pin", position=9, until=FEB)],
        [row("available", until=APR), row("deny", user_id="u1")],
    ],
)
def test_rows_of_other_scopes_items_and_times_stand_together(night, rows):
    night().compile(rows)


def test_a_contradiction_of_a_night_to_come_is_refused_tonight(night):
    rows = [row("deny", **{"from": APR}), row("pin", position=1, **{"from": MAY})]
    with pytest.raises(ConfigError, match="rows 1, 2"):
        night().compile(rows)
