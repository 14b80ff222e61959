import pytest
from tests.catalog.feed import instance

from waypost.catalog.queries import select
from waypost.model import HEALTHS, Health, Instance, Query, Record


def record(given: Instance, health: Health = "passing", *, suspect: bool = False) -> Record:
    return Record(given, health, 0, "", suspect, "", 1)


def ids(records: list[Record]) -> list[str]:
    return [each.instance.id for each in records]


def test_the_empty_query_is_what_a_consumer_should_use() -> None:
    records = [
        record(instance("e")),
        record(instance("a"), "warning"),
        record(instance("b"), "critical"),
        record(instance("c"), "draining"),
        record(instance("d"), "starting"),
        record(instance("f", weight=0.0)),
        record(instance("g"), suspect=True),
    ]

    assert ids(select(records, Query())) == ["a", "e"]


def test_an_answer_is_in_order_of_ids_whatever_the_order_of_the_records() -> None:
    records = [record(instance(each)) for each in ("b", "a", "c")]

    for health in ("any", "passing", "resolvable"):
        assert ids(select(records, Query(health=health))) == ["a", "b", "c"]
        assert ids(select(reversed(records), Query(health=health))) == ["a", "b", "c"]


def test_suspects_are_the_last_resort_among_those_that_match() -> None:
    records = [
        record(instance("a", zone="x"), suspect=True),
        record(instance("b", zone="y")),
        record(instance("c", zone="x"), "critical"),
    ]

    assert ids(select(records, Query())) == ["b"]
    assert ids(select(records, Query(zone="x"))) == ["a"]


def test_any_asks_for_all() -> None:
    records = [record(instance(health), health, suspect=True) for health in HEALTHS]

    assert ids(select(records, Query(health="any"))) == sorted(HEALTHS)


@pytest.mark.parametrize("health", HEALTHS)
def test_a_health_asks_for_those_that_have_it_and_suspects_only_if_no_other_does(
    health: Health,
) -> None:
    suspects = [record(instance(f"{each}-2"), each, suspect=True) for each in HEALTHS]
    trusted = [record(instance(f"{each}-1"), each) for each in HEALTHS]

    assert ids(select(suspects + trusted, Query(health=health))) == [f"{health}-1"]
    assert ids(select(suspects, Query(health=health))) == [f"{health}-2"]


def test_every_condition_must_hold() -> None:
    good = instance(
        "good", zone="a", version="2", tags=("x", "y", "z"), meta={"k": "v", "l": "w", "m": ""}
    )
    bad = [
        instance("no-zone", version="2", tags=("x", "y"), meta={"k": "v", "m": ""}),
        instance("version", zone="a", version="1", tags=("x", "y"), meta={"k": "v", "m": ""}),
        instance("tag", zone="a", version="2", tags=("x",), meta={"k": "v", "m": ""}),
        instance("value", zone="a", version="2", tags=("x", "y"), meta={"k": "w", "m": ""}),
        instance("key", zone="a", version="2", tags=("x", "y"), meta={"k": "v"}),
    ]
    query = Query(zone="a", version="2", tags=("y", "x"), meta={"k": "v", "m": ""})

    assert ids(select([record(each) for each in [*bad, good]], query)) == ["good"]


def test_nothing_matches_nothing() -> None:
    assert select([], Query()) == []
    assert select([record(instance())], Query(tags=("x",))) == []
