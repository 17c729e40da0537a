from __future__ import annotations

import numpy as np
import pytest

from metarec_core.ranking.pools import Pool
from metarec_core.ranking.rules import assemble, list_notes, quota_pools, rule_flags


def row(rule, item="i0", **cells):
    return {"rule": rule, "item_id": item, **cells}


def pool(*rows) -> Pool:
    items = np.array(rows, dtype=np.int64)
    scores = np.where(items < 0, -np.inf, 10.0 - np.arange(items.shape[1]))
    return Pool(items, scores)


def listed(made, user=0):
    return made.items[user, : made.sizes[user]].tolist()


USER = np.array([0])


def test_without_rules_the_list_is_the_head_of_the_pool(night):
    made = assemble(pool([4, 0, 6, 1]), night().compile(), USER)
    assert listed(made) == [4, 0, 6]
    assert made.places.tolist() == [[0, 1, 2]]
    assert made.scores.tolist() == [[10.0, 9.0, 8.0]]
    assert not made.needs_deeper.any()
    assert rule_flags(made, night().compile(), USER).to_list() == [[], [], []]


def test_a_cap_lets_the_next_ones_move_up(night):
    compiled = night().compile(categories="genres", caps={"Horror": 1})
    made = assemble(pool([0, 1, 2, 3, 4]), compiled, USER)
    assert listed(made) == [0, 1, 4]
    assert made.capped.tolist() == [2]
    assert rule_flags(made, compiled, USER).to_list() == [[], [], ["after_cap:Horror"]]


def test_a_quota_reserves_the_last_place(night):
    compiled = night().compile(categories="genres", quotas={"Documentary": 1})
    made = assemble(pool([0, 1, 2, 3, 7, 5]), compiled, USER)
    assert listed(made) == [0, 1, 7]
    assert made.scores.tolist() == [[10.0, 9.0, 6.0]]
    assert rule_flags(made, compiled, USER).to_list() == [[], [], ["quota:Documentary"]]
    made = assemble(pool([0, 5, 2, 3, 7]), compiled, USER)
    assert listed(made) == [0, 5, 2]
    assert rule_flags(made, compiled, USER).to_list() == [[], [], []]


def test_a_pin_stands_at_its_rank_and_its_score_is_left_to_the_caller(night):
    compiled = night().compile([row("pin", "i6", position=2), row("pin", "i3", position=3)])
    made = assemble(pool([0, 3, 1, 2]), compiled, USER)
    assert listed(made) == [0, 6, 3]
    assert made.places.tolist() == [[0, -1, 1]]
    np.testing.assert_array_equal(made.scores, [[10.0, np.nan, 9.0]])
    assert rule_flags(made, compiled, USER).to_list() == [[], ["pinned"], ["pinned"]]


def test_in_a_list_too_short_for_its_rank_a_pin_stands_last(night):
    rows = [row("pin", "i6", position=3), row("allow", "i6"), row("allow", "i1")]
    compiled = night().compile(rows)
    made = assemble(pool([1, 6, -1]), compiled, USER)
    assert listed(made) == [1, 6]
    assert rule_flags(made, compiled, USER).to_list() == [
        [],
        ["pinned", "short: only 2 open items"],
    ]


def test_a_pin_gives_way_to_a_cap_that_pins_of_other_scopes_fill(night):
    rows = [row("pin", "i2", position=2), row("pin", "i1", position=1, user_id="u0")]
    compiled = night().compile(rows, categories="genres", caps={"Horror": 1})
    assert compiled.pinned(USER).tolist() == [[1, 2, -1]]
    assert listed(assemble(pool([0, 2, 4, 1]), compiled, USER)) == [1, 0, 4]


def test_a_pinned_item_counts_for_its_quota(night):
    compiled = night().compile(
        [row("pin", "i5", position=1)], categories="genres", quotas={"Documentary": 1}
    )
    made = assemble(pool([0, 1, 2, 7, 5]), compiled, USER)
    assert listed(made) == [5, 0, 1]
    assert made.lacking.tolist() == [0]


def test_a_list_that_the_pool_cannot_fill_asks_for_a_larger_one(night):
    compiled = night().compile(categories="genres", caps={"Horror": 1})
    made = assemble(pool([1, 2, 3]), compiled, USER)
    assert made.needs_deeper.tolist() == [True]
    # Gaps say that there is no more.
    made = assemble(pool([1, 2, 3, -1]), compiled, USER)
    assert made.needs_deeper.tolist() == [False]
    assert list_notes(made, compiled, USER).to_list() == [
        ["short: 1 of 3, caps leave out all others"]
    ]


def test_a_pool_that_holds_all_open_items_need_not_be_larger(night):
    compiled = night().compile()
    made = assemble(pool([5, 6]), compiled, np.array([2]))
    assert made.needs_deeper.tolist() == [True]
    compiled = night().compile([row("deny", "i7")])
    made = assemble(pool([5, 6]), compiled, np.array([2]))
    assert made.needs_deeper.tolist() == [False]
    assert list_notes(made, compiled, np.array([2])).to_list() == [["short: only 2 open items"]]


def test_a_quota_beyond_the_pool_takes_a_pool_of_its_own(night):
    compiled = night().compile(categories="genres", quotas={"Documentary": 1, "Horror": 1})
    made = assemble(pool([0, 4, 6], [0, 1, 5]), compiled, np.array([0, 1]))
    assert made.needs_quota_pools.tolist() == [True, False]
    assert not made.needs_deeper.any()

    asked = quota_pools(compiled)
    assert [(each.name, each.depth) for each in asked] == [("Documentary", 1), ("Horror", 1)]
    assert np.flatnonzero(asked[0].mask).tolist() == [5, 7]
    own = [Pool(np.array([[7]]), np.array([[3.5]])), Pool(np.array([[2]]), np.array([[4.5]]))]
    made = assemble(pool([0, 4, 6]), compiled, USER, quotas=own)
    assert listed(made) == [0, 2, 7]
    assert made.places.tolist() == [[0, -1, -1]]
    assert made.scores.tolist() == [[10.0, 4.5, 3.5]]
    assert not made.needs_quota_pools.any()
    assert not made.needs_deeper.any()
    assert rule_flags(made, compiled, USER).to_list() == [
        [],
        ["quota:Horror"],
        ["quota:Documentary"],
    ]


def test_equal_scores_of_extras_stand_in_the_order_of_the_catalogue(night):
    compiled = night().compile(categories="genres", quotas={"Documentary": 1, "Horror": 1})
    own = [Pool(np.array([[7]]), np.array([[2.0]])), Pool(np.array([[3]]), np.array([[2.0]]))]
    assert listed(assemble(pool([0, 4, 6]), compiled, USER, quotas=own)) == [0, 3, 7]


def test_a_quota_that_cannot_be_met_is_told(night):
    compiled = night().compile(
        [row("deny", "i5", user_id="u0"), row("deny", "i7", user_id="u0")],
        categories="genres",
        quotas={"Documentary": 1},
    )
    empty = [Pool(np.array([[-1]]), np.array([[-np.inf]]))]
    made = assemble(pool([0, 1, 2]), compiled, USER, quotas=empty)
    assert listed(made) == [0, 1, 2]
    assert not made.needs_deeper.any()
    note = "quota unmet: Documentary 0 of 1"
    assert rule_flags(made, compiled, USER).to_list() == [[], [], [note]]


def test_a_quota_that_pins_leave_no_room_for_asks_for_no_more_candidates(night):
    rows = [row("pin", "i0", position=1), row("pin", "i4", position=2, user_id="u0")]
    compiled = night().compile(rows, categories="genres", quotas={"Documentary": 2})
    made = assemble(pool([0, 1, 5, 4]), compiled, USER)
    assert listed(made) == [0, 4, 5]
    assert list_notes(made, compiled, USER).to_list() == [["quota unmet: Documentary 1 of 2"]]
    assert not made.needs_quota_pools.any()
    assert not made.needs_deeper.any()


def test_a_pool_of_a_quota_that_is_narrower_than_asked_has_ended(night):
    compiled = night().compile(
        [row("deny", "i7", user_id="u0")], categories="genres", quotas={"Documentary": 2}
    )
    made = assemble(
        pool([0, 1, 2]), compiled, USER, quotas=[Pool(np.array([[5]]), np.array([[1.0]]))]
    )
    assert listed(made) == [0, 1, 5]
    assert made.lacking.tolist() == [1]
    assert not made.needs_deeper.any()


def test_several_categories_need_deeper_pools_of_quotas(night):
    genres = [["A", "B"], ["A", "B"], ["A"], ["B"], [], [], [], []]
    compiled = night(genres=genres).compile(categories="genres", quotas={"B": 1}, caps={"A": 1})
    asked = quota_pools(compiled)
    assert [(each.name, each.depth) for each in asked] == [("B", 4)]


def test_an_empty_list_has_a_reason(night):
    rows = [row("allow", user_id="u0"), row("deny", segment="0")]
    rows += [row("deny", f"i{n}", user_id="u1") for n in range(8)]
    compiled = night().compile(rows)
    users = np.array([0, 1])
    made = assemble(pool([-1], [-1]), compiled, users)
    assert made.sizes.tolist() == [0, 0]
    assert not made.needs_deeper.any()
    assert list_notes(made, compiled, users).to_list() == [
        ["short: no open item, as allow lists and deny rules leave none"],
        ["short: no open item, as all are consumed or denied to the user"],
    ]
    assert rule_flags(made, compiled, users).len() == 0


def test_a_list_longer_than_the_catalogue_is_short_with_a_reason(night):
    compiled = night(k=20).compile()
    made = assemble(pool([*range(8), *[-1] * 20]), compiled, USER)
    assert listed(made) == list(range(8))
    assert list_notes(made, compiled, USER).to_list() == [["short: only 8 open items"]]


def test_a_pool_cut_short_by_others_says_so(night):
    made = assemble(pool([3, -1]), night().compile(), USER)
    assert list_notes(made, night().compile(), USER).to_list() == [
        ["short: 1 of 3, the pool held no more"]
    ]


def test_a_repeated_candidate_is_taken_once(night):
    made = assemble(pool([3, 3, 4, 3, 5]), night().compile(), USER)
    assert listed(made) == [3, 4, 5]
    assert made.places.tolist() == [[0, 2, 4]]


def test_a_pool_of_a_quota_must_be_there_for_each(night):
    compiled = night().compile(categories="genres", quotas={"Documentary": 1, "Horror": 1})
    with pytest.raises(ValueError, match="shorter"):
        assemble(pool([0, 4, 6]), compiled, USER, quotas=[Pool(np.array([[7]]), np.array([[1.0]]))])


def test_no_users_make_no_lists(night):
    compiled = night().compile()
    none = np.zeros(0, dtype=np.int64)
    made = assemble(Pool(np.zeros((0, 5), np.int64), np.zeros((0, 5))), compiled, none)
    assert made.items.shape == (0, 3)
    assert rule_flags(made, compiled, none).len() == 0
    assert list_notes(made, compiled, none).len() == 0
