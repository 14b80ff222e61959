"""When the next probe of a check starts.

A failure is known within the interval and the timeout, though two probes in a row must find it: the
first starts early enough that a second one, which does not wait for the answer of the first, starts
within the interval too.  Each has its whole timeout, so a target that is slow and fine is fine.

Pure: whoever calls knows the time, and draws the numbers.
"""

from typing import Final

from waypost.checks import Check, CheckState

SECOND_SHARE: Final = 20
SECOND_S_MAX: Final = 1.0
EARLIEST: Final = 0.94
LATEST: Final = 0.99


def second_s(check: Check) -> float:
    """How long after the start of one probe another one may contradict or confirm it."""
    return min(SECOND_S_MAX, check.interval_ms / 1000 / SECOND_SHARE)


def next_s(check: Check, drawn: float) -> float:
    """How long after the start of one probe the next one starts, which drift apart by chance.

    That and ``second_s`` together are less than the interval.
    """
    room_s = check.interval_ms / 1000 - second_s(check)
    return room_s * (EARLIEST + (LATEST - EARLIEST) * drawn)


def needs_second(state: CheckState, streak: int) -> bool:
    """Whether one failure would be news, but not enough of it: then the second need not wait.

    A script waits for itself: it may not be made to run twice at once.
    """
    is_known_well = bool(state.output) and state.status != "critical"
    if state.check.kind == "script":
        return False
    return is_known_well and state.check.down_after - max(0, -streak) > 1
