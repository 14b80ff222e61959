"""Keys, holders, transactions and events, entry by entry."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waypost.catalog.holders import HOLDERS_MAX, session_of
from waypost.catalog.keys import Pair
from waypost.catalog.keyspace import EVENTS_MAX, Miss
from waypost.catalog.snapshots import digest, dump, load
from waypost.catalog.state import Applied, Catalog
from waypost.catalog.transacting import (
    OPERATIONS_MAX,
    READ_BYTES_MAX,
    Transacted,
    decode_transacted,
)
from waypost.checks import Check, NodeEntry
from waypost.commands import (
    Attach,
    CheckKey,
    CloseHolder,
    Command,
    Deregister,
    Detach,
    DropCheck,
    DropKey,
    DropNode,
    Expire,
    FireEvent,
    KeyOperation,
    LogBatch,
    OpenHolder,
    Operation,
    Outcome,
    PutCheck,
    PutKey,
    PutNode,
    ReadKey,
    Refused,
    Register,
    ReportCheck,
    Transact,
    decode_batch,
    encode_batch,
    encode_part,
)
from waypost.errors import UnknownHolder
from waypost.model import Instance


class World:
    """A catalog and its log."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.applied: Applied
        self.stamp_ms = 1_000

    def do(self, *commands: Command) -> Outcome:
        """One entry; the outcome of its last command."""
        payload = encode_batch(self.stamp_ms, [encode_part(list(commands))])
        self.applied = self.catalog.apply(self.catalog.revision + 1, decode_batch(payload))
        return self.applied.outcomes[0][-1]

    def find(self, key: str) -> Pair | None:
        return self.catalog.keyspace.keys.find(key)

    def at(self, key: str) -> Pair:
        found = self.find(key)
        assert found is not None
        return found

    def holder(self, name: str = "h", *, behavior: Any = "release", delay_ms: int = 0) -> str:
        assert isinstance(self.do(OpenHolder(name, "", "n", 0, behavior, delay_ms)), int)
        return name

    def transact(self, *operations: Operation) -> Transacted:
        outcome = self.do(Transact(list(operations)))
        assert isinstance(outcome, bytes)
        return decode_transacted(outcome)

    @property
    def touched(self) -> list[str]:
        touched = self.applied.touched
        return [] if touched is None else list(touched.keys)


def test_a_key_is_created_changed_and_removed() -> None:
    world = World()

    assert world.do(PutKey("a", b"1", 7)) == 1
    assert world.at("a") == Pair("a", b"1", 7, 0, "", 1, 1)
    assert world.touched == ["a"]
    assert world.do(PutKey("a", b"2")) == 1
    assert world.at("a") == Pair("a", b"2", 0, 0, "", 1, 2)
    assert world.do(DropKey("a")) == 1
    assert world.find("a") is None
    assert world.touched == ["a"]


def test_what_changes_nothing_touches_nothing() -> None:
    world = World()
    world.do(PutKey("a", b"1"))

    for idle in (PutKey("a", b"1"), DropKey("b"), DropKey("b", is_prefix=True)):
        assert world.do(idle) == 1
        assert world.applied.touched is None
        assert world.catalog.keyspace.keys.revision == 1


def test_check_and_set_asks_for_the_revision_or_for_none() -> None:
    world = World()

    assert world.do(PutKey("a", b"1", cas=5)) == 0
    assert world.do(PutKey("a", b"1", cas=0)) == 1
    assert world.do(PutKey("a", b"2", cas=0)) == 0
    assert world.do(PutKey("a", b"2", cas=1)) == 0
    assert world.do(PutKey("a", b"2", cas=2)) == 1
    assert world.do(DropKey("a", cas=2)) == 0
    assert world.at("a").revision == 5
    assert world.do(DropKey("a", cas=5)) == 1
    assert world.do(DropKey("a", cas=5)) == 1  # it is gone already


def test_one_holder_at_a_time_has_a_key() -> None:
    world = World()
    one, two = world.holder("one"), world.holder("two")

    assert world.do(PutKey("lock", b"", acquire=one)) == 1
    assert world.do(PutKey("lock", b"", acquire=two)) == 0
    assert world.do(PutKey("lock", b"mine", acquire=one)) == 1  # again, and anew
    assert world.at("lock").lock_index == 1
    assert world.do(PutKey("lock", b"stolen")) == 1  # locks are advisory
    assert (world.at("lock").holder, world.at("lock").lock_index) == (one, 1)
    assert world.do(PutKey("lock", b"", release=two)) == 0
    assert world.do(PutKey("lock", b"", release=one)) == 1
    assert world.do(PutKey("lock", b"", acquire=two)) == 1
    assert (world.at("lock").holder, world.at("lock").lock_index) == (two, 2)


def test_who_is_not_open_acquires_nothing() -> None:
    world = World()

    outcome = world.do(PutKey("lock", b"", acquire="nobody"))

    assert isinstance(outcome, Refused)
    assert outcome.code == UnknownHolder.code
    assert world.do(PutKey("lock", b"", release="nobody")) == 0


def test_a_holder_that_ends_lets_its_keys_go_and_holds_them_back_for_its_lock_delay() -> None:
    world = World()
    one, two = world.holder("one", delay_ms=5_000), world.holder("two")
    world.do(PutKey("lock", b"x", acquire=one))

    assert world.do(CloseHolder(one)) == 1
    assert world.touched == ["lock"]
    assert world.applied.touched is not None
    assert world.applied.touched.holders
    assert (world.at("lock").value, world.at("lock").holder) == (b"x", "")
    assert world.do(CloseHolder(one)) == 0

    world.stamp_ms += 4_999
    assert world.do(PutKey("lock", b"", acquire=two)) == 0
    world.stamp_ms += 1
    assert world.do(PutKey("lock", b"", acquire=two)) == 1


def test_who_was_read_back_holds_keys_back_in_the_order_of_who_was_not() -> None:
    def close(world: World, holder: str, key: str, delay_ms: int) -> None:
        opened = world.holder(holder, delay_ms=delay_ms)
        world.do(PutKey(key, b"", acquire=opened))
        world.do(CloseHolder(opened))

    live, read_back = World(), World()
    close(live, "one", "a", 1_000)
    close(live, "two", "b", 5_000)
    live.stamp_ms = read_back.stamp_ms = 3_000  # that of "a" is over, and no snapshot has it
    live.do(PutKey("c", b""))
    read_back.catalog = load(dump(live.catalog))

    close(live, "three", "a", 5_000)
    close(read_back, "three", "a", 5_000)

    assert digest(read_back.catalog) == digest(live.catalog)


def test_a_key_that_was_released_is_not_held_back() -> None:
    world = World()
    one, two = world.holder("one", delay_ms=5_000), world.holder("two")
    world.do(PutKey("lock", b"", acquire=one))
    world.do(PutKey("lock", b"", release=one))

    assert world.do(PutKey("lock", b"", acquire=two)) == 1


def test_a_holder_may_take_its_keys_with_it() -> None:
    world = World()
    one = world.holder("one", behavior="delete")
    world.do(PutKey("a", b"", acquire=one), PutKey("b", b"", acquire=one), PutKey("c", b""))

    world.do(CloseHolder(one))

    assert [pair.key for pair in world.catalog.keyspace.keys.under("")] == ["c"]
    assert world.catalog.keyspace.keys.revision_under("a") == 3


def leased(holder: str) -> list[Command]:
    return [
        Attach(session_of(holder), "n-1", 10_000, 10_000),
        OpenHolder(holder, "", "n", 10_000, "release", 0),
    ]


def test_a_holder_with_a_lease_ends_with_its_session() -> None:
    for number, make_end in enumerate((Expire, lambda session, _: Detach(session))):
        world = World()
        world.do(*leased("one"))
        world.do(PutKey("lock", b"", acquire="one"))
        session = world.catalog.session(session_of("one"))
        assert session is not None

        world.do(Expire(session.id, session.attachment - 1))  # of an earlier connection
        assert world.at("lock").holder == "one"
        world.do(make_end(session.id, session.attachment))

        assert world.at("lock").holder == "", number
        assert len(world.catalog.keyspace.holders) == 0
        assert world.touched == ["lock"]


def test_a_holder_that_is_closed_ends_its_session() -> None:
    world = World()
    world.do(*leased("one"))

    assert world.do(CloseHolder("one")) == 1

    assert world.catalog.session(session_of("one")) is None


def test_a_lease_needs_a_session_and_an_id_is_taken_once() -> None:
    world = World()

    assert isinstance(world.do(leased("one")[1]), Refused)
    assert isinstance(world.do(*leased("one")), int)
    assert isinstance(world.do(*leased("one")), Refused)
    assert isinstance(world.do(OpenHolder("", "", "n", 0, "release", 0)), Refused)
    assert len(world.catalog.keyspace.holders) == 1


def test_holders_are_bounded() -> None:
    world = World()
    opened: list[Command] = [
        OpenHolder(f"h-{number}", "", "n", 0, "release", 0) for number in range(HOLDERS_MAX + 1)
    ]

    assert isinstance(world.do(*opened), Refused)
    assert len(world.catalog.keyspace.holders) == HOLDERS_MAX


def test_a_transaction_is_done_whole() -> None:
    world = World()
    one = world.holder("one")
    world.do(PutKey("a/1", b"1"), PutKey("a/2", b"2"))

    done = world.transact(
        CheckKey("new"),
        CheckKey("a/1", revision=2),
        PutKey("new", b"n", 3),
        ReadKey("new"),
        PutKey("lock", b"", acquire=one),
        CheckKey("lock", holder=one),
        DropKey("a/1"),
        ReadKey("a/", is_prefix=True),
        ReadKey("none", may_miss=True),
    )

    assert done.missed == []
    assert done.pairs == [
        Pair("a/1", b"", 0, 0, "", 2, 2),
        Pair("new", b"", 3, 0, "", 3, 3),
        Pair("new", b"n", 3, 0, "", 3, 3),
        Pair("lock", b"", 0, 1, one, 3, 3),
        Pair("lock", b"", 0, 1, one, 3, 3),
        Pair("a/2", b"2", 0, 0, "", 2, 2),
        Pair("none", b"", 0, 0, "", 0, 0),
    ]
    assert set(world.touched) == {"new", "lock", "a/1"}
    assert [pair.key for pair in world.catalog.keyspace.keys.under("")] == ["a/2", "lock", "new"]


def test_a_transaction_of_which_a_part_misses_does_nothing_and_says_what_missed() -> None:
    world = World()
    one, two = world.holder("one"), world.holder("two")
    world.do(PutKey("a", b"1"), PutKey("lock", b"", acquire=one))
    before = list(world.catalog.keyspace.keys.under(""))

    done = world.transact(
        PutKey("new", b""),
        PutKey("a", b"", cas=1),
        DropKey("a", cas=1),
        PutKey("lock", b"", acquire=two),
        PutKey("lock", b"", release=two),
        ReadKey("none"),
        CheckKey("a"),
        CheckKey("a", revision=1),
        CheckKey("lock", holder=two),
        CheckKey("none", revision=1),
        PutKey("b", b"", acquire="nobody"),
        DropKey("", is_prefix=True),
    )

    assert done.pairs == []
    assert done.missed == [
        (1, Miss("stale")),
        (2, Miss("stale")),
        (3, Miss("held", one)),
        (4, Miss("not-held", one)),
        (5, Miss("missing")),
        (6, Miss("exists")),
        (7, Miss("revision", "3")),
        (8, Miss("holder", one)),
        (9, Miss("missing")),
        (10, Miss("unknown-holder", "nobody")),
    ]
    assert list(world.catalog.keyspace.keys.under("")) == before
    assert world.applied.touched is None


def test_a_transaction_is_bounded() -> None:
    world = World()
    for number in range(3):
        world.do(PutKey(f"k{number}", bytes(READ_BYTES_MAX // 2)))

    many = world.transact(*[PutKey(f"n{number}", b"") for number in range(OPERATIONS_MAX + 1)])
    large = world.transact(PutKey("n", b""), ReadKey("k", is_prefix=True))
    several = world.transact(ReadKey("k0"), ReadKey("k1"))

    assert many.missed == [(OPERATIONS_MAX, Miss("too-large"))]
    assert large.missed == [(1, Miss("too-large"))]
    assert several.missed == [(1, Miss("too-large"))]
    assert world.find("n") is None


def test_a_transaction_removes_a_tree_and_writes_into_it_again() -> None:
    world = World()
    world.do(PutKey("a/1", b""), PutKey("a/2", b""), PutKey("b", b""))

    world.transact(DropKey("a/", is_prefix=True), PutKey("a/3", b""))

    assert [pair.key for pair in world.catalog.keyspace.keys.under("")] == ["a/3", "b"]
    assert world.at("a/3").created == 2
    assert set(world.touched) == {"a/1", "a/2", "a/3"}


def test_the_latest_events_are_kept() -> None:
    world = World()

    for number in range(EVENTS_MAX + 3):
        assert world.do(FireEvent(f"id-{number}", "deploy", b"now")) == number + 1
    assert world.applied.touched is not None
    assert world.applied.touched.events

    events = world.catalog.keyspace.events
    assert [event.number for event in events] == list(range(4, EVENTS_MAX + 4))


KEYS = st.sampled_from(["a", "a/1", "a/2", "b"])
HOLDERS = st.sampled_from(["h-1", "h-2"])
CAS = st.sampled_from([-1, -1, 0, 1, 2, 3, 5, 8])
OPERATIONS: st.SearchStrategy[KeyOperation] = st.one_of(
    st.builds(
        PutKey,
        KEYS,
        st.sampled_from([b"", b"x"]),
        st.integers(0, 1),
        CAS,
        st.one_of(st.just(""), HOLDERS),
        st.one_of(st.just(""), st.just(""), HOLDERS),
    ),
    st.builds(DropKey, KEYS, st.booleans(), CAS),
    st.builds(ReadKey, KEYS, st.booleans(), st.booleans()),
    st.builds(CheckKey, KEYS, CAS, st.one_of(st.none(), HOLDERS)),
)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        PutKey,
        KEYS,
        st.sampled_from([b"", b"x"]),
        st.just(0),
        CAS,
        st.one_of(st.just(""), HOLDERS, HOLDERS),
    ),
    st.builds(PutKey, KEYS, st.just(b""), release=HOLDERS),
    st.builds(DropKey, KEYS, st.booleans(), CAS),
    st.builds(
        OpenHolder,
        HOLDERS,
        st.just(""),
        st.just("n"),
        st.just(0),
        st.sampled_from(["release", "delete"]),
        st.sampled_from([0, 50]),
    ),
    st.builds(CloseHolder, HOLDERS),
    st.builds(Transact, st.lists(OPERATIONS, max_size=5)),
)


class Naive:
    """The same, as plainly as it can be said: of each key its value, flags, holder and numbers."""

    def __init__(self) -> None:
        self.keys: dict[str, dict[str, Any]] = {}
        self.holders: dict[str, OpenHolder] = {}
        self.held_back: dict[str, int] = {}

    def put(self, it: PutKey, revision: int, now_ms: int) -> bool:
        entry = self.keys.get(it.key)
        if it.cas >= 0 and it.cas != (entry["revision"] if entry else 0):
            return False
        new = dict(entry) if entry else {"locks": 0, "holder": "", "created": revision}
        new.update(value=it.value, flags=it.flags)
        if it.acquire and new["holder"] != it.acquire:
            if it.acquire not in self.holders or new["holder"]:
                return False
            if self.held_back.get(it.key, 0) > now_ms:
                return False
            new.update(holder=it.acquire, locks=new["locks"] + 1)
        if it.release:
            if new["holder"] != it.release:
                return False
            new["holder"] = ""
        if new != entry:
            new["revision"] = revision
            self.keys[it.key] = new
        return True

    def drop(self, it: DropKey) -> bool:
        if it.is_prefix:
            self.keys = {k: v for k, v in self.keys.items() if not k.startswith(it.key)}
        elif it.key in self.keys:
            if it.cas >= 0 and self.keys[it.key]["revision"] != it.cas:
                return False
            del self.keys[it.key]
        return True

    def check(self, it: CheckKey) -> bool:
        entry = self.keys.get(it.key)
        if it.revision < 0 and it.holder is None:
            return entry is None
        if entry is None:
            return False
        fits = it.revision < 0 or it.revision == entry["revision"]
        return fits and (it.holder is None or it.holder == entry["holder"])

    def operate(self, it: Operation, revision: int, now_ms: int) -> bool:
        match it:
            case PutKey():
                return self.put(it, revision, now_ms)
            case DropKey():
                return self.drop(it)
            case CheckKey():
                return self.check(it)
            case ReadKey():
                return it.is_prefix or it.may_miss or it.key in self.keys
            case _:
                raise AssertionError(it)

    def apply(self, it: Command, revision: int, now_ms: int) -> None:
        match it:
            case PutKey() | DropKey():
                self.operate(it, revision, now_ms)
            case Transact():
                before = dict(self.keys)
                done = [self.operate(each, revision, now_ms) for each in it.operations]
                if not all(done):
                    self.keys = before
            case OpenHolder():
                self.holders.setdefault(it.id, it)
            case CloseHolder():
                holder = self.holders.pop(it.id, None)
                for key, entry in list(self.keys.items()):
                    if holder is not None and entry["holder"] == it.id:
                        if holder.lock_delay_ms:
                            self.held_back[key] = now_ms + holder.lock_delay_ms
                        if holder.behavior == "delete":
                            del self.keys[key]
                        else:
                            self.keys[key] = {**entry, "holder": "", "revision": revision}
            case _:
                raise AssertionError(it)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from([0, 10, 60]), COMMANDS), max_size=25))
def test_the_keyspace_does_what_the_plain_one_does(steps: list[tuple[int, Command]]) -> None:
    catalog, naive, now_ms = Catalog(), Naive(), 1_000
    shown: dict[str, tuple[object, int]] = {}

    for revision, (wait_ms, command) in enumerate(steps, 1):
        now_ms += wait_ms
        applied = catalog.apply(revision, LogBatch(now_ms, [[command]]))
        naive.apply(command, revision, now_ms)

        pairs = list(catalog.keyspace.keys.under(""))
        assert {
            pair.key: {
                "value": pair.value,
                "flags": pair.flags,
                "locks": pair.lock_index,
                "holder": pair.holder,
                "created": pair.created,
                "revision": pair.revision,
            }
            for pair in pairs
        } == naive.keys
        for key in ("a", "a/1", "a/2", "b"):
            found = catalog.keyspace.keys.find(key)
            if (found, found and found.revision) != shown.get(key, (None, None)):
                assert applied.touched is not None
                assert key in applied.touched.keys
            shown[key] = found, found and found.revision  # type: ignore[assignment]
        for pair in pairs:
            assert not pair.holder or catalog.keyspace.holders.find(pair.holder)

    assert digest(load(dump(catalog))) == digest(catalog)


# What a holder depends on


WEB = Instance("web", "web-1", "10.0.0.1", 80, node="n")


def checked(world: World, status: str = "passing") -> None:
    world.do(
        Register(WEB),
        PutCheck("web", "web-1", "", Check("service:web"), status),  # type: ignore[arg-type]
        PutCheck("", "", "n", Check("disk"), "passing"),
    )


def dependent(world: World) -> None:
    opened = OpenHolder("h", "", "n", 0, "release", 0, ("serfHealth", "disk"), ("service:web",))
    assert isinstance(world.do(opened), int)
    world.do(PutKey("lock", b"", acquire="h"))


@pytest.mark.parametrize(
    "end",
    [
        ReportCheck("web", "web-1", "", "service:web", "critical"),
        ReportCheck("", "", "n", "disk", "critical"),
        DropCheck("web", "web-1", "", "service:web"),
        DropCheck("", "", "n", "disk"),
        Deregister("web", "web-1"),
        Register(Instance("web", "web-1", "10.0.0.1", 80, node="other")),
    ],
)
def test_a_holder_ends_with_a_check_that_it_depends_on(end: Command) -> None:
    world = World()
    checked(world)
    dependent(world)

    for harmless in (
        ReportCheck("web", "web-1", "", "service:web", "warning"),
        ReportCheck("", "", "n", "disk", "passing", "fine"),
        PutCheck("", "", "n", Check("another"), "critical"),
    ):
        world.do(harmless)
        assert world.at("lock").holder == "h"
    world.do(end)

    assert world.at("lock").holder == ""
    assert world.touched == ["lock"]
    assert len(world.catalog.keyspace.holders) == 0
    assert not world.catalog.keyspace.holders.dependent


def test_a_holder_is_not_opened_on_a_check_that_is_critical_or_missing() -> None:
    world = World()
    opened = OpenHolder("h", "", "n", 0, "release", 0, (), ("service:web",))

    assert isinstance(world.do(opened), Refused)
    checked(world, "critical")
    assert isinstance(world.do(opened), Refused)
    world.do(ReportCheck("web", "web-1", "", "service:web", "passing"))
    assert isinstance(world.do(opened), int)


def test_a_node_takes_its_holders_with_it() -> None:
    world = World()
    world.do(PutNode(NodeEntry("n", "10.0.0.1")))
    world.holder("h")
    world.do(*leased("leased"))
    world.do(PutKey("lock", b"", acquire="h"))

    world.do(DropNode("n"))

    assert len(world.catalog.keyspace.holders) == 0
    assert world.catalog.session(session_of("leased")) is None
    assert world.at("lock").holder == ""


def test_what_depends_on_checks_is_read_back_from_a_snapshot() -> None:
    world = World()
    checked(world)
    dependent(world)

    world.catalog = load(dump(world.catalog))
    world.do(ReportCheck("", "", "n", "disk", "critical"))

    assert world.at("lock").holder == ""
