import sys
import threading
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.balance.records import record

from waypost.balance import DEFAULT_POLICY, POLICIES, Endpoint, Pool
from waypost.errors import Invalid, NoInstance
from waypost.model import HEALTHS, Record, resolvable

EVERY_POLICY = pytest.mark.parametrize("policy", POLICIES)


def pool_of(policy: str, records: list[Record], *, service: str = "orders") -> Pool:
    pool = Pool(policy, random=Random(5).random, clock=lambda: 0, service=service)
    pool.replace(records)
    return pool


def refusal(pool: Pool) -> str:
    with pytest.raises(NoInstance) as caught:
        pool.pick()
    with pytest.raises(NoInstance) as caught_again:
        pool.pick_except(set())
    assert caught.value.message == caught_again.value.message
    return caught.value.message


def test_the_four_policies_are_there_by_name() -> None:
    assert sorted(POLICIES) == ["least_response_time", "random", "round_robin", "weighted"]
    assert DEFAULT_POLICY in POLICIES


def test_an_unknown_policy_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(Invalid) as caught:
        Pool("fastest", random=lambda: 0.0, clock=lambda: 0)

    assert caught.value.field == "policy"
    assert "'fastest'" in caught.value.message
    assert all(name in caught.value.message for name in POLICIES)


@EVERY_POLICY
@given(
    records=st.lists(
        st.builds(
            record,
            st.sampled_from([f"i{i}" for i in range(9)]),
            weight=st.sampled_from([None, 0, 1, 3, 0.3]),
            health=st.sampled_from(HEALTHS),
            suspect=st.booleans(),
        ),
        unique_by=lambda one: one.instance.id,
    )
)
def test_only_what_may_be_picked_is_picked(policy: str, records: list[Record]) -> None:
    pool = pool_of(policy, records)
    allowed = {r.instance.id for r in resolvable(records)}

    if not allowed:
        refusal(pool)
    else:
        picked = {pool.pick().id for _ in range(50)}
        retried = {pool.pick_except(set()).id for _ in range(50)}
        assert picked <= allowed
        assert retried <= allowed
        if policy == "round_robin":
            assert picked == allowed


@EVERY_POLICY
def test_the_order_of_the_records_does_not_matter(policy: str) -> None:
    records = [record(f"i{i}", weight=i) for i in range(1, 8)]

    there = pool_of(policy, records)
    back = pool_of(policy, records[::-1])

    assert [there.pick().id for _ in range(50)] == [back.pick().id for _ in range(50)]


@EVERY_POLICY
def test_one_that_drains_gets_no_call_from_then_on(policy: str) -> None:
    pool = pool_of(policy, [record(i, weight=2) for i in "abc"])
    pool.pick()

    pool.replace([record("a", weight=2), record("b", weight=0), record("c", health="draining")])

    assert {pool.pick().id for _ in range(50)} == {"a"}


@EVERY_POLICY
def test_a_suspect_is_picked_when_nothing_better_is_left(policy: str) -> None:
    pool = pool_of(policy, [record("a", suspect=True), record("b")])
    assert {pool.pick().id for _ in range(50)} == {"b"}

    pool.replace([record("a", suspect=True), record("b", health="critical")])

    assert {pool.pick().id for _ in range(50)} == {"a"}


@EVERY_POLICY
@pytest.mark.parametrize("n", [1, 2, 5, 64, 65, 300])
def test_a_retry_never_goes_where_it_has_been(policy: str, n: int) -> None:
    pool = pool_of(policy, [record(f"i{i:03}") for i in range(n)])
    tried: set[str] = set()

    for _ in range(n):
        endpoint = pool.pick_except(tried)
        assert endpoint.id not in tried
        tried.add(endpoint.id)

    with pytest.raises(NoInstance, match=f"each of the {n} instances of orders"):
        pool.pick_except(tried)


@EVERY_POLICY
def test_what_was_learnt_survives_a_change_of_the_others(policy: str) -> None:
    pool = pool_of(policy, [record("a"), record("b")])
    a = pool.endpoints[0]
    pool.start(a)
    pool.start(a)
    pool.finish(a, 7_000_000, True)

    pool.replace([record("a", weight=3, health="warning"), record("c")])

    assert pool.endpoints[0] is a
    assert a.instance.weight == 3
    assert (a.in_flight, a.ewma_ns) == (1, 7_000_000)


def test_one_that_is_unhealthy_for_a_while_keeps_its_open_calls() -> None:
    pool = pool_of("least_response_time", [record("a"), record("b")])
    a = pool.endpoints[0]
    pool.start(a)

    pool.replace([record("a", health="critical"), record("b")])
    assert a not in pool.endpoints
    pool.replace([record("a"), record("b")])

    assert pool.endpoints[0] is a
    assert a.in_flight == 1


def test_a_new_life_under_an_old_id_is_judged_afresh() -> None:
    pool = pool_of("least_response_time", [record("a"), record("b")])
    old = pool.endpoints[0]
    pool.start(old)

    pool.replace([record("a", incarnation=2), record("b")])

    new = pool.endpoints[0]
    assert new is not old
    assert new.in_flight == 0
    pool.finish(old, 1, False)
    assert (old.in_flight, new.in_flight, new.ewma_ns) == (0, 0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_a_newcomer_takes_its_fair_share_of_a_burst(seed: int) -> None:
    pool = Pool("least_response_time", random=Random(seed).random, clock=lambda: 0)
    names = [f"i{i:02}" for i in range(20)]
    pool.replace([record(name) for name in names])
    for endpoint in pool.endpoints:
        pool.start(endpoint)
        pool.finish(endpoint, 50_000_000, True)

    pool.replace([record(name) for name in [*names, "new"]])
    for _ in range(210):
        pool.start(pool.pick())

    assert 7 <= pool.endpoints[-1].in_flight <= 13


@EVERY_POLICY
def test_a_pick_beside_a_change_in_another_thread_sees_one_set_or_the_other(policy: str) -> None:
    sets = [[record(i, weight=ord(i)) for i in ids] for ids in ("abc", "x", "")]
    pool = pool_of(policy, sets[0])
    is_over = threading.Event()

    def change() -> None:
        try:
            for turn in range(3_000):
                pool.replace(sets[turn % 3])
        finally:
            is_over.set()

    changer = threading.Thread(target=change)
    switched_after_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        changer.start()
        picked: set[str] = set()
        while not is_over.is_set():
            try:
                picked.add(pool.pick().id)
            except NoInstance as none:
                picked.add(none.message[:38])
        changer.join()
    finally:
        sys.setswitchinterval(switched_after_s)

    assert picked <= {*"abcx", "no instance of orders is registered: s"}


@given(st.data())
def test_open_calls_are_counted_exactly(data: st.DataObject) -> None:
    pool = pool_of("least_response_time", [record(f"i{i}") for i in range(4)])
    open_calls: list[Endpoint] = []

    for _ in range(data.draw(st.integers(0, 40))):
        match data.draw(st.sampled_from(["start", "finish", "abandon", "replace"])):
            case "start":
                endpoint = pool.pick()
                pool.start(endpoint)
                open_calls.append(endpoint)
            case "replace":
                out = data.draw(st.integers(0, 3))
                pool.replace([record(f"i{i}") for i in range(4) if i != out])
            case how if open_calls:
                endpoint = open_calls.pop(data.draw(st.integers(0, len(open_calls) - 1)))
                if how == "finish":
                    pool.finish(endpoint, 1_000, data.draw(st.booleans()))
                else:
                    pool.abandon(endpoint)
            case _:
                pass

        seen = {*open_calls, *pool.endpoints}
        assert all(endpoint.in_flight == open_calls.count(endpoint) for endpoint in seen)


def test_a_call_can_be_finished_only_once() -> None:
    pool = pool_of("random", [record("a")])
    endpoint = pool.pick()
    pool.start(endpoint)
    pool.finish(endpoint, 5, True)

    with pytest.raises(AssertionError, match="finished twice"):
        pool.finish(endpoint, 5, True)


def test_a_cancelled_call_teaches_nothing() -> None:
    pool = pool_of("least_response_time", [record("a")])
    endpoint = pool.pick()
    pool.start(endpoint)

    pool.abandon(endpoint)

    assert (endpoint.in_flight, endpoint.ewma_ns, endpoint.sampled_at_ns) == (0, 0, None)


def test_a_pool_that_was_told_nothing_has_nothing() -> None:
    pool = Pool("random", random=lambda: 0.0, clock=lambda: 0)

    assert refusal(pool).startswith("no instance of this service is registered: start a provider")


@EVERY_POLICY
def test_a_refusal_says_that_nothing_is_registered(policy: str) -> None:
    pool = pool_of(policy, [record("a")])
    pool.replace([])

    assert refusal(pool).startswith("no instance of orders is registered: start a provider")


@EVERY_POLICY
def test_a_refusal_says_that_all_are_drained(policy: str) -> None:
    pool = pool_of(policy, [record("a", weight=0), record("b", health="draining")])

    assert refusal(pool).startswith("all instances of orders are drained (2 of 2): undrain one")


@EVERY_POLICY
def test_a_refusal_says_that_none_is_healthy_and_why(policy: str) -> None:
    pool = pool_of(
        policy,
        [
            record("a", weight=0),
            record("b", health="critical", why="connection refused"),
            record("c", health="critical"),
            record("d", health="starting"),
        ],
    )

    assert refusal(pool).startswith(
        "no instance of orders is healthy (2 critical, 1 drained, 1 starting; "
        "b: connection refused): mend what their checks report"
    )


@EVERY_POLICY
def test_it_picks_again_when_instances_are_back(policy: str) -> None:
    pool = pool_of(policy, [record("a", health="critical")])
    refusal(pool)

    pool.replace([record("a")])

    assert pool.pick().id == "a"
    assert repr(pool.pick()) == "Endpoint('a', in_flight=0, ewma_ms=0)"
