"""A clock that stands still until it is moved."""


class StandingClock:
    """The registry's clock in a test; it never goes back."""

    def __init__(self) -> None:
        self._now_ns = 0

    def __call__(self) -> int:
        """Tell the time, in nanoseconds."""
        return self._now_ns

    def move(self, by_ns: int) -> None:
        """Let time pass."""
        assert by_ns >= 0, "time does not go back"
        self._now_ns += by_ns
