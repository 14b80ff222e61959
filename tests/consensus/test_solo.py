"""A cluster of one keeps the contract: nothing is told that a power loss could take back."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from waypost.consensus import (
    FOREVER,
    KIND_BATCH,
    KIND_SEAL,
    Ballot,
    Boot,
    Done,
    Entry,
    Hard,
    Ready,
    Snap,
    Write,
)
from waypost.consensus.entry import encode, parse
from waypost.consensus.solo import SoloCore
from waypost.errors import Invalid, ProtocolViolation


def ready(core: SoloCore) -> Ready:
    found = core.ready()
    assert found is not None
    return found


def drain(core: SoloCore) -> list[Ready]:
    found: list[Ready] = []
    while (one := core.ready()) is not None:
        found.append(one)
    return found


def started(boot: Boot | None = None, **bounds: int) -> SoloCore:
    core = SoloCore(1, boot or Boot(), **bounds)
    drain(core)
    return core


def log_of(*payloads: bytes, epoch: int = 1, seal_at: int = 0) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    for index, payload in enumerate(payloads, 1):
        prev = entries[-1].chain if entries else 0
        kind = KIND_SEAL if index == seal_at else KIND_BATCH
        entries.append(encode(index, Ballot(epoch, 1, 1), kind, payload, prev))
    return tuple(entries)


def test_a_proposal_is_answered_only_when_it_is_durable() -> None:
    core = started()

    core.propose(1, b"a", 7)
    first = ready(core)
    assert first.write is not None
    assert first.write.sync
    assert (first.done, first.commit) == ((), 0)
    assert core.ready() is None

    core.persisted(2, first.write.seq)
    assert ready(core) == Ready(1, done=(Done(7, "committed", 1, 1),))
    assert core.ready() is None


def test_all_that_came_since_the_last_ready_is_one_write() -> None:
    core = started()

    for token in range(5):
        core.propose(1, b"x", token)
    write = ready(core).write

    assert write is not None
    assert [entry.index for entry in write.entries] == [1, 2, 3, 4, 5]
    core.persisted(1, write.seq)
    assert [done.token for done in ready(core).done] == [0, 1, 2, 3, 4]


def test_several_writes_may_be_on_their_way_and_one_report_covers_all_before_it() -> None:
    core = started()
    writes: list[Write] = []
    for token in (1, 2, 3):
        core.propose(0, b"x", token)
        write = ready(core).write
        assert write is not None
        writes.append(write)

    assert [write.seq for write in writes] == [1, 2, 3]
    core.persisted(1, 2)
    assert [done.token for done in ready(core).done] == [1, 2]
    core.persisted(2, 3)
    assert [done.token for done in ready(core).done] == [3]


def test_entries_are_chained_and_carry_the_cores_ballot() -> None:
    core = started()
    core.propose(0, b"a", 1)
    core.propose(0, b"b", 2)
    write = ready(core).write
    assert write is not None

    first, second = (parse(entry.frame) for entry in write.entries)

    assert first.frame[44:48] == bytes(4)
    assert second.frame[44:48] == first.frame[:4]
    assert first.ballot == core.status.ballot


def test_the_first_write_carries_the_promise_and_later_ones_do_not() -> None:
    core = started()
    core.propose(0, b"a", 1)
    first = ready(core).write
    core.propose(0, b"b", 2)
    second = ready(core).write
    assert first is not None
    assert second is not None

    assert first.hard == Hard(core.status.ballot, core.status.ballot, 0)
    assert second.hard is None


def test_a_read_is_confirmed_at_what_is_durable_and_not_at_what_is_appended() -> None:
    core = started()
    core.propose(0, b"a", 1)
    write = ready(core).write
    assert write is not None

    core.read(1, 100)
    assert ready(core).reads == ((100, 0),)

    core.persisted(2, write.seq)
    core.read(2, 101)
    assert ready(core).reads == ((101, 1),)


def test_a_read_after_an_answer_sees_what_was_answered() -> None:
    core = started()
    core.propose(0, b"a", 1)
    write = ready(core).write
    assert write is not None
    core.persisted(1, write.seq)
    done = ready(core).done[0]

    core.read(2, 2)

    assert ready(core).reads[0][1] >= done.index


def test_everything_found_at_restart_is_committed() -> None:
    core = SoloCore(1, Boot(Hard(Ballot(1, 1, 1)), entries=log_of(b"a", b"b")))

    first = ready(core)

    assert first.commit == 2
    assert first.write is None
    assert first.status is not None
    assert first.status.role == "leader"
    assert [bytes(entry.payload) for entry in core.entries(1, 2)] == [b"a", b"b"]


def test_a_restart_goes_on_with_the_chain_and_a_higher_round() -> None:
    entries = log_of(b"a", b"b")
    core = started(Boot(Hard(Ballot(1, 4, 1)), entries=entries))

    core.propose(0, b"c", 1)
    write = ready(core).write

    assert write is not None
    assert write.entries[0].index == 3
    assert write.entries[0].ballot == Ballot(1, 5, 1)
    assert write.entries[0].frame[44:48] == entries[-1].frame[:4]


def test_a_restart_behind_a_snapshot_goes_on_with_the_snapshots_chain() -> None:
    core = started(Boot(Hard(Ballot(1, 1, 1)), Snap(10, Ballot(1, 1, 1), KIND_BATCH, 0xABCD)))

    core.propose(0, b"c", 1)
    write = ready(core).write

    assert write is not None
    assert write.entries[0].index == 11
    assert write.entries[0].frame[44:48] == (0xABCD).to_bytes(4, "little")
    assert core.status.commit == 10


def test_a_full_disk_refuses_proposals_and_finishes_what_was_accepted() -> None:
    core = started()
    core.propose(0, b"a", 1)

    core.space(False)
    core.propose(0, b"b", 2)
    core.read(0, 3)
    first = ready(core)
    assert first.write is not None
    core.persisted(0, first.write.seq)
    second = ready(core)
    core.space(True)
    core.propose(0, b"c", 4)

    assert first.done == (Done(2, "refused", 0, 1),)
    assert first.reads == ((3, 0),)
    assert second.done == (Done(1, "committed", 1, 1),)
    write = ready(core).write
    assert write is not None
    assert write.entries[0].index == 2


def test_uncommitted_bytes_are_bounded_by_refusal_and_not_by_queueing() -> None:
    core = started(uncommitted_bytes_max=100)

    for token in (1, 2, 3):
        core.propose(0, bytes(50), token)
    first = ready(core)
    assert first.done == (Done(3, "refused", 0, 1),)
    assert first.write is not None
    core.persisted(0, first.write.seq)
    drain(core)
    core.propose(0, bytes(50), 4)

    write = ready(core).write
    assert write is not None
    assert len(write.entries) == 1


def test_a_batch_of_any_size_goes_through_when_nothing_else_waits() -> None:
    core = started(uncommitted_bytes_max=100)

    core.propose(0, bytes(5000), 1)

    write = ready(core).write
    assert write is not None
    assert len(write.entries) == 1


def test_nothing_is_taken_behind_a_seal_and_nothing_read_after_it() -> None:
    core = started()
    core.propose(0, b"a", 1)
    core.seal(0, b"next epoch", 2)
    core.propose(0, b"b", 3)
    core.seal(0, b"another", 4)
    core.read(0, 5)
    first = ready(core)
    assert first.write is not None
    assert [entry.kind for entry in first.write.entries] == [KIND_BATCH, KIND_SEAL]
    assert [(done.token, done.what) for done in first.done] == [(3, "refused"), (4, "refused")]
    assert first.reads == ((5, 0),)
    assert core.status.sealed == 0

    core.persisted(1, first.write.seq)
    core.read(1, 6)
    second = ready(core)

    assert [(done.token, done.what) for done in second.done] == [(1, "committed"), (2, "committed")]
    assert second.reads_failed == (6,)
    assert second.status is not None
    assert second.status.sealed == 2
    assert second.commit == 2


def test_a_restart_behind_a_seal_stays_sealed() -> None:
    boot = Boot(Hard(Ballot(1, 1, 1)), entries=log_of(b"a", b"seal", b"stray", seal_at=2))
    core = SoloCore(1, boot)

    core.propose(0, b"b", 1)
    found = ready(core)

    assert found.commit == 2
    assert found.done[0].what == "refused"
    assert found.status is not None
    assert found.status.sealed == 2


def test_a_seal_that_only_a_snapshot_remembers_still_seals() -> None:
    core = started()
    core.propose(0, b"a", 1)
    core.seal(0, b"end", 2)
    write = ready(core).write
    assert write is not None
    core.persisted(0, write.seq)
    core.applied(0, 2)
    snap = core.snap(2)

    again = started(Boot(Hard(Ballot(1, 1, 1), commit=2), snap))
    again.propose(0, b"b", 1)

    assert ready(again).done[0].what == "refused"


def test_the_seal_of_an_earlier_epoch_ends_nothing_now() -> None:
    boot = Boot(Hard(Ballot(2, 1, 1)), entries=log_of(b"a", b"seal", seal_at=2))
    core = started(boot)

    core.propose(0, b"b", 1)

    write = ready(core).write
    assert write is not None
    assert write.entries[0].ballot.epoch == 2
    assert core.status.sealed == 0


def test_compaction_frees_the_log_and_marks_the_snapshot_in_the_next_write() -> None:
    core = started()
    for token in range(4):
        core.propose(0, b"x", token)
    write = ready(core).write
    assert write is not None
    core.persisted(0, write.seq)
    core.applied(0, 3)
    drain(core)

    snap = core.snap(3)
    core.compact(snap)
    mark = ready(core).write

    assert mark == Write(2, snap=snap)
    assert mark.sync
    assert [entry.index for entry in core.entries(4, 4)] == [4]
    with pytest.raises(AssertionError, match="outside 4 to 4"):
        core.entries(3, 4)
    assert core.snap(3) == snap
    core.compact(snap)
    assert core.ready() is None


def test_no_snapshot_is_taken_of_what_is_not_applied() -> None:
    core = started()
    core.propose(0, b"x", 1)
    write = ready(core).write
    assert write is not None
    core.persisted(0, write.seq)

    with pytest.raises(AssertionError, match="not applied"):
        core.snap(1)


def test_a_snapshot_of_another_log_is_not_taken_for_this_one() -> None:
    core = started()
    core.propose(0, b"x", 1)
    write = ready(core).write
    assert write is not None
    core.persisted(0, write.seq)
    core.applied(0, 1)

    with pytest.raises(AssertionError, match="not of this log"):
        core.compact(Snap(1, Ballot(9, 9, 9), KIND_BATCH, 1))


def test_nothing_is_applied_that_is_not_committed_and_nothing_twice() -> None:
    core = started()
    core.propose(0, b"x", 1)
    write = ready(core).write
    assert write is not None

    with pytest.raises(AssertionError, match="applied 1 is outside 0 to 0"):
        core.applied(0, 1)
    core.persisted(0, write.seq)
    core.applied(0, 1)
    with pytest.raises(AssertionError, match="applied 0 is outside 1 to 1"):
        core.applied(0, 0)


def test_a_write_that_was_never_handed_out_cannot_be_durable() -> None:
    core = started()

    with pytest.raises(AssertionError, match="never handed out"):
        core.persisted(0, 1)


def test_time_does_not_go_back() -> None:
    core = started()
    core.tick(10)

    with pytest.raises(AssertionError, match="time went back"):
        core.tick(9)


def test_it_waits_for_nobody() -> None:
    core = started()

    assert core.deadline == FOREVER
    core.tick(FOREVER)
    assert core.ready() is None


def test_a_message_to_a_cluster_of_one_breaks_the_protocol() -> None:
    core = started()

    with pytest.raises(ProtocolViolation, match="node 2 sent Hard"):
        core.receive(0, 2, Hard())
    with pytest.raises(ProtocolViolation, match="cluster of one"):
        core.snapshot_staged(0, 2, Ballot(1, 1, 2), Snap(1, Ballot(1, 1, 2), 0, 0))
    with pytest.raises(AssertionError, match="was not asked"):
        core.snapshot_sent(0, 2, 1, True)


def test_leadership_goes_to_nobody_else() -> None:
    core = started()

    core.transfer(0, 1)
    with pytest.raises(Invalid, match="node 2 is not a member"):
        core.transfer(0, 2)


def test_a_damaged_log_is_not_for_a_cluster_of_one() -> None:
    with pytest.raises(AssertionError, match="cannot repair"):
        SoloCore(1, Boot(Hard(suspect=True)))
    with pytest.raises(AssertionError, match="cannot repair"):
        SoloCore(1, Boot(entries=log_of(b"a"), faulty=(1,)))


INPUTS = st.lists(
    st.tuples(st.sampled_from(["propose", "read", "ready", "persist", "space"]), st.binary()),
    max_size=40,
)


@given(INPUTS)
def test_the_same_inputs_give_the_same_outputs(inputs: list[tuple[str, bytes]]) -> None:
    def run() -> list[Ready | None]:
        core = SoloCore(1, Boot())
        outputs: list[Ready | None] = []
        seq = 0
        for token, (verb, payload) in enumerate(inputs):
            match verb:
                case "propose":
                    core.propose(token, payload, token)
                case "read":
                    core.read(token, token)
                case "persist":
                    core.persisted(token, seq)
                case "space":
                    core.space(len(payload) % 2 == 0)
                case _:
                    outputs.append(core.ready())
                    last = outputs[-1]
                    if last is not None and last.write is not None:
                        seq = last.write.seq
        return outputs

    assert run() == run()


class SoloMachine(RuleBasedStateMachine):
    """A core against a plain list of durable writes, with crashes in between."""

    def __init__(self) -> None:
        super().__init__()
        self.core = SoloCore(1, Boot(), uncommitted_bytes_max=200)
        self.disk: list[Write] = []  # durable
        self.under_way: list[Write] = []
        self.asked: dict[int, str] = {}  # token: payload
        self.answers: dict[int, Done] = {}
        self.promised: dict[int, bytes] = {}  # index: payload that was answered as committed
        self.applied: list[bytes] = []
        self.token = 0
        self.now = 0
        self.floor = 0  # what every later read must see

    @rule(payload=st.binary(max_size=80))
    def propose(self, payload: bytes) -> None:
        self.token += 1
        self.asked[self.token] = payload.hex()
        self.core.propose(self.now, payload, self.token)

    @rule()
    def read(self) -> None:
        self.token += 1
        self.core.read(self.now, self.token)
        self.step()

    @rule()
    def step(self) -> None:
        self.now += 1
        while (found := self.core.ready()) is not None:
            if found.write is not None:
                self.under_way.append(found.write)
            for entry in self.core.entries(len(self.applied) + 1, found.commit):
                self.applied.append(bytes(entry.payload))
            self.core.applied(self.now, found.commit)
            for done in found.done:
                assert done.token not in self.answers
                self.answers[done.token] = done
                if done.what == "committed":
                    payload = bytes.fromhex(self.asked[done.token])
                    assert self.applied[done.index - 1] == payload
                    self.promised[done.index] = payload
                    self.floor = max(self.floor, done.index)
            for _, index in found.reads:
                assert self.floor <= index <= found.commit
        waiting = [token for token in self.asked if token not in self.answers]
        assert len(waiting) == self.core.status.last - self.core.status.commit

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def become_durable(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, len(self.under_way)))
        done, self.under_way = self.under_way[:count], self.under_way[count:]
        self.disk += done
        self.core.persisted(self.now, done[-1].seq)

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        kept = data.draw(st.integers(0, len(self.under_way)))
        self.disk += self.under_way[:kept]
        self.under_way = []
        hard = Hard()
        entries: list[Entry] = []
        for write in self.disk:
            hard = write.hard or hard
            entries += write.entries
        self.core = SoloCore(1, Boot(hard, entries=tuple(entries)), uncommitted_bytes_max=200)
        self.asked = {}
        assert [bytes(entry.payload) for entry in entries][: len(self.applied)] == self.applied
        self.step()

    @invariant()
    def nothing_answered_is_ever_lost(self) -> None:
        for index, payload in self.promised.items():
            assert self.applied[index - 1] == payload


SoloMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSolo = SoloMachine.TestCase


def test_every_token_is_answered_exactly_once() -> None:
    core = started(uncommitted_bytes_max=64)
    answers: list[int] = []
    failed: list[int] = []
    for token in range(300):
        match token % 5:
            case 0 | 1 | 2:
                core.propose(token, bytes(token % 40), token)
            case 3:
                core.read(token, token)
            case _:
                core.space(token % 3 != 0)
        if token == 250:
            core.space(True)
            core.seal(token, b"end", 1000)
        if token % 4 == 0:
            for found in drain(core):
                if found.write is not None:
                    core.persisted(token, found.write.seq)
                answers += [done.token for done in found.done]
                answers += [read for read, _ in found.reads]
                failed += found.reads_failed
    core.space(True)
    for _ in range(3):
        for found in drain(core):
            if found.write is not None:
                core.persisted(300, found.write.seq)
            answers += [done.token for done in found.done]
            answers += [read for read, _ in found.reads]
            failed += found.reads_failed

    expected = [token for token in range(300) if token % 5 != 4] + [1000]
    assert sorted(answers + failed) == sorted(expected)
    assert failed
