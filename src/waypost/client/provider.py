"""Registrations that stay registered.

``Registrar`` drives ``registrations``: it opens the session on each new connection, and says in one
write all that is due then; a registry that still has what was registered is told nothing again.
``Registration`` is what the provider holds: one instance, to be changed, drained and deregistered.

The session is one per client, whatever it registers: its lease and its grace are the shortest that
any of its registrations asked for.  A session is attached before anything is registered under it,
and attached anew on each connection.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from waypost import checks, wire
from waypost.client.again import Again
from waypost.client.check import Check, declared
from waypost.client.connection import Connection
from waypost.client.dialback import warn_if_unreachable
from waypost.client.link import Link
from waypost.client.registrations import Due, Registrations, State, Wish, error_of
from waypost.client.writing import Writing, Written
from waypost.commands import Refused
from waypost.errors import Invalid, TimedOut, Unavailable, UnknownSession, WaypostError
from waypost.model import Health, Instance, Revision, check_instance, check_why

log = logging.getLogger("waypost")

GOODBYE_S: Final = 1.0
ATTEMPTS_PER_LEASE: Final = 3
"""A registry that comes back grants a full lease: who looks for it less often than that is late."""
WHY_DRAINING: Final = "drain asked for"


class Registrar:
    """Keeps the registry told of what this client wants registered."""

    def __init__(
        self,
        session: str,
        writing: Writing,
        *,
        draw: Callable[[], float],
        on_written: Callable[[Revision], None],
    ) -> None:
        self.link: Link
        """Set by the registry, which makes the two of them."""
        self.again = Again(self.push, draw=draw)
        """Attaches the session again."""
        self.registrations = Registrations()
        self._session = session
        self._writing = writing
        self._cluster = ""
        self._lease_ms: tuple[int, int] | None = None
        """The session's ttl and grace; None until something is registered under it."""
        self._is_attached = False
        self._attaching: asyncio.Task[None] | None = None
        self._on_written = on_written
        self._connection: Connection | None = None
        self._is_careful = False
        """One command in a write was refused with all others: say each alone, to find it."""
        self._alone: Due | None = None
        self._changed = asyncio.Event()
        self._verifying: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    # What providers want

    def begin(
        self,
        instance: Instance,
        *,
        ttl_ms: int,
        grace_ms: int,
        health: Health,
        checks: tuple[checks.Check, ...] | None = None,
    ) -> Wish:
        """Want an instance registered; this client's session keeps it unless ``ttl_ms`` is 0."""
        wish = Wish(instance, self._session if ttl_ms else "", health, checks)
        self.registrations.add(wish)
        if ttl_ms:
            self._shorten_lease(ttl_ms, min(grace_ms, ttl_ms))
        self.push()
        return wish

    async def settle(self, wish: Wish, timeout_s: float) -> None:
        """Wait until the registry has been told what is wanted now, or raise why it has not."""
        version = wish.version
        self.push()
        try:
            async with asyncio.timeout(timeout_s):
                while wish.acknowledged < version and not wish.has_ended:
                    await self.link.connected()
                    if wish.acknowledged < version and not wish.has_ended:
                        await self._changed.wait()
        except TimeoutError:
            raise self._why_not(wish, timeout_s) from None
        if wish.error is not None:
            raise wish.error

    def leave(self, wish: Wish) -> None:
        """Want it gone."""
        self.registrations.leave(wish)
        self._tell_waiters()

    async def ended(self, wish: Wish) -> WaypostError | None:
        """Wait until nothing will be said of it any more; returns why, if that was not wanted."""
        while not wish.has_ended:
            await self._changed.wait()
        return wish.error

    def push(self) -> None:
        """Say what is due."""
        if self._connection is None or self._attaching is not None or self.again.is_due:
            return
        if self._lease_ms is not None and not self._is_attached:
            self._attaching = self._loop.create_task(self._attach(self._connection))
            return
        self._writing.open()
        if self._is_careful and self.registrations.is_busy:
            return
        due_now = self.registrations.due(1 if self._is_careful else None)
        self._is_careful = self._is_careful and bool(due_now)
        self._alone = due_now[0] if self._is_careful else None
        for due in due_now:
            future = self._writing.enqueue(due.command)
            future.add_done_callback(partial(self._answered, due))

    def verify(self, wish: Wish) -> None:
        """Have the registry dial the advertised address, and warn if it cannot."""
        task = self._loop.create_task(warn_if_unreachable(wish, lambda: self._connection))
        self._verifying.add(task)
        task.add_done_callback(self._verifying.discard)

    # The link tells

    def connected(self, connection: Connection) -> None:
        """Open the session on this connection; then say what the registry does not know."""
        self.disconnected()
        if connection.welcome.cluster != self._cluster:
            self._cluster = connection.welcome.cluster
            self.registrations.forgotten()
        self._connection = connection
        connection.on_moved = partial(self._moved, connection)
        self.push()

    def disconnected(self) -> None:
        """Nothing can be said until the next connection."""
        self._connection = None
        self._is_attached = False
        if self._attaching is not None:
            self._attaching.cancel()
            self._attaching = None
        self.again.cancel()
        self._tell_waiters()

    def unattached(self) -> None:
        """The node knows nothing of the session on this connection."""
        self._is_attached = False
        self.again.later(UnknownSession("session: it is not attached to this connection"))

    def _moved(self, connection: Connection) -> None:
        """The session is attached elsewhere now; but this is where this client is."""
        if connection is self._connection and self._is_attached:
            log.warning(
                "%s: the session was attached elsewhere: attaching it here again",
                connection.address,
            )
            self._is_attached = False
            self.push()

    async def close(self) -> None:
        """End the session: all that is registered under it goes, at once and in order."""
        for task in list(self._verifying):
            task.cancel()
        connection, was_attached = self._connection, self._is_attached
        self.disconnected()
        if connection is not None and was_attached:
            with suppress(TimeoutError, WaypostError):
                async with asyncio.timeout(GOODBYE_S):
                    await connection.ask(wire.DETACH, wire.encode(self._session))
        for wish in self.registrations:
            wish.state = "left"
        self._tell_waiters()

    # The session

    def _shorten_lease(self, ttl_ms: int, grace_ms: int) -> None:
        before = self._lease_ms
        if before is not None:
            ttl_ms, grace_ms = min(before[0], ttl_ms), min(before[1], grace_ms)
        self.link.hurry(ttl_ms // ATTEMPTS_PER_LEASE)
        if (ttl_ms, grace_ms) != before:
            self._lease_ms = ttl_ms, grace_ms
            self._is_attached = False

    async def _attach(self, connection: Connection) -> None:
        assert self._lease_ms is not None
        lease_ms = self._lease_ms
        body = wire.encode(wire.AttachSession(self._session, *lease_ms))
        try:
            attached = wire.decode_attached(await connection.ask(wire.ATTACH, body))
            outcome = attached.outcomes[0]
            if isinstance(outcome, Refused):
                raise error_of(outcome)
        except WaypostError as error:
            self._attaching = None
            if connection.is_open:
                self.again.later(error)
            return
        self._attaching = None
        self.again.setbacks.ended()
        self._is_attached = lease_ms == self._lease_ms
        self.registrations.attached(attached.revision, _by_key(attached.holds))
        self.push()

    # Answers

    def _answered(self, due: Due, future: "asyncio.Future[Written]") -> None:
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error is not None:
            self._unanswered(due, error)
            return
        written = future.result()
        self._on_written(written.revision)
        must_attach = self.registrations.answered(due, written.outcome, written.revision)
        if must_attach:
            self._is_attached = False
        wish = due.wish
        if wish.error is not None and wish.has_ended:
            log.error(
                "%s of %s stands down: %s", wish.instance.id, wish.instance.service, wish.error
            )
        self._tell_waiters()
        if must_attach or self._is_careful or wish.version > wish.acknowledged:
            self.push()

    def _unanswered(self, due: Due, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, WaypostError):
            raise error
        if isinstance(error, Invalid) and due is self._alone:
            self.registrations.refused(due, error)
            log.error("%s cannot be registered: %s", due.wish.instance.id, error)
            self._tell_waiters()
            self.push()
            return
        self.registrations.failed(due)
        if isinstance(error, Invalid):
            self._is_careful = True
            self._loop.call_soon(self.push)
        elif error is not None:
            self.again.later(error)

    def _why_not(self, wish: Wish, timeout_s: float) -> Unavailable:
        name = f"{wish.instance.service}/{wish.instance.id}"
        if self._connection is None:
            return Unavailable(
                f"{name}: not told within {timeout_s:g} s: {self.link.unavailable()}"
            )
        setbacks = self._writing.again.setbacks if self._is_attached else self.again.setbacks
        if setbacks.error is not None:
            error = type(setbacks.error)
            kind = error if issubclass(error, Unavailable) else Unavailable
            return kind(f"{setbacks.error} (tried {setbacks.count} times in {timeout_s:g} s)")
        return TimedOut(
            f"{name}: no answer within {timeout_s:g} s; it may still be carried out, and is said "
            "again as long as it is wanted"
        )

    def _tell_waiters(self) -> None:
        self._changed.set()
        self._changed.clear()


class Registration:
    """One registered instance.  Kept registered, whatever happens to the registry or on the way.

    If another process registers the same id, this one stands down as soon as it hears of it:
    ``state`` becomes ``superseded``, ``ended`` returns, and whatever would change the instance
    raises ``Superseded``.  It never fights.
    """

    def __init__(
        self,
        registrar: Registrar,
        wish: Wish,
        *,
        drain: Callable[[str, str, float], Awaitable[wire.Drained]],
        show: Callable[[str], Awaitable[None]],
        timeout_s: float,
    ) -> None:
        self._registrar = registrar
        self._wish = wish
        self._drain = drain
        self._show = show
        self._timeout_s = timeout_s

    @property
    def instance(self) -> Instance:
        """What is registered, with the incarnation that the registry gave it."""
        return self._wish.instance

    @property
    def health(self) -> Health:
        """The health that this process last declared."""
        return self._wish.health

    @property
    def state(self) -> State:
        """``pending``, ``registered``, ``leaving``, ``left``, ``superseded`` or ``refused``."""
        return self._wish.state

    @property
    def error(self) -> WaypostError | None:
        """Why it is not registered any more, if that was not asked for here."""
        return self._wish.error

    async def set_health(self, health: Health, why: str = "") -> None:
        """Declare how the instance is, and why, in at most 512 characters."""
        check_why(why)
        self._registrar.registrations.alter(self._wish, health=health, why=why)
        await self._settled(self._timeout_s)

    async def update(
        self,
        *,
        weight: float | None = None,
        zone: str | None = None,
        version: str | None = None,
        tags: Sequence[str] | None = None,
        meta: Mapping[str, str] | None = None,
        checks: Sequence[Check] | None = None,
    ) -> None:
        """Change what is registered; what is left out stays as it is."""
        given = {
            "weight": weight,
            "zone": zone,
            "version": version,
            "tags": None if tags is None else tuple(tags),
            "meta": None if meta is None else dict(meta),
        }
        changes = {field: value for field, value in given.items() if value is not None}
        instance = msgspec.structs.replace(self.instance, **changes)
        check_instance(instance)
        all_checks = None if checks is None else declared(checks, instance.host, instance.port)
        self._registrar.registrations.alter(self._wish, instance=instance, checks=all_checks)
        await self._settled(self._timeout_s)

    async def drain(self, deadline: float = 10.0) -> wire.Drained:
        """Take the instance out of new picks, and wait until every consumer has noticed.

        Returns when nobody picks it any more (``unseen`` is 0), or after ``deadline`` seconds, with
        the number of consumers that had not confirmed by then.
        """
        await self._registrar.settle(self._wish, self._timeout_s)
        self._registrar.registrations.assume(self._wish, "draining", WHY_DRAINING)
        return await self._drain(self.instance.service, self.instance.id, deadline)

    async def deregister(self) -> None:
        """Remove the instance; one that has ended already is left as it is."""
        self._registrar.leave(self._wish)
        if not self._wish.has_ended:
            await self._settled(self._timeout_s)

    async def ended(self) -> WaypostError | None:
        """Wait until it is registered no more; returns why, or None if that was asked for here."""
        return await self._registrar.ended(self._wish)

    async def leave(self) -> None:
        """Deregister, or if no registry can be told now, leave that to the lease."""
        self._registrar.leave(self._wish)
        if self._wish.has_ended:
            return
        try:
            await self._settled(GOODBYE_S)
        except Unavailable as error:
            log.warning(
                "%s could not be deregistered, and goes when its lease ends: %s",
                self._wish.instance.id,
                error,
            )

    async def _settled(self, timeout_s: float) -> None:
        await self._registrar.settle(self._wish, timeout_s)
        await self._show(self.instance.service)


def _by_key(holds: list[wire.Holding] | None) -> dict[tuple[str, str], int] | None:
    if holds is None:
        return None
    return {(holding.service, holding.id): holding.incarnation for holding in holds}
