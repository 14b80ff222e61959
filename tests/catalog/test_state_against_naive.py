"""The catalog and a slow second implementation of it, given the same entries."""

from collections.abc import Iterator
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.catalog.feed import check_invariants
from tests.catalog.naive import Entry, Naive

from waypost.catalog.history import History
from waypost.catalog.snapshots import digest, dump, load
from waypost.catalog.state import Catalog
from waypost.commands import (
    Attach,
    Command,
    Deregister,
    Detach,
    Expire,
    Refused,
    Register,
    SetHealth,
    Suspect,
    Sweep,
    decode_batch,
    encode_batch,
    encode_part,
)
from waypost.model import HEALTHS, Instance, Record

SERVICES = st.sampled_from(["orders", "carts"])
IDS = st.integers(0, 17).map("i-{}".format)
SESSIONS = st.sampled_from(["s-1", "s-2", "s-3"])
WHYS = st.sampled_from(["", "", "slow", "connection lost"])
LIVES = st.one_of(
    st.just(0), st.just(0), st.integers(1, 60), st.sampled_from([2**53 - 1, 2**53, 2**53 + 1])
)
CONTENT = {
    "host": st.just("10.0.0.1"),
    "port": st.integers(1, 2),
    "weight": st.sampled_from([None, 1.0]),
    "meta": st.sampled_from([{}, {"k": "v"}]),
}
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        Register,
        st.builds(Instance, SERVICES, IDS, **CONTENT, incarnation=LIVES),
        st.one_of(st.just(""), SESSIONS, SESSIONS),
        st.sampled_from(HEALTHS),
        WHYS,
    ),
    st.builds(Deregister, SERVICES, IDS, LIVES),
    st.builds(SetHealth, SERVICES, IDS, st.sampled_from(HEALTHS), WHYS, LIVES),
    st.builds(
        Attach,
        st.one_of(SESSIONS, SESSIONS, st.just("")),
        st.sampled_from(["n-1", "n-2"]),
        st.integers(0, 2),
        st.integers(0, 2),
    ),
    st.builds(Detach, SESSIONS),
    st.builds(Suspect, SESSIONS, st.integers(1, 60)),
    st.builds(Expire, SESSIONS, st.integers(1, 60), WHYS),
    st.just(Sweep()),
)
WAITS = st.sampled_from([0, 0, 100, 6_000, 40_000])


def shown(record: Record) -> Entry:
    given = record.instance
    return {
        "service": given.service,
        "id": given.id,
        "life": given.incarnation,
        "content": (
            given.host,
            given.port,
            given.weight,
            given.zone,
            given.version,
            given.tags,
            given.meta,
            given.ports,
        ),
        "health": record.health,
        "why": record.why,
        "since": record.since_ms,
        "suspect": record.suspect,
        "session": record.session,
        "revision": record.revision,
    }


def by_identity(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry["service"], entry["id"]))


class CatalogAgainstNaive(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.catalog = Catalog(History(changes_max=25, age_ms_max=60_000))
        self.naive = Naive()
        self.stamp_ms = 1_000
        self.walk: Iterator[bytes] = iter(())
        self.written: list[bytes] = []
        self.expected: bytes | None = None

    def apply(self, *parts: list[Command]) -> None:
        payload = encode_batch(self.stamp_ms, [encode_part(part) for part in parts])
        index = self.catalog.revision + 1
        told = len(self.naive.told)

        applied = self.catalog.apply(index, decode_batch(payload))
        expected = self.naive.apply(index, decode_batch(payload))

        outcomes = [
            [each.code if isinstance(each, Refused) else each for each in part]
            for part in applied.outcomes
        ]
        assert outcomes == expected
        fresh = self.naive.told[told:]
        assert set(applied.changed) == {entry["service"] for _, _, entry, _ in fresh}
        for service, changes in applied.changed.items():
            assert [(c.revision, c.kind, shown(c.record), c.at_ms) for c in changes] == [
                each for each in fresh if each[2]["service"] == service
            ]

    @initialize(first=st.integers(0, 9), second=st.integers(0, 9))
    def start_a_service_that_the_guard_watches_over(self, first: int, second: int) -> None:
        self.start_many("s-1", "orders", 0, first)
        self.start_many("s-2", "orders", first, second)

    @rule(parts=st.lists(st.lists(COMMANDS, max_size=6), max_size=3), later_ms=WAITS)
    def entry(self, parts: list[list[Command]], later_ms: int) -> None:
        self.stamp_ms += later_ms
        self.apply(*parts)

    @rule(session=SESSIONS, service=SERVICES, first=st.integers(0, 6), count=st.integers(1, 8))
    def start_many(self, session: str, service: str, first: int, count: int) -> None:
        instances = [
            Instance(service, f"i-{number}", "10.0.0.1", 1)
            for number in range(first, first + count)
        ]
        self.apply(
            [Attach(session, "n-1", 1, 1)], [Register(instance, session) for instance in instances]
        )

    @rule(
        sessions=st.lists(SESSIONS, min_size=1, max_size=3),
        kind=st.sampled_from([Suspect, Expire, Expire]),
        later_ms=WAITS,
    )
    def lose(self, sessions: list[str], kind: type[Suspect], later_ms: int) -> None:
        self.stamp_ms += later_ms
        self.apply(
            [
                kind(session, self.naive.sessions.get(session, {"attachment": 0})["attachment"])
                for session in sessions
            ]
        )

    @rule(later_ms=WAITS)
    def sweep(self, later_ms: int) -> None:
        self.stamp_ms += later_ms
        self.apply([Sweep()])

    @rule(back_ms=st.integers(1, 10_000))
    def stamp_an_entry_too_early(self, back_ms: int) -> None:
        self.stamp_ms -= back_ms
        self.apply([Sweep()])
        self.stamp_ms += back_ms

    @precondition(lambda self: self.expected is None)
    @rule()
    def begin_a_snapshot(self) -> None:
        self.expected = b"".join(dump(self.catalog))
        self.walk = dump(self.catalog, chunk_bytes=1)

    @precondition(lambda self: self.expected is not None)
    @rule(steps=st.integers(1, 4))
    def write_on(self, steps: int) -> None:
        for _ in range(steps):
            chunk = next(self.walk, None)
            if chunk is None:
                assert b"".join(self.written) == self.expected
                self.expected = None
                self.written = []
                break
            self.written.append(chunk)

    @rule()
    def read_back(self) -> None:
        before = digest(self.catalog)
        loaded = load(dump(self.catalog), changes_max=25, age_ms_max=60_000)
        assert digest(loaded) == before
        assert loaded.history.floor == self.catalog.revision
        self.catalog = loaded
        # A snapshot that is being written stays with the catalog that was left.

    @invariant()
    def the_same_instances(self) -> None:
        records = [
            shown(record)
            for name in self.catalog.service_names()
            for record in (self.catalog.service(name) or {}).values()
        ]
        assert by_identity(records) == by_identity(self.naive.entries)

    @invariant()
    def the_same_sessions(self) -> None:
        sessions: dict[str, Any] = {
            session.id: {
                "node": session.node,
                "attachment": session.attachment,
                "ttl": session.ttl_ms,
                "grace": session.grace_ms,
            }
            for session in self.catalog.sessions
        }
        assert sessions == self.naive.sessions
        for session in self.catalog.sessions:
            held = [shown(record) for record in self.catalog.held(session)]
            assert held == self.naive._of(session.id)

    @invariant()
    def the_same_queue_for_eviction(self) -> None:
        for name in ("orders", "carts"):
            service = self.catalog._services.get(name)
            orphans = [] if service is None else list(service.orphans)
            assert orphans == [each for of, each in self.naive.queue if of == name]

    @invariant()
    def a_watch_is_told_all_or_sent_back(self) -> None:
        floor = self.catalog.history.floor
        for cursor in range(max(0, floor - 3), self.catalog.revision + 1):
            for service in ("orders", "carts"):
                changes = self.catalog.since(service, cursor)
                expected = [
                    each
                    for each in self.naive.told
                    if each[0] > cursor and each[2]["service"] == service
                ]
                if changes is None:
                    assert cursor < floor
                    continue
                assert [(c.revision, c.kind, shown(c.record), c.at_ms) for c in changes] == expected

    @invariant()
    def the_counts_are_right(self) -> None:
        assert self.catalog.serial == self.naive.serial
        assert self.catalog.now_ms == self.naive.now_ms
        check_invariants(self.catalog)


CatalogAgainstNaive.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    # Without the phase that explains a failure: it traces every line, and takes minutes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
test_the_catalog_does_what_its_slow_twin_does = CatalogAgainstNaive.TestCase
