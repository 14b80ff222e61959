"""The stream of writes, and the gate."""

from waypost.consensus.core import NO_SNAP, Ballot, Hard
from waypost.consensus.entry import KIND_BATCH, encode
from waypost.consensus.journal import Journal
from waypost.consensus.log import Log
from waypost.consensus.messages import Handoff


def put(log: Log, payload: bytes = b"x") -> None:
    log.append(encode(log.last + 1, Ballot(1, 1, 1), KIND_BATCH, payload, log.chain))


def started() -> tuple[Log, Journal]:
    log = Log(1, NO_SNAP, (), ())
    return log, Journal(log, Hard())


def test_a_write_takes_all_that_came_since_the_last_one() -> None:
    log, journal = started()
    put(log)
    put(log)
    journal.promise(Ballot(1, 1, 1))

    write = journal.take(0, 0)

    assert write is not None
    assert (write.seq, len(write.entries)) == (1, 2)
    assert write.hard == Hard(Ballot(1, 1, 1))
    assert journal.take(0, 0) is None


def test_what_was_cut_while_it_was_written_never_counts_as_durable() -> None:
    log, journal = started()
    put(log, b"old")
    put(log, b"old")
    journal.take(0, 0)
    log.truncate(2)
    journal.rewrite(2)
    put(log, b"new")
    write = journal.take(0, 0)
    assert write is not None
    assert write.truncate == 2

    journal.persisted(1)
    assert journal.durable == 1

    journal.persisted(2)
    assert journal.durable == 2


def test_what_was_never_handed_out_is_cut_without_a_word_to_the_disk() -> None:
    log, journal = started()
    put(log)
    log.truncate(1)
    journal.rewrite(1)

    assert journal.take(0, 0) is None


def test_a_message_waits_for_everything_that_was_noted_before_it() -> None:
    log, journal = started()
    put(log)
    journal.hold(2, Handoff(Ballot(1, 1, 1)))
    journal.take(0, 0)
    assert journal.released() == []

    journal.persisted(1)

    assert journal.released() == [(2, Handoff(Ballot(1, 1, 1)))]
    journal.hold(3, Handoff(Ballot(1, 1, 1)))
    assert [dst for dst, _ in journal.released()] == [3], "nothing is being written"


def test_the_commit_index_alone_asks_for_no_write() -> None:
    log, journal = started()
    put(log)
    journal.take(0, 0)

    assert journal.take(0, 1) is None


def test_the_oldest_write_says_since_when_the_disk_is_silent() -> None:
    log, journal = started()
    put(log)
    journal.take(5, 0)
    put(log)
    journal.take(9, 0)

    assert journal.oldest == 5
    journal.persisted(1)
    assert journal.oldest == 9
    journal.persisted(2)
    assert journal.oldest is None
