"""Compiled rules and assembled lists against a slow reading of the same rules, item by item."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import combinations

import numpy as np
import polars as pl
from hypothesis import event, given, settings
from hypothesis import strategies as st

from metarec_core.episodes.types import InteractionMatrix
from metarec_core.errors import ConfigError
from metarec_core.ranking.pools import Pool
from metarec_core.ranking.rules import (
    ItemCategories,
    ItemFacts,
    Rules,
    RulesDocument,
    assemble,
    compile_rules,
    list_notes,
    quota_pools,
    rule_flags,
)
from metarec_core.ranking.rules.items import UNKNOWN_TIME
from metarec_core.ranking.rules.table import check_table
from metarec_core.schema import segment

RUN_DATE = date(2024, 3, 10)
MIDNIGHT = datetime(2024, 3, 10, tzinfo=UTC)
NAMES = ("A", "B", "C")


@dataclass
class Case:
    """A small world in plain Python."""

    n_items: int
    rows: list[dict]
    histories: list[dict[int, float]]  # days before midnight of the run date, by item
    sizes: list[int]
    labels: list[set[str]]
    since: list[float | None] | None  # days before midnight
    document: dict
    k: int
    scores: list[list[float]]
    exclusive: bool


days = st.one_of(
    st.none(), st.none(), st.integers(-4, 4).map(lambda d: RUN_DATE + timedelta(days=d))
)


@st.composite
def table_rows(draw: st.DrawFn, n_items: int, n_users: int, k: int) -> dict:
    kind = draw(st.sampled_from(["pin", "deny", "allow", "available", "pin", "pin"]))
    start, end = draw(days), draw(days)
    if start is not None and end is not None and start >= end:
        start, end = (end, start) if start > end else (start, None)
    scope = "everyone" if kind == "available" else draw(st.sampled_from(["user", "band", "all"]))
    return {
        "rule": kind,
        "item_id": f"i{draw(st.integers(0, n_items))}",  # the last one is unknown
        "user_id": f"u{draw(st.integers(0, n_users))}" if scope == "user" else None,
        "segment": draw(st.sampled_from(["0", "1-4", "5-9"])) if scope == "band" else None,
        "from": start,
        "until": end,
        "position": draw(st.integers(1, k)) if kind == "pin" else None,
    }


@st.composite
def cases(draw: st.DrawFn, exclusive: bool | None = None) -> Case:
    n_items, n_users = draw(st.integers(3, 9)), draw(st.integers(1, 3))
    k = draw(st.integers(2, 5))
    one_label = draw(st.booleans()) if exclusive is None else exclusive
    most = 1 if one_label else 3
    labels = [draw(st.sets(st.sampled_from(NAMES), max_size=most)) for _ in range(n_items)]
    used = sorted(set().union(*labels))
    ages = st.floats(-2, 6).map(lambda d: round(d * 4) / 4)
    histories = [
        draw(st.dictionaries(st.integers(0, n_items - 1), ages, max_size=3)) for _ in range(n_users)
    ]
    document: dict = {
        "consumed": draw(st.sampled_from(["never", "allowed", {"after_days": 2}])),
        "min_age_days": draw(st.sampled_from([None, None, 2])),
        "unknown_age": draw(st.sampled_from(["closed", "open"])),
        "caps": {n: draw(st.sampled_from([1, 2, 1, 2, 0])) for n in used if draw(st.booleans())},
        "categories": "genre",
    }
    document["quotas"] = {
        n: draw(st.integers(1, min(2, document["caps"].get(n, 2))))
        for n in used
        if document["caps"].get(n, 2) and draw(st.booleans())
    }
    since = None
    if document["min_age_days"] and draw(st.booleans()):
        document["age_from"] = "born"
        since = [draw(st.one_of(st.none(), ages)) for _ in range(n_items)]
    levels = st.integers(0, 4).map(float)  # few levels: ties
    return Case(
        n_items=n_items,
        rows=draw(st.lists(table_rows(n_items, n_users, k), max_size=6)),
        histories=histories,
        sizes=[draw(st.sampled_from([0, 2, 4, 6])) for _ in range(n_users)],
        labels=labels,
        since=since,
        document=document,
        k=k,
        scores=[[draw(levels) for _ in range(n_items)] for _ in range(n_users)],
        exclusive=one_label,
    )


# The slow reading


def in_force(row: dict) -> bool:
    return (row["from"] is None or row["from"] <= RUN_DATE) and not_over(row)


def not_over(row: dict) -> bool:
    return row["until"] is None or row["until"] > RUN_DATE


def overlap(one: dict, other: dict) -> bool:
    start = max(one["from"] or date.min, other["from"] or date.min)
    return start < min(one["until"] or date.max, other["until"] or date.max)


def contradicts(one: dict, other: dict) -> bool:
    if (one["user_id"], one["segment"]) != (other["user_id"], other["segment"]):
        return False
    if not overlap(one, other):
        return False
    same_item = one["item_id"] == other["item_id"]
    kinds = {one["rule"], other["rule"]}
    if kinds == {"pin"}:
        return same_item or one["position"] == other["position"]
    return same_item and "deny" in kinds and bool(kinds & {"allow", "pin"})


def reaches(row: dict, case: Case, user: int) -> bool:
    if row["user_id"] is not None:
        return row["user_id"] == f"u{user}"
    if row["segment"] is not None:
        return row["segment"] == segment(case.sizes[user])
    return True


def shown(case: Case, user: int, item: int) -> bool:
    mine = [row for row in case.rows if in_force(row) and reaches(row, case, user)]
    about = [row for row in case.rows if row["item_id"] == f"i{item}"]
    windows = [row for row in about if row["rule"] == "available"]
    if windows and not any(in_force(row) for row in windows):
        return False
    if any(row in mine and row["rule"] == "deny" for row in about):
        return False
    allowed = [row["item_id"] for row in mine if row["rule"] == "allow"]
    if allowed and f"i{item}" not in allowed:
        return False
    if any(case.document["caps"].get(name) == 0 for name in case.labels[item]):
        return False
    return old_enough(case, item) and not consumed(case, user, item)


def old_enough(case: Case, item: int) -> bool:
    least = case.document["min_age_days"]
    if least is None:
        return True
    if case.since is not None:
        age = case.since[item]
    else:
        age = max((h[item] for h in case.histories if item in h), default=None)
    return case.document["unknown_age"] == "open" if age is None else age >= least


def consumed(case: Case, user: int, item: int) -> bool:
    policy, age = case.document["consumed"], case.histories[user].get(item)
    if age is None or policy == "allowed":
        return False
    return policy == "never" or age < policy["after_days"]


def pins_of(case: Case, user: int) -> dict[int, int]:
    found: dict[int, int] = {}
    scopes = (
        lambda row: row["user_id"] is not None,
        lambda row: row["segment"] is not None,
        lambda row: row["user_id"] is None and row["segment"] is None,
    )
    mine = [r for r in case.rows if r["rule"] == "pin" and in_force(r) and reaches(r, case, user)]
    for scope in scopes:
        for row in sorted(filter(scope, mine), key=lambda row: row["position"]):
            item = int(row["item_id"][1:])
            known = item < case.n_items and shown(case, user, item)
            if known and row["position"] not in found and item not in found.values():
                found[row["position"]] = item
    return found


def within_caps(case: Case, items: list[int]) -> bool:
    return all(
        sum(name in case.labels[item] for item in items) <= cap
        for name, cap in case.document["caps"].items()
    )


def shortfall(case: Case, items: list[int]) -> int:
    return sum(
        max(0, quota - sum(name in case.labels[item] for item in items))
        for name, quota in case.document["quotas"].items()
    )


def placed(case: Case, pins: dict[int, int]) -> dict[int, int]:
    kept: dict[int, int] = {}
    for rank in sorted(pins):
        if within_caps(case, [*kept.values(), pins[rank]]):
            kept[rank] = pins[rank]
    return kept


def laid_out(chosen: list[int], pins: dict[int, int], k: int) -> list[int]:
    rest, out = list(chosen), []
    for rank in range(1, k + 1):
        if rank in pins:
            out.append(pins[rank])
        elif rest:
            out.append(rest.pop(0))
    return out


def best_of_all(case: Case, order: list[int], pins: dict[int, int]) -> list[int]:
    """Of all lists within the caps: fewest missing of quotas, longest, best candidates first."""
    rest = [item for item in order if item not in pins.values()]
    fixed = list(pins.values())
    legal = [
        (shortfall(case, fixed + [rest[p] for p in places]), -size, places)
        for size in range(case.k - len(pins) + 1)
        for places in combinations(range(len(rest)), size)
        if within_caps(case, fixed + [rest[p] for p in places])
    ]
    return [rest[place] for place in min(legal)[2]]


def greedily(case: Case, order: list[int], pins: dict[int, int]) -> list[int]:
    """The documented choice where items may have several categories."""
    fixed, rest = list(pins.values()), [item for item in order if item not in pins.values()]
    places = case.k - len(pins)

    def by_relevance(reserved: list[int]) -> list[int]:
        taken = list(reserved)
        for item in rest:
            legal = within_caps(case, [*fixed, *taken, item])
            if item not in taken and len(taken) < places and legal:
                taken.append(item)
        return sorted(taken, key=rest.index)

    plain = by_relevance([])
    if shortfall(case, fixed + plain) == 0:
        return plain
    reserved: list[int] = []
    for item in rest:
        helps = shortfall(case, [*fixed, *reserved, item]) < shortfall(case, fixed + reserved)
        if helps and len(reserved) < places and within_caps(case, [*fixed, *reserved, item]):
            reserved.append(item)
    for item in reversed(list(reserved)):
        without = [other for other in reserved if other != item]
        if shortfall(case, fixed + without) == shortfall(case, fixed + reserved):
            reserved = without
    return by_relevance(reserved)


# The same through the library


def table_of(case: Case) -> pl.DataFrame:
    schema = {
        "rule": pl.String,
        "item_id": pl.String,
        "user_id": pl.String,
        "segment": pl.String,
        "from": pl.Date,
        "until": pl.Date,
        "position": pl.Int64,
    }
    return check_table(pl.DataFrame(case.rows, schema=schema), "rules table t")[0]


def compiled_of(case: Case):
    seconds = int(MIDNIGHT.timestamp())
    flat = [(u, i, age) for u, h in enumerate(case.histories) for i, age in sorted(h.items())]
    counts = [len(h) for h in case.histories]
    histories = InteractionMatrix(
        indptr=np.cumsum([0, *counts]).astype(np.int64),
        items=np.array([i for _, i, _ in flat], dtype=np.int64),
        values=np.ones(len(flat), dtype=np.float32),
        times=np.array([seconds - int(age * 86_400) for _, _, age in flat], dtype=np.int64),
    )
    names = tuple(sorted(set().union(*case.labels)))
    matrix = np.array([[n in own for n in names] for own in case.labels], dtype=np.bool_)
    since = case.since and np.array(
        [UNKNOWN_TIME if a is None else seconds - int(a * 86_400) for a in case.since]
    )
    n_users = len(case.histories)
    return compile_rules(
        Rules(RulesDocument.model_validate(case.document), table_of(case)),
        catalogue=pl.DataFrame({"item_id": [f"i{i}" for i in range(case.n_items)]}),
        user_ids=pl.Series([f"u{u}" for u in range(n_users)], dtype=pl.String),
        histories=histories,
        run_date=RUN_DATE,
        k=case.k,
        facts=ItemFacts(ItemCategories(names, matrix.reshape(case.n_items, -1)), since),
        support_sizes=np.array(case.sizes),
    )


def refused(case: Case) -> bool:
    """Whether the rules must be refused, as far as rows and openness decide it."""
    live = [row for row in case.rows if not_over(row)]
    rows = [row for place, row in enumerate(live) if row not in live[:place]]
    if any(contradicts(one, other) for one, other in combinations(rows, 2)):
        return True
    users = range(len(case.histories))
    if any(allows_nothing_known(case, user) for user in users):
        return True
    # Consumption closes items to single users and is no reason to refuse anything.
    free = replace(case, document={**case.document, "consumed": "allowed"})
    # Nor is a deny row about one user.
    free.rows = [r for r in case.rows if not (r["rule"] == "deny" and r["user_id"] is not None)]
    anyone = {i for i in range(case.n_items) for u in users if shown(free, u, i)}
    if not anyone:
        return True
    quotas = case.document["quotas"]
    if any(sum(n in case.labels[i] for i in anyone) < q for n, q in quotas.items()):
        return True
    most = max([len(own & set(quotas)) for own in case.labels] + [1])
    if max([*quotas.values(), 0]) > case.k or sum(quotas.values()) > case.k * most:
        return True
    return any(crowded(case, pins, most) for pins in pins_by_scope(case, free))


def allows_nothing_known(case: Case, user: int) -> bool:
    """Whether an allow list that reaches the user names unknown items alone."""
    lists: dict[tuple, list[bool]] = {}
    for row in case.rows:
        if row["rule"] == "allow" and in_force(row) and reaches(row, case, user):
            own = lists.setdefault((row["user_id"], row["segment"]), [])
            own.append(int(row["item_id"][1:]) < case.n_items)
    return not all(any(known) for known in lists.values())


def pins_by_scope(case: Case, free: Case) -> list[dict[int, bool]]:
    """Of each scope the pinned items, and whether anyone whom it reaches may be shown them."""
    scopes: dict[tuple, dict[int, bool]] = {}
    users = range(len(case.histories))
    for row in case.rows:
        item = int(row["item_id"][1:])
        known = item < case.n_items and row["user_id"] in (None, *(f"u{u}" for u in users))
        if row["rule"] == "pin" and in_force(row) and known:
            judged = free if row["user_id"] is None else case
            reached = [u for u in users if reaches(row, case, u)]
            own = scopes.setdefault((row["user_id"], row["segment"]), {})
            own[item] = any(shown(judged, u, item) for u in reached)
    return list(scopes.values())


def crowded(case: Case, pinned: dict[int, bool], most: int) -> bool:
    if not case.document["caps"] and not case.document["quotas"]:
        return False
    pins = [item for item, is_open in pinned.items() if is_open]
    never = {name for name, cap in case.document["caps"].items() if cap == 0}
    if not within_caps(case, pins) or any(case.labels[item] & never for item in pinned):
        return True
    places = case.k - len(pins)
    needs = [
        max(0, quota - sum(name in case.labels[item] for item in pins))
        for name, quota in case.document["quotas"].items()
    ]
    return max([*needs, 0]) > places or sum(needs) > places * most


def pool_of(case: Case, open_items: np.ndarray, user: int, size: int) -> tuple[list, list]:
    order = sorted(np.flatnonzero(open_items).tolist(), key=lambda i: (-case.scores[user][i], i))
    items = order[:size]
    gap = size - len(items)
    return items + [-1] * gap, [case.scores[user][i] for i in items] + [-np.inf] * gap


def pools(case: Case, compiled, users, size: int, within=None) -> Pool:
    keep = np.ones(case.n_items, dtype=np.bool_) if within is None else within
    both = [pool_of(case, compiled.open_to(u) & keep, u, size) for u in users]
    return Pool(
        np.array([b[0] for b in both], dtype=np.int64).reshape(len(users), size),
        np.array([b[1] for b in both], dtype=np.float64).reshape(len(users), size),
    )


def settled(case: Case, compiled, users: np.ndarray, size: int):
    """Ask as a caller does: pools of quotas first, then larger ones, until nothing can change."""
    quotas = None
    for _ in range(40):
        made = assemble(pools(case, compiled, users, size), compiled, users, quotas=quotas)
        if made.needs_deeper.any():
            size *= 2
        elif not made.needs_quota_pools.any():
            return made
        if made.needs_quota_pools.any():
            asked = quota_pools(compiled)
            quotas = [pools(case, compiled, users, each.depth, each.mask) for each in asked]
    raise AssertionError("never settled")


@given(cases())
@settings(max_examples=100, deadline=None)
def test_what_is_open_and_pinned_is_what_the_rules_say(case):
    try:
        compiled = compiled_of(case)
    except ConfigError:
        assert refused(case)
        event("refused")
        return
    assert not refused(case)
    users = np.arange(len(case.histories))
    pinned = compiled.pinned(users)
    for user in users.tolist():
        expected = [shown(case, user, item) for item in range(case.n_items)]
        assert compiled.open_to(user).tolist() == expected
        assert compiled.open_counts(users)[user] == sum(expected)
        pins = pins_of(case, user)
        assert pinned[user].tolist() == [pins.get(rank, -1) for rank in range(1, case.k + 1)]
        assert (np.diff(compiled.closed.of(user)) > 0).all()
    assert (compiled.masks <= compiled.open_items).all()
    distinct = {mask.tobytes() for mask in compiled.masks}
    assert len(distinct) == len(compiled.masks)


@given(cases(), st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_lists_are_the_best_that_rules_leave_whatever_the_pool(case, size):
    try:
        compiled = compiled_of(case)
    except ConfigError:
        event("refused")
        return
    users = np.arange(len(case.histories))
    made = settled(case, compiled, users, size)
    notes = list_notes(made, compiled, users).to_list()
    flags = iter(rule_flags(made, compiled, users).to_list())
    for user in users.tolist():
        order = [i for i in pools(case, compiled, [user], case.n_items).items[0].tolist() if i >= 0]
        pins = placed(case, pins_of(case, user))
        slow = greedily(case, order, pins)
        if case.exclusive:
            assert slow == best_of_all(case, order, pins)
        expected = laid_out(slow, pins, case.k)
        assert made.items[user][: made.sizes[user]].tolist() == expected
        assert (made.items[user][made.sizes[user] :] == -1).all()
        unmet = shortfall(case, expected)
        event(f"entries {len(expected)}, pins {len(pins)}, unmet {unmet > 0}")
        assert any(note.startswith("short:") for note in notes[user]) == (len(expected) < case.k)
        assert any(note.startswith("quota unmet:") for note in notes[user]) == (unmet > 0)

        plain = greedily(replace(case, document={**case.document, "quotas": {}}), order, pins)
        for rank, item in enumerate(expected):
            own = [flag for flag in next(flags) if flag not in notes[user]]
            assert ("pinned" in own) == (item in pins.values())
            by_quota = item not in plain and item not in pins.values()
            assert any(flag.startswith("quota:") for flag in own) == by_quota
            assert {flag[6:] for flag in own if flag.startswith("quota:")} <= case.labels[item]
            score = made.scores[user, rank]
            assert score == case.scores[user][item] or (np.isnan(score) and "pinned" in own)
    assert next(flags, None) is None


@given(cases(), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_a_list_does_not_depend_on_who_else_is_in_the_batch(case, size):
    try:
        compiled = compiled_of(case)
    except ConfigError:
        return
    users = np.arange(len(case.histories))[::-1]
    together = settled(case, compiled, users, size)
    for row, user in enumerate(users.tolist()):
        alone = settled(case, compiled, np.array([user]), size)
        assert alone.items[0].tolist() == together.items[row].tolist()
        assert alone.quota_bits[0].tolist() == together.quota_bits[row].tolist()
        assert alone.pinned[0].tolist() == together.pinned[row].tolist()
