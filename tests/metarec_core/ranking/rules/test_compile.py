from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from metarec_core.errors import ConfigError, ModelError
from metarec_core.ranking.rules import ItemFacts, masks
from metarec_core.ranking.rules.items import UNKNOWN_TIME

MIDNIGHT = int(datetime(2024, 3, 10, tzinfo=UTC).timestamp())
DAY = 86_400
BEFORE, TODAY, AFTER = date(2024, 3, 9), date(2024, 3, 10), date(2024, 3, 11)


def row(rule, item="i0", **cells):
    return {"rule": rule, "item_id": item, **cells}


def shown(compiled, user=0):
    return np.flatnonzero(compiled.open_to(user)).tolist()


def kinds(compiled):
    return {finding.kind: finding.count for finding in compiled.findings}


def test_without_rules_what_was_consumed_is_closed(night):
    compiled = night().compile()
    assert [shown(compiled, user) for user in range(4)] == [
        [0, 1, 2, 3, 4, 5, 6, 7],
        [1, 2, 3, 4, 5, 6, 7],
        [5, 6, 7],
        [0, 1, 2, 3, 4, 5, 6],
    ]
    assert compiled.masks.shape == (1, 8)
    assert compiled.open_items.all()
    assert compiled.mask_of_user.dtype == np.int32
    assert compiled.closed.items.dtype == np.int64
    assert compiled.findings == ()


def test_windows_hold_from_the_first_date_until_before_the_last(night):
    windows = [
        row("available", "i0", **{"from": TODAY}),
        row("available", "i1", until=TODAY),
        row("available", "i2", **{"from": AFTER}),
        row("available", "i3", until=AFTER),
        row("available", "i4", until=BEFORE),
        row("available", "i4", **{"from": BEFORE}),
    ]
    assert shown(night().compile(windows)) == [0, 3, 4, 5, 6, 7]


def test_a_window_that_is_over_keeps_its_item_closed(night):
    compiled = night().compile([row("available", until=BEFORE)])
    assert 0 not in shown(compiled)
    # A row that still has an effect is not called one without.
    assert "expired" not in kinds(compiled)


def test_users_with_the_same_rules_share_a_mask(night):
    same = [row("allow", item, user_id=user) for user in ("u0", "u2") for item in ("i5", "i6")]
    own = [row("allow", "i6", user_id="u3")]
    compiled = night().compile([*same[::-1], *own], consumed="allowed")
    assert compiled.masks.shape == (3, 8)
    assert compiled.masks[0].all()
    assert compiled.mask_of_user.tolist() == [1, 0, 1, 2]
    assert [shown(compiled, user) for user in (0, 1, 2, 3)] == [[5, 6], list(range(8)), [5, 6], [6]]


def test_rules_that_leave_the_same_items_share_a_mask_too(night):
    rows = [row("allow", f"i{n}", user_id="u0") for n in range(1, 8)]
    rows += [row("deny", segment="1-4")]
    compiled = night().compile(rows, consumed="allowed")
    assert compiled.masks.shape == (2, 8)
    assert compiled.mask_of_user.tolist() == [1, 1, 0, 1]


def test_allow_lists_of_all_scopes_are_united(night):
    rows = [
        row("allow", "i0"),
        row("allow", "i1", segment="1-4"),
        row("allow", "i2", user_id="u1"),
    ]
    compiled = night().compile(rows, consumed="allowed")
    assert [shown(compiled, user) for user in range(4)] == [[0], [0, 1, 2], [0], [0, 1]]
    # Open in general is more than what those may be shown whom only the common list reaches.
    assert compiled.open_items.all()
    assert compiled.masks[0].tolist() == [True] + [False] * 7


def test_a_deny_row_outweighs_an_allow_row_of_another_scope(night):
    rows = [row("allow", "i0", user_id="u0"), row("allow", "i1", user_id="u0"), row("deny", "i0")]
    compiled = night().compile(rows)
    assert shown(compiled) == [1]
    assert kinds(compiled) == {"closed_allowed": 1}


def test_an_allow_list_out_of_force_restricts_nobody(night):
    rows = [row("allow", "i0", until=BEFORE), row("allow", "i1", **{"from": AFTER})]
    assert len(shown(night().compile(rows))) == 8


@pytest.mark.parametrize("setting", ["warn", "error"])
@pytest.mark.parametrize(
    ("rows", "at", "said"),
    [
        (
            [row("allow", "gone", user_id="u0"), row("allow", "i1", user_id="u1")],
            "row 1",
            "list for user 'u0' of which nothing is in the catalogue: 'gone'; wanted",
        ),
        (
            [
                row("deny", "i1"),
                row("allow", "gone", segment="1-4"),
                row("allow", "away", segment="1-4", until=AFTER),
                row("allow", "away", segment="1-4", **{"from": AFTER}),
                row("allow", "i1", segment="1-4", until=TODAY),
                row("allow", "i2"),
                row("allow", "gone", user_id="u1"),
            ],
            "rows 2, 3",
            "list for segment 1-4 of which nothing is in the catalogue: 'gone', 'away', and 1 more",
        ),
        ([row("allow", "gone")], "row 1", "list for everyone of which"),
    ],
)
def test_an_allow_list_without_a_known_item_is_refused(night, setting, rows, at, said):
    with pytest.raises(ConfigError) as caught:
        night().compile(rows, unknown_items=setting)
    assert f"rules table t.csv, {at}, column item_id: found an allow {said}" in str(caught.value)


def test_an_unknown_item_beside_known_ones_on_an_allow_list_is_told(night):
    rows = [row("allow", "gone", user_id="u0"), row("allow", "i1", user_id="u0")]
    compiled = night().compile(rows)
    assert shown(compiled) == [1]
    assert kinds(compiled) == {"unknown_allowed": 1}
    assert compiled.findings[0].message == (
        "rules table t.csv, row 1, allowed but not in the catalogue ('gone'): such rows open "
        "nothing, and still close all that is not allowed to those whom they reach"
    )


def test_an_allow_list_that_reaches_nobody_may_be_of_unknown_items(night):
    rows = [row("allow", "gone", user_id="nobody"), row("allow", "gone", segment="50+")]
    compiled = night().compile(rows)
    assert len(shown(compiled)) == 8
    assert kinds(compiled) == {"unknown_allowed": 2, "unknown_users": 1, "segment_without_users": 1}
    assert night(histories=()).compile([row("allow", "gone")]).n_users == 0


def test_allow_rows_of_closed_items_are_told_to_close_the_rest(night):
    rows = [row("allow", "i0", user_id="u0"), row("available", "i0", until=TODAY)]
    compiled = night().compile(rows)
    assert shown(compiled) == []
    assert kinds(compiled) == {"closed_allowed": 1, "empty_lists": 1}
    message = compiled.findings[0].message
    assert message.startswith("rules table t.csv, row 1, allowed but closed to everyone ('i0'): ")
    assert "still close all" in message
    assert "without effect" not in message


def test_the_segment_is_that_of_the_support_size(night):
    rows = [row("deny", "i7", segment="50+")]
    compiled = night(more={"support_sizes": np.array([50, 49, 0, 1000])}).compile(
        rows, consumed="allowed"
    )
    assert [7 in shown(compiled, user) for user in range(4)] == [False, True, True, False]


def test_what_is_denied_to_a_user_joins_what_was_consumed(night):
    rows = [row("deny", item, user_id="u2") for item in ("i7", "i0", "i6")]
    compiled = night().compile(rows)
    assert compiled.closed.of(2).tolist() == [0, 1, 2, 3, 4, 6, 7]
    assert compiled.open_counts(np.array([2, 0])).tolist() == [1, 8]
    assert compiled.masks.shape == (1, 8)


def test_consumed_items_come_back_when_they_are_old_enough(night):
    times = [MIDNIGHT - 2 * DAY, *[MIDNIGHT - 2 * DAY + 1] * 5, MIDNIGHT + DAY]
    compiled = night(times=times).compile(consumed={"after_days": 2})
    assert 0 in shown(compiled, 1)
    assert shown(compiled, 2) == [5, 6, 7]
    assert 7 not in shown(compiled, 3)


def test_consumed_items_may_be_allowed(night):
    assert len(shown(night().compile(consumed="allowed"), 2)) == 8


def test_age_counts_from_the_first_interaction_of_anyone(night):
    old, young = MIDNIGHT - 7 * DAY, MIDNIGHT - 7 * DAY + 1
    # Item 0 was seen by user 1 first; items 5 and 6 by nobody.
    times = [old, young, young, old, old, young, old]
    compiled = night(times=times).compile(min_age_days=7, consumed="allowed")
    assert shown(compiled) == [0, 2, 3, 7]
    compiled = night(times=times).compile(min_age_days=7, consumed="allowed", unknown_age="open")
    assert shown(compiled) == [0, 2, 3, 5, 6, 7]


def test_age_may_come_from_a_feature(night):
    since = np.full(8, UNKNOWN_TIME)
    since[:3] = MIDNIGHT - 7 * DAY, MIDNIGHT - 7 * DAY + 1, MIDNIGHT + DAY
    compiled = night().compile(
        facts=ItemFacts(None, since), min_age_days=7, age_from="born", consumed="allowed"
    )
    assert shown(compiled) == [0]


def test_lists_are_made_of_candidates_alone(night):
    compiled = night(more={"candidates": np.array([1, 6])}).compile()
    assert shown(compiled) == [1, 6]
    assert np.flatnonzero(compiled.open_to_anyone()).tolist() == [1, 6]


def test_a_cap_of_nothing_closes_the_category(night):
    compiled = night().compile(categories="genres", caps={"Horror": 0})
    assert shown(compiled) == [0, 4, 5, 6, 7]


def test_of_pins_the_narrowest_open_one_has_the_rank(night):
    rows = [
        row("pin", "i0", position=1),
        row("pin", "i1", position=1, segment="1-4"),
        row("pin", "i2", position=1, user_id="u3"),
        row("pin", "i0", position=3, user_id="u3"),
        row("pin", "i6", position=2, until=TODAY),
    ]
    pinned = night().compile(rows).pinned(np.arange(4)).tolist()
    # User 2 has consumed item 0: a pin opens nothing. User 3 has item 0 further down.
    assert pinned == [[0, -1, -1], [1, -1, -1], [-1, -1, -1], [2, -1, 0]]
    compiled = night().compile(rows, consumed="allowed")
    assert compiled.pinned(np.array([2])).tolist() == [[0, -1, -1]]


def test_remarks_name_their_rows(night):
    rows = [
        row("deny", "gone"),
        row("deny", "i0", user_id="nobody"),
        row("deny", "i0", segment="50+"),
        row("deny", "i7", until=TODAY),
        row("deny", "i1"),
        row("pin", "i1", position=2, segment="0"),
        row("deny", "i1", until=AFTER),
        row("deny", "i1"),
    ]
    compiled = night().compile(rows)
    assert kinds(compiled) == {
        "duplicated_rows": 1,
        "expired": 1,
        "unknown_items": 1,
        "unknown_users": 1,
        "segment_without_users": 1,
        "closed_items": 1,
    }
    told = {finding.kind: finding.message for finding in compiled.findings}
    without = "rules table t.csv, row {}, without effect: "
    assert told["unknown_items"] == without.format(1) + "not in the catalogue ('gone')"
    assert told["unknown_users"].startswith(without.format(2))
    assert "('nobody')" in told["unknown_users"]
    assert told["segment_without_users"] == without.format(3) + "a segment without users ('50+')"
    assert told["expired"] == without.format(4) + "no longer in force on 2024-03-10"
    assert told["closed_items"].startswith(without.format(6))


def test_unknown_items_may_be_errors(night):
    rows = [row("deny"), row("deny", "gone"), row("deny", "away", until=BEFORE)]
    with pytest.raises(ConfigError, match=r"t\.csv, row 2, column item_id: found 'gone'"):
        night().compile(rows, unknown_items="error")


def test_lists_that_cannot_meet_a_quota_are_counted(night):
    rows = [row("allow", "i0", user_id="u0")]
    compiled = night().compile(rows, categories="genres", quotas={"Documentary": 2})
    assert kinds(compiled) == {"unreachable_quota": 1}
    assert "Documentary is out of reach in 1 list," in compiled.findings[0].message


@pytest.mark.parametrize(
    ("document", "rows", "said"),
    [
        (
            {"caps": {"Horor": 2}},
            [],
            ["setting caps.Horor", "no item has in 'genres'", "did you mean 'Horror'?"],
        ),
        ({"quotas": {"Opera": 1}}, [], ["setting quotas.Opera", "Documentary, Drama, Horror"]),
        (
            {"quotas": {"Drama": 2, "Documentary": 2}},
            [],
            ["setting quotas: found Documentary: 2, Drama: 2", "into a list of 3", "need 4 places"],
        ),
        ({"quotas": {"Horror": 4}}, [], ["found Horror: 4", "into a list of 3"]),
        (
            {"quotas": {"Documentary": 2}},
            [row("deny", "i5")],
            ["setting quotas.Documentary", "a quota of 2, and 1 open items"],
        ),
        (
            {"caps": {"Horror": 1}},
            [row("pin", "i1", position=1), row("pin", "i2", position=3)],
            ["t.csv, rows 1, 2", "caps.Horror: found 2 pins", "a cap of 1"],
        ),
        (
            {"caps": {"Horror": 0}},
            [row("pin", "i1", position=1, user_id="u0")],
            ["t.csv, row 1", "caps.Horror: found 1 pins", "a cap of 0"],
        ),
        (
            {"quotas": {"Documentary": 2}},
            [row("pin", "i0", position=1), row("pin", "i1", position=3)],
            ["t.csv, rows 1, 2", "setting quotas", "leave 1 of 3 places"],
        ),
    ],
)
def test_caps_and_quotas_that_no_list_can_obey_are_refused(night, document, rows, said):
    with pytest.raises(ConfigError) as caught:
        night().compile(rows, categories="genres", **document)
    for text in said:
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("scope", "closing"),
    [
        ({}, [row("available", "i1", until=TODAY)]),
        ({"user_id": "u1"}, []),  # consumed
        ({"user_id": "u0"}, [row("deny", "i1", segment="0")]),
        ({"segment": "0"}, [row("allow", f"i{n}", segment="0") for n in (2, 3, 5, 6)]),
        ({"segment": "50+"}, []),  # without users
    ],
)
def test_pins_that_cannot_stand_count_neither_for_caps_nor_for_quotas(night, scope, closing):
    tonight = night(histories=((), (1,)))
    closed, beside = row("pin", "i1", position=1, **scope), row("pin", "i2", position=2, **scope)
    tonight.compile([*closing, closed, beside], categories="genres", caps={"Horror": 1})
    others = [row("pin", item, position=p, **scope) for item, p in (("i5", 2), ("i6", 3))]
    rules = {"categories": "genres", "quotas": {"Horror": 2}}
    if scope.get("segment") == "50+":
        tonight.compile([closed, *others], **rules)
        return
    with pytest.raises(ConfigError, match=r"leave 1 of 3 places") as caught:
        tonight.compile([*closing, closed, *others], **rules)
    n = len(closing) + 2
    assert f"t.csv, rows {n}, {n + 1}, and" in str(caught.value)


def test_a_cap_that_pins_break_is_told_with_their_rows_alone(night):
    rows = [row("pin", item, position=p, user_id="u0") for item, p in (("i0", 1), ("i1", 2))]
    rows += [row("pin", "i1", position=2), row("pin", "i2", position=3, user_id="u0")]
    with pytest.raises(ConfigError, match=r"t\.csv, rows 2, 4, .* found 2 pins"):
        night().compile(rows, categories="genres", caps={"Horror": 1})


def test_pins_that_are_closed_to_whom_they_name_are_told(night):
    rows = [
        row("pin", "i0", position=1),  # consumed by some of everyone: no remark
        row("pin", "i0", position=2, user_id="u1"),
        row("pin", "i0", position=2, user_id="u3"),
        row("pin", "i6", position=1, user_id="u0"),
        row("deny", "i6", segment="0"),
        row("pin", "i7", position=3, segment="1-4"),
        *[row("allow", f"i{n}", segment="1-4") for n in (0, 5)],
        row("pin", "i1", position=3, segment="0"),
        row("pin", "i1", position=3, segment="50+"),
    ]
    compiled = night().compile(rows)
    assert kinds(compiled) == {"segment_without_users": 1, "closed_pins": 3}
    assert compiled.findings[-1].message == (
        "rules table t.csv, rows 2, 4, 6, without effect: pinned for those to whom it is closed "
        "('i0'), by rules or as consumed"
    )
    assert compiled.pinned(np.arange(4)).tolist() == [
        [0, -1, 1],
        [-1, -1, -1],
        [-1, -1, -1],
        [-1, 0, -1],
    ]


def test_quotas_share_places_where_items_have_several_categories(night):
    genres = [["A", "B"]] * 4 + [["A"]] * 4
    compiled = night(genres=genres).compile(categories="genres", quotas={"A": 3, "B": 3})
    assert not compiled.categories.exclusive
    with pytest.raises(ConfigError, match="these need 4 places"):
        night(genres=genres).compile(categories="genres", quotas={"A": 3, "B": 4})


@pytest.mark.parametrize(
    ("rows", "document"),
    [
        ([row("deny", f"i{n}") for n in range(8)], {}),
        ([row("available", f"i{n}", **{"from": AFTER}) for n in range(8)], {}),
        ([row("allow", "i0"), row("available", "i0", until=TODAY)], {}),
        ([], {"min_age_days": 5}),
    ],
)
def test_a_night_on_which_nothing_is_open_is_refused(night, rows, document):
    times = [MIDNIGHT] * 7
    with pytest.raises(ConfigError, match="no item that anyone may be shown on 2024-03-10"):
        night(times=times).compile(rows, **document)


def test_policies_that_need_times_say_so(night):
    with pytest.raises(ConfigError, match=r"consumed\.after_days: found interactions without ti"):
        night().compile(consumed={"after_days": 3})
    with pytest.raises(ConfigError, match="min_age_days: found interactions without times"):
        night().compile(min_age_days=3)


def test_too_many_masks_are_refused_before_they_are_made(night, monkeypatch):
    rows = [row("allow", f"i{n}", user_id=f"u{n}") for n in range(3)]
    night().compile(rows)
    monkeypatch.setattr(masks, "MASK_CELLS", 31)
    with pytest.raises(ConfigError, match=r"4 groups of users .* times 8 items") as caught:
        night().compile(rows)
    assert "deny rows" in caught.value.next_step


def test_features_that_rules_speak_of_have_to_be_passed(night):
    with pytest.raises(ValueError, match="pass item_facts"):
        night().compile(facts=ItemFacts(), categories="genres", caps={"Horror": 1})
    with pytest.raises(ValueError, match="pass item_facts"):
        night().compile(facts=ItemFacts(), min_age_days=1, age_from="born")


def test_histories_of_other_users_are_refused(night):
    strangers = pl.Series(["u0"], dtype=pl.String)
    with pytest.raises(ModelError, match="found 4 rows of histories; wanted one for each of 1 "):
        night(more={"user_ids": strangers}).compile()


def test_nobody_to_make_lists_for_is_no_error(night):
    compiled = night(histories=()).compile([row("pin", position=1), row("deny", user_id="u0")])
    assert compiled.n_users == 0
    assert compiled.pinned(np.zeros(0, dtype=np.int64)).shape == (0, 3)


def test_the_rules_of_some_users_are_those_of_all(night):
    rows = [
        row("allow", "i1", segment="1-4"),
        row("deny", "i6", user_id="u2"),
        row("pin", "i7", position=2, user_id="u2"),
        row("pin", "i0", position=1),
    ]
    whole = night().compile(rows)
    part = whole.part(1, 3)
    assert part.n_users == 2
    for user in (0, 1):
        assert shown(part, user) == shown(whole, user + 1)
    users = np.arange(2)
    assert part.open_counts(users).tolist() == whole.open_counts(users + 1).tolist()
    assert (
        part.pinned(users).tolist() == whole.pinned(users + 1).tolist() == [[-1] * 3, [-1, 7, -1]]
    )
