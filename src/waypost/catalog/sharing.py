"""Equal values are kept once: what a million instances have in common costs its bytes once.

Every decoded command brings its own copies of the zone, the version, the tags, the metadata.  The
instances of a service mostly agree in them, and a new record is built anyway, so it is built from
the copies that are known already.  Nothing observable depends on what is shared.

Kinds are never mixed in one table: 1, 1.0 and True are equal to each other and differ in bytes.
"""

from waypost.model import Instance, InstanceId, Record, ServiceName, SessionId

_KNOWN_MAX = 16_384
"""Of each kind.  A table that fills up is begun anew; who has a copy keeps it."""
_NOTHING: dict[str, int] = {}


class Pool:
    """The copies that are known."""

    __slots__ = ("_metas", "_numbers", "_tags", "_texts")

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._tags: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._numbers: dict[int, int] = {}
        self._metas: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}

    def trim(self) -> None:
        """Forget every table that has grown past its bound; call it now and then."""
        for table in (self._texts, self._tags, self._numbers, self._metas):
            if len(table) > _KNOWN_MAX:
                table.clear()

    def text(self, given: str) -> str:
        """Tell the copy of a text that is shared."""
        return self._texts.setdefault(given, given)

    def number(self, given: int) -> int:
        """Tell the copy of a number that is shared."""
        return self._numbers.setdefault(given, given)

    def share(
        self, given: Instance, service: ServiceName, instance_id: InstanceId, incarnation: int
    ) -> Instance:
        """Build ``given`` anew from shared copies, under its shared names and an incarnation."""
        texts = self._texts
        meta = given.meta
        return Instance(
            service,
            instance_id,
            given.host,
            self._numbers.setdefault(given.port, given.port),
            given.weight,
            texts.setdefault(given.zone, given.zone),
            texts.setdefault(given.version, given.version),
            self._tags.setdefault(given.tags, given.tags),
            self._metas.setdefault(tuple(meta.items()), meta),
            given.ports or _NOTHING,
            incarnation,
            texts.setdefault(given.node, given.node),
        )

    def share_again(self, given: Instance, held: Instance, incarnation: int) -> Instance:
        """Build ``given`` anew from what the one that it replaces has, as far as they agree."""
        texts = self._texts
        zone, version, meta = given.zone, given.version, given.meta
        return Instance(
            held.service,
            held.id,
            held.host if given.host == held.host else given.host,
            held.port if given.port == held.port else given.port,
            given.weight,
            held.zone if zone == held.zone else texts.setdefault(zone, zone),
            held.version if version == held.version else texts.setdefault(version, version),
            held.tags if given.tags == held.tags else self._tags.setdefault(given.tags, given.tags),
            held.meta if meta == held.meta else self._metas.setdefault(tuple(meta.items()), meta),
            given.ports or _NOTHING,
            incarnation,
            held.node if given.node == held.node else texts.setdefault(given.node, given.node),
        )

    def share_record(self, given: Record, service: ServiceName, session_id: SessionId) -> Record:
        """Build a record that was read back anew from shared copies, under its shared names."""
        instance = given.instance
        shared = self._numbers.setdefault
        return Record(
            self.share(
                instance, service, instance.id, shared(instance.incarnation, instance.incarnation)
            ),
            given.health,
            shared(given.since_ms, given.since_ms),
            self._texts.setdefault(given.why, given.why),
            given.suspect,
            session_id,
            shared(given.revision, given.revision),
        )
