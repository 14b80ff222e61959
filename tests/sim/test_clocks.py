import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.consensus.core import FOREVER
from waypost.sim.clocks import Clock

Act = tuple[str, int, int]
acts = st.lists(
    st.tuples(
        st.sampled_from(["jump", "stop", "go", "read"]),
        st.integers(0, 10**9),
        st.integers(0, 10**9),
    ),
    max_size=12,
)


@given(offset=st.integers(0, 10**12), drift=st.integers(-50_000, 50_000), acts=acts)
def test_a_clock_never_runs_backwards(offset: int, drift: int, acts: list[Act]) -> None:
    clock = Clock(offset, drift)
    now, shown = 0, clock.read(0)
    for act, ahead, by in acts:
        now += ahead
        match act:
            case "jump":
                clock.jump(now, by)
            case "stop":
                clock.stop(now)
            case "go":
                clock.go(now)
            case _:
                pass
        assert clock.read(now) >= shown
        shown = clock.read(now)


@given(
    offset=st.integers(0, 10**12),
    drift=st.integers(-50_000, 50_000),
    acts=acts,
    local=st.integers(0, 10**10),
)
def test_a_clock_shows_at_least_what_was_waited_for(
    offset: int, drift: int, acts: list[Act], local: int
) -> None:
    clock = Clock(offset, drift)
    now = 0
    for act, ahead, by in acts:
        now += ahead
        if act == "jump":
            clock.jump(now, by)
    wanted = clock.read(now) + local
    when = clock.when(wanted)
    assert clock.read(when) >= wanted
    assert when <= now or clock.read(when - 1) < wanted


@given(drift=st.integers(-50_000, 50_000), acts=acts, back=st.floats(0, 1))
def test_what_a_clock_showed_is_found_at_its_earliest_moment(
    drift: int, acts: list[Act], back: float
) -> None:
    clock = Clock(0, drift)
    now = 0
    for act, ahead, by in acts:
        now += ahead
        if act == "jump":
            clock.jump(now, by)
        elif act == "stop":
            clock.stop(now)
        else:
            clock.go(now)
    local = int(clock.read(now) * back)
    moment = clock.showed(local)
    assert moment <= now
    fresh = Clock(0, drift)
    at = 0
    for act, ahead, by in acts:  # what it showed at that moment, with the faults up to then
        at += ahead
        if at > moment:
            break
        if act == "jump":
            fresh.jump(at, by)
        elif act == "stop":
            fresh.stop(at)
        else:
            fresh.go(at)
    assert fresh.read(moment) >= local


def test_a_clock_that_stands_still_never_gets_there() -> None:
    clock = Clock(5, 0)
    clock.stop(10)
    assert clock.read(1_000) == 15
    assert clock.when(16) == FOREVER
    clock.go(1_000)
    assert clock.read(1_001) == 16


def test_a_clock_does_not_jump_back() -> None:
    with pytest.raises(AssertionError, match="never goes back"):
        Clock(0, 0).jump(1, -1)
