"""Who is alive is judged by the node that holds the connection, by its own clock."""

from waypost.commands import Command, Expire, Suspect
from waypost.node.sessions import Sessions

S = 1_000_000_000


class Connection:
    def __init__(self) -> None:
        self.heard_ns = 0
        self.pings = 0
        self.told: list[str] = []

    def ping(self) -> None:
        self.pings += 1

    def session_moved(self) -> None:
        self.told.append("moved")

    def session_expired(self) -> None:
        self.told.append("expired")


class World:
    def __init__(self) -> None:
        self.proposed: list[Command] = []
        self.sessions = Sessions(self.proposed.append)
        self.connection = Connection()

    def attach(self, *, ttl_s: float = 9, grace_s: float = 2, attachment: int = 1) -> None:
        self.sessions.attached(
            "s",
            attachment,
            ttl_ms=int(ttl_s * 1000),
            grace_ms=int(grace_s * 1000),
            connection=self.connection,
            now_ns=0,
        )


def test_a_session_that_is_heard_within_its_lease_is_never_expired() -> None:
    world = World()
    world.attach()

    for second in range(0, 100, 8):
        world.connection.heard_ns = second * S
        world.sessions.tick((second + 7) * S)

    assert world.proposed == []


def test_a_silent_session_is_pinged_twice_and_then_expired_when_its_lease_is_over() -> None:
    world = World()
    world.attach(ttl_s=9)

    world.sessions.tick(int(8.9 * S))
    assert world.connection.pings >= 1
    assert world.proposed == []

    world.sessions.tick(9 * S)
    assert world.proposed == [Expire("s", 1, "lease expired: nothing heard for 9.0 s")]


def test_a_lease_that_has_no_even_thirds_is_over_no_later_for_it() -> None:
    world = World()
    world.attach(ttl_s=1)

    for due in (333_333_333, 666_666_666, 999_999_999):
        world.sessions.tick(due)
    assert world.proposed == []

    world.sessions.tick(S)
    assert len(world.proposed) == 1


def test_pings_come_at_each_third_of_the_lease() -> None:
    world = World()
    world.attach(ttl_s=9)

    pings = []
    for tenth in range(90):
        world.sessions.tick(tenth * S // 10)
        pings.append(world.connection.pings)

    assert [pings[29], pings[30], pings[59], pings[60], pings[89]] == [0, 1, 1, 2, 2]


def test_a_broken_connection_makes_it_suspect_at_once_and_expired_after_its_grace() -> None:
    world = World()
    world.attach(grace_s=2)

    world.sessions.disconnected(world.connection, "s", 5 * S)
    assert world.proposed == [Suspect("s", 1)]

    world.sessions.tick(int(6.9 * S))
    assert len(world.proposed) == 1
    world.sessions.tick(7 * S)
    assert world.proposed[1:] == [Expire("s", 1, "connection lost")]


def test_without_a_grace_a_broken_connection_ends_it_at_once() -> None:
    world = World()
    world.attach(grace_s=0)

    world.sessions.disconnected(world.connection, "s", S)

    assert world.proposed == [Expire("s", 1, "connection lost")]


def test_it_is_expired_once_however_often_the_clock_ticks() -> None:
    world = World()
    world.attach(ttl_s=1)

    for second in range(2, 20):
        world.sessions.tick(second * S)

    assert len(world.proposed) == 1


def test_a_connection_that_breaks_after_the_session_moved_on_changes_nothing() -> None:
    world = World()
    world.attach()
    old, world.connection = world.connection, Connection()
    world.attach(attachment=2)

    world.sessions.disconnected(old, "s", S)
    world.connection.heard_ns = 8 * S
    world.sessions.tick(9 * S)

    assert world.proposed == []


def test_a_stall_of_the_node_is_held_against_nobody() -> None:
    world = World()
    world.attach(ttl_s=9)
    world.connection.heard_ns = 5 * S

    world.sessions.stalled(20 * S, 25 * S)
    world.sessions.tick(25 * S)
    assert world.proposed == []

    world.sessions.tick(int(33.9 * S))
    assert world.proposed == []
    world.sessions.tick(34 * S)
    assert len(world.proposed) == 1


def test_a_stall_extends_a_grace_too() -> None:
    world = World()
    world.attach(grace_s=2)
    world.sessions.disconnected(world.connection, "s", S)

    world.sessions.stalled(10 * S, 11 * S)
    world.sessions.tick(12 * S)
    assert world.proposed == [Suspect("s", 1)]

    world.sessions.tick(13 * S)
    assert len(world.proposed) == 2


def test_an_expiry_that_was_not_committed_is_proposed_again() -> None:
    world = World()
    world.attach(ttl_s=1)
    world.sessions.tick(S)

    world.sessions.reconsider("s", S)
    world.sessions.tick(3 * S)

    assert len(world.proposed) == 2


def test_a_session_without_a_connection_lives_by_its_renewals() -> None:
    world = World()
    held = world.sessions.attached(
        "lease", 1, ttl_ms=3000, grace_ms=3000, connection=None, now_ns=0
    )

    world.sessions.renewed(held, 2 * S)
    world.sessions.tick(4 * S)
    assert world.proposed == []

    world.sessions.tick(5 * S)
    assert [type(c) for c in world.proposed] == [Expire]


def test_the_connection_that_a_session_has_left_is_told() -> None:
    world = World()
    world.attach()
    old, world.connection = world.connection, Connection()

    world.attach(attachment=2)

    assert old.told == ["moved"]
    assert world.connection.told == []


def test_attaching_anew_on_the_same_connection_does_not_take_the_session_from_it() -> None:
    world = World()
    world.attach()

    world.attach(attachment=2)

    assert world.connection.told == []


def test_a_connection_whose_session_expired_is_told_and_only_of_its_own_attachment() -> None:
    world = World()
    world.attach(attachment=2)

    world.sessions.expired("s", 1)
    assert world.connection.told == []
    assert world.sessions.find("s") is not None

    world.sessions.expired("s", 2)
    assert world.connection.told == ["expired"]
    assert world.sessions.find("s") is None


def test_attaching_again_and_again_leaves_nothing_behind() -> None:
    world = World()

    for attachment in range(10_000):
        world.attach(ttl_s=86_400, attachment=attachment)

    assert len(world.sessions._heap) < 2_000
    world.connection.heard_ns = 0
    world.sessions.tick(86_400 * S)
    assert [type(c) for c in world.proposed] == [Expire]
