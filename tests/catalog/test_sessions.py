from tests.catalog.feed import Feed, check_invariants, instance

from waypost.catalog.sessions import HELD_ROOM_MIN, SHARDS, Session, Sessions, shard_of
from waypost.commands import Register


def session(session_id: str, node: str = "n-1") -> Session:
    return Session(session_id, node, 1, 10_000, 2_000, [], HELD_ROOM_MIN)


def test_a_session_is_found_until_it_is_removed() -> None:
    sessions = Sessions()
    for number in range(1_000):
        sessions.put(session(f"s-{number}"))
    sessions.put(session("s-7", "n-2"))

    assert len(sessions) == 1_000
    found = sessions.find("s-7")
    assert found is not None
    assert found.node == "n-2"
    sessions.remove(found)
    assert sessions.find("s-7") is None
    assert len(sessions) == 999
    assert {each.id for each in sessions} == {f"s-{n}" for n in range(1_000) if n != 7}


def test_a_node_has_the_sessions_that_it_answers_for_and_no_others() -> None:
    sessions = Sessions()
    for number in range(1_000):
        sessions.put(session(f"s-{number}", f"n-{number % 3}"))
    for number in range(0, 300, 3):
        sessions.put(session(f"s-{number}", "n-1"))
    for number in range(500):
        found = sessions.find(f"s-{number}")
        assert found is not None
        sessions.remove(found)

    assert {each.id for each in sessions.of_node("n-0")} == {f"s-{n}" for n in range(501, 1_000, 3)}
    assert sum(1 for each in sessions.of_node("n-1")) == len(range(502, 1_000, 3))
    assert not list(sessions.of_node("n-9"))


def test_sessions_that_go_while_those_of_their_node_are_told_do_not_disturb_it() -> None:
    sessions = Sessions()
    for number in range(2_000):
        sessions.put(session(f"s-{number}"))

    told = 0
    for each in sessions.of_node("n-1"):
        told += 1
        sessions.remove(each)
        sessions.put(session(f"{each.id}-again", "n-2"))

    assert told == len(sessions) == 2_000
    assert not list(sessions.of_node("n-1"))


def test_a_shard_is_a_small_part_of_all_sessions() -> None:
    sessions = Sessions()
    for number in range(25_600):
        sessions.put(session(f"session-{number:016x}"))

    sizes = [len(shard) for shard in sessions.shards]
    assert len(sizes) == SHARDS
    assert max(sizes) < 200


def test_the_shard_of_an_id_is_the_same_in_every_release() -> None:
    assert [shard_of(each) for each in ("", "s-1", "größe")] == [0, 206, 137]


def test_a_list_that_is_pruned_has_room_for_as_much_again() -> None:
    feed = Feed()
    feed.attach("s-1")
    lists: list[int] = []

    for number in range(2_000):
        feed.one(Register(instance(f"i-{number}"), "s-1"))
        held = feed.catalog.session("s-1")
        assert held is not None
        if id(held.held) not in lists[-1:]:
            lists.append(id(held.held))

    assert 2 < len(lists) < 10
    check_invariants(feed.catalog)
