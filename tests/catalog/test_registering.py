"""Registrations that bring their checks."""

from typing import Any

import pytest
from tests.catalog.feed import Feed, check_invariants, instance

from waypost.checks import CHECKS_PER_OWNER_MAX, Check
from waypost.commands import (
    Attach,
    Command,
    Deregister,
    Detach,
    PutCheck,
    Refused,
    Register,
    RegisterChecked,
    ReportCheck,
    SetHealth,
)
from waypost.model import Health, is_pickable

HTTP = Check("http", kind="http", target="http://10.0.0.1:8080/")
TCP = Check("tcp", kind="tcp", target="10.0.0.1:8080")


def checked(*checks: Check, health: Health = "passing", **fields: Any) -> RegisterChecked:
    return RegisterChecked(Register(instance(**fields), health=health), checks)


def found(status: str, check_id: str = "http", output: str = "seen") -> ReportCheck:
    return ReportCheck("orders", "i-1", "", check_id, status, output)  # type: ignore[arg-type]


def told(feed: Feed) -> list[tuple[str, str, str]]:
    return [(c.kind, c.record.health, c.record.why) for c in feed.changes]


def own(feed: Feed) -> list[tuple[str, str, str]]:
    states = feed.catalog.checks.own(("orders", "i-1"))
    return [(state.check.id, state.status, state.output) for state in states]


@pytest.fixture
def feed() -> Feed:
    return Feed()


def test_nobody_is_told_of_the_instance_as_passing_before_its_checks_are(feed: Feed) -> None:
    feed.one(checked(TCP, HTTP))

    assert told(feed) == [("up", "critical", "check 'http' is critical")]
    assert own(feed) == [("http", "critical", ""), ("tcp", "critical", "")]
    feed.one(found("passing"))
    assert not is_pickable(feed.record())
    feed.one(found("passing", "tcp"))
    assert told(feed) == [("changed", "passing", "")]
    check_invariants(feed.catalog)


def test_what_the_provider_declares_still_counts_and_is_kept(feed: Feed) -> None:
    feed.one(checked(HTTP, health="warning"))
    feed.one(found("passing"))
    assert feed.record().health == "warning"

    feed.one(SetHealth("orders", "i-1", "passing"))
    assert feed.record().health == "passing"


def test_registered_again_a_check_of_the_same_keeps_what_was_found(feed: Feed) -> None:
    feed.one(checked(HTTP, TCP))
    feed.one(found("passing"))
    feed.one(found("passing", "tcp"))
    before = feed.catalog.checks.revision

    feed.one(checked(HTTP, TCP))
    assert feed.changes == []
    assert feed.catalog.checks.revision == before

    often = Check("http", kind="http", target=HTTP.target, interval_ms=2_000)
    feed.one(checked(often, TCP))
    assert own(feed) == [("http", "passing", "seen"), ("tcp", "passing", "seen")]
    assert feed.catalog.checks.own(("orders", "i-1"))[0].check == often

    feed.one(checked(Check("http", kind="http", target="http://10.0.0.1:9090/"), TCP))
    assert told(feed) == [("changed", "critical", "check 'http' is critical")]
    assert own(feed)[0] == ("http", "critical", "")


def test_another_list_replaces_all_and_none_at_all_leaves_them(feed: Feed) -> None:
    feed.one(checked(HTTP))
    feed.one(PutCheck("orders", "i-1", "", TCP, "critical"))
    feed.one(found("passing"))

    feed.one(Register(instance(weight=2)))
    assert [check_id for check_id, *_ in own(feed)] == ["http", "tcp"]
    feed.one(checked(HTTP, weight=2))
    assert own(feed) == [("http", "passing", "seen")]
    assert feed.record().health == "passing"
    feed.one(checked(weight=2))
    assert own(feed) == []
    assert feed.catalog.checks.count == 0
    check_invariants(feed.catalog)


@pytest.mark.parametrize("going", [Deregister("orders", "i-1"), Detach("s-1")])
def test_checks_go_with_their_instance_and_come_again_with_it(feed: Feed, going: Command) -> None:
    register = RegisterChecked(Register(instance(), "s-1"), (HTTP,))
    feed.apply(Attach("s-1", "n-1", 10_000, 0), register)
    feed.one(found("passing"))

    feed.one(going)
    assert feed.catalog.checks.count == 0
    feed.apply(Attach("s-1", "n-1", 10_000, 0), register)

    assert own(feed) == [("http", "critical", "")]
    check_invariants(feed.catalog)


def test_who_was_drained_stays_so_with_other_checks(feed: Feed) -> None:
    life = feed.one(checked(HTTP))
    feed.one(found("passing"))
    feed.one(SetHealth("orders", "i-1", "draining", "asked for"))

    feed.one(checked(TCP, incarnation=life))

    assert (feed.record().health, feed.record().why) == ("draining", "asked for")
    feed.one(checked(incarnation=life))
    assert feed.record().health == "draining"


@pytest.mark.parametrize("node", ["", "m-1"])
def test_a_node_s_checks_count_beside_its_own(feed: Feed, node: str) -> None:
    disk = Check("disk", kind="manual")
    feed.one(PutCheck("", "", "m-1", disk, "critical"))
    feed.one(checked(HTTP, node=node))
    feed.one(found("passing"))
    assert feed.record().health == ("critical" if node else "passing")

    feed.one(PutCheck("", "", "m-1", disk, "passing"))
    assert feed.record().health == "passing", "what it declared was kept"


def test_what_is_refused_leaves_instance_and_checks_as_they_were(feed: Feed) -> None:
    life = feed.one(checked(HTTP))
    assert isinstance(life, int)
    feed.one(checked(HTTP))
    many = tuple(Check(f"c-{number}", kind="manual") for number in range(CHECKS_PER_OWNER_MAX + 1))

    for wrong in (
        checked(*many),
        RegisterChecked(Register(instance(), "unknown"), (TCP,)),
        RegisterChecked(Register(instance("i-2"), "unknown"), (TCP,)),
    ):
        before = feed.catalog.checks.own(("orders", "i-1"))
        assert isinstance(feed.apply(wrong)[0], Refused)
        assert feed.changes == []
        assert feed.catalog.checks.own(("orders", "i-1")) == before
    assert feed.catalog.checks.count == 1
    check_invariants(feed.catalog)
