import random

from hypothesis import given
from hypothesis import strategies as st
from tests.servers.xds.records import record

from waypost.model import HEALTHS, Record, resolvable
from waypost.servers.xds.endpoints import (
    DRAINING,
    HEALTHY,
    UNHEALTHY,
    endpoints_of,
    localities_of,
    numeric,
)


def test_each_health_is_told_in_the_words_of_xds() -> None:
    records = [
        record("a", "10.0.0.1", health="passing"),
        record("b", "10.0.0.2", health="warning"),
        record("c", "10.0.0.3", health="critical"),
        record("d", "10.0.0.4", health="draining"),
        record("e", "10.0.0.5", health="starting"),
        record("f", "10.0.0.6", weight=0),
        record("g", "10.0.0.7", suspect=True),
    ]

    told = {endpoint.host: endpoint.health for endpoint in endpoints_of(records)}

    assert told == {
        "10.0.0.1": HEALTHY,
        "10.0.0.2": HEALTHY,
        "10.0.0.3": UNHEALTHY,
        "10.0.0.4": DRAINING,
        "10.0.0.6": DRAINING,
        "10.0.0.7": UNHEALTHY,
    }


def test_a_suspect_is_the_last_resort() -> None:
    records = [record("a", suspect=True), record("b", "10.0.0.2", health="critical")]

    assert [endpoint.health for endpoint in endpoints_of(records)] == [HEALTHY, UNHEALTHY]


def test_of_two_with_one_address_the_healthy_counts_and_else_the_newer() -> None:
    stale = record("a", health="critical", revision=9)
    back = record("b", revision=3)
    newer = record("c", revision=4, weight=7)

    assert [e.health for e in endpoints_of([stale, back])] == [HEALTHY]
    assert [e.weight for e in endpoints_of([back, newer])] == [7]


def test_a_host_name_is_left_out_and_addresses_have_one_form() -> None:
    assert numeric("db.internal") == numeric("fe80::1%eth0") == ""
    assert numeric("0:0:0:0:0:0:0:1") == "::1"
    assert endpoints_of([record("a", "db.internal")]) == []


def test_the_commonest_weight_of_a_zone_keeps_its_name() -> None:
    records = [
        record("a", "10.0.0.1", weight=5, zone="north"),
        record("b", "10.0.0.2", weight=1, zone="north"),
        record("c", "10.0.0.3", weight=5, zone="north"),
        record("d", "10.0.0.4", weight=2, zone="south"),
    ]

    told = [(each.zone, each.sub_zone, each.weight) for each in localities_of(records)]

    assert told == [("north", "weight-1", 1), ("north", "", 10), ("south", "", 2)]


def test_an_unknown_weight_is_the_mean_and_fractions_keep_their_ratio() -> None:
    known = [record("a", "10.0.0.1", weight=2), record("b", "10.0.0.2", weight=4)]
    unknown = record("c", "10.0.0.3")
    halves = [record("a", "10.0.0.1", weight=0.5), record("b", "10.0.0.2", weight=1.5)]

    assert [e.weight for e in endpoints_of([*known, unknown])] == [2, 4, 3]
    assert [e.weight for e in endpoints_of([unknown])] == [1]
    assert [e.weight for e in endpoints_of(halves)] == [500, 1500]


weights = st.none() | st.floats(0, 65_535) | st.integers(0, 65_535).map(float)
records_of = st.lists(
    st.builds(
        record,
        st.sampled_from([f"i{n}" for n in range(50)]),
        st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "::1", "0::1", "named"]),
        st.integers(80, 83),
        health=st.sampled_from(HEALTHS),
        suspect=st.booleans(),
        revision=st.integers(1, 99),
        weight=weights,
        zone=st.sampled_from(["", "north", "south"]),
    ),
    unique_by=lambda r: r.instance.id,
    max_size=30,
)


@given(records_of, st.randoms(use_true_random=False))
def test_what_is_told_can_be_taken_by_every_client(
    records: list[Record], chance: random.Random
) -> None:
    localities = localities_of(records)

    told = [endpoint for locality in localities for endpoint in locality.endpoints]
    addresses = [(endpoint.host, endpoint.port) for endpoint in told]
    assert len(set(addresses)) == len(addresses)
    keys = [(locality.zone, locality.sub_zone) for locality in localities]
    assert len(set(keys)) == len(keys)
    assert all(locality.weight >= 1 for locality in localities)
    assert all(endpoint.weight >= 1 for endpoint in told)
    assert sum(locality.weight for locality in localities) < 2**32
    usable = {(numeric(r.instance.host), r.instance.port) for r in resolvable(records)}
    healthy = {(e.host, e.port) for e in told if e.health == HEALTHY}
    assert healthy == {(host, port) for host, port in usable if host}

    shuffled = chance.sample(records, len(records))
    assert localities_of(shuffled) == localities


def test_the_weights_of_a_hundred_thousand_fit() -> None:
    records = [
        record(f"i{n}", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", weight=65_535.0)
        for n in range(100_000)
    ]

    (locality,) = localities_of(records)

    assert locality.weight < 2**32
    assert {endpoint.weight for endpoint in locality.endpoints} == {42_949}
