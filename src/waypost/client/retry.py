"""Whether a request that failed is sent again.

Only what is safe to repeat comes here: reads, and writes that name their own incarnation.  Two
bounds hold together: the caller's deadline, and a budget that all requests of a client share
(Finagle's ``RetryBudget``): each request earns a fifth of a retry, each retry costs one, so that
retries never add more than a fifth to the load of a registry that is in trouble, and a client that
asks seldom still gets its few.

Time arrives as an argument, in milliseconds of any monotonic clock.
"""

from typing import Final

from waypost.errors import Overloaded, WaypostError

EARNED_PER_REQUEST: Final = 0.2
TOKENS_MAX: Final = 30.0
TOKENS_PER_S: Final = 3.0
WAIT_MS_MAX: Final = 200


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
