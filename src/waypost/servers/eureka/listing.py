"""What Eureka's clients are told: applications whole, and what changed of them lately.

Every client asks for all of it, or for the last three minutes, every thirty seconds.  So each
service is shown once for each of its revisions and forms, and answers are put together from that.

The hash code says how many instances have each status, over all applications.  A client that has
applied a delta counts its own, and asks for everything if they differ.  A delta comes from the
history; where that does not reach back far enough, after a restart, it holds everything as added,
which together with the hash code leads to the same end.

A suspect is ``DOWN`` as long as its service has better ones, and ``UP`` when it has not.
"""

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final, Literal

import msgspec

from waypost.model import Change, ChangeKind, InstanceId, Record, ServiceName, resolvable
from waypost.node.registry import Registry
from waypost.servers.eureka.info import Action, InstanceInfo, Status, fields_of
from waypost.servers.eureka.translating import info_of, override_of, status_of
from waypost.servers.eureka.xml import element

Form = Literal["json", "xml"]
WINDOW_MS: Final = 180_000
AT_ONCE: Final = 100
"""So many instances are shown before others have their turn: a few milliseconds."""
_ACTIONS: Final[dict[ChangeKind, Action]] = {
    "up": "ADDED",
    "changed": "MODIFIED",
    "down": "DELETED",
}
_GZIP: Final = 31
_GZIP_BYTES_MIN: Final = 1_024

_encode_json = msgspec.json.Encoder().encode


class _Shown:
    """A service at one revision."""

    __slots__ = ("applications", "counts", "infos", "revision")

    def __init__(self, revision: int, infos: dict[InstanceId, InstanceInfo]) -> None:
        self.revision = revision
        self.infos = infos
        self.counts = Counter[Status](info.status for info in infos.values())
        self.applications: dict[Form, bytes] = {}

    def application(self, form: Form) -> bytes:
        """It, as one of ``applications``."""
        shown = self.applications.get(form)
        if shown is None:
            shown = self.applications[form] = _application(list(self.infos.values()), form)
        return shown


class Listing:
    """The whole registry as Eureka shows it, at this node."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._shown: dict[ServiceName, _Shown] = {}
        self._packed: dict[Form, tuple[int, bytes]] = {}
        """All applications, compressed, as of a revision."""
        self._packing = asyncio.Lock()

    async def all(self, form: Form, *, gzip: bool) -> bytes:
        """Every application."""
        if not gzip:
            return await self._all(form)
        asked_at = self._registry.revision
        async with self._packing:  # who waits here is served by what was packed meanwhile
            revision, packed = self._packed.get(form, (-1, b""))
            if revision < asked_at:
                revision = self._registry.revision
                packed = await pack(await self._all(form))
                self._packed[form] = revision, packed
            return packed

    async def _all(self, form: Form) -> bytes:
        revision, counts, parts = self._registry.revision, Counter[Status](), list[bytes]()
        async for shown in self._each():
            counts.update(shown.counts)
            parts.append(shown.application(form))
        return _applications(revision, counts, parts, form)

    async def delta(self, form: Form) -> bytes:
        """What changed within the last minutes."""
        async for _ in self._each():
            pass  # so that what follows, all at one revision, finds most of it shown already
        catalog, counts = self._registry.catalog, Counter[Status]()
        everything = [self._service(service) for service in catalog.service_names()]
        for shown in everything:
            counts.update({} if shown is None else shown.counts)
        changes = catalog.history.at_or_after(catalog.now_ms - WINDOW_MS)
        if changes is None:
            infos = [
                msgspec.structs.replace(info, action="ADDED")
                for shown in everything
                if shown is not None
                for info in shown.infos.values()
            ]
        else:
            infos = self._changed(changes)
        by_app: dict[str, list[InstanceInfo]] = {}
        for info in infos:
            by_app.setdefault(info.app, []).append(info)
        parts = [_application(group, form) for group in by_app.values()]
        return _applications(catalog.revision, counts, parts, form)

    def application(self, service: ServiceName, form: Form) -> bytes | None:
        """One application; None if it has no instance."""
        shown = self._service(service)
        if shown is None:
            return None
        application = shown.application(form)
        return application if form == "xml" else b'{"application":%s}' % application

    def instance(self, service: ServiceName, instance_id: InstanceId, form: Form) -> bytes | None:
        """One instance, by its id of ours; None if there is none."""
        shown = self._service(service)
        info = None if shown is None else shown.infos.get(instance_id)
        if info is None:
            return None
        fields = fields_of(info)
        if form == "xml":
            return element("instance", fields).encode()
        return _encode_json({"instance": fields})

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
            infos = [
                info
                for info in shown.infos.values()
                if address in info.texts.get(field, "").split(",")
            ]
            if infos:
                counts.update(info.status for info in infos)
                parts.append(_application(infos, form))
        return _applications(revision, counts, parts, form) if parts else None

    async def _each(self) -> AsyncIterator[_Shown]:
        """Every service, and a turn for others now and then."""
        names = self._registry.catalog.service_names()
        for gone in self._shown.keys() - set(names):
            del self._shown[gone]
        count = 0
        for service in names:
            shown = self._service(service)
            if shown is not None:
                yield shown
                count += len(shown.infos)
            if count >= AT_ONCE:
                count = 0
                await asyncio.sleep(0)

    def _service(self, service: ServiceName) -> _Shown | None:
        catalog = self._registry.catalog
        records, revision = catalog.service(service), catalog.service_revision(service)
        if records is None or revision is None:
            return None
        shown = self._shown.get(service)
        if shown is None or shown.revision != revision:
            usable = {record.instance.id for record in resolvable(records.values())}
            infos = {key: self._info(records[key], key in usable) for key in sorted(records)}
            shown = self._shown[service] = _Shown(revision, infos)
        return shown

    def _info(self, record: Record, is_resolvable: bool) -> InstanceInfo:
        catalog = self._registry.catalog
        session = catalog.session(record.session) if record.session else None
        return info_of(
            record,
            status=status_of(record, is_resolvable=is_resolvable),
            override=override_of(*catalog.declared(record)),
            ttl_ms=0 if session is None else session.ttl_ms,
        )

    def _changed(self, changes: list[Change]) -> list[InstanceInfo]:
        last = {
            (change.record.instance.service, change.record.instance.id): change
            for change in changes
        }
        found: list[InstanceInfo] = []
        for (service, instance_id), change in last.items():
            if change.kind == "down":
                info = self._info(change.record, True)
            else:
                shown = self._service(service)
                assert shown is not None, "what did not go is there"
                info = shown.infos[instance_id]
            found.append(msgspec.structs.replace(info, action=_ACTIONS[change.kind]))
        return found


def hash_code(counts: Counter[Status]) -> str:
    """How many have each status, in order of the statuses' names."""
    return "".join(f"{status}_{counts[status]}_" for status in sorted(counts) if counts[status])


async def pack(body: bytes) -> bytes:
    """Compress an answer, beside the event loop."""
    return await asyncio.to_thread(_packed, body)


def is_worth_packing(body: bytes) -> bool:
    """Whether it becomes much smaller by that."""
    return len(body) >= _GZIP_BYTES_MIN


def _packed(body: bytes) -> bytes:
    packer = zlib.compressobj(1, wbits=_GZIP)
    return packer.compress(body) + packer.flush()


def _applications(revision: int, counts: Counter[Status], parts: list[bytes], form: Form) -> bytes:
    code = hash_code(counts).encode()
    if form == "xml":
        head = b"<versions__delta>%d</versions__delta><apps__hashcode>%b</apps__hashcode>"
        return b"<applications>%b%b</applications>" % (head % (revision, code), b"".join(parts))
    head = b'"versions__delta":"%d","apps__hashcode":"%b"' % (revision, code)
    return b'{"applications":{%b,"application":[%b]}}' % (head, b",".join(parts))


def _application(infos: list[InstanceInfo], form: Form) -> bytes:
    shown = {"name": infos[0].app, "instance": [fields_of(info) for info in infos]}
    return element("application", shown).encode() if form == "xml" else _encode_json(shown)
