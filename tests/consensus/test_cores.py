"""What both replicated cores promise at their surface, beyond the scripts."""

import pytest

from waypost.consensus.core import NO_SNAP, Ballot, Boot, Core, Hard
from waypost.consensus.entry import KIND_BATCH, NO_BALLOT, encode
from waypost.consensus.epoch import Epoch, Peer
from waypost.consensus.messages import Append, Promise, Repaired
from waypost.consensus.settings import CLOUD, LAN, Settings
from waypost.errors import CorruptData, Invalid

from .hosts import ENGINES

EPOCH = Epoch(1, 1, "", {nid: Peer(str(nid), "") for nid in (1, 2, 3)}, 1, 1)


STARTED = Boot(Hard(Ballot(1, 1, 1), Ballot(1, 0, 0)))


def core_of(engine: str, boot: Boot = STARTED) -> Core:
    return ENGINES[engine](
        1, EPOCH, boot, now=0, may_lead_first=True, settings=LAN, draw=lambda: 0.5
    )


both = pytest.mark.parametrize("engine", ["raft", "paxos"])


@both
def test_a_core_that_nobody_started_before_notes_what_it_must_not_forget(engine: str) -> None:
    core = core_of(engine, Boot())

    ready = core.ready()

    assert ready is not None
    assert ready.write is not None
    assert ready.write.hard is not None
    assert ready.write.hard.promised == Ballot(1, 1, 1)


@both
def test_time_does_not_go_back(engine: str) -> None:
    core = core_of(engine)
    core.tick(10)

    with pytest.raises(AssertionError, match="time went back"):
        core.tick(9)


@both
def test_leadership_goes_to_members_only(engine: str) -> None:
    core = core_of(engine)

    with pytest.raises(Invalid, match="node 9 is not a member of epoch 1"):
        core.transfer(0, 9)


@both
def test_what_a_stranger_promises_makes_nobody_a_leader(engine: str) -> None:
    core = core_of(engine, Boot(Hard(Ballot(1, 2, 3), Ballot(1, 0, 0))))
    core.tick(core.deadline)
    promise = Promise(core.status.ballot, True, True, Ballot(1, 0, 0), 0)

    core.receive(core.deadline, 9, promise)
    assert core.status.role == "pre"
    core.receive(core.deadline, 2, promise)
    assert core.status.role == "candidate"


@both
def test_nobody_follows_a_leader_of_another_epoch(engine: str) -> None:
    core = core_of(engine)
    append = Append(Ballot(2, 1, 2), 0, NO_BALLOT, (), 0, 1, 0, True, 0, 0)

    core.receive(1, 2, append)

    assert (core.status.role, core.status.ballot) == ("leader", Ballot(1, 1, 1))


@both
def test_a_damaged_frame_is_told_and_changes_nothing(engine: str) -> None:
    core = core_of(engine)
    frame = encode(1, Ballot(1, 1, 1), KIND_BATCH, b"payload", 0).frame

    with pytest.raises(CorruptData):
        core.receive(1, 2, Repaired(Ballot(1, 1, 2), (frame[:-1] + b"x",)))

    assert core.status.last == 0


@both
def test_a_log_shorter_than_what_was_announced_is_suspect(engine: str) -> None:
    core = core_of(engine, Boot(Hard(Ballot(1, 2, 2), Ballot(1, 2, 2), commit=5)))

    assert core.status.role == "recovering"


@both
def test_no_snapshot_is_taken_above_what_is_durable_here(engine: str) -> None:
    core = core_of(engine)
    core.propose(0, b"x", 1)

    with pytest.raises(AssertionError, match="not applied"):
        core.snap(1)
    assert core.snap(0) == NO_SNAP


def test_a_heartbeat_that_is_no_fraction_of_the_timeout_is_refused() -> None:
    with pytest.raises(AssertionError, match="a third of T"):
        Settings(election=100, heartbeat=50)
    assert CLOUD.election > LAN.election
