import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.sim.checkers.watches import Event, Watched, check_watch

LOG = [
    Event(1, "web", "up a"),
    Event(2, "db", "up d"),
    Event(3, "web", "up b"),
    Event(3, "web", "up c"),
    Event(5, "web", "down a"),
]


def watched(*events: Event[str], since: int = 0, upto: int = 5, key: str = "web") -> Watched[str]:
    return Watched("w", key, since, events, upto)


def test_a_watch_that_was_told_every_change_once_and_in_order_is_content() -> None:
    assert check_watch(LOG, watched(LOG[0], LOG[2], LOG[3], LOG[4])).is_ok
    assert check_watch(LOG, watched(*LOG, key="")).is_ok
    assert check_watch(LOG, watched(LOG[2], LOG[3], since=1, upto=4)).is_ok
    assert check_watch(LOG, watched(since=5)).is_ok


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ((LOG[0], LOG[2], LOG[3]), "and never of"),
        ((LOG[0], LOG[3], LOG[4]), "and never of"),
        ((LOG[0], LOG[3], LOG[2], LOG[4]), "before"),
        ((LOG[0], LOG[0], LOG[2], LOG[3], LOG[4]), "twice"),
        ((LOG[0], LOG[2], LOG[3], LOG[4], LOG[4]), "twice"),
        ((LOG[0], Event(2, "web", "up z"), LOG[2], LOG[3], LOG[4]), "not in the log"),
        ((*LOG,), "not in the log"),
    ],
)
def test_a_watch_that_misses_repeats_swaps_or_invents_is_found(
    told: tuple[Event[str], ...], words: str
) -> None:
    verdict = check_watch(LOG, watched(*told))

    assert verdict.outcome == "violation"
    assert words in verdict.why


def test_a_watch_that_is_told_what_its_cursor_covers_is_found() -> None:
    verdict = check_watch(LOG, watched(LOG[0], LOG[2], LOG[3], LOG[4], since=1))

    assert "which its snapshot or cursor covers" in verdict.why


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(0, 20), st.integers(0, 20), st.data())
def test_every_stretch_passes_and_no_stretch_with_one_change_left_out(
    raw: list[int], since: int, length: int, data: st.DataObject
) -> None:
    log = [Event(n + 1, f"s{key}", n) for n, key in enumerate(raw)]
    upto = since + length
    due = [event for event in log if since < event.index <= upto and event.key == "s0"]

    assert check_watch(log, Watched("w", "s0", since, tuple(due), upto)).is_ok
    if due:
        del due[data.draw(st.integers(0, len(due) - 1))]
        assert not check_watch(log, Watched("w", "s0", since, tuple(due), upto)).is_ok
