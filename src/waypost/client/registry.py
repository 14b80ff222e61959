"""The verbs of the client: register, resolve, watch, pick and the rest, for asyncio.

One ``Registry`` is one session and one connection, whatever it is used for.  It connects in the
background and reconnects by itself; what it registered it registers again, what it watches it goes
on watching.  Belongs to the event loop that it was opened on.
"""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec

from waypost import wire
from waypost.balance import DEFAULT_POLICY
from waypost.catalog.queries import select
from waypost.client.addresses import Address
from waypost.client.answers import Answer, ServiceList
from waypost.client.asking import Asking
from waypost.client.check import Check
from waypost.client.connection import Connection
from waypost.client.identity import Identity
from waypost.client.lastknown import LastKnown
from waypost.client.link import Link
from waypost.client.provider import Registrar, Registration
from waypost.client.registering import Registering
from waypost.client.registrations import Wish, error_of
from waypost.client.service import Service
from waypost.client.watching import Watch, Watching
from waypost.client.writing import Writing
from waypost.commands import Deregister, Refused
from waypost.errors import Unavailable, WaypostError
from waypost.model import (
    GRACE_MS_DEFAULT,
    TTL_MS_DEFAULT,
    Health,
    HealthFilter,
    Instance,
    Query,
    Revision,
    ServiceName,
    Source,
    check_id,
    check_service,
)

log = logging.getLogger("waypost")

TTL_DEFAULT_S: Final = TTL_MS_DEFAULT / 1000
GRACE_DEFAULT_S: Final = GRACE_MS_DEFAULT / 1000


class Registry:
    """A registry, as this process sees it.  Made by ``waypost.connect``."""

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        timeout: float,
        connect_timeout: float,
        cache_dir: Path | None,
    ) -> None:
        self._timeout_s = timeout
        self._cluster = ""
        self._seen: Revision = 0
        """The highest revision that this client has been shown; no answer may be older."""
        self._services: dict[tuple[object, ...], Service] = {}
        name = ",".join(sorted(map(str, addresses)))
        self._last_known = LastKnown(cache_dir, name)
        self._watching = Watching(self._last_known)
        identity = Identity()
        self._writing = Writing(identity, draw=random.random)
        self._registrar = Registrar(
            secrets.token_urlsafe(16), self._writing, draw=random.random, on_written=self._saw
        )
        self._writing.on_unattached = self._registrar.unattached
        self._link = Link(
            addresses,
            self,
            connect_timeout_s=connect_timeout,
            draw=random.random,
            identity=identity,
        )
        self._watching.link = self._registrar.link = self._link
        self._writing.link = self._writing.again.link = self._registrar.again.link = self._link
        self._asking = Asking(self._link, draw=random.random, timeout_s=timeout)
        self._is_closing = False

    # Providers

    def register(
        self,
        service: ServiceName,
        *,
        port: int,
        host: str | None = None,
        id: str | None = None,
        weight: float | None = None,
        zone: str = "",
        version: str = "",
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        ports: Mapping[str, int] | None = None,
        ttl: float = TTL_DEFAULT_S,
        grace: float = GRACE_DEFAULT_S,
        health: Health = "passing",
        checks: Sequence[Check] | None = None,
    ) -> Registering:
        """Register an instance of a service, and keep it registered.

        ``async with registry.register("orders", port=8080):`` deregisters at the end of the block;
        ``registration = await registry.register(...)`` leaves that to you.

        ``host`` is by default the address from which this process reaches the registry; ``id`` is
        made up.  ``ttl`` is the lease: for how many seconds silence is tolerated, 0 for a permanent
        instance that only a deregistration removes.  ``grace`` is how many seconds a broken
        connection may take to come back.  All that one client registers shares the shortest of its
        leases and graces.

        ``checks`` are what the registry itself shall look at; until they are found passing, the
        instance is critical.  They are all that it has; without, those that it has stay.

        Raises ``Invalid`` at once for what is out of bounds; ``Unavailable`` if the registry
        cannot be told in time; ``Rejected`` if it refuses.
        """
        instance = Instance(
            service,
            id or "to-be-made-up",
            host or "to-be-found",
            port,
            None if weight is None else float(weight),
            zone,
            version,
            tuple(tags),
            dict(meta or {}),
            dict(ports or {}),
        )
        return Registering(
            self._begin,
            instance,
            host=host,
            id=id,
            ttl=ttl,
            grace=grace,
            health=health,
            checks=checks,
        )

    async def deregister(self, service: ServiceName, id: str) -> None:
        """Remove an instance, whoever registered it; ``UnknownInstance`` if there is none."""
        check_service(service)
        check_id(id)
        wish = self._registrar.registrations.find(service, id)
        if wish is not None:
            await self._registration(wish).deregister()
        else:
            self._asking.check_open()
            written = await self._writing.write(Deregister(service, id), self._timeout_s)
            self._saw(written.revision)
            if isinstance(written.outcome, Refused):
                raise error_of(written.outcome)
        await self._show(service)

    async def drain(self, service: ServiceName, id: str, deadline: float = 10.0) -> wire.Drained:
        """Take an instance out of new picks; returns once every consumer has noticed.

        ``deadline`` is in seconds; what had not confirmed by then is counted in ``unseen``.
        """
        check_service(service)
        check_id(id)
        request = wire.Drain(service, id, round(deadline * 1000))
        body = await self._asking.ask(wire.DRAIN, wire.encode(request), more_s=deadline)
        drained = wire.decode_drained(body)
        self._saw(drained.revision)
        await self._show(service)
        return drained

    # Consumers

    async def resolve(
        self,
        service: ServiceName,
        *,
        health: HealthFilter = "resolvable",
        tags: Sequence[str] = (),
        zone: str = "",
        version: str = "",
        meta: Mapping[str, str] | None = None,
        consistency: wire.Consistency = "default",
        max_stale: float | None = None,
    ) -> Answer:
        """Ask which instances of a service there are, by default those that should be used.

        Never older than what this client has seen.  ``linearizable`` sees every write that was
        acknowledged before; ``max_stale`` bounds the age in seconds.  If no registry can be reached
        and neither was asked for, the last known answer is given, with its ``source`` and ``age``.
        """
        check_service(service)
        query = Query(health, tuple(tags), zone, version, dict(meta or {}))
        stale_ms = -1 if max_stale is None else round(max_stale * 1000)
        wants_fresh = consistency != "default" or stale_ms >= 0
        try:
            body = await self._asking.ask(
                wire.RESOLVE,
                lambda: wire.encode(
                    wire.Resolve(service, query, consistency, stale_ms, self._seen)
                ),
                is_patient=lambda: wants_fresh or self._recall(service) is None,
            )
        except Unavailable:
            recalled = None if wants_fresh else self._recall(service)
            if recalled is None:
                raise
            records = tuple(select(recalled.records, query))
            return msgspec.structs.replace(recalled, records=records)
        resolved = wire.decode_resolved(body)
        age_s = resolved.age_ms / 1000
        self._saw(resolved.revision)
        if query.is_plain and self._watching.find(service) is None:
            as_of_ms = round((time.time() - age_s) * 1000)
            self._last_known.remember(
                self._last_known.known(service, self._cluster, as_of_ms, resolved.records)
            )
        return Answer(tuple(resolved.records), resolved.revision, age_s, resolved.source)

    async def services(self) -> ServiceList:
        """List every service that has an instance."""
        body = await self._asking.ask(wire.LIST, lambda: wire.encode(self._seen))
        listed = wire.decode_services(body)
        self._saw(listed.revision)
        return ServiceList(
            tuple(listed.services), listed.revision, listed.age_ms / 1000, listed.source
        )

    async def checks(self, service: ServiceName) -> wire.Checked:
        """Ask what the checks of a service's instances found last, the worst first."""
        check_service(service)
        return wire.decode_checked(await self._asking.ask(wire.CHECKS, wire.encode(service)))

    def service(
        self,
        name: ServiceName,
        policy: str = DEFAULT_POLICY,
        *,
        tags: Sequence[str] = (),
        zone: str = "",
        version: str = "",
        meta: Mapping[str, str] | None = None,
    ) -> Service:
        """Give a live view of a service to pick from; the same one for the same arguments.

        Its policies: ``least_response_time``, ``random``, ``round_robin`` and ``weighted``.
        """
        check_service(name)
        query = Query("any", tuple(tags), zone, version, dict(meta or {}))
        key = (name, policy, query.tags, zone, version, tuple(sorted(query.meta.items())))
        service = self._services.get(key)
        if service is None:
            service = self._services[key] = Service(
                self._watching.watched(name),
                query,
                policy,
                draw=random.random,
                clock_ns=time.monotonic_ns,
                timeout_s=self._timeout_s,
            )
        return service

    def watch(self, name: ServiceName | None = None) -> Watch:
        """Follow a service, or all of them: each instance as ``up``, then every change, once."""
        if name is not None:
            check_service(name)
        return Watch(self._watching.watched(name or ""), self._timeout_s)

    async def status(self) -> wire.NodeStatus:
        """Ask the node that this client is connected to how it is."""
        return wire.decode_status(await self._asking.ask(wire.STATUS))

    # Life

    async def close(self, *, drain: float | None = None) -> None:
        """Deregister all that this client registered, and disconnect.  Closing twice does nothing.

        With ``drain``, each instance first waits so many seconds for its consumers to notice.
        """
        if self._is_closing:
            return
        self._is_closing = True
        try:
            if drain is not None:
                held = [self._registration(wish) for wish in self._registrar.registrations]
                await asyncio.gather(*(_drained(registration, drain) for registration in held))
            self._asking.close()
            await self._registrar.close()
        finally:
            self._asking.close()
            self._writing.close()
            self._watching.close()
            await self._link.close()
            await self._last_known.close()

    async def __aenter__(self) -> "Registry":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # The link tells

    def connected(self, connection: Connection) -> None:
        """A connection stands: attach, register and watch, all in one breath."""
        if connection.welcome.cluster != self._cluster:
            self._cluster = connection.welcome.cluster
            self._seen = 0
        self._writing.connected(connection)
        self._registrar.connected(connection)
        self._watching.connected(connection)

    def disconnected(self) -> None:
        """There is no connection."""
        self._writing.disconnected()
        self._registrar.disconnected()
        self._watching.disconnected()

    # What the verbs are made of

    async def _begin(self, registering: Registering) -> Registration:
        instance = await registering.completed(self._link, self._timeout_s)
        self._asking.check_open()
        wish = self._registrar.begin(
            instance,
            ttl_ms=registering.ttl_ms,
            grace_ms=registering.grace_ms,
            health=registering.health,
            checks=registering.checks_of(instance),
        )
        try:
            await self._registrar.settle(wish, self._timeout_s)
        except BaseException:
            self._registrar.leave(wish)
            raise
        self._registrar.verify(wish)
        await self._show(instance.service)
        return self._registration(wish)

    def _recall(self, service: ServiceName) -> Answer | None:
        """What is known of all instances of a service without asking, or None."""
        watched = self._watching.find(service)
        if watched is not None:
            view = watched.view
            source: Source = "disk" if view.source == "disk" else "cache"
            return Answer(tuple(view.records.values()), view.revision, watched.age_s, source)
        recalled = self._last_known.recall(service)
        if recalled is None:
            return None
        known, source = recalled
        age = max(0.0, time.time() - known.as_of_ms / 1000)
        return Answer(tuple(known.records), 0, age, source)

    def _saw(self, revision: Revision) -> None:
        self._seen = max(self._seen, revision)

    async def _show(self, service: ServiceName) -> None:
        """Let this client's own views of a service show what it has just done."""
        connection = self._link.connection
        if connection is not None and self._watching.is_behind(service, self._seen):
            with suppress(WaypostError, TimeoutError):
                async with asyncio.timeout(self._timeout_s):
                    await connection.fence()
        watched = self._watching.find(service)
        if watched is not None:
            watched.settle(at_any_cost=True)

    def _registration(self, wish: Wish) -> Registration:
        return Registration(
            self._registrar, wish, drain=self.drain, show=self._show, timeout_s=self._timeout_s
        )


async def _drained(registration: Registration, deadline: float) -> None:
    try:
        await registration.drain(deadline)
    except WaypostError as error:  # it goes all the same
        log.warning("%s was not drained: %s", registration.instance.id, error)
