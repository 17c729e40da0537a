"""The kernel against an enumeration of every list that pins, caps and quotas leave."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.ranking.rules.places import fill_places


def ints(values, *shape):
    return np.array(values, dtype=np.int64).reshape(shape) if shape else np.array(values, np.int64)


@st.composite
def problems(draw: st.DrawFn) -> dict:
    n_items, k, n_ruled = draw(st.integers(1, 9)), draw(st.integers(1, 5)), draw(st.integers(0, 3))
    one = [0, *(1 << c for c in range(n_ruled))]
    bits = st.sampled_from(one) if draw(st.booleans()) else st.integers(0, (1 << n_ruled) - 1)
    caps = [draw(st.integers(0, k)) for _ in range(n_ruled)]
    n_users = draw(st.integers(1, 3))
    pools = [draw(st.permutations(range(n_items))) for _ in range(n_users)]
    return {
        "pool": [p[: draw(st.integers(0, n_items))] for p in pools],
        "pins": [
            [p.pop() if p and draw(st.integers(0, 3)) == 0 else -1 for _ in range(k)]
            for p in (list(draw(st.permutations(range(n_items)))) for _ in range(n_users))
        ],
        "bits": [draw(bits) for _ in range(n_items)],
        "caps": caps,
        "quotas": [draw(st.integers(0, cap)) for cap in caps],
        "k": k,
        "width": n_items + draw(st.integers(0, 2)),
    }


def made(problem: dict):
    width = problem["width"]
    pool = [row + [-1] * (width - len(row)) for row in problem["pool"]]
    n_users = len(pool)
    return fill_places(
        ints(pool, n_users, width),
        np.zeros((n_users, 0), dtype=np.int64),
        ints(problem["pins"], n_users, problem["k"]),
        ints(problem["bits"]),
        ints(problem["caps"]),
        ints(problem["quotas"]),
    )


def counts(problem: dict, items) -> list[int]:
    ruled = range(len(problem["caps"]))
    return [sum(problem["bits"][item] >> c & 1 for item in items) for c in ruled]


def legal(problem: dict, items) -> bool:
    return all(n <= cap for n, cap in zip(counts(problem, items), problem["caps"], strict=True))


def missing(problem: dict, items) -> int:
    pairs = zip(counts(problem, items), problem["quotas"], strict=True)
    return sum(max(0, quota - n) for n, quota in pairs)


def best(problem: dict, user: int) -> list[int]:
    pins: dict[int, int] = {}
    for rank, item in enumerate(problem["pins"][user]):
        if item >= 0 and legal(problem, [*pins.values(), item]):
            pins[rank] = item
    rest = [item for item in problem["pool"][user] if item not in pins.values()]
    options = [
        (missing(problem, [*pins.values(), *chosen]), -size, places, chosen)
        for size in range(min(len(rest), problem["k"] - len(pins)) + 1)
        for places in combinations(range(len(rest)), size)
        if legal(problem, [*pins.values(), *(chosen := [rest[p] for p in places])])
    ]
    chosen = list(min(options)[3])
    listed = []
    for rank in range(problem["k"]):
        if rank in pins:
            listed.append(pins[rank])
        elif chosen:
            listed.append(chosen.pop(0))
    return listed


@given(problems())
@settings(max_examples=1500, deadline=None)
def test_the_best_legal_list_is_found(problem):
    out = made(problem)
    exclusive = all(bits & (bits - 1) == 0 for bits in problem["bits"])
    for user in range(len(problem["pool"])):
        items = [item for item in out.items[user].tolist() if item >= 0]
        assert out.items[user].tolist() == items + [-1] * (problem["k"] - len(items))
        assert len(set(items)) == len(items)
        assert legal(problem, items)
        optimum = best(problem, user)
        if exclusive:
            assert items == optimum
        # Where no item has two categories choosing is exact; else it is greedy, and says what
        # it could not do.
        assert missing(problem, items) >= missing(problem, optimum)
        lacking = [
            n < quota for n, quota in zip(counts(problem, items), problem["quotas"], strict=True)
        ]
        assert [bool(out.lacking[user] >> c & 1) for c in range(len(lacking))] == lacking
        order = [p for p, pin in zip(out.places[user], out.pinned[user], strict=True) if not pin]
        chosen = [place for place in order if place >= 0]
        assert chosen == sorted(chosen)
        for place, item in zip(out.places[user].tolist(), out.items[user].tolist(), strict=True):
            assert place < 0 or problem["pool"][user][place] == item


@given(problems())
@settings(max_examples=300, deadline=None)
def test_without_quotas_any_number_of_categories_is_exact(problem):
    problem["quotas"] = [0] * len(problem["caps"])
    out = made(problem)
    for user, pool in enumerate(problem["pool"]):
        pinned = [i for i, p in zip(out.items[user], out.pinned[user], strict=True) if p]
        taken = list(pinned)
        for item in pool:
            if item not in taken and len(taken) < problem["k"] and legal(problem, [*taken, item]):
                taken.append(item)
        rest = [i for i, p in zip(out.items[user], out.pinned[user], strict=True) if not p]
        assert [item for item in rest if item >= 0] == taken[len(pinned) :]
        assert not out.quota_bits.any()


def test_a_reserved_entry_that_a_later_one_makes_needless_has_to_earn_its_place():
    # Categories 1 and 2 are each asked for once. Item 3 has the first, item 4 both.
    out = fill_places(
        ints([[0, 1, 2, 3, 4]], 1, 5),
        np.zeros((1, 0), dtype=np.int64),
        ints([[-1, -1]], 1, 2),
        ints([0, 0, 0, 1, 3]),
        ints([2, 2]),
        ints([1, 1]),
    )
    assert out.items.tolist() == [[0, 4]]
    assert out.quota_bits.tolist() == [[0, 3]]
    assert out.lacking.tolist() == [0]


def test_extras_serve_quotas_and_fill_no_other_place():
    out = fill_places(
        ints([[0, 1]], 1, 2),
        ints([[4, 3, 1, -1]], 1, 4),
        ints([[-1] * 4], 1, 4),
        ints([0, 0, 0, 1, 1]),
        ints([4]),
        ints([1]),
    )
    assert out.items.tolist() == [[0, 1, 4, -1]]
    assert out.places.tolist() == [[0, 1, 2, -1]]
    assert out.short.tolist() == [True]
