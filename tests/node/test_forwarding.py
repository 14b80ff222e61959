from waypost.commands import Command, Deregister, Origin, Outcome, encode_part
from waypost.errors import Overloaded, TimedOut, Unavailable, WaypostError
from waypost.node.forwarding import ANSWER_NS, HOLD_NS, Forwarding, take_forward
from waypost.replica.replica import Item, Owner
from waypost.transport import peer_frames
from waypost.transport.peer_frames import FORWARD, FORWARDED, Forward, Forwarded, ForwardFailed

PART: list[Command] = [Deregister("orders", "o-1")]


class Told:
    """An owner that remembers what it was told."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, int, list[Outcome]]] = []
        self.errors: list[tuple[int, WaypostError]] = []

    def answered(self, ticket: int, revision: int, outcomes: list[Outcome]) -> None:
        self.answers.append((ticket, revision, outcomes))

    def failed(self, ticket: int, error: WaypostError) -> None:
        self.errors.append((ticket, error))


class World:
    """A follower, whose words to leaders are kept."""

    def __init__(self) -> None:
        self.now = 0
        self.sent: list[tuple[int, Forward]] = []
        self.is_up = True
        self.forwarding = Forwarding(self._send, lambda: self.now)
        self.owner = Told()

    def _send(self, nid: int, kind: int, body: bytes) -> bool:
        assert kind == FORWARD
        if self.is_up:
            self.sent.append((nid, peer_frames.decode_forward(body)))
        return self.is_up

    def wait(self, until: int, leader: int = 0) -> None:
        """Time passes, in ticks."""
        while self.now < until:
            self.now = min(until, self.now + 50_000_000)
            self.forwarding.tick(self.now, leader)

    def offer(self, ticket: int, seq: int = 0) -> None:
        origin = Origin("c", seq) if seq else None
        self.forwarding.offer(encode_part(PART), PART, self.owner, ticket, origin)


def test_what_waits_leaves_together_and_is_answered_when_it_is_applied_here() -> None:
    world = World()
    world.offer(1)
    world.offer(2, seq=9)

    world.forwarding.flush(5)
    ((nid, forward),) = world.sent
    assert nid == 5
    assert forward.parts == [encode_part(PART)] * 2
    assert forward.origins == [None, Origin("c", 9)]
    world.forwarding.forwarded(Forwarded(forward.token, 30, [[0], [1]], [30, 12]), 29)
    assert world.owner.answers == []
    world.forwarding.applied(30)

    assert world.owner.answers == [(1, 30, [0]), (2, 12, [1])]
    assert world.forwarding.waiting_commands == world.forwarding.waiting_bytes == 0


def test_when_the_leader_is_lost_only_what_has_an_origin_is_said_again() -> None:
    world = World()
    world.offer(1)
    world.offer(2, seq=9)
    world.forwarding.flush(5)

    world.forwarding.leader_lost(but=6)
    world.forwarding.flush(6)

    ((ticket, error),) = world.owner.errors
    assert ticket == 1
    assert isinstance(error, TimedOut)
    nid, again = world.sent[-1]
    assert nid == 6
    assert again.origins == [Origin("c", 9)]
    world.forwarding.forwarded(Forwarded(again.token, 31, [[0]]), 31)
    assert world.owner.answers == [(2, 31, [0])]


def test_a_late_answer_of_the_lost_leader_answers_nobody_twice() -> None:
    world = World()
    world.offer(2, seq=9)
    world.forwarding.flush(5)
    first = world.sent[0][1]
    world.forwarding.leader_lost(but=6)
    world.forwarding.flush(6)
    second = world.sent[1][1]

    world.forwarding.forwarded(Forwarded(second.token, 31, [[0]]), 31)
    world.forwarding.forwarded(Forwarded(first.token, 30, [[0]]), 31)

    assert world.owner.answers == [(2, 31, [0])]


def test_without_a_leader_a_write_is_held_and_then_certainly_not_made() -> None:
    world = World()
    world.offer(1)

    world.wait(HOLD_NS)
    assert world.owner.errors == []
    world.wait(HOLD_NS + 1)

    ((_, error),) = world.owner.errors
    assert type(error) is Unavailable
    assert "was not made" in error.message
    assert world.sent == []


def test_what_was_sent_once_and_finds_no_other_leader_is_in_doubt() -> None:
    world = World()
    world.offer(1, seq=8)
    world.forwarding.flush(5)
    world.forwarding.leader_lost()
    world.offer(2, seq=9)

    world.wait(HOLD_NS + 1)

    (unsent, never), (sent, doubt) = sorted(world.owner.errors, reverse=True)
    assert (unsent, type(never)) == (2, Unavailable)
    assert (sent, type(doubt)) == (1, TimedOut)


def test_the_time_that_this_node_stood_still_counts_against_nobody() -> None:
    world = World()
    world.offer(1)
    world.forwarding.flush(5)
    world.offer(2)
    world.forwarding.tick(world.now, 0)

    world.now += 10 * HOLD_NS
    world.forwarding.tick(world.now, 0)

    assert world.owner.errors == []


def test_a_link_that_takes_nothing_is_tried_again() -> None:
    world = World()
    world.offer(1)
    world.is_up = False
    world.forwarding.flush(5)
    assert world.sent == []

    world.is_up = True
    world.forwarding.tick(1, 5)

    assert len(world.sent) == 1


def test_an_answer_that_does_not_come_is_in_doubt() -> None:
    world = World()
    world.offer(1)
    world.forwarding.flush(5)

    world.wait(ANSWER_NS + 1, 5)

    ((_, error),) = world.owner.errors
    assert isinstance(error, TimedOut)


def test_what_the_leader_sheds_is_shed_and_what_it_refuses_is_said_again() -> None:
    world = World()
    world.offer(1)
    world.forwarding.flush(5)
    world.offer(2)
    world.forwarding.flush(5)
    shed, refused = (forward.token for _, forward in world.sent)

    world.forwarding.forward_failed(ForwardFailed(shed, "overloaded", "too much"))
    world.forwarding.forward_failed(ForwardFailed(refused, "unavailable", "not the leader"))
    world.forwarding.flush(6)

    assert [(ticket, type(error)) for ticket, error in world.owner.errors] == [(1, Overloaded)]
    assert world.sent[-1][0] == 6


def test_a_large_backlog_leaves_in_several_messages_and_a_bounded_number_at_once() -> None:
    world = World()
    for ticket in range(60_000):
        world.offer(ticket)

    world.forwarding.flush(5)

    assert len(world.sent) == 16
    assert world.forwarding.has_open


class Batch:
    """The leader's open batch."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    def offer(
        self, part: bytes, commands: list[Command], owner: Owner, ticket: int, origin: Origin | None
    ) -> None:
        self.items.append((part, commands, owner, ticket, origin))


def test_the_leader_answers_once_when_every_part_is_committed() -> None:
    batch = Batch()
    said: list[tuple[int, int, bytes]] = []

    def send(nid: int, kind: int, body: bytes) -> bool:
        said.append((nid, kind, body))
        return True

    forward = Forward(4, [encode_part(PART)] * 2, [None, Origin("c", 9)])
    body = peer_frames.encode(forward)
    take_forward(send, 3, body, batch, waiting_bytes=0, leads=True)
    assert [item[1] for item in batch.items] == [PART, PART]
    for item in batch.items:
        item[2].answered(item[3], 30, [item[3]])

    ((nid, kind, answer),) = said
    assert (nid, kind) == (3, FORWARDED)
    assert peer_frames.decode_forwarded(answer) == Forwarded(4, 30, [[0], [1]])


def test_a_node_that_does_not_lead_takes_nothing() -> None:
    batch = Batch()
    said: list[bytes] = []
    body = peer_frames.encode(Forward(4, [encode_part(PART)], []))

    def send(nid: int, kind: int, body: bytes) -> bool:
        said.append(body)
        return True

    take_forward(
        send,
        3,
        body,
        batch,
        waiting_bytes=0,
        leads=False,
    )

    assert batch.items == []
    assert peer_frames.decode_forward_failed(said[0]).code == "unavailable"
