from collections.abc import Iterable

from waypost.catalog.sessions import Session
from waypost.commands import Command, Expire
from waypost.node.absences import LOOK_NS, Absences, Owners

S = 1_000_000_000


class World:
    """A leader ``a``, and the sessions that each node owns."""

    def __init__(self) -> None:
        self.heard: dict[str, int] = {}
        self.sessions: dict[str, list[Session]] = {}
        self.proposed: list[Command] = []
        owners = Owners(lambda: list(self.sessions), self.of, lambda name: self.heard.get(name, 0))
        self.absences = Absences("a", owners, self.proposed.append)

    def of(self, name: str) -> Iterable[Session]:
        return self.sessions.get(name, ())

    def attach(self, session: str, node: str, ttl_ms: int, attachment: int = 1) -> None:
        held = Session(session, node, attachment, ttl_ms, 0, [], 64)
        self.sessions.setdefault(node, []).append(held)

    def look(self, seconds: float, until: float) -> None:
        """Look often from ``seconds`` on."""
        now = int(seconds * S)
        while now <= until * S:
            self.absences.tick(now)
            now += LOOK_NS

    @property
    def expired(self) -> list[tuple[str, int]]:
        return [(each.session, each.attachment) for each in self.proposed if type(each) is Expire]


def test_the_sessions_of_a_lost_node_end_after_a_whole_lease_without_it() -> None:
    world = World()
    world.attach("short", "b", 2_000, attachment=7)
    world.attach("long", "b", 10_000, attachment=8)
    world.absences.begin(0)
    world.heard["b"] = 5 * S

    world.look(5, 6.9)
    assert world.expired == []
    world.look(7, 7.5)
    assert world.expired == [("short", 7)]
    world.look(7.5, 14.9)
    assert ("long", 8) not in world.expired
    world.look(15, 15.5)
    assert ("long", 8) in world.expired


def test_a_new_leader_grants_every_session_a_whole_lease_first() -> None:
    world = World()
    world.attach("s", "b", 2_000)
    world.absences.begin(100 * S)  # and b was never heard

    world.look(100, 101.9)
    assert world.expired == []
    world.look(102, 102.5)
    assert world.expired == [("s", 1)]


def test_a_node_that_is_heard_keeps_its_sessions_and_the_leader_its_own() -> None:
    world = World()
    world.attach("theirs", "b", 500)
    world.attach("own", "a", 500)
    world.absences.begin(0)
    now = 0.0
    while now < 10:
        world.heard["b"] = int(now * S)
        world.look(now, now)
        now += 0.25

    assert world.expired == []


def test_time_in_which_the_leader_stood_still_is_held_against_nobody() -> None:
    world = World()
    world.attach("s", "b", 2_000)
    world.absences.begin(0)
    world.absences.stalled(60 * S)

    world.look(60, 61.9)
    assert world.expired == []


def test_what_was_not_committed_is_proposed_again() -> None:
    world = World()
    world.attach("s", "b", 500)
    world.absences.begin(0)

    world.look(0, 20)

    assert len(world.expired) > 1
    assert set(world.expired) == {("s", 1)}
