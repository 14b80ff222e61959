from hypothesis import given
from hypothesis import strategies as st
from tests.catalog.feed import instance

from waypost.catalog.history import History
from waypost.model import Change, Record


def change(revision: int, service: str = "orders", at_ms: int = 0) -> Change:
    record = Record(instance(service=service), "passing", 0, "", False, "", revision)
    return Change(revision, "changed", record, at_ms)


def add(history: History, *changes: Change) -> None:
    """Add changes of one revision and service."""
    history.extend(changes[0].record.instance.service, list(changes))


def revisions(changes: list[Change] | None) -> list[int] | None:
    return None if changes is None else [each.revision for each in changes]


def test_a_cursor_is_told_what_came_after_it_and_nothing_else() -> None:
    history = History()
    for revision in range(1, 8):
        add(history, change(revision, "orders" if revision % 2 else "carts"))

    assert revisions(history.since("orders", 0)) == [1, 3, 5, 7]
    assert revisions(history.since("orders", 3)) == [5, 7]
    assert revisions(history.since("orders", 4)) == [5, 7]
    assert revisions(history.since("orders", 7)) == []
    assert revisions(history.since("orders", 99)) == []
    assert revisions(history.since("carts", 1)) == [2, 4, 6]
    assert revisions(history.since("nobody", 0)) == []
    assert revisions(history.since_all(4)) == [5, 6, 7]


def test_the_changes_of_the_last_minutes_are_told_or_that_some_may_be_gone() -> None:
    history = History(changes_max=3)
    assert history.at_or_after(0) == []
    for revision in range(1, 4):
        add(history, change(revision, at_ms=100 * revision))

    assert revisions(history.at_or_after(0)) == [1, 2, 3]
    assert revisions(history.at_or_after(200)) == [2, 3]
    assert revisions(history.at_or_after(201)) == [3]
    assert revisions(history.at_or_after(999)) == []
    add(history, change(4, at_ms=400))
    assert history.floor > 0
    assert history.at_or_after(100) is None
    assert revisions(history.at_or_after(400)) == [4]
    assert History(floor=7).at_or_after(0) is None


def test_a_cursor_below_the_floor_gets_no_answer() -> None:
    history = History(floor=10)

    assert history.since("orders", 9) is None
    assert history.since_all(9) is None
    assert history.since("orders", 10) == []
    assert history.since_all(10) == []

    add(history, change(12))
    assert history.since("orders", 9) is None
    assert revisions(history.since("orders", 10)) == [12]


def test_the_number_of_changes_is_bounded_over_all_services() -> None:
    history = History(changes_max=3)
    for revision in range(1, 11):
        add(history, change(revision, f"service-{revision % 2}"))

    assert len(history) == 3
    assert history.floor == 7
    assert revisions(history.since_all(7)) == [8, 9, 10]
    assert history.since_all(6) is None


def test_a_service_remembers_as_far_as_its_own_changes_go() -> None:
    history = History(changes_max=5)
    add(history, change(1, "busy"))
    add(history, change(2, "quiet"))
    for revision in range(3, 8):
        add(history, change(revision, "busy"))
    add(history, change(8, "quiet"))

    assert history.floor == 3
    assert revisions(history.since("quiet", 2)) == [8]
    assert history.since("quiet", 1) is None
    assert revisions(history.since("busy", 3)) == [4, 5, 6, 7]
    assert history.since("busy", 2) is None


def test_a_service_that_lost_nothing_since_is_not_held_to_the_common_floor() -> None:
    history = History(changes_max=4)
    add(history, change(1, "quiet"))
    for revision in range(2, 5):
        add(history, change(revision, "busy"))
    add(history, change(5, "quiet"))
    add(history, change(6, "busy"))

    assert history.floor == 2
    assert revisions(history.since("quiet", 1)) == [5]
    assert history.since("quiet", 0) is None
    assert history.since("busy", 1) is None


def test_a_service_that_is_forgotten_costs_nothing() -> None:
    history = History(changes_max=3)
    for revision in range(1, 101):
        add(history, change(revision, f"service-{revision}"))

    assert list(history._logs) == ["service-98", "service-99", "service-100"]


def test_a_revision_is_told_whole_or_not_at_all() -> None:
    history = History(changes_max=2)
    add(history, change(1), change(1), change(1))
    add(history, change(2))

    assert len(history) == 4
    assert revisions(history.since("orders", 0)) == [1, 1, 1, 2]

    add(history, change(3))
    assert len(history) == 2
    assert history.since("orders", 0) is None
    assert revisions(history.since("orders", 1)) == [2, 3]


def test_what_is_too_old_goes_as_new_changes_come() -> None:
    history = History(age_ms_max=1_000)
    for revision in range(1, 11):
        add(history, change(revision, at_ms=100 * revision))

    add(history, change(11, at_ms=100_000))
    assert revisions(history.since_all(history.floor)) == [*range(3, 12)]

    for revision in range(12, 16):
        add(history, change(revision, at_ms=100_000))
    assert revisions(history.since_all(history.floor)) == [*range(11, 16)]


def test_no_entry_pays_for_an_hour_in_which_nothing_happened() -> None:
    history = History()
    for revision in range(1, 1_001):
        add(history, change(revision))

    add(history, change(2_000, at_ms=10 * 3_600_000))

    assert len(history) == 999


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(0, 400)),
        max_size=60,
    ),
    st.integers(1, 12),
)
def test_an_answer_is_complete_or_withheld(
    steps: list[tuple[int, int, int]], changes_max: int
) -> None:
    history = History(changes_max=changes_max, age_ms_max=1_000)
    told: list[Change] = []
    at_ms = 0
    for revision, (service, count, later_ms) in enumerate(steps, 1):
        at_ms += later_ms
        fresh = [change(revision, f"service-{service}", at_ms) for _ in range(count)]
        told += fresh
        add(history, *fresh)
        assert len(history) < changes_max + 3, "it is what it must be, and the rest of a list"
        for cursor in range(revision + 1):
            every = history.since_all(cursor)
            assert (every is None) == (cursor < history.floor)
            assert every is None or every == [c for c in told if c.revision > cursor]
            for name in ("service-0", "service-1", "service-2"):
                some = history.since(name, cursor)
                assert some is not None or cursor < history.floor
                assert some is None or some == [
                    c for c in told if c.revision > cursor and c.record.instance.service == name
                ]
