"""Transactions on nodes, services and checks: all or nothing, by the commands that there are."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.catalog.feed import Feed, instance

from waypost.catalog.keyspace import Miss
from waypost.catalog.snapshots import digest, dump, load
from waypost.catalog.state import Catalog
from waypost.catalog.transacting import Found, Transacted, decode_transacted
from waypost.checks import Check, NodeEntry
from waypost.commands import (
    Attach,
    CheckKey,
    Command,
    DropKey,
    LogBatch,
    OnCheck,
    OnNode,
    OnService,
    OpenHolder,
    Operation,
    PutCheck,
    PutKey,
    PutNode,
    ReadKey,
    Refused,
    Register,
    SetHealth,
    Suspect,
    Transact,
    decode_batch,
)

NODES = st.sampled_from(["m-1", "m-2"])
VERBS = st.sampled_from(["get", "set", "set", "set", "delete"])
IDS = st.sampled_from([("a@m", "a"), ("b@m", "b"), ("c@m",)])
CAS = st.sampled_from([-1, -1, -1, -1, 0, 1, 2, 3, 4])
CHECKS = st.builds(
    lambda name, notes: Check(name, kind="manual", notes=notes),
    st.sampled_from(["up", "disk"]),
    st.sampled_from(["", "n"]),
)
STATUSES = st.sampled_from(["passing", "warning", "critical"])


@st.composite
def services(draw: st.DrawFn) -> OnService:
    node, ids = draw(NODES), draw(IDS)
    service = draw(st.sampled_from(["orders", "carts"]))
    given = instance(ids[0], service, port=draw(st.integers(1, 2)), node=node)
    verb = draw(VERBS)
    return OnService(verb, node, ids, given if verb == "set" else None, draw(CAS), True)


OPERATIONS: st.SearchStrategy[Operation] = st.one_of(
    st.builds(OnNode, VERBS, st.builds(NodeEntry, NODES, st.sampled_from(["", "10.0.0.1"])), CAS),
    services(),
    services(),
    st.builds(
        OnCheck,
        VERBS,
        NODES,
        CHECKS,
        st.one_of(st.just(()), IDS),
        STATUSES,
        st.sampled_from(["", "found"]),
        CAS,
        st.booleans(),
    ),
    st.builds(PutKey, st.sampled_from(["k", "l"]), st.just(b"v"), st.just(0), CAS),
    st.builds(DropKey, st.sampled_from(["k", "l"])),
    st.builds(ReadKey, st.just("k"), st.just(False), st.booleans()),
)
BEFORE: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        lambda number, service, node, session: Register(
            instance(f"{'abc'[number]}", service, node=node), session
        ),
        st.integers(0, 2),
        st.sampled_from(["orders", "carts"]),
        st.sampled_from(["m-1", "m-2", ""]),
        st.sampled_from(["", "s-1"]),
    ),
    st.builds(PutNode, st.builds(NodeEntry, NODES)),
    st.builds(PutCheck, st.just(""), st.just(""), NODES, CHECKS, STATUSES),
    st.builds(PutCheck, st.just("orders"), st.just("a"), st.just(""), CHECKS, STATUSES),
    st.builds(SetHealth, st.just("orders"), st.just("b"), st.sampled_from(["draining", "warning"])),
    st.just(Suspect("s-1", 1)),
    st.just(OpenHolder("h", "", "m-1", 0, "release", 0, ("up",), ())),
)


def transact(feed: Feed, *operations: Operation) -> Transacted:
    (outcome,) = feed.apply(Transact(list(operations)))
    assert isinstance(outcome, bytes)
    return decode_transacted(outcome)


def known(catalog: Catalog) -> object:
    """All that is known beside revisions, and whether the indexes of it agree."""
    records = [
        record
        for name in catalog.service_names()
        for _, record in sorted((catalog.service(name) or {}).items())
    ]
    for record in records:
        key = record.instance.service, record.instance.id
        assert not record.instance.node or key in catalog.nodes.on(record.instance.node)
    owners = [catalog.checks.own((each.instance.service, each.instance.id)) for each in records]
    owners += [catalog.checks.of_node(name) for name in ("m-1", "m-2")]
    assert catalog.checks.count == sum(map(len, owners))
    return (
        [
            (structs.replace(it.instance, incarnation=0), it.health, it.why, it.suspect, it.session)
            for it in records
        ],
        [[structs.replace(each, revision=0, since_ms=0) for each in states] for states in owners],
        {name: each.address for name, each in catalog.nodes.entries.items()},
        [(pair.key, pair.value, pair.holder) for pair in catalog.keyspace.keys.under("")],
    )


def without_numbers(found: list[Found]) -> object:
    return [
        (
            each.entry and each.entry.address,
            each.record and (each.record.instance.id, each.record.instance.port),
            each.check and (each.check.check, each.check.status, each.check.output),
        )
        for each in found
    ]


@settings(max_examples=200)
@given(st.lists(BEFORE, max_size=6), st.lists(OPERATIONS, min_size=1, max_size=6))
def test_it_does_all_that_its_operations_do_one_by_one_or_nothing(
    before: list[Command], operations: list[Operation]
) -> None:
    feed = Feed()
    feed.apply(Attach("s-1", "n-1", 10_000, 2_000))
    feed.apply(*before)
    was, revision = known(feed.catalog), feed.catalog.revision
    one_by_one = Feed(load(dump(feed.catalog)))
    copy = Feed(load(dump(feed.catalog)))

    done = transact(feed, *operations)

    if done.missed:
        assert (done.pairs, done.found) == ([], [])
        assert known(feed.catalog) == was
        assert feed.changes == []
        assert feed.last.rechecked == []
        assert feed.last.touched is None
        assert feed.catalog.nodes.revision <= revision
        assert feed.catalog.checks.revision <= revision
    elif all(getattr(each, "cas", -1) <= 0 for each in operations):  # or revisions would differ
        each_done = [transact(one_by_one, operation) for operation in operations]
        assert not any(each.missed for each in each_done)
        assert known(one_by_one.catalog) == known(feed.catalog)
        found = [found for each in each_done for found in each.found]
        assert without_numbers(found) == without_numbers(done.found)
    assert transact(copy, *operations) == done
    assert digest(load(dump(feed.catalog))) == digest(feed.catalog)


def test_a_session_ends_after_the_last_operation() -> None:
    feed = Feed()
    feed.apply(PutCheck("", "", "m-1", Check("up", kind="manual"), "passing"))
    feed.apply(OpenHolder("h", "", "m-1", 0, "release", 0, ("up",), ()))

    done = transact(feed, OnCheck("delete", "m-1", Check("up")), PutKey("lock", b"", acquire="h"))

    assert [pair.holder for pair in done.pairs] == ["h"]
    pair = feed.catalog.keyspace.keys.find("lock")
    assert pair is not None
    assert pair.holder == ""
    assert feed.catalog.keyspace.holders.find("h") is None


def test_what_is_full_is_said_with_the_limit() -> None:
    feed = Feed()
    feed.apply(PutNode(NodeEntry("m-1")))
    many = [OnCheck("set", "m-1", Check(f"c-{number}", kind="manual")) for number in range(65)]

    done = transact(feed, *many)

    ((number, miss),) = done.missed
    assert (number, miss.kind) == (64, "full")
    assert "at most 64" in miss.found
    assert feed.catalog.checks.count == 0


def test_what_no_door_sends_is_an_outcome_too() -> None:
    feed = Feed()

    done = transact(
        feed,
        OnNode("set", NodeEntry("")),
        OnService("set", "m-1", ("a",), None, is_server=True),
    )

    assert [(number, miss.kind) for number, miss in done.missed] == [(0, "full"), (1, "no-node")]
    assert done.missed[1][1] == Miss("no-node")
    assert not any(isinstance(outcome, Refused) for outcome in feed.last.outcomes[0])


def test_a_transaction_in_an_older_log_and_its_outcome_read_as_they_did() -> None:
    kept = "920a91919224939720a16bc4017600ffa0a09425a16bc2c29426a16b03c0"

    command = Transact([PutKey("k", b"v"), ReadKey("k"), CheckKey("k", 3)])

    assert decode_batch(bytes.fromhex(kept)) == LogBatch(10, [[command]])
    assert decode_transacted(bytes.fromhex("929091920192a76d697373696e67a0")) == Transacted(
        [], [(1, Miss("missing"))]
    )
