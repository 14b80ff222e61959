"""Who goes first when there is too much to do: renew > deregister > register > watch > list.

A renewal never waits in a queue (hearing it is an attribute store), so it needs no lane.  The
others are admitted while the queue of commands not yet answered is below their share of it; so
lists are shed first and deregistrations last, and no queue is unbounded.
"""

from typing import Final, Literal

from waypost.errors import Overloaded

COMMANDS_WAITING_MAX: Final = 65_536
BYTES_WAITING_MAX: Final = 64 << 20

Kind = Literal["deregister", "register", "watch", "list"]
_SHARE: Final[dict[Kind, float]] = {
    "deregister": 1.0,
    "register": 0.8,
    "watch": 0.6,
    "list": 0.5,
}


class Admission:
    """Says no, with the time after which to ask again."""

    def __init__(
        self,
        commands_max: int = COMMANDS_WAITING_MAX,
        bytes_max: int = BYTES_WAITING_MAX,
    ) -> None:
        self._limits = {
            kind: (int(commands_max * share), int(bytes_max * share))
            for kind, share in _SHARE.items()
        }
        self.shed: dict[Kind, int] = dict.fromkeys(_SHARE, 0)

    def admit(self, kind: Kind, commands: int, size: int) -> None:
        """Raise ``Overloaded`` unless there is room, with so much waiting already."""
        commands_max, bytes_max = self._limits[kind]
        if commands < commands_max and size < bytes_max:
            return
        self.shed[kind] += 1
        raise Overloaded(
            f"{commands} commands ({size >> 10} KiB) are waiting, and a {kind} is admitted below "
            f"{commands_max} ({bytes_max >> 10} KiB): "
            "send it again after retry_after",
            retry_after=0.1 if kind == "deregister" else 1.0,
        )
