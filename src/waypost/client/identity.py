"""Who this client is to the registry, over all its connections, and the ids of its frames.

The registry knows a write by the client and the id of its frame, so an id is never given twice:
not on another connection either, and not for anything else.
"""

import secrets
from typing import Final

ID_MAX: Final = 2**32 - 1


class Identity:
    """One client's.  Invariant: every id that ``next_id`` gave is below the next one."""

    __slots__ = ("_last_id", "client")

    def __init__(self, client: str = "") -> None:
        self.client = client or secrets.token_urlsafe(12)
        self._last_id = 0

    def next_id(self) -> int:
        """Give an id that no frame of this client has had."""
        assert self._last_id < ID_MAX, "a client has 2**32 - 1 frames: open another one"
        self._last_id += 1
        return self._last_id
