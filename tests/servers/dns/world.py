"""A zone over a catalog that a test writes down, asked in bytes and read by another library."""

import random
from collections.abc import Mapping
from typing import Any

from dnslib import DNSRecord

from waypost.model import Health, Instance, Record
from waypost.servers.dns.answers import Zone
from waypost.servers.dns.message import Question
from waypost.servers.dns.replies import Replies
from waypost.servers.dns.settings import DnsSettings


def instance(service: str, instance_id: str, host: str = "10.0.0.1", **fields: Any) -> Instance:
    return Instance(service, instance_id, host, fields.pop("port", 80), **fields)


class Written:
    """What is known: the catalog of a node, by hand."""

    def __init__(self) -> None:
        self.revision = 1
        self.age_ms = 0
        self.services: dict[str, dict[str, Record]] = {}
        self.revisions: dict[str, int] = {}
        self.nodes: dict[str, list[str]] = {}
        self.meta: dict[str, dict[str, str]] = {}
        self.addresses: dict[bytes, list[str]] = {}

    def put(self, one: Instance, health: Health = "passing", *, suspect: bool = False) -> None:
        self.revision += 1
        self.revisions[one.service] = self.revision
        record = Record(one, health, 0, "", suspect, "", self.revision)
        self.services.setdefault(one.service, {})[one.id] = record

    def drop(self, service: str, instance_id: str) -> None:
        self.revision += 1
        self.revisions[service] = self.revision
        del self.services[service][instance_id]
        if not self.services[service]:
            del self.services[service]
            del self.revisions[service]

    def service(self, name: str) -> Mapping[str, Record] | None:
        return self.services.get(name)

    def service_revision(self, name: str) -> int | None:
        return self.revisions.get(name)

    def hosts_of_node(self, name: str) -> list[str]:
        return self.nodes.get(name, [])

    def meta_of_node(self, name: str) -> Mapping[str, str]:
        return self.meta.get(name, {})

    def services_at(self, address: bytes) -> list[str]:
        return self.addresses.get(address, [])


class Door:
    """The door without its sockets."""

    def __init__(self, settings: DnsSettings | None = None, seed: int = 1) -> None:
        self.known = Written()
        self.now_s = 0.0
        draw = random.Random(seed).random
        self.zone = Zone(self.known, settings or DnsSettings(), draw)
        self.zone.own_address = b"\x7f\x00\x00\x01"
        self.replies = Replies(self.known, self.zone, draw, lambda: self.now_s)

    def ask(
        self, name: str, kind: str = "A", *, over_tcp: bool = False, edns: int = 0
    ) -> DNSRecord:
        query = DNSRecord.question(name, kind)
        if edns:
            from dnslib import EDNS0

            query.add_ar(EDNS0(udp_len=edns))
        data = self.send(bytes(query.pack()), over_tcp=over_tcp)
        assert data is not None
        reply = DNSRecord.parse(data)
        assert reply.header.id == query.header.id
        return reply

    def send(self, data: bytes, *, over_tcp: bool = False) -> bytes | None:
        reply = self.replies.reply(data, over_tcp)
        return self.replies.refuse(data, reply) if isinstance(reply, Question) else reply


def told(reply: DNSRecord) -> list[str]:
    """What the answers say, sorted."""
    return sorted(str(record.rdata) for record in reply.rr)


def code(reply: DNSRecord) -> str:
    from dnslib import RCODE

    return str(RCODE[reply.header.rcode])
