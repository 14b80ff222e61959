"""Whether a request that failed is sent again, and when.

``RetryBudget`` is for reads.  Two bounds hold together: the caller's deadline, and a budget that
all requests of a client share (Finagle's ``RetryBudget``): each request earns a fifth of a retry,
each retry costs one, so that retries never add more than a fifth to the load of a registry that is
in trouble, and a client that asks seldom still gets its few.

``Setbacks`` is for what must be done in the end (writes, the session): it is never given up, but
each failure in a row makes the wait longer.  A node that fails for a moment is waited for, because
an election is over sooner than a move; one that fails for longer is left.

Time arrives as an argument, in milliseconds of any monotonic clock.
"""

from collections.abc import Callable
from typing import Final

from waypost.errors import Overloaded, ReadOnly, WaypostError

EARNED_PER_REQUEST: Final = 0.2
TOKENS_MAX: Final = 30.0
TOKENS_PER_S: Final = 3.0
WAIT_MS_MAX: Final = 200
SETBACK_MS_BASE: Final = 25
SETBACK_MS_CAP: Final = 2_000
MOVE_AFTER_MS: Final = 500
"""For how long a node may fail before it is left: longer than an election takes."""


class RetryBudget:
    """How many retries this client may still send.  Invariant: ``0 <= _tokens <= TOKENS_MAX``."""

    __slots__ = ("_at_ms", "_tokens")

    def __init__(self, now_ms: int) -> None:
        self._tokens = TOKENS_MAX
        self._at_ms = now_ms

    def earn(self, now_ms: int) -> None:
        """Note a request that is sent for the first time."""
        self._refill(now_ms)
        self._tokens = min(TOKENS_MAX, self._tokens + EARNED_PER_REQUEST)

    def spend(self, now_ms: int) -> bool:
        """Take leave to retry once, or hear that the budget is empty."""
        self._refill(now_ms)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _refill(self, now_ms: int) -> None:
        passed_ms = max(0, now_ms - self._at_ms)
        self._at_ms = max(self._at_ms, now_ms)
        self._tokens = min(TOKENS_MAX, self._tokens + passed_ms / 1000 * TOKENS_PER_S)


def wait_before_retry_ms(error: WaypostError, attempt: int, draw: float) -> int:
    """Say how long to wait before attempt number ``attempt`` (the first retry is 1).

    ``draw`` is a random number in [0, 1).  A registry that sheds load says how long; everybody
    else is asked again at once, and then after full jitter.
    """
    if isinstance(error, Overloaded):
        return int(error.retry_after * 1000 * (1 + draw / 4))
    if attempt <= 1:
        return 0
    return int(draw * min(WAIT_MS_MAX, 25 << min(attempt, 8)))


class Setbacks:
    """Failures in a row.  Invariant: ``error`` is None exactly while ``count`` is 0."""

    __slots__ = ("_draw", "_since_ms", "count", "error", "should_move")

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._since_ms = 0
        self.count = 0
        self.error: WaypostError | None = None
        self.should_move = False
        """Whether another node should be tried: said once for each ``MOVE_AFTER_MS``."""

    def met(self, error: WaypostError, now_ms: int) -> int:
        """Note a failure; returns how long to wait before the next attempt, in milliseconds."""
        if self.count == 0:
            self._since_ms = now_ms
        self.count += 1
        self.error = error
        self.should_move = now_ms - self._since_ms >= MOVE_AFTER_MS and not isinstance(
            error, Overloaded | ReadOnly
        )
        if self.should_move:
            self._since_ms = now_ms
        if isinstance(error, Overloaded):
            return wait_before_retry_ms(error, self.count, self._draw())
        bound_ms = min(SETBACK_MS_CAP, SETBACK_MS_BASE << min(self.count, 8))
        return SETBACK_MS_BASE + int(self._draw() * bound_ms)

    def ended(self) -> None:
        """Note a success."""
        self.count = 0
        self.error = None
        self.should_move = False
