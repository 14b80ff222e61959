"""What the catalog says to a question: the records, before anybody counts the bytes.

A name exists while something usable stands under it: a service whose instances are all critical,
starting, drained or gone is NXDOMAIN, and one that merely has no address of the asked family is
NOERROR without answers.  Both carry the SOA, whose TTL is how long that may be believed (RFC 2308).

"There is none" is said only by a node that can know: one that has not heard from the cluster for
``NEGATIVE_AGE_MS_MAX`` says SERVFAIL instead, and a resolver asks the next server.  What it does
know it tells however old it is: instances that may be gone are worth more than no answer.

Knows no socket, and nothing of limits, order and what was asked before.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

import msgspec

from waypost.model import Record, resolvable
from waypost.servers.dns import message
from waypost.servers.dns.hosts import read_host
from waypost.servers.dns.message import (
    ANY,
    CNAME,
    NOERROR,
    NS,
    NXDOMAIN,
    PTR,
    REFUSED,
    SERVFAIL,
    SOA,
    SRV,
    TO_QUESTION,
    TXT,
    A,
    Question,
    write_name,
    write_record,
    write_soa,
    write_srv,
    write_texts,
)
from waypost.servers.dns.names import (
    DOMAINS,
    Apex,
    Branch,
    Candidate,
    Meaning,
    Nothing,
    OfAddress,
    OfNode,
    OfServer,
    OfService,
    Outside,
    Reverse,
    hex_label,
    meaning_of,
)
from waypost.servers.dns.settings import DnsSettings

NEGATIVE_AGE_MS_MAX: Final = 10_000
PRIORITY: Final = 1
TOLD_MAX: Final = 4_096
"""No answer holds more records: 65,535 bytes are the limit of TCP, and an address takes 16."""
WEIGHT_MAX: Final = 65_535
_FINE: Final = 100
"""SRV has whole weights: where some are fractions, all are told in hundredths."""
_REFRESH_S: Final = 3600
_RETRY_S: Final = 600
_EXPIRE_S: Final = 86_400


class Known(Protocol):
    """What the node knows."""

    @property
    def revision(self) -> int:
        """Of all that follows."""
        ...

    @property
    def age_ms(self) -> int:
        """How old it may be."""
        ...

    def service(self, name: str) -> Mapping[str, Record] | None:
        """The instances of a service, by id; None if it has none."""
        ...

    def service_revision(self, name: str) -> int | None:
        """Of its latest change; None if it has no instance."""
        ...

    def hosts_of_node(self, name: str) -> list[str]:
        """Where a machine is reached, as far as that is known."""
        ...

    def meta_of_node(self, name: str) -> Mapping[str, str]:
        """What else is known of a machine."""
        ...

    def services_at(self, address: bytes) -> list[str]:
        """The services on an address."""
        ...


class Item(msgspec.Struct, frozen=True, gc=False):
    """One record of an answer, what belongs beside it, and its share of the first places."""

    record: bytes
    extra: bytes = b""
    weight: float = 1


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The answer to a question."""

    code: int
    items: tuple[Item, ...] = ()
    authority: bytes = b""
    services: tuple[str, ...] = ()
    """It holds until one of these changes."""
    depends_on_all: bool = False
    """It holds until anything changes."""
    takes_one: bool = False
    """Only one of the items may be told: a name has one CNAME (RFC 2181, 10.1)."""
    is_ours: bool = True
    considered: int = 0
    """How many instances were looked at for it."""

    @property
    def is_negative(self) -> bool:
        """Whether it says that there is none."""
        return self.code == NXDOMAIN


class Zone:
    """The domains of a registry."""

    def __init__(self, known: Known, settings: DnsSettings, draw: Callable[[], float]) -> None:
        """``draw`` gives numbers from 0 up to but not including 1."""
        self._known = known
        self._draw = draw
        self._settings = settings
        self.own_address: bytes | None = None
        """Where this server is reached, if that is one address."""

    def answer(self, question: Question) -> Answer | None:
        """Answer a question; None if it is about a name of somebody else."""
        meaning = meaning_of(question.labels)
        if isinstance(meaning, Outside):
            return None
        if question.rr_class not in (message.IN, message.CLASS_ANY):
            return Answer(REFUSED, is_ours=False)
        answer = self._answer(question, meaning)
        if answer is None or not answer.is_negative or self.may_deny:
            return answer
        return Answer(SERVFAIL, is_ours=False)

    @property
    def may_deny(self) -> bool:
        """Whether this node knows enough of the present to say that there is none."""
        return self._known.age_ms <= NEGATIVE_AGE_MS_MAX

    def _answer(self, question: Question, meaning: Meaning) -> Answer | None:
        match meaning:
            case OfService(candidates):
                return self._service(question, candidates)
            case OfNode(name):
                return self._node(question, name)
            case OfAddress(address):
                items = self._addresses(question, {address: 1.0}, self._settings.ttl_s)
                return self._some(question, items)
            case OfServer():
                own = {} if self.own_address is None else {self.own_address: 1.0}
                return self._some(question, self._addresses(question, own, self._settings.ttl_s))
            case Apex():
                return self._apex(question)
            case Branch():
                return self._none(question, NOERROR)
            case Reverse(address):
                return self._reverse(question, address)
            case Nothing() | Outside():
                return self._none(question, NXDOMAIN)

    # Services

    def _service(self, question: Question, candidates: tuple[Candidate, ...]) -> Answer:
        names = tuple(candidate.service for candidate in candidates)
        for candidate in candidates:
            registered = self._known.service(candidate.service)
            if registered is not None:
                break
        else:
            return self._none(question, NXDOMAIN, services=names)
        records = self._some_of(_usable(registered.values(), candidate.tag))
        if records:
            answer = self._found(question, records, self._settings.ttl_of(candidate.service))
        else:
            answer = self._none(question, NXDOMAIN)
        return msgspec.structs.replace(answer, services=names, considered=len(registered))

    def _some_of(self, records: list[Record]) -> list[Record]:
        """As many as an answer may hold at all, from anywhere among them."""
        if len(records) <= TOLD_MAX:
            return records
        start = int(self._draw() * len(records))
        return [*records[start:], *records[:start]][:TOLD_MAX]

    def _found(self, question: Question, records: list[Record], ttl_s: int) -> Answer:
        if question.kind == SRV:
            return self._some(question, self._places(question, records, ttl_s))
        shares: dict[bytes, float] = {}
        aliases: dict[bytes, float] = {}
        for record in records:
            host = read_host(record.instance.host)
            if isinstance(host, bytes):
                shares[host] = shares.get(host, 0) + _share(record)
            elif host is not None:
                name = write_name(host)
                aliases[name] = aliases.get(name, 0) + _share(record)
        if shares:
            return self._some(question, self._addresses(question, shares, ttl_s))
        if question.kind not in (A, message.AAAA, CNAME, ANY):
            aliases = {}
        items = tuple(
            Item(write_record(TO_QUESTION, CNAME, ttl_s, name), weight=share)
            for name, share in aliases.items()
        )
        return self._some(question, items, takes_one=True)

    def _places(self, question: Question, records: list[Record], ttl_s: int) -> tuple[Item, ...]:
        """An SRV record for each instance, with the address of its target beside it."""
        domain = question.labels[-1:]
        at = question.offset_of(1)
        to_domain = bytes((0xC0 | at >> 8, at & 0xFF))
        scale = _scale_of(records)
        items: list[Item] = []
        for record in records:
            host = read_host(record.instance.host)
            if host is None:
                continue
            extra = b""
            labels = host
            if isinstance(host, bytes):
                head = (hex_label(host), b"addr")
                labels = (*head, *domain)
                kind = A if len(host) == 4 else message.AAAA
                extra = write_record(write_name(head)[:-1] + to_domain, kind, ttl_s, host)
            assert not isinstance(labels, bytes)
            share = _share(record)
            weight = min(max(round(share * scale), 1), WEIGHT_MAX)
            target = write_name(labels)
            port = record.instance.port
            items.append(
                Item(write_srv(TO_QUESTION, ttl_s, PRIORITY, weight, port, target), extra, share)
            )
        return tuple(items)

    # What all kinds of names share

    def _addresses(
        self, question: Question, shares: Mapping[bytes, float], ttl_s: int
    ) -> tuple[Item, ...]:
        items: list[Item] = []
        for address, share in shares.items():
            kind = A if len(address) == 4 else message.AAAA
            if question.kind in (kind, ANY):
                items.append(Item(write_record(TO_QUESTION, kind, ttl_s, address), weight=share))
        return tuple(items)

    def _some(
        self,
        question: Question,
        items: tuple[Item, ...],
        *,
        depends_on_all: bool = False,
        takes_one: bool = False,
    ) -> Answer:
        if not items:
            return self._none(question, NOERROR, depends_on_all=depends_on_all)
        return Answer(NOERROR, items, depends_on_all=depends_on_all, takes_one=takes_one)

    def _none(
        self,
        question: Question,
        code: int,
        *,
        services: tuple[str, ...] = (),
        depends_on_all: bool = False,
    ) -> Answer:
        if question.labels[-1] not in DOMAINS:  # reverse names are not of our zone
            return Answer(code, services=services, depends_on_all=depends_on_all)
        at = question.offset_of(1)
        owner = bytes((0xC0 | at >> 8, at & 0xFF))
        return Answer(
            code,
            authority=self._soa(owner),
            services=services,
            depends_on_all=depends_on_all,
        )

    def _apex(self, question: Question) -> Answer:
        items: tuple[Item, ...] = ()
        name_server = b"\x02ns" + TO_QUESTION
        ttl_s = self._settings.ttl_s
        if question.kind in (SOA, ANY):
            items += (Item(self._soa(TO_QUESTION)),)
        if question.kind in (NS, ANY):
            glue = b""
            if self.own_address is not None:
                kind = A if len(self.own_address) == 4 else message.AAAA
                glue = write_record(name_server, kind, ttl_s, self.own_address)
            items += (Item(write_record(TO_QUESTION, NS, ttl_s, name_server), glue),)
        return self._some(question, items, depends_on_all=True)

    def _soa(self, owner: bytes) -> bytes:
        """The zone's; its serial is the revision (RFC 1982: it may wrap around)."""
        ttl_s = self._settings.ttl_s
        serial = self._known.revision & 0xFFFFFFFF
        numbers = (serial, _REFRESH_S, _RETRY_S, _EXPIRE_S, ttl_s)
        return write_soa(owner, ttl_s, b"\x02ns" + owner, b"\x0ahostmaster" + owner, numbers)

    def _node(self, question: Question, name: str) -> Answer:
        hosts = map(read_host, self._known.hosts_of_node(name))
        shares = {host: 1.0 for host in hosts if isinstance(host, bytes)}
        if not shares:
            return self._none(question, NXDOMAIN, depends_on_all=True)
        ttl_s = self._settings.ttl_s
        items = self._addresses(question, shares, ttl_s)
        if question.kind in (TXT, ANY):
            meta = self._known.meta_of_node(name)
            items += tuple(
                Item(write_record(TO_QUESTION, TXT, ttl_s, write_texts(f"{key}={value}".encode())))
                for key, value in meta.items()
            )
        return self._some(question, items, depends_on_all=True)

    def _reverse(self, question: Question, address: bytes) -> Answer | None:
        """The services on an address; it is not ours if there is none."""
        names = self._known.services_at(address)
        if not names:
            return None
        items: tuple[Item, ...] = ()
        if question.kind in (PTR, ANY):
            items = tuple(
                Item(write_record(TO_QUESTION, PTR, self._settings.ttl_s, _written(name)))
                for name in names
            )
        return self._some(question, items, depends_on_all=True)


def _usable(records: Iterable[Record], tag: str) -> list[Record]:
    """What consumers should use; tags are compared as DNS compares names."""
    if tag:
        records = [r for r in records if any(each.lower() == tag for each in r.instance.tags)]
    return resolvable(records)


def _share(record: Record) -> float:
    """Its share of the traffic: little for one that warns, one for unknown."""
    weight = record.instance.weight
    weight = 1.0 if weight is None else weight
    return min(weight, 1.0) if record.health == "warning" else weight


def _scale_of(records: Iterable[Record]) -> float:
    shares = [_share(record) for record in records]
    if all(share.is_integer() for share in map(float, shares)):
        return 1
    return min(_FINE, WEIGHT_MAX / max(shares))


def _written(service: str) -> bytes:
    """The name of a service in the first of the domains."""
    labels = [part.encode() for part in reversed(service.split("/"))]
    return write_name((*labels, b"service", DOMAINS[0]))
