"""What a check found, and what to do about it."""

from typing import Literal

import msgspec

State = Literal["good", "note", "poor", "bad"]
"""``note`` is worth knowing; ``poor`` works, and will be regretted; ``bad`` must be mended."""


class Finding(msgspec.Struct, frozen=True):
    """One line of ``waypost doctor``."""

    check: str
    state: State
    what: str
    remedy: str = ""
    """The next step; empty if there is nothing to do."""
