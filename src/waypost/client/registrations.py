"""What this process wants registered, and what must be said so that it is.

Each registration is a wish (an instance, its health, present or not) with a version that grows with
each change of the wish, and the version that the registry last acknowledged.  What differs is due.
What the registry turns out not to have is due again, so that registering, changing, leaving and
coming back after a failure are one rule and not four.

A command that was under way when a connection was lost still is: it will be said again, as the
same write, until it is answered.  Its answer may tell of a time before the session was attached
anew; then what the session held at that moment is the later news.

Always true: at most one command per registration is under way, so what is acknowledged is never
older than what was acknowledged before; a registration that another process has taken over by a
newer incarnation is out of the race for good.  Knows no clock and no connection.
"""

from collections.abc import Iterator, Mapping
from typing import Final, Literal

import msgspec

from waypost.checks import Check
from waypost.commands import Deregister, Outcome, Refused, Register, RegisterChecked
from waypost.errors import (
    ERRORS_BY_CODE,
    Invalid,
    Rejected,
    Superseded,
    TooOld,
    UnknownInstance,
    UnknownService,
    UnknownSession,
    WaypostError,
)
from waypost.model import Health, Instance, Revision, SessionId

State = Literal["pending", "registered", "leaving", "left", "superseded", "refused"]
_GONE: Final = (UnknownService.code, UnknownInstance.code, Superseded.code)
"""Answers to a deregistration that say: it is not there, which is what was wanted."""


class Wish:
    """One instance as this process wants it to be registered."""

    __slots__ = (
        "acknowledged",
        "checks",
        "error",
        "has_been_sent",
        "health",
        "instance",
        "missed_at",
        "session",
        "state",
        "under_way",
        "version",
        "why",
    )

    def __init__(
        self,
        instance: Instance,
        session: SessionId,
        health: Health,
        checks: tuple[Check, ...] | None = None,
    ) -> None:
        self.instance = instance
        """Its incarnation is 0 until the registry has given it one."""
        self.session = session
        self.health: Health = health
        self.checks = checks
        """All that it shall have; None if this process never said."""
        self.why = ""
        self.version = 1
        self.acknowledged = 0
        self.under_way: Due | None = None
        self.missed_at: Revision = 0
        """The session did not hold it when it was attached, at this revision."""
        self.has_been_sent = False
        self.state: State = "pending"
        self.error: WaypostError | None = None
        """Why it is not registered any more, if that was not wanted."""

    @property
    def key(self) -> tuple[str, str]:
        """What identifies it."""
        return self.instance.service, self.instance.id

    @property
    def has_ended(self) -> bool:
        """Whether nothing will ever be said of it again."""
        return self.state in ("left", "superseded", "refused")


class Due(msgspec.Struct, frozen=True, eq=False):
    """A command that must be sent, and the version of the wish that it fulfils."""

    wish: Wish
    version: int
    command: Register | RegisterChecked | Deregister


class Registrations:
    """All wishes of one client."""

    __slots__ = ("_wishes",)

    def __init__(self) -> None:
        self._wishes: dict[tuple[str, str], Wish] = {}

    def __iter__(self) -> Iterator[Wish]:
        return iter(list(self._wishes.values()))

    def __len__(self) -> int:
        return len(self._wishes)

    def find(self, service: str, instance_id: str) -> Wish | None:
        """The wish for an instance, if this client has one."""
        return self._wishes.get((service, instance_id))

    def add(self, wish: Wish) -> None:
        """Want this registered; ``Invalid`` if this client registered that id already."""
        if wish.key in self._wishes:
            raise Invalid(
                f"id: {wish.instance.id!r} of {wish.instance.service!r} is registered by this "
                "client already: use its registration, or another id",
                field="id",
            )
        self._wishes[wish.key] = wish

    def alter(
        self,
        wish: Wish,
        *,
        instance: Instance | None = None,
        health: Health | None = None,
        why: str | None = None,
        checks: tuple[Check, ...] | None = None,
    ) -> None:
        """Want it otherwise; raises why it has ended, if it has."""
        self._check(wish)
        if instance is not None:
            assert (instance.service, instance.id) == wish.key, "an identity does not change"
            wish.instance = instance
        wish.health = health or wish.health
        wish.why = wish.why if why is None else why
        wish.checks = wish.checks if checks is None else checks
        wish.version += 1

    def assume(self, wish: Wish, health: Health, why: str) -> None:
        """Another request makes it so: say the same from now on."""
        self._check(wish)
        wish.health, wish.why = health, why

    def leave(self, wish: Wish) -> None:
        """Want it gone; one that has ended is gone already."""
        if wish.has_ended or wish.state == "leaving":
            return
        if wish.has_been_sent:
            wish.state = "leaving"
            wish.version += 1
        else:
            self._end(wish, "left")

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way."""
        return any(wish.under_way is not None for wish in self._wishes.values())

    def due(self, count: int | None = None) -> list[Due]:
        """Take what must be sent now, or so much of it."""
        taken: list[Due] = []
        for wish in self._wishes.values():
            if len(taken) == count:
                break
            if wish.version > wish.acknowledged and wish.under_way is None:
                wish.under_way = Due(wish, wish.version, _command(wish))
                wish.has_been_sent = True
                taken.append(wish.under_way)
        return taken

    def forgotten(self) -> None:
        """The registry has lost its data, or is another one: say everything again."""
        for wish in self._wishes.values():
            wish.acknowledged = 0
            wish.missed_at = 0

    def attached(self, revision: Revision, holds: Mapping[tuple[str, str], int] | None) -> None:
        """The session is attached, and holds these incarnations; None if that is not known.

        What of it was registered and is not there any more has to be said again.
        """
        for wish in self._wishes.values():
            if not wish.session:
                continue
            held = None if holds is None else holds.get(wish.key)
            if held is None or wish.instance.incarnation not in (0, held):
                wish.acknowledged = 0
                wish.missed_at = revision

    def failed(self, due: Due) -> None:
        """It was not carried out, or nobody knows: it is due again."""
        if due.wish.under_way is due:
            due.wish.under_way = None

    def refused(self, due: Due, error: WaypostError) -> None:
        """It will never be carried out."""
        if due.wish.under_way is due:
            due.wish.under_way = None
            due.wish.error = error
            self._end(due.wish, "refused")

    def answered(self, due: Due, outcome: Outcome, revision: Revision) -> bool:
        """Take what became of it at ``revision``; returns whether the session must be attached."""
        wish = due.wish
        if wish.under_way is not due:
            return False  # it has been given up since
        wish.under_way = None
        if isinstance(outcome, Refused):
            return self._refused(due, outcome)
        if isinstance(due.command, Deregister):
            wish.acknowledged = due.version
            self._end(wish, "left")
            return False
        if revision > wish.missed_at:
            wish.acknowledged = due.version
        wish.instance = msgspec.structs.replace(wish.instance, incarnation=outcome)
        if wish.state == "pending" and wish.acknowledged:
            wish.state = "registered"
        return False

    def _refused(self, due: Due, refused: Refused) -> bool:
        wish = due.wish
        if refused.code == UnknownSession.code:
            return True
        if refused.code == TooOld.code:
            return False  # nobody knows what became of it: it is due again, as another write
        if isinstance(due.command, Deregister) and refused.code in _GONE:
            self._end(wish, "left")
            return False
        wish.error = error_of(refused)
        self._end(wish, "superseded" if refused.code == Superseded.code else "refused")
        return False

    def _check(self, wish: Wish) -> None:
        if wish.error is not None:
            raise wish.error
        if wish.has_ended or wish.state == "leaving":
            raise Rejected(
                f"{wish.instance.id!r} of {wish.instance.service!r} has been deregistered: "
                "register it again"
            )

    def _end(self, wish: Wish, state: State) -> None:
        wish.state = state
        if self._wishes.get(wish.key) is wish:
            del self._wishes[wish.key]


def error_of(refused: Refused) -> WaypostError:
    """The error that a refusal stands for."""
    return ERRORS_BY_CODE.get(refused.code, Rejected)(refused.message)


def _command(wish: Wish) -> Register | RegisterChecked | Deregister:
    instance = wish.instance
    if wish.state == "leaving":
        return Deregister(instance.service, instance.id, instance.incarnation)
    register = Register(instance, wish.session, wish.health, wish.why)
    return register if wish.checks is None else RegisterChecked(register, wish.checks)
