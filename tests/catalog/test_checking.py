"""Checks and nodes in the catalog."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.catalog.feed import Feed, check_invariants, instance

from waypost.catalog.snapshots import digest, dump, load
from waypost.checks import CHECKS_PER_OWNER_MAX, Check, CheckState, NodeEntry, cut_output
from waypost.commands import (
    Command,
    Deregister,
    Detach,
    DropCheck,
    DropNode,
    Expire,
    PutCheck,
    PutNode,
    ReapCheck,
    Refused,
    Register,
    ReportCheck,
    SetHealth,
    Suspect,
    decode_batch,
)
from waypost.model import HEALTHS

CHECK = Check("http", kind="http", target="http://10.0.0.1:8080/")


def put(check: Check = CHECK, status: str = "", output: str = "") -> PutCheck:
    return PutCheck("orders", "i-1", "", check, status, output)  # type: ignore[arg-type]


def report(status: str, output: str = "", check_id: str = "http") -> ReportCheck:
    return ReportCheck("orders", "i-1", "", check_id, status, output)  # type: ignore[arg-type]


def on_node(status: str, check_id: str = "disk", node: str = "m-1") -> PutCheck:
    return PutCheck("", "", node, Check(check_id, kind="manual"), status)  # type: ignore[arg-type]


def told(feed: Feed) -> list[tuple[str, str, str]]:
    return [(c.kind, c.record.health, c.record.why) for c in feed.changes]


def own(feed: Feed) -> tuple[CheckState, ...]:
    return feed.catalog.checks.own(("orders", "i-1"))


@pytest.fixture
def feed() -> Feed:
    feed = Feed()
    feed.one(Register(instance()))
    return feed


# The checks of an instance


def test_a_new_check_is_critical_until_somebody_says_otherwise(feed: Feed) -> None:
    feed.one(put())

    assert told(feed) == [("changed", "critical", "check 'http' is critical")]
    (state,) = own(feed)
    assert state == CheckState("orders", "i-1", "", CHECK, "critical", "", 1_000, 2)

    feed.one(report("passing", "200 OK"), later_ms=500)
    assert told(feed) == [("changed", "passing", "")]
    assert feed.record().since_ms == 1_500


def test_a_check_that_says_something_else_is_no_change_of_its_instance(feed: Feed) -> None:
    feed.one(put(status="passing"))
    before = feed.record()

    feed.one(report("passing", "in 3 ms"), later_ms=10)

    assert feed.changes == []
    assert feed.record() is before
    assert feed.last.rechecked == ["orders"]
    assert feed.catalog.checks.revision == feed.catalog.checks.revisions["orders"] == 3
    (state,) = own(feed)
    assert (state.output, state.since_ms, state.revision) == ("in 3 ms", 1_000, 3)


def test_a_check_that_says_the_same_again_changes_nothing(feed: Feed) -> None:
    feed.one(put(status="passing", output="in 3 ms"))
    before = digest(load(dump(feed.catalog)))
    kept = own(feed)

    feed.one(report("passing", "in 3 ms"))
    assert (feed.changes, feed.last.rechecked) == ([], [])
    feed.one(put())
    assert (feed.changes, feed.last.rechecked) == ([], [])
    assert own(feed) == kept
    assert digest(feed.catalog) != before, "only the revision moved"
    assert feed.catalog.checks.revision == 2


def test_a_check_that_is_put_again_keeps_its_status_and_output(feed: Feed) -> None:
    feed.one(put(status="warning", output="slow"))

    feed.one(put(msgspec.structs.replace(CHECK, interval_ms=5_000)), later_ms=10)

    (state,) = own(feed)
    assert (state.status, state.output, state.since_ms) == ("warning", "slow", 1_000)
    assert (state.check.interval_ms, state.revision) == (5_000, 3)
    feed.one(put(status="passing"))
    assert (own(feed)[0].status, own(feed)[0].output) == ("passing", "")


def test_the_worst_check_decides_and_is_named(feed: Feed) -> None:
    for check_id, status in (("b", "warning"), ("a", "passing"), ("c", "critical")):
        feed.one(put(Check(check_id, kind="manual"), status))
    assert feed.record().why == "check 'c' is critical"

    feed.one(report("warning", "", "c"))
    assert (feed.record().health, feed.record().why) == ("warning", "check 'b' is warning")
    feed.one(report("passing", "", "b"))
    feed.one(report("passing", "", "c"))
    assert (feed.record().health, feed.record().why) == ("passing", "")


def test_a_provider_that_finds_itself_worse_is_believed(feed: Feed) -> None:
    feed.one(put(status="warning"))

    feed.one(SetHealth("orders", "i-1", "critical", "no disk"))
    assert told(feed) == [("changed", "critical", "no disk")]
    feed.one(SetHealth("orders", "i-1", "starting", "warming up"))
    assert told(feed) == [("changed", "starting", "warming up")]
    feed.one(SetHealth("orders", "i-1", "passing"))
    assert told(feed) == [("changed", "warning", "check 'http' is warning")]


def test_what_a_provider_says_while_a_check_is_critical_is_remembered(feed: Feed) -> None:
    feed.one(put(status="critical"))

    feed.one(SetHealth("orders", "i-1", "warning", "half the pool"))
    assert feed.changes == []
    feed.one(report("passing"))

    assert told(feed) == [("changed", "warning", "half the pool")]


def test_whoever_is_drained_stays_so_whatever_its_checks_find(feed: Feed) -> None:
    feed.one(put(status="passing"))
    feed.one(SetHealth("orders", "i-1", "draining", "drain asked for"))

    feed.one(report("critical"))
    feed.one(Register(instance()))

    assert feed.record().health == "draining"
    assert feed.record().why == "drain asked for"
    feed.one(SetHealth("orders", "i-1", "passing"))
    assert feed.record().health == "critical"


def test_a_registration_anew_keeps_the_checks_and_what_they_found(feed: Feed) -> None:
    feed.one(put(status="critical", output="refused"))

    feed.one(Register(instance(port=81), health="passing"))

    assert [state.output for state in own(feed)] == ["refused"]
    assert (feed.record().health, feed.record().instance.port) == ("critical", 81)
    before = feed.record()
    feed.one(Register(instance(port=81), health="passing"))
    assert feed.record() is before


def test_the_checks_go_with_their_instance(feed: Feed) -> None:
    feed.one(put(status="critical"))

    feed.one(Deregister("orders", "i-1"))
    assert feed.last.rechecked == ["orders"]
    feed.one(Register(instance()))

    assert own(feed) == ()
    assert feed.record().health == "passing"
    assert feed.catalog.checks.count == 0
    check_invariants(feed.catalog)


def test_the_checks_go_with_a_session_that_ends() -> None:
    feed = Feed()
    feed.attach()
    feed.one(Register(instance(), "s-1"))
    feed.one(put())

    feed.one(Detach("s-1"))

    assert feed.catalog.checks.count == 0
    assert feed.catalog.checks.revisions == {}
    assert feed.catalog.checks.revision == feed.catalog.revision


def test_an_instance_without_its_last_check_is_what_it_declares(feed: Feed) -> None:
    feed.one(SetHealth("orders", "i-1", "warning", "slow"))
    feed.one(put(status="critical"))

    feed.one(DropCheck("orders", "i-1", "", "http"))

    assert told(feed) == [("changed", "warning", "slow")]
    assert feed.catalog.checks.instances == {}
    assert feed.catalog.checks.revisions == {"orders": feed.catalog.revision}


def test_a_doubt_and_a_check_do_not_hide_each_other() -> None:
    feed = Feed()
    attachment = feed.attach()
    feed.one(Register(instance(), "s-1"))
    feed.one(put(status="passing"))

    feed.one(Suspect("s-1", attachment))
    assert (feed.record().suspect, feed.record().why) == (True, "connection lost")
    feed.one(report("critical"))
    assert (feed.record().suspect, feed.record().why) == (True, "check 'http' is critical")
    feed.one(report("passing"))
    assert (feed.record().suspect, feed.record().why) == (True, "connection lost")
    feed.attach()
    assert (feed.record().suspect, feed.record().why) == (False, "")


def test_a_check_put_on_a_doubted_instance_does_not_make_the_doubt_its_own_word() -> None:
    feed = Feed()
    feed.one(Register(instance(), "s-1", "passing") if feed.attach() else Detach("s-1"))
    feed.one(Suspect("s-1", 1))

    feed.one(put(status="passing"))
    feed.attach()

    assert (feed.record().health, feed.record().why) == ("passing", "")


def test_outputs_are_cut_at_four_kib_and_never_within_a_character(feed: Feed) -> None:
    feed.one(put(status="passing", output="é" * 5_000))

    (state,) = own(feed)
    assert state.output == "é" * 2_048
    assert cut_output("x" + "é" * 5_000) == "x" + "é" * 2_047
    feed.one(report("passing", "é" * 4_000))
    assert feed.last.rechecked == []


# Refusals


def test_what_is_not_there_is_refused_with_what_to_do(feed: Feed) -> None:
    for command, code in (
        (PutCheck("carts", "i-1", "", CHECK), "unknown-service"),
        (PutCheck("orders", "i-2", "", CHECK), "unknown-instance"),
        (report("passing"), "unknown-check"),
        (DropCheck("orders", "i-1", "", "http"), "unknown-check"),
        (ReportCheck("", "", "m-1", "disk", "passing"), "unknown-check"),
        (PutCheck("", "", "", CHECK), "invalid"),
        (PutCheck("orders", "i-1", "m-1", CHECK), "invalid"),
        (DropNode("m-1"), "unknown-node"),
        (PutNode(NodeEntry("")), "invalid"),
    ):
        assert feed.refused(command).code == code
    assert feed.last.rechecked == []


def test_an_instance_has_a_bounded_number_of_checks(feed: Feed) -> None:
    for number in range(CHECKS_PER_OWNER_MAX):
        feed.one(put(Check(f"c-{number}", kind="manual")))

    assert "at most 64" in feed.refused(put(Check("more", kind="manual"))).message
    feed.one(put(Check("c-0", kind="manual", notes="known ones may still change")))


def test_an_instance_is_reaped_only_if_its_check_stayed_as_its_owner_saw_it(feed: Feed) -> None:
    feed.one(put(status="critical"))
    seen = own(feed)[0]
    feed.one(report("passing"), later_ms=10)
    assert feed.one(ReapCheck("orders", "i-1", "http", seen.since_ms)) == 0
    feed.one(report("critical"), later_ms=10)
    assert feed.one(ReapCheck("orders", "i-1", "http", seen.since_ms)) == 0
    assert feed.one(ReapCheck("orders", "i-1", "tcp", seen.since_ms)) == 0
    assert feed.one(ReapCheck("carts", "i-1", "http", seen.since_ms)) == 0

    assert feed.one(ReapCheck("orders", "i-1", "http", own(feed)[0].since_ms)) == 1

    assert [(c.kind, c.record.why) for c in feed.changes] == [
        ("down", "check 'http' stayed critical")
    ]
    assert feed.catalog.checks.count == 0


# Nodes


def test_the_check_of_a_node_counts_for_all_instances_on_it() -> None:
    feed = Feed()
    for name, node in (("i-2", "m-1"), ("i-1", "m-1"), ("i-3", "m-2"), ("i-4", "")):
        feed.one(Register(instance(name, node=node)))

    feed.one(on_node("critical"))

    assert [c.record.instance.id for c in feed.changes] == ["i-1", "i-2"]
    assert {c.record.why for c in feed.changes} == {"check 'disk' of node 'm-1' is critical"}
    assert sorted(feed.last.rechecked) == ["", "orders"]
    feed.one(DropCheck("", "", "m-1", "disk"))
    assert {c.record.health for c in feed.changes} == {"passing"}
    assert feed.catalog.checks.instances == {}


def test_an_instance_that_comes_to_a_node_is_as_its_checks_are() -> None:
    feed = Feed()
    feed.one(on_node("warning"))

    feed.one(Register(instance(node="m-1")))
    assert told(feed) == [("up", "warning", "check 'disk' of node 'm-1' is warning")]
    feed.one(Register(instance(node="m-2")))
    assert told(feed) == [("changed", "passing", "")]
    feed.one(Register(instance(node="m-1")))
    feed.one(Deregister("orders", "i-1"))

    assert feed.catalog.nodes.on("m-1") == []
    check_invariants(feed.catalog)


def test_a_node_is_registered_changed_and_dropped() -> None:
    feed = Feed()
    feed.one(Register(instance(node="m-1")))
    entry = NodeEntry("m-1", "10.0.0.7", "abc", {"lan": "10.0.0.7"}, {"rack": "r-1"})

    feed.one(PutNode(entry))
    assert feed.catalog.nodes.entries["m-1"] == msgspec.structs.replace(entry, revision=2)
    assert (feed.catalog.nodes.revision, feed.catalog.checks.revisions) == (2, {"orders": 2})
    feed.one(PutNode(entry))
    assert (feed.catalog.nodes.revision, feed.last.rechecked) == (2, [])
    feed.one(on_node("critical"))
    feed.one(DropNode("m-1"))

    assert feed.catalog.nodes.entries == {}
    assert feed.catalog.nodes.names == ["m-1"], "its instance stays"
    assert told(feed) == [("changed", "passing", "")]


# Against a second, obvious implementation

RANKS = ["passing", "warning", "starting", "critical", "draining"]
IDS = st.sampled_from(["i-1", "i-2", "i-3"])
NODES = st.sampled_from(["m-1", "m-2"])
CHECK_IDS = st.sampled_from(["a", "b"])
STATUSES = st.sampled_from(["passing", "warning", "critical"])
OWNERS = st.one_of(
    st.tuples(st.just("orders"), IDS, st.just("")), st.tuples(st.just(""), st.just(""), NODES)
)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        lambda i, n, h: Register(instance(i, node=n), "", h),
        IDS,
        st.one_of(st.just(""), NODES),
        st.sampled_from(HEALTHS),
    ),
    st.builds(Deregister, st.just("orders"), IDS),
    st.builds(SetHealth, st.just("orders"), IDS, st.sampled_from(HEALTHS), st.just("said so")),
    st.builds(
        lambda o, i, s: PutCheck(*o, Check(i, kind="manual"), s),
        OWNERS,
        CHECK_IDS,
        st.one_of(st.just(""), STATUSES),
    ),
    st.builds(lambda o, i: DropCheck(*o, i), OWNERS, CHECK_IDS),
    st.builds(
        lambda o, i, s, w: ReportCheck(*o, i, s, w),
        OWNERS,
        CHECK_IDS,
        STATUSES,
        st.sampled_from(["", "x"]),
    ),
    st.builds(DropNode, NODES),
)


class Plain:
    """What an instance declares, what checks found, and a maximum."""

    def __init__(self) -> None:
        self.declared: dict[str, str] = {}
        self.on: dict[str, str] = {}
        self.checks: dict[tuple[str, str], tuple[str, str]] = {}

    def apply(self, command: Any) -> None:
        owner = getattr(command, "node", "") or getattr(command, "id", "")
        match command:
            case Register():
                given = command.instance
                self.on[given.id] = given.node
                if self.declared.get(given.id) != "draining":
                    self.declared[given.id] = command.health
            case Deregister():
                if self.declared.pop(owner, None):
                    del self.on[owner]
                    self.drop(owner)
            case SetHealth() if owner in self.declared:
                self.declared[owner] = command.health
            case PutCheck() if command.node or owner in self.declared:
                status, output = self.checks.get((owner, command.check.id), ("critical", ""))
                if command.status:
                    status, output = command.status, ""
                self.checks[owner, command.check.id] = status, output
            case ReportCheck() if (owner, command.check_id) in self.checks:
                self.checks[owner, command.check_id] = command.status, command.output
            case DropCheck():
                self.checks.pop((owner, command.check_id), None)
            case DropNode():
                self.drop(owner)

    def drop(self, owner: str) -> None:
        self.checks = {key: found for key, found in self.checks.items() if key[0] != owner}

    def health(self, instance_id: str) -> str:
        found = [
            status
            for (owner, _), (status, _) in self.checks.items()
            if owner in (instance_id, self.on[instance_id])
        ]
        return max([self.declared[instance_id], *found], key=RANKS.index)


@given(entries=st.lists(st.lists(COMMANDS, min_size=1, max_size=4), max_size=25), cut=st.data())
def test_an_instance_is_always_as_bad_as_the_worst_that_is_known_of_it(
    entries: list[list[Command]], cut: st.DataObject
) -> None:
    feed, plain = Feed(), Plain()
    shown: dict[str, str] = {}
    checks: dict[tuple[str, str], tuple[str, str]] = {}
    for commands in entries:
        feed.apply(*commands)
        for command in commands:
            plain.apply(command)
        expected = {name: plain.health(name) for name in plain.declared}
        assert {
            name: record.health for name, record in (feed.catalog.service("orders") or {}).items()
        } == expected
        found = {
            (state.node or state.id, state.check.id): (state.status, state.output)
            for states in (
                *(held.checks for held in feed.catalog.checks.instances.values()),
                *feed.catalog.checks.nodes.values(),
            )
            for state in states
        }
        assert found == plain.checks
        if found != checks:
            assert feed.last.rechecked
            assert feed.catalog.checks.revision == feed.catalog.revision
        for change in feed.changes:  # a watcher that follows the changes ends at the same
            if change.kind == "down":
                del shown[change.record.instance.id]
            else:
                shown[change.record.instance.id] = change.record.health
        assert shown == expected
        checks = found
        check_invariants(feed.catalog)
        if cut.draw(st.booleans()):
            before = digest(feed.catalog)
            feed.catalog = load(dump(feed.catalog))
            assert digest(feed.catalog) == before


def test_an_entry_from_before_there_were_nodes_still_decodes() -> None:
    written = bytes.fromhex(
        "92cd03e8919195019ba66f7264657273a3692d31a831302e302e302e3150cb3ff8000000000000a161a131"
        "91a17881a16ba17681a16d0103a0a77761726e696e67a4736c6f77"
    )

    ((command,),) = decode_batch(written).parts

    assert isinstance(command, Register)
    assert (command.instance.node, command.instance.incarnation) == ("", 3)
    assert (command.health, command.why) == ("warning", "slow")


def test_an_evicted_instance_takes_its_checks_along() -> None:
    feed = Feed()
    attachment = feed.attach()
    feed.one(Register(instance(), "s-1"))
    feed.one(put())

    assert feed.one(Expire("s-1", attachment)) == 1

    assert feed.catalog.checks.count == 0
    assert not isinstance(feed.apply(Register(instance()))[0], Refused)
