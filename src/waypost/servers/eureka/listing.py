"""What Eureka's clients are told: applications whole, and what changed of them lately.

Every client asks for all of it, or for the last three minutes, every thirty seconds.  So what is
told is put together from services that are shown once for each of their revisions, and whatever
takes long lets others have their turn.

The hash code says how many instances have each status, over all applications.  A client that has
applied a delta counts its own, and asks for everything if they differ.  A delta comes from the
history; where that does not reach back far enough, after a restart, it holds everything as added,
which together with the hash code leads to the same end.

A suspect is ``DOWN`` as long as its service has better ones, and ``UP`` when it has not.
"""

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Final, Literal

from waypost.model import Change, ChangeKind, InstanceId, Record, ServiceName, resolvable
from waypost.node.registry import Registry
from waypost.servers.eureka.info import Action, InstanceInfo, Status
from waypost.servers.eureka.names import app_of
from waypost.servers.eureka.showing import (
    AT_ONCE,
    Form,
    Shown,
    application,
    applications,
    encode,
    with_action,
)
from waypost.servers.eureka.translating import info_of, override_of, status_of

What = Literal["all", "delta"]
WINDOW_MS: Final = 180_000
_ACTIONS: Final[dict[ChangeKind, Action]] = {
    "up": "ADDED",
    "changed": "MODIFIED",
    "down": "DELETED",
}
_GZIP: Final = 31
_GZIP_BYTES_MIN: Final = 1_024


class _Kept:
    """An answer, as of a revision."""

    __slots__ = ("body", "lock", "revision")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.revision = -1
        self.body = b""


class Listing:
    """The whole registry as Eureka shows it, at this node."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._shown: dict[ServiceName, Shown] = {}
        self._kept: dict[tuple[What, Form, bool], _Kept] = {}

    async def told(self, what: What, form: Form, *, gzip: bool) -> bytes:
        """Every application, or the delta: the same to all who ask at one revision."""
        asked_at = self._registry.revision
        kept = self._kept.setdefault((what, form, gzip), _Kept())
        async with kept.lock:  # who waits here is served by what was made meanwhile
            if kept.revision < asked_at:
                revision = self._registry.revision
                body = await (self._all(form) if what == "all" else self._delta(form))
                kept.body = await pack(body) if gzip else body
                kept.revision = revision
            return kept.body

    async def _all(self, form: Form) -> bytes:
        revision, counts, parts = self._registry.revision, Counter[Status](), list[bytes]()
        async for shown in self._each():
            for _ in shown.showing(form):
                await asyncio.sleep(0)
            counts.update(shown.counts)
            parts.append(shown.application(form))
        return applications(revision, counts, parts, form)

    async def _delta(self, form: Form) -> bytes:
        async for _ in self._each():
            pass  # so that what follows, all at one revision, finds most of it shown already
        catalog, counts = self._registry.catalog, Counter[Status]()
        revision = catalog.revision
        everything = {name: self._service(name) for name in catalog.service_names()}
        for shown in everything.values():
            counts.update({} if shown is None else shown.counts)
        changes = catalog.history.at_or_after(catalog.now_ms - WINDOW_MS)
        by_app: dict[str, list[bytes]] = {}
        changed = _as_added(everything) if changes is None else _latest(changes, everything)
        for number, (service, instance_id, action, last) in enumerate(changed, 1):
            shown = everything.get(service)
            if action == "DELETED" or shown is None:
                assert last is not None, "it is told by its last change"
                one = encode(self._info(last, is_resolvable=True), form)
            else:
                one = shown.one(instance_id, form)
            by_app.setdefault(app_of(service), []).append(with_action(one, action, form))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        parts = [application(app, instances, form) for app, instances in by_app.items()]
        return applications(revision, counts, parts, form)

    async def application(self, service: ServiceName, form: Form) -> bytes | None:
        """One application; None if it has no instance."""
        shown = self._service(service)
        if shown is None:
            return None
        for _ in shown.showing(form):
            await asyncio.sleep(0)
        told = shown.application(form)
        return told if form == "xml" else b'{"application":%b}' % told

    def instance(self, service: ServiceName, instance_id: InstanceId, form: Form) -> bytes | None:
        """One instance, by its id of ours; None if there is none."""
        shown = self._service(service)
        if shown is None or instance_id not in shown.infos:
            return None
        told = shown.one(instance_id, form)
        return told if form == "xml" else b'{"instance":%b}' % told

    def anywhere(self, instance_id: InstanceId, form: Form) -> bytes | None:
        """The instance with that id of ours, in whichever service; None if there is none."""
        catalog = self._registry.catalog
        for service in catalog.service_names():
            if instance_id in (catalog.service(service) or {}):
                return self.instance(service, instance_id, form)
        return None

    async def with_address(self, field: str, address: str, form: Form) -> bytes | None:
        """The instances that have an address among those of ``vipAddress``, or the secure one."""
        revision, counts, parts = self._registry.revision, Counter[Status](), list[bytes]()
        async for shown in self._each():
            found = {
                key: info
                for key, info in shown.infos.items()
                if address in info.texts.get(field, "").split(",")
            }
            if found:
                counts.update(info.status for info in found.values())
                app = next(iter(found.values())).app
                parts.append(application(app, [shown.one(key, form) for key in found], form))
        return applications(revision, counts, parts, form) if parts else None

    async def _each(self) -> AsyncIterator[Shown]:
        """Every service, and a turn for others now and then."""
        names = self._registry.catalog.service_names()
        for gone in self._shown.keys() - set(names):
            del self._shown[gone]
        count = 0
        for service in names:
            for _ in self._building(service):
                await asyncio.sleep(0)
            shown = self._shown.get(service)
            if shown is not None:
                yield shown
                count += len(shown.infos)
            if count >= AT_ONCE:
                count = 0
                await asyncio.sleep(0)

    def _service(self, service: ServiceName) -> Shown | None:
        """A service as it is now; None if it has no instance."""
        for _ in self._building(service):
            pass
        return self._shown.get(service)

    def _building(self, service: ServiceName) -> Iterator[None]:
        """Bring a service up to its revision; pauses now and then, and may be older by then."""
        catalog = self._registry.catalog
        found, revision = catalog.service(service), catalog.service_revision(service)
        before = self._shown.get(service)
        if found is None or revision is None:
            self._shown.pop(service, None)
            return
        if before is not None and before.revision >= revision:
            return
        records = {key: found[key] for key in sorted(found)}
        usable = {record.instance.id for record in resolvable(records.values())}
        infos: dict[InstanceId, InstanceInfo] = {}
        count = 0
        for key, record in records.items():
            if before is not None and before.records.get(key) is record:
                info = before.infos[key]
                if info.status == status_of(record, is_resolvable=key in usable):
                    infos[key] = info
                    continue
            infos[key] = self._info(record, is_resolvable=key in usable)
            count += 1
            if count % AT_ONCE == 0:
                yield
        now = self._shown.get(service)
        if now is None or now.revision < revision:
            self._shown[service] = Shown(revision, records, infos, before)

    def _info(self, record: Record, *, is_resolvable: bool) -> InstanceInfo:
        catalog = self._registry.catalog
        session = catalog.session(record.session) if record.session else None
        return info_of(
            record,
            status=status_of(record, is_resolvable=is_resolvable),
            override=override_of(*catalog.declared(record)),
            ttl_ms=0 if session is None else session.ttl_ms,
        )


_Told = tuple[ServiceName, InstanceId, Action, Record | None]


def _latest(changes: list[Change], everything: dict[ServiceName, Shown | None]) -> list[_Told]:
    """The last thing that happened to each instance.

    How a suspect is shown depends on its siblings: so it changes with them.
    """
    last = {
        (change.record.instance.service, change.record.instance.id): change for change in changes
    }
    told: list[_Told] = [
        (*key, _ACTIONS[change.kind], change.record) for key, change in last.items()
    ]
    for service in dict.fromkeys(service for service, _ in last):
        shown = everything.get(service)
        if shown is not None:
            told.extend(
                (service, instance_id, "MODIFIED", record)
                for instance_id, record in shown.records.items()
                if record.suspect and (service, instance_id) not in last
            )
    return told


def _as_added(everything: dict[ServiceName, Shown | None]) -> list[_Told]:
    return [
        (service, instance_id, "ADDED", None)
        for service, shown in everything.items()
        if shown is not None
        for instance_id in shown.infos
    ]


async def pack(body: bytes) -> bytes:
    """Compress an answer, beside the event loop."""
    return await asyncio.to_thread(_packed, body)


def is_worth_packing(body: bytes) -> bool:
    """Whether it becomes much smaller by that."""
    return len(body) >= _GZIP_BYTES_MIN


def _packed(body: bytes) -> bytes:
    packer = zlib.compressobj(1, wbits=_GZIP)
    return packer.compress(body) + packer.flush()
