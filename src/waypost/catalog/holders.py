"""Who may hold keys, and for how long a key that lost its holder is held back.

A holder with a lease lives as long as a session of the registry: opened, renewed and expired by the
machinery that keeps instances alive, so a renewal costs neither the log nor the leader anything,
and an outage costs no holder its lease.  ``session_of`` names that session.

When a holder ends without having released a key, others may acquire it only after the holder's lock
delay: whoever still believes to hold it has that long to notice (Burrows, Chubby, OSDI 2006, 2.4).

Knows no clock: time is cluster time, the stamp of the entry that is being applied.
"""

from typing import Final, Literal

import msgspec

from waypost.commands import OpenHolder
from waypost.model import Revision, SessionId

HOLDERS_MAX: Final = 65_536
LOCK_DELAY_MS_MAX: Final = 60_000
_DELAYS_KEPT_MIN: Final = 64
ALIVE: Final = "serfHealth"
"""The check that every node has in Consul; it fails with the node alone, so it is none here."""
_SESSION: Final = "holder:"


class Holder(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Somebody who may hold keys."""

    id: str
    name: str
    node: str
    """The machine or agent that it is on, as its client says."""
    ttl_ms: int
    """0 for one that lives until it is closed."""
    behavior: Literal["release", "delete"]
    """What becomes of its keys when it ends."""
    lock_delay_ms: int
    node_checks: tuple[str, ...]
    service_checks: tuple[str, ...]
    created: Revision


class Holders:
    """All open holders by id, in the order in which they were opened.

    Invariant: ``dependent`` lists exactly those that depend on a check.
    """

    __slots__ = ("_by_id", "_delays", "_delays_kept", "dependent", "revision")

    def __init__(self) -> None:
        self.revision: Revision = 0
        """Of the latest that was opened or closed."""
        self._by_id: dict[str, Holder] = {}
        self.dependent: dict[str, dict[str, None]] = {}
        """By node, those that some check keeps alive."""
        self._delays: dict[str, int] = {}
        self._delays_kept = _DELAYS_KEPT_MIN

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, holder_id: str) -> Holder | None:
        """Look a holder up."""
        return self._by_id.get(holder_id)

    def all(self) -> list[Holder]:
        """List all of them."""
        return list(self._by_id.values())

    def put(self, holder: Holder) -> None:
        """Add one."""
        self._by_id[holder.id] = holder
        if depends_on(holder):
            self.dependent.setdefault(holder.node, {})[holder.id] = None

    def remove(self, holder: Holder) -> None:
        """Forget one."""
        del self._by_id[holder.id]
        if depends_on(holder):
            of_node = self.dependent[holder.node]
            del of_node[holder.id]
            if not of_node:
                del self.dependent[holder.node]

    def hold_back(self, key: str, until_ms: int, now_ms: int) -> None:
        """Let nobody acquire a key until then."""
        self._delays.pop(key, None)  # one that is over may be here still, and not after a restart
        self._delays[key] = until_ms
        if len(self._delays) > self._delays_kept:
            self._delays = dict(self.delays(now_ms))
            self._delays_kept = max(_DELAYS_KEPT_MIN, 2 * len(self._delays))

    def is_held_back(self, key: str, now_ms: int) -> bool:
        """Whether nobody may acquire a key yet."""
        return self._delays.get(key, 0) > now_ms

    def delays(self, now_ms: int) -> list[tuple[str, int]]:
        """Tell which keys are held back, and until when."""
        return [(key, until) for key, until in self._delays.items() if until > now_ms]

    def restore_delays(self, delays: list[tuple[str, int]]) -> None:
        """Put back what a snapshot holds."""
        self._delays.update(delays)


def depends_on(holder: Holder | OpenHolder) -> list[str]:
    """Tell the checks, of its node or of what runs there, without which a holder ends."""
    return [each for each in (*holder.node_checks, *holder.service_checks) if each != ALIVE]


def session_of(holder_id: str) -> SessionId:
    """Name the session that keeps a holder with a lease alive."""
    return _SESSION + holder_id


def holder_of(session_id: SessionId) -> str:
    """Name the holder that a session keeps alive; empty if it is no such session."""
    return session_id.removeprefix(_SESSION) if session_id.startswith(_SESSION) else ""
