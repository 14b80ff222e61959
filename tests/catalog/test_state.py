import subprocess
import sys
from pathlib import Path

import pytest
from tests.catalog.feed import Feed, check_invariants, instance
from tests.catalog.workload import batches

from waypost.catalog.history import History
from waypost.catalog.snapshots import digest, dump, load
from waypost.catalog.state import Catalog
from waypost.commands import (
    Attach,
    Command,
    Deregister,
    Detach,
    Expire,
    LogBatch,
    Refused,
    Register,
    SetHealth,
    Suspect,
    Sweep,
)
from waypost.errors import ERRORS_BY_CODE
from waypost.model import Health

# Register


def test_a_new_life_has_the_index_of_its_entry_as_incarnation() -> None:
    feed = Feed()

    assert feed.one(Register(instance())) == 1
    assert feed.record().instance.incarnation == 1
    assert [(change.kind, change.revision) for change in feed.changes] == [("up", 1)]


def test_a_newer_registration_takes_an_id_over_and_is_newer() -> None:
    feed = Feed()
    feed.attach("s-1")
    feed.attach("s-2")
    older = feed.one(Register(instance(port=1), "s-1"))

    newer = feed.one(Register(instance(port=2), "s-2"))

    assert newer > older
    assert feed.record().session == "s-2"
    assert feed.record().instance.port == 2
    assert [change.kind for change in feed.changes] == ["changed"]


def test_what_was_taken_over_does_not_go_with_its_old_session() -> None:
    feed = Feed()
    feed.attach("s-1")
    feed.attach("s-2")
    feed.one(Register(instance(), "s-1"))
    feed.one(Register(instance(), "s-2"))

    feed.one(Detach("s-1"))

    assert feed.ids() == ["i-1"]
    assert not feed.changes


def test_two_lives_in_one_entry_are_in_order() -> None:
    feed = Feed()
    feed.attach("s-1")
    feed.attach("s-2")

    first, second = feed.apply(Register(instance(), "s-1"), Register(instance(), "s-2"))

    assert isinstance(first, int)
    assert isinstance(second, int)
    assert first < second
    assert feed.record().instance.incarnation == second


def test_no_incarnation_is_given_twice_even_within_an_entry_that_deregisters() -> None:
    feed = Feed()

    given = [
        *feed.apply(
            Register(instance()),
            Deregister("orders", "i-1"),
            Register(instance()),
            Deregister("orders", "i-1"),
        ),
        *feed.apply(Register(instance())),
    ]

    lives = [given[0], given[2], given[4]]
    assert lives == sorted(set(map(int, lives)))  # type: ignore[arg-type]


def test_a_repeated_registration_of_the_same_session_is_not_a_second_life() -> None:
    feed = Feed()
    feed.attach()
    first = feed.one(Register(instance(), "s-1"))

    assert feed.one(Register(instance(), "s-1")) == first
    assert not feed.changes
    assert feed.one(Register(instance(port=9), "s-1")) == first
    assert feed.record().instance.port == 9


def test_a_repeated_permanent_registration_is_not_a_second_life() -> None:
    feed = Feed()

    assert feed.one(Register(instance())) == feed.one(Register(instance()))
    assert not feed.changes


def test_an_identical_registration_moves_no_revision_but_the_catalogs() -> None:
    feed = Feed()
    feed.attach()
    life = feed.one(Register(instance(meta={"a": "b"}), "s-1", "warning", "slow"))
    before = feed.record()

    feed.one(
        Register(instance(meta={"a": "b"}, incarnation=life), "s-1", "warning", "slow"),
        later_ms=5,
    )

    assert feed.record() is before
    assert feed.catalog.service_revision("orders") == before.revision
    assert feed.catalog.revision == before.revision + 1


@pytest.mark.parametrize(
    "other",
    [
        Register(instance(port=9, incarnation=2), "s-1"),
        Register(instance(incarnation=2), "s-1", "critical"),
        Register(instance(incarnation=2), "s-1", "passing", "tired"),
        Register(instance(incarnation=2), ""),
    ],
    ids=["content", "health", "why", "session"],
)
def test_a_registration_that_differs_in_anything_is_told(other: Register) -> None:
    feed = Feed()
    feed.attach()
    assert feed.one(Register(instance(), "s-1")) == 2

    feed.one(other, later_ms=10)

    assert [change.kind for change in feed.changes] == ["changed"]
    record = feed.record()
    assert (record.instance, record.session) == (other.instance, other.session)
    assert (record.health, record.why) == (other.health, other.why)
    assert record.since_ms == (1_010 if other.health == "critical" else 1_000)


def test_an_equal_incarnation_refreshes_from_another_session() -> None:
    feed = Feed()
    feed.attach("s-1")
    feed.attach("s-2")
    life = feed.one(Register(instance(), "s-1"))

    assert feed.one(Register(instance(incarnation=life), "s-2")) == life
    assert feed.record().session == "s-2"


def test_an_older_incarnation_is_refused_as_superseded() -> None:
    feed = Feed()
    feed.attach("s-1")
    feed.attach("s-2")
    older = feed.one(Register(instance(), "s-1"))
    newer = feed.one(Register(instance(), "s-2"))

    refusal = feed.refused(Register(instance(incarnation=older), "s-1"))

    assert refusal.code == "superseded"
    assert str(newer) in refusal.message
    assert feed.record().session == "s-2"


def test_a_known_incarnation_is_accepted_where_none_is_held() -> None:
    feed = Feed()

    assert feed.one(Register(instance(incarnation=700))) == 700
    assert [change.kind for change in feed.changes] == ["up"]


def test_a_claimed_incarnation_is_below_every_life_that_is_given_later() -> None:
    feed = Feed()
    feed.one(Register(instance(incarnation=700)))
    feed.one(Deregister("orders", "i-1"))

    assert feed.one(Register(instance())) > 700


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("claimed", [2**53, 2**64 - 1])
def test_an_incarnation_that_nobody_can_have_been_given_is_refused(
    claimed: int, held: bool
) -> None:
    feed = Feed()
    if held:
        feed.one(Register(instance()))

    refusal = feed.refused(Register(instance(incarnation=claimed)))

    assert refusal.code == "invalid"
    assert "incarnation" in refusal.message


def test_a_negative_incarnation_is_refused() -> None:
    feed = Feed()

    assert feed.refused(Register(instance(incarnation=-1))).code == "invalid"
    feed.one(Register(instance()))
    assert feed.refused(Register(instance(incarnation=-1))).code == "superseded"


def test_the_highest_claim_still_leaves_new_lives_to_give() -> None:
    feed = Feed()
    feed.one(Register(instance(incarnation=2**53 - 1)))

    life = feed.one(Register(instance("i-2")))

    assert life == 2**53
    assert feed.one(Register(instance("i-2", incarnation=life))) == life


def test_a_registration_needs_an_open_session() -> None:
    feed = Feed()

    refusal = feed.refused(Register(instance(), "s-1"))

    assert refusal.code == "unknown-session"
    assert feed.catalog.service("orders") is None


def test_a_session_may_be_attached_and_register_in_one_entry() -> None:
    feed = Feed()

    attached, registered = feed.apply(Attach("s-1", "n-1", 0, 0), Register(instance(), "s-1"))

    assert isinstance(attached, int)
    assert isinstance(registered, int)


def test_a_full_service_refuses_one_more_and_still_takes_refreshes() -> None:
    feed = Feed()
    feed.apply(*[Register(instance(f"i-{number}")) for number in range(100_000)])

    refusal = feed.refused(Register(instance("one-more")))

    assert refusal.code == "invalid"
    assert refusal.message.startswith("service: ")
    assert "100000" in refusal.message
    assert feed.one(Register(instance("i-7", port=9))) > 0


# Deregister


def test_a_deregistered_instance_is_gone_and_its_service_with_the_last_one() -> None:
    feed = Feed()
    feed.apply(Register(instance("i-1")), Register(instance("i-2")))

    assert feed.one(Deregister("orders", "i-1")) == 0
    (change,) = feed.changes
    assert (change.kind, change.record.instance.id) == ("down", "i-1")
    assert (change.record.why, change.record.revision) == ("deregistered", 2)
    assert feed.ids() == ["i-2"]

    feed.one(Deregister("orders", "i-2"))
    assert feed.catalog.service("orders") is None
    assert feed.catalog.service_names() == []
    assert feed.catalog.service_count == feed.catalog.instance_count == 0


@pytest.mark.parametrize(
    "make", [Deregister, lambda *a: SetHealth(a[0], a[1], "passing", "", *a[2:])]
)
def test_what_is_not_there_cannot_be_deregistered_or_have_a_health(make: type[Deregister]) -> None:
    feed = Feed()

    assert feed.refused(make("orders", "i-1")).code == "unknown-service"
    first = feed.one(Register(instance("i-1")))
    assert feed.refused(make("orders", "i-2")).code == "unknown-instance"
    assert feed.refused(make("orders", "i-1", first + 1)).code == "unknown-instance"
    feed.attach()
    feed.one(Register(instance("i-1"), "s-1"))
    assert feed.refused(make("orders", "i-1", first)).code == "superseded"
    assert feed.ids() == ["i-1"]


def test_only_the_named_life_is_deregistered() -> None:
    feed = Feed()
    life = feed.one(Register(instance()))

    feed.one(Deregister("orders", "i-1", life))

    assert feed.ids() == []


# SetHealth


def test_since_moves_only_when_the_health_does() -> None:
    feed = Feed()
    feed.one(Register(instance()))

    feed.one(SetHealth("orders", "i-1", "warning", "slow"), later_ms=10)
    assert (feed.record().since_ms, feed.record().why) == (1_010, "slow")
    feed.one(SetHealth("orders", "i-1", "warning", "slower"), later_ms=10)
    assert (feed.record().since_ms, feed.record().why) == (1_010, "slower")
    assert [change.kind for change in feed.changes] == ["changed"]
    feed.one(SetHealth("orders", "i-1", "passing"), later_ms=10)
    assert feed.record().since_ms == 1_030


def test_the_same_health_for_the_same_reason_is_not_told() -> None:
    feed = Feed()
    feed.one(Register(instance()))
    feed.one(SetHealth("orders", "i-1", "critical", "disk full"))
    before = feed.record()

    assert feed.one(SetHealth("orders", "i-1", "critical", "disk full"), later_ms=10) == 0

    assert not feed.changes
    assert feed.record() is before


@pytest.mark.parametrize("health", ["starting", "passing", "warning", "critical", "draining"])
def test_every_health_can_be_set(health: Health) -> None:
    feed = Feed()
    feed.one(Register(instance(), "", "critical" if health == "passing" else "passing"))

    feed.one(SetHealth("orders", "i-1", health))

    assert feed.record().health == health


# Sessions


def test_every_attachment_is_newer_than_the_ones_before_even_in_one_entry() -> None:
    feed = Feed()

    given = [
        *feed.apply(Attach("s-1", "n-1", 1, 2), Attach("s-1", "n-2", 3, 4)),
        *feed.apply(Attach("s-2", "n-1", 1, 2)),
        *feed.apply(Attach("s-1", "n-1", 5, 6)),
    ]

    assert given == sorted(set(map(int, given)))  # type: ignore[arg-type]
    session = feed.catalog.session("s-1")
    assert session is not None
    assert (session.node, session.attachment) == ("n-1", given[-1])
    assert (session.ttl_ms, session.grace_ms) == (5, 6)
    assert sorted(each.id for each in feed.catalog.sessions) == ["s-1", "s-2"]


def test_an_attachment_and_an_incarnation_of_one_entry_differ() -> None:
    feed = Feed()

    first, second = feed.apply(Attach("s-1", "n-1", 0, 0), Register(instance(), "s-1"))

    assert (first, second) == (1, 2)


def test_a_session_needs_an_id() -> None:
    feed = Feed()

    assert feed.refused(Attach("", "n-1", 0, 0)).code == "invalid"


def test_a_lost_connection_makes_all_that_the_session_holds_suspect() -> None:
    feed = Feed()
    attachment = feed.attach()
    feed.apply(
        Register(instance("i-1"), "s-1"),
        Register(instance("i-1", "carts"), "s-1", "warning", "slow"),
        Register(instance("i-2")),
    )

    assert feed.one(Suspect("s-1", attachment)) == 2

    assert [change.kind for change in feed.changes] == ["changed", "changed"]
    assert feed.record("i-1").suspect
    assert feed.record("i-1").why == "connection lost"
    assert feed.record("i-1").session == "s-1"
    assert feed.record("i-1", "carts").suspect
    assert feed.record("i-1", "carts").why == "slow"
    assert not feed.record("i-2").suspect
    assert feed.catalog.orphans == 0
    assert feed.one(Suspect("s-1", attachment)) == 0
    assert not feed.changes


def test_attaching_anew_ends_the_suspicion() -> None:
    feed = Feed()
    attachment = feed.attach()
    feed.apply(
        Register(instance("i-1"), "s-1"), Register(instance("i-2"), "s-1", "warning", "slow")
    )
    before = [feed.record("i-1"), feed.record("i-2")]
    feed.one(Suspect("s-1", attachment), later_ms=5)

    feed.attach(node="n-2")

    assert [change.kind for change in feed.changes] == ["changed", "changed"]
    after = [feed.record("i-1"), feed.record("i-2")]
    assert [(r.suspect, r.why, r.since_ms, r.session) for r in after] == [
        (False, r.why, r.since_ms, "s-1") for r in before
    ]


@pytest.mark.parametrize("make", [Suspect, Expire])
def test_what_names_an_older_attachment_has_no_effect(make: type[Suspect]) -> None:
    feed = Feed()
    older = feed.attach()
    feed.one(Register(instance(), "s-1"))
    feed.attach()

    assert feed.one(make("s-1", older)) == 0
    assert feed.one(make("s-1", older + 100)) == 0
    assert feed.one(make("s-2", older)) == 0

    assert not feed.changes
    assert not feed.record().suspect
    assert feed.catalog.session("s-1") is not None


def test_a_registration_ends_the_suspicion() -> None:
    feed = Feed()
    attachment = feed.attach()
    life = feed.one(Register(instance(), "s-1"))
    feed.one(Suspect("s-1", attachment))

    assert feed.one(Register(instance(incarnation=life), "s-1")) == life

    assert not feed.record().suspect
    assert [change.kind for change in feed.changes] == ["changed"]


def test_a_registration_ends_the_suspicion_though_it_says_nothing_new() -> None:
    feed = Feed()
    attachment = feed.attach()
    life = feed.one(Register(instance(), "s-1", "warning", "slow"))
    feed.one(Suspect("s-1", attachment))

    feed.one(Register(instance(incarnation=life), "s-1", "warning", "slow"))

    assert not feed.record().suspect
    assert [change.kind for change in feed.changes] == ["changed"]


def test_a_health_that_is_reported_does_not_end_the_suspicion() -> None:
    feed = Feed()
    attachment = feed.attach()
    feed.one(Register(instance(), "s-1"))
    feed.one(Suspect("s-1", attachment))

    feed.one(SetHealth("orders", "i-1", "warning", "slow"))

    assert feed.record().suspect


def test_a_session_that_ends_takes_all_it_holds_however_much() -> None:
    feed = Feed()
    feed.attach()
    feed.apply(*[Register(instance(f"i-{number}"), "s-1") for number in range(200)])
    feed.one(Register(instance("permanent")))

    assert feed.one(Detach("s-1")) == 0

    assert feed.ids() == ["permanent"]
    assert feed.catalog.session("s-1") is None
    assert {(change.kind, change.record.why) for change in feed.changes} == {
        ("down", "session ended")
    }
    assert len(feed.changes) == 200
    assert feed.catalog.orphans == 0


def test_a_session_ends_once() -> None:
    feed = Feed()
    feed.attach()
    feed.one(Detach("s-1"))

    assert feed.refused(Detach("s-1")).code == "unknown-session"
    assert feed.refused(Register(instance(), "s-1")).code == "unknown-session"


def test_a_session_that_is_opened_again_holds_nothing_of_its_former_life() -> None:
    feed = Feed()
    feed.attach()
    feed.one(Register(instance(), "s-1"))
    feed.one(Detach("s-1"))
    feed.attach()
    feed.one(Register(instance()))

    feed.one(Detach("s-1"))

    assert feed.ids() == ["i-1"]


def test_a_session_knows_what_it_holds_through_any_number_of_changes() -> None:
    feed = Feed()
    feed.attach("s-1")
    feed.attach("s-2")
    for round_number in range(100):
        for each in ("s-1", "s-2"):
            feed.one(Register(instance(f"i-{round_number % 7}"), each))
        if round_number % 3 == 0:
            feed.one(Register(instance(f"i-{round_number % 7}"), "s-1"))
        if round_number % 5 == 0:
            feed.one(Deregister("orders", f"i-{round_number % 7}"))
        check_invariants(feed.catalog)

    session = feed.catalog.session("s-2")
    assert session is not None
    assert len(session.held) <= 64


# Expire and Sweep


def fleet(size: int, *, per_session: int = 1, service: str = "orders") -> tuple[Feed, list[Expire]]:
    """Make a service whose sessions can all expire."""
    feed = Feed()
    expires: list[Expire] = []
    for start in range(0, size, per_session):
        session = f"s-{start:04d}"
        attachment = feed.attach(session)
        feed.apply(
            *[
                Register(instance(f"i-{number:04d}", service), session)
                for number in range(start, start + per_session)
            ]
        )
        expires.append(Expire(session, attachment))
    return feed, expires


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_small_service_is_never_guarded(size: int) -> None:
    feed, expires = fleet(size)

    assert feed.apply(*expires) == [1] * size

    assert feed.catalog.service("orders") is None
    assert {change.record.why for change in feed.changes} == {"lease expired"}
    assert len(feed.catalog.sessions) == 0
    assert feed.catalog.orphans == 0


def test_an_eviction_says_why_as_it_was_told() -> None:
    feed, (expire,) = fleet(1)

    feed.one(Expire(expire.session, expire.attachment, "node n-1 was lost"))

    assert [change.record.why for change in feed.changes] == ["node n-1 was lost"]


@pytest.mark.parametrize("per_session", [1, 10, 100])
def test_a_mass_failure_of_a_big_service_leaves_most_as_suspects(per_session: int) -> None:
    feed, expires = fleet(100, per_session=per_session)

    outcomes = feed.apply(*expires)

    assert sum(map(int, outcomes)) == 30  # type: ignore[arg-type]
    assert feed.ids() == [f"i-{number:04d}" for number in range(30, 100)]
    for instance_id in feed.ids():
        record = feed.record(instance_id)
        assert (record.suspect, record.session, record.why) == (True, "", "lease expired")
    assert feed.catalog.orphans == 70
    assert len(feed.catalog.sessions) == 0
    check_invariants(feed.catalog)


def test_what_the_guard_kept_goes_in_the_order_in_which_it_was_lost() -> None:
    feed, expires = fleet(100)
    feed.apply(*reversed(expires))
    assert feed.one(Sweep()) == 0

    assert feed.one(Sweep(), later_ms=1_000) == 1

    assert [change.record.instance.id for change in feed.changes] == ["i-0069"]
    assert [(change.kind, change.record.why) for change in feed.changes] == [
        ("down", "lease expired; eviction was rate-limited")
    ]
    assert feed.one(Sweep(), later_ms=3_500) == 3
    assert [change.record.instance.id for change in feed.changes] == ["i-0068", "i-0067", "i-0066"]
    assert feed.one(Sweep(), later_ms=500) == 1
    assert feed.catalog.orphans == 65


def test_a_mass_failure_clears_itself_within_two_minutes() -> None:
    feed, expires = fleet(1_000, per_session=10)
    feed.apply(*expires)
    started_ms = feed.now_ms

    while feed.catalog.orphans:
        feed.one(Sweep(), later_ms=1_000)

    assert feed.now_ms - started_ms == 70_000
    assert feed.catalog.service("orders") is None


def test_the_allowance_of_one_service_is_not_that_of_another() -> None:
    feed, expires = fleet(100)
    attachment = feed.attach("other")
    feed.one(Register(instance("i-1", "carts"), "other"))
    feed.apply(*expires)

    assert feed.one(Expire("other", attachment)) == 1

    assert feed.catalog.service_names() == ["orders"]


def test_nobody_overtakes_those_that_wait() -> None:
    feed, expires = fleet(100)
    feed.apply(*expires[:40])
    assert feed.catalog.orphans == 10

    assert feed.one(expires[40], later_ms=5_000) == 0

    assert feed.catalog.orphans == 11
    assert feed.one(Sweep()) == 5
    assert [change.record.instance.id for change in feed.changes] == [
        f"i-{number:04d}" for number in range(30, 35)
    ]


def test_an_orphan_is_cleared_when_its_provider_registers_again() -> None:
    feed, expires = fleet(100)
    feed.apply(*expires)
    life = feed.record("i-0050").instance.incarnation
    feed.attach("back")

    assert feed.one(Register(instance("i-0050", incarnation=life), "back")) == life

    record = feed.record("i-0050")
    assert (record.suspect, record.session, record.why) == (False, "back", "")
    assert feed.catalog.orphans == 69
    feed.one(Sweep(), later_ms=600_000)
    feed.one(Sweep(), later_ms=600_000)
    while feed.catalog.orphans:
        feed.one(Sweep(), later_ms=30_000)
    assert feed.ids() == ["i-0050"]


def test_an_orphan_is_nobodys_so_a_permanent_registration_is_a_new_life() -> None:
    feed, expires = fleet(100)
    feed.apply(*expires)
    before = feed.record("i-0050").instance.incarnation

    assert feed.one(Register(instance("i-0050"))) > before

    assert not feed.record("i-0050").suspect
    assert feed.catalog.orphans == 69


def test_an_orphan_can_be_deregistered_and_have_a_health_and_keeps_its_place() -> None:
    feed, expires = fleet(100)
    feed.apply(*expires)

    feed.one(SetHealth("orders", "i-0030", "critical", "gone"))
    feed.one(Deregister("orders", "i-0031"))

    assert feed.catalog.orphans == 69
    check_invariants(feed.catalog)
    assert feed.one(Sweep(), later_ms=2_000) == 2
    assert [change.record.instance.id for change in feed.changes] == ["i-0030", "i-0032"]


def test_a_reason_that_says_more_than_the_lease_is_kept_on_an_orphan() -> None:
    feed, expires = fleet(10)
    feed.apply(*expires[:5])
    feed.one(SetHealth("orders", "i-0005", "critical", "disk full"))
    feed.one(Suspect(expires[6].session, expires[6].attachment))

    feed.apply(*expires[5:7])

    assert feed.record("i-0005").why == "disk full"
    assert feed.record("i-0006").why == "lease expired"


def test_a_sweep_tells_services_by_name_on_every_replica() -> None:
    feed = Feed()
    for service in ("orders", "carts"):
        attachment = feed.attach("s-1")
        feed.apply(*[Register(instance(f"i-{number}", service), "s-1") for number in range(10)])
        feed.one(Expire("s-1", attachment))
    restored = load(dump(feed.catalog))

    feed.one(Sweep(), later_ms=60_000)

    assert list(feed.last.changed) == ["carts", "orders"]
    again = restored.apply(restored.revision + 1, feed.log[-1])
    assert list(again.changed) == ["carts", "orders"]


def test_a_sweep_of_nothing_does_nothing() -> None:
    feed = Feed()

    assert feed.one(Sweep()) == 0
    assert not feed.changes


# The whole


def test_cluster_time_never_runs_backwards() -> None:
    catalog = Catalog()
    catalog.apply(1, LogBatch(5_000, []))
    applied = catalog.apply(2, LogBatch(4_000, [[Register(instance())]]))

    assert catalog.now_ms == 5_000
    assert applied.changed["orders"][0].at_ms == 5_000


def test_outcomes_are_parallel_to_the_parts() -> None:
    catalog = Catalog()

    applied = catalog.apply(
        5,
        LogBatch(
            1,
            [
                [Register(instance("i-1")), Deregister("carts", "i-1")],
                [],
                [Register(instance("i-2"))],
            ],
        ),
    )

    assert [[type(outcome) for outcome in part] for part in applied.outcomes] == [
        [int, Refused],
        [],
        [int],
    ]
    assert catalog.revision == 5


def test_entries_come_in_order() -> None:
    catalog = Catalog()
    catalog.apply(5, LogBatch(1, []))

    with pytest.raises(AssertionError):
        catalog.apply(5, LogBatch(1, []))


def test_changes_are_told_in_the_order_in_which_they_happened() -> None:
    feed = Feed()

    feed.apply(
        Register(instance("i-1")),
        Register(instance("i-2")),
        Register(instance("i-1", "carts")),
        Deregister("orders", "i-1"),
        Register(instance("i-1")),
    )

    assert list(feed.last.changed) == ["orders", "carts"]
    assert [(c.kind, c.record.instance.id) for c in feed.last.changed["orders"]] == [
        ("up", "i-1"),
        ("up", "i-2"),
        ("down", "i-1"),
        ("up", "i-1"),
    ]
    assert feed.catalog.history.since("orders", 0) == feed.last.changed["orders"]


def test_a_quiet_service_is_known_to_be_unchanged_however_short_the_history() -> None:
    feed = Feed(Catalog(History(changes_max=1)))
    feed.one(Register(instance("i-1", "quiet")))
    for number in range(10):
        feed.one(Register(instance(f"i-{number}")))

    assert feed.catalog.since("quiet", 1) == []
    assert feed.catalog.since("quiet", 0) is None
    assert feed.catalog.since_all(1) is None
    assert feed.catalog.since_all(10) == feed.changes


def test_a_refusal_carries_the_code_of_an_error_and_says_what_to_do() -> None:
    feed = Feed()
    feed.one(Register(instance()))
    feed.attach()
    commands: list[Command] = [
        Register(instance(), "nobody"),
        Register(instance(incarnation=2**60)),
        Deregister("carts", "i-1"),
        Deregister("orders", "i-2"),
        Deregister("orders", "i-1", 99),
        SetHealth("orders", "i-2", "passing"),
        Detach("nobody"),
        Attach("", "n-1", 0, 0),
    ]

    for command in commands:
        refusal = feed.refused(command)
        assert refusal.code in ERRORS_BY_CODE
        field, _, rest = refusal.message.partition(": ")
        assert field in {"session", "incarnation", "service", "id"}
        assert ": " in rest or ", or " in rest


def test_what_instances_have_in_common_is_kept_once() -> None:
    feed = Feed()
    meta = {"team": "payments", "rack": "r-17"}
    for number in range(3):
        feed.one(
            Register(
                instance(f"i-{number}", zone="zone-a", version="1.2", tags=("x", "y"), meta=meta)
            )
        )
    a, b, c = (feed.record(f"i-{number}").instance for number in range(3))

    for other in (b, c):
        assert a.service is other.service
        assert a.zone is other.zone
        assert a.version is other.version
        assert a.tags is other.tags
        assert a.meta is other.meta
        assert a.ports is other.ports


def test_a_refresh_keeps_the_id_that_is_known() -> None:
    feed = Feed()
    life = feed.one(Register(instance()))

    feed.one(Register(instance(incarnation=life, port=9)))

    known = list(feed.catalog.service("orders") or ())
    assert feed.record().instance.id is known[0]


def test_what_is_shared_never_changes_the_kind_of_a_value() -> None:
    feed = Feed()
    feed.one(Register(instance("i-1", port=1, weight=1.0)))
    feed.one(Register(instance("i-2", port=2, weight=2.0)))
    feed.one(Register(instance("i-3", port=2, weight=1.0)))

    for number in (1, 2, 3):
        given = feed.record(f"i-{number}").instance
        assert type(given.port) is int
        assert type(given.weight) is float


def test_the_same_entries_give_the_same_bytes() -> None:
    first, second = Catalog(), Catalog()
    for index, batch in enumerate(batches(seed=3, count=400), 1):
        a, b = first.apply(index, batch), second.apply(index, batch)
        assert a == b

    assert digest(first) == digest(second)
    assert b"".join(dump(first)) == b"".join(dump(second))
    check_invariants(first)


def test_the_bytes_do_not_depend_on_the_hash_seed() -> None:
    program = (
        "from tests.catalog.workload import batches\n"
        "from waypost.catalog.snapshots import dump\n"
        "from waypost.catalog.state import Catalog\n"
        "import hashlib, msgspec\n"
        "catalog = Catalog()\n"
        "told = hashlib.sha256()\n"
        "for index, batch in enumerate(batches(seed=11, count=400), 1):\n"
        "    told.update(msgspec.msgpack.encode(catalog.apply(index, batch)))\n"
        "print(catalog.orphans, catalog.instance_count, told.hexdigest())\n"
        "print(hashlib.sha256(b''.join(dump(catalog))).hexdigest())\n"
    )
    root = Path(__file__).parents[2]

    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{root}:{root / 'src'}"},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }

    assert len(said) == 1
    assert len(said.pop().split()) == 4


def test_a_drain_outlives_the_reconnection_of_its_provider() -> None:
    feed = Feed()
    life = feed.one(Register(instance()))
    feed.one(SetHealth("orders", "i-1", "draining", "told to go"))

    feed.one(Register(instance(incarnation=life)))

    assert (feed.record().health, feed.record().why) == ("draining", "told to go")


def test_a_new_life_is_not_drained_by_what_was_said_to_the_old_one() -> None:
    feed = Feed()
    feed.attach("s-1")
    feed.one(Register(instance()))
    feed.one(SetHealth("orders", "i-1", "draining", "told to go"))

    feed.one(Register(instance(), "s-1"))

    assert feed.record().health == "passing"
