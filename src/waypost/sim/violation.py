"""What a run ends with when something that must always be true was not."""


class Violation(AssertionError):
    """An invariant did not hold.  Not an error of the product's: no caller but the run meets it."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant
        self.what = what
