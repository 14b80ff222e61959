"""Every write offered is answered once, by position, in the order of the log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.catalog.snapshots import digest
from waypost.catalog.state import Catalog
from waypost.catalog.transacting import decode_transacted
from waypost.commands import (
    Command,
    Deregister,
    Origin,
    Outcome,
    PutKey,
    Refused,
    Register,
    Transact,
    encode_part,
)
from waypost.errors import TimedOut, Unavailable, WaypostError
from waypost.model import Instance
from waypost.replica.replica import BATCH_BYTES_MAX, Replica


class Heard:
    def __init__(self) -> None:
        self.answers: list[tuple[int, int, list[Outcome]]] = []
        self.failures: list[tuple[int, str]] = []

    def answered(self, ticket: int, revision: int, outcomes: list[Outcome]) -> None:
        self.answers.append((ticket, revision, outcomes))

    def failed(self, ticket: int, error: WaypostError) -> None:
        self.failures.append((ticket, error.code))


def register(n: int) -> list[Command]:
    return [Register(Instance("orders", f"o-{n}", "10.0.0.1", 8000 + n))]


def test_what_was_offered_together_is_one_entry_and_each_owner_hears_of_its_own() -> None:
    replica, first, second = Replica(Catalog()), Heard(), Heard()
    replica.offer(encode_part(register(1)), register(1), first, 11)
    replica.offer(encode_part(register(2) * 2), register(2) * 2, second, 22)

    token, payload = replica.seal(1_000)
    applied = replica.committed(7, payload, token)

    assert [c.record.instance.id for c in applied.changed["orders"]] == ["o-1", "o-2"]
    assert [(t, r) for t, r, _ in first.answers] == [(11, 7)]
    assert [(t, len(o)) for t, _, o in second.answers] == [(22, 2)]
    assert replica.waiting_commands == 0
    assert replica.waiting_bytes == 0


def test_what_a_transaction_told_is_not_overwritten_at_the_revision_that_it_told() -> None:
    replica, heard = Replica(Catalog()), Heard()

    def offer(ticket: int, command: Command) -> None:
        replica.offer(encode_part([command]), [command], heard, ticket)

    def commit(index: int) -> None:
        token, payload = replica.seal(1_000)
        replica.committed(index, payload, token)

    offer(1, PutKey("k", b"before"))
    offer(2, Transact([PutKey("k", b"mine")]))
    offer(3, PutKey("k", b"yours"))
    commit(1)
    assert [ticket for ticket, _, _ in heard.answers] == [1, 2]
    commit(2)
    outcome = heard.answers[1][2][0]
    assert isinstance(outcome, bytes)
    (told,) = decode_transacted(outcome).pairs
    offer(4, PutKey("k", b"mine again", cas=told.revision))
    commit(3)

    assert heard.answers[-1][2] == [0]
    pair = replica.catalog.keyspace.keys.find("k")
    assert pair is not None
    assert pair.value == b"yours"


def test_a_node_that_did_not_propose_an_entry_applies_the_same_from_its_bytes() -> None:
    leader, follower = Replica(Catalog()), Replica(Catalog())
    leader.offer(encode_part(register(1)), register(1), Heard(), 1)
    token, payload = leader.seal(1_000)

    leader.committed(1, payload, token)
    follower.committed(1, payload, 0)

    assert follower.catalog.service("orders") == leader.catalog.service("orders")


def test_a_repeated_write_is_answered_with_the_revision_and_the_outcomes_of_the_first() -> None:
    leader, follower = Replica(Catalog()), Replica(Catalog())
    first, second = Heard(), Heard()
    for index, heard in ((5, first), (6, second)):
        leader.offer(encode_part(register(2)), register(2), heard, 1)
        leader.offer(encode_part(register(1)), register(1), heard, 2, Origin("c-1", 77))
        token, payload = leader.seal(1_000)
        leader.committed(index, payload, token)
        follower.committed(index, payload, 0)

    assert first.answers == [(1, 5, [5]), (2, 5, [6])]
    assert second.answers == [(1, 6, [5]), (2, 5, [6])]
    assert digest(follower.catalog) == digest(leader.catalog)


def test_a_refused_command_is_an_outcome_and_does_not_stop_the_others() -> None:
    replica, heard = Replica(Catalog()), Heard()
    commands: list[Command] = [Deregister("orders", "nobody"), *register(1)]
    replica.offer(encode_part(commands), commands, heard, 1)

    token, payload = replica.seal(0)
    replica.committed(1, payload, token)

    refused, incarnation = heard.answers[0][2]
    assert isinstance(refused, Refused)
    assert refused.code == "unknown-service"
    assert incarnation == 1


@pytest.mark.parametrize("error", [Unavailable("no leader"), TimedOut("lost")])
def test_those_who_wait_for_a_batch_that_failed_hear_why(error: WaypostError) -> None:
    replica, heard = Replica(Catalog()), Heard()
    replica.offer(encode_part(register(1)), register(1), heard, 5)
    token, _ = replica.seal(0)

    replica.refused(token, error)

    assert heard.failures == [(5, error.code)]
    assert replica.waiting_commands == 0


def test_what_is_too_much_for_one_entry_leaves_in_several() -> None:
    replica, heard = Replica(Catalog()), Heard()
    small, large = b"s" * 300_000, b"l" * (BATCH_BYTES_MAX + 1)
    sizes: list[list[int]] = []
    for ticket, part in enumerate((small, small, small, small, large, small)):
        replica.offer(part, [], heard, ticket)

    while replica.has_open_batch:
        token, payload = replica.seal(0)
        sizes.append([payload.count(b"s"), payload.count(b"l")])
        replica.refused(token, Unavailable("no"))

    assert sizes == [[900_000, 0], [300_000, 0], [0, BATCH_BYTES_MAX + 1], [300_000, 0]]
    assert [ticket for ticket, _ in heard.failures] == list(range(6)), "in their order"
    assert replica.waiting_bytes == 0


@given(st.lists(st.sampled_from(["offer", "seal", "commit", "refuse"]), max_size=60))
def test_every_ticket_gets_exactly_one_answer_whatever_the_order_of_things(
    steps: list[str],
) -> None:
    replica, heard = Replica(Catalog()), Heard()
    offered = index = 0
    sealed: list[tuple[int, bytes]] = []
    for step in steps:
        if step == "offer":
            offered += 1
            replica.offer(encode_part(register(offered)), register(offered), heard, offered)
        elif step == "seal" and replica.has_open_batch:
            sealed.append(replica.seal(0))
        elif step == "commit" and sealed:
            token, payload = sealed.pop(0)
            index += 1
            replica.committed(index, payload, token)
        elif step == "refuse" and sealed:
            replica.refused(sealed.pop(0)[0], Unavailable("no"))

    replica.refuse_all(Unavailable("the end"))

    tickets = [t for t, _, _ in heard.answers] + [t for t, _ in heard.failures]
    assert sorted(tickets) == list(range(1, offered + 1))
    assert replica.waiting_commands == replica.waiting_bytes == 0
