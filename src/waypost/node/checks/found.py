"""What one probe found."""

import msgspec

from waypost.checks import CheckStatus


class Found(msgspec.Struct, frozen=True, gc=False):
    """How the target is, in its own words or in ours."""

    status: CheckStatus
    output: str
    is_slow: bool = False
    """It took its whole time: the next probe of it waits among its like."""
