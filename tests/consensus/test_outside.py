"""A core that decides nothing keeps the contract all the same; see also the walks of members."""

import pytest

from waypost.consensus.core import (
    KIND_BATCH,
    KIND_SEAL,
    Ballot,
    Boot,
    Done,
    Hard,
    Ready,
    Snap,
)
from waypost.consensus.entry import encode
from waypost.consensus.epoch import Epoch, Peer
from waypost.consensus.outside import PATIENCE, OutsideCore
from waypost.consensus.settings import LAN
from waypost.errors import CorruptData

SEAL = encode(1, Ballot(1, 1, 7), KIND_SEAL, b"the way out", 0)
MEMBERS = {7: Peer("a", ""), 8: Peer("b", "")}
EPOCH = Epoch(0xABC, 2, "etcd", MEMBERS, 2, 7, SEAL.ballot, MEMBERS)
HARD = Hard(Ballot(2, 1, 7), Ballot(2, 0, 0), 1)


def started(me: int = 7, boot: Boot | None = None) -> OutsideCore:
    boot = boot or Boot(HARD, entries=(SEAL,), epoch=EPOCH)
    core = OutsideCore(me, EPOCH, boot, now=0, settings=LAN)
    drain(core)
    return core


def drain(core: OutsideCore) -> list[Ready]:
    found: list[Ready] = []
    while (one := core.ready()) is not None:
        found.append(one)
    return found


def test_what_comes_from_outside_is_committed_and_written_and_answers_who_asked() -> None:
    core = started()
    core.propose(1, b"mine", 40)
    (ask,) = core.asked()
    assert (ask.kind, ask.payload) == (KIND_BATCH, b"mine")

    core.entry(2, 2, KIND_BATCH, b"theirs")
    core.entry(2, 3, KIND_BATCH, b"mine", ask.number)

    (ready,) = drain(core)
    assert ready.commit == 3
    assert ready.done == (Done(40, "committed", 3, 7),)
    assert ready.write is not None
    assert [bytes(each.payload) for each in ready.write.entries] == [b"theirs", b"mine"]


def test_every_member_makes_the_same_log_of_it() -> None:
    cores = started(7), started(8)
    for core in cores:
        core.entry(1, 2, KIND_BATCH, b"a")
        core.entry(1, 3, KIND_BATCH, b"b")
    one, other = (core.entries(1, 3) for core in cores)
    assert [each.frame for each in one] == [each.frame for each in other]


def test_what_was_proposed_and_is_not_in_the_log_by_the_seal_never_will_be() -> None:
    core = started()
    core.propose(1, b"too late", 40)
    core.asked()
    core.propose(1, b"not even sent", 41)
    core.entry(2, 2, KIND_SEAL, b"the way on")

    (ready,) = drain(core)
    assert ready.done == (Done(40, "lost", 0, 7), Done(41, "lost", 0, 7))
    assert core.status.sealed == 2
    assert core.asked() == []
    core.propose(3, b"after it", 42)
    assert drain(core)[0].done == (Done(42, "refused", 0, 7),)


def test_an_entry_that_does_not_follow_is_refused() -> None:
    core = started()
    with pytest.raises(CorruptData, match="entry 3 came from outside after 1"):
        core.entry(1, 3, KIND_BATCH, b"a hole before it")
    core.entry(1, 2, KIND_SEAL, b"the way on")
    with pytest.raises(CorruptData, match="ends this epoch's log"):
        core.entry(1, 3, KIND_BATCH, b"after the end")


def test_what_nobody_takes_to_the_log_is_refused_after_a_while() -> None:
    core = started()
    core.propose(5, b"x", 40)
    core.read(5, 41)
    assert core.deadline <= 5 + PATIENCE
    core.tick(5 + PATIENCE)
    (ready,) = drain(core)
    assert ready.done == (Done(40, "refused", 0, 7),)
    assert ready.reads_failed == (41,)


def test_what_rotted_here_is_cut_and_taken_from_outside_again() -> None:
    two = encode(2, Ballot(2, 1, 0), KIND_BATCH, b"a", SEAL.chain)
    three = encode(3, Ballot(2, 1, 0), KIND_BATCH, b"b", two.chain)
    rotten = Boot(HARD, entries=(SEAL, two, three), faulty=(3,), epoch=EPOCH)
    core = OutsideCore(7, EPOCH, rotten, now=0, settings=LAN)

    (ready,) = drain(core)
    assert (core.last, ready.commit) == (2, 2)
    assert ready.write is not None
    assert ready.write.truncate == 3
    core.entry(1, 3, KIND_BATCH, b"b")
    assert core.entries(3, 3)[0].frame == three.frame


def test_a_snapshot_from_there_takes_the_place_of_the_log() -> None:
    core = started()
    snap = Snap(9, Ballot(2, 1, 0), KIND_BATCH, 0xBEEF)
    core.snapshot_staged(1, 7, core.status.ballot, snap)
    (ready,) = drain(core)
    assert ready.restore == snap
    assert ready.write is not None
    assert (ready.write.truncate, ready.write.snap) == (1, snap)
    core.entry(2, 10, KIND_BATCH, b"after it")
    assert core.entries(10, 10)[0].prev == 0xBEEF


def test_members_tell_each_other_how_far_they_hold_the_log() -> None:
    one, other = started(7), started(8)
    one.entry(1, 2, KIND_BATCH, b"a")
    (ready,) = drain(one)
    assert ready.write is not None
    one.persisted(2, ready.write.seq)
    one.tick(LAN.election)
    ((to, message),) = drain(one)[0].send
    other.receive(LAN.election, 7, message)
    assert to == 8
    assert other.status.matches == ((7, 2),)
