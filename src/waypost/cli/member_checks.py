"""Whether the members of a cluster answer, agree, and hear each other."""

import socket
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from waypost import wire
from waypost.cli.finding import Finding
from waypost.client.addresses import Address, parse_addresses
from waypost.errors import Invalid, WaypostError
from waypost.transport.frames import FrameReader, encode_frame
from waypost.wire import ClusterAsk, ClusterState, NodeStatus

TIMEOUT_S: Final = 2.0
SLOW_MS: Final = 50.0
"""A third of the election timeout: with more, use the settings of a wide network."""
HEARD_MS: Final = 2_000


class Seen(msgspec.Struct, frozen=True):
    """What one member said, or why it said nothing."""

    name: str
    address: str
    status: NodeStatus | None
    state: ClusterState | None
    ms: float
    trouble: str


def parse_line(line: str) -> dict[str, Address]:
    """Read ``a=host:port,b=host:port`` or ``host:port,...``: addresses by name."""
    found: dict[str, Address] = {}
    for part in line.split(","):
        name, equals, address = part.strip().partition("=")
        (one,) = parse_addresses(address if equals else name)
        found[name if equals else str(one)] = one
    if not found:
        raise Invalid("cluster: it names nobody: write a=host:port,b=host:port", field="cluster")
    return found


def check_members(line: dict[str, Address]) -> list[Finding]:
    """Ask everyone on the line, and whom they name beside."""
    seen = [look(name, address) for name, address in line.items()]
    known = {str(address) for address in line.values()}
    for member in _named(seen):
        if member.address and member.address not in known:
            known.add(member.address)
            (address,) = parse_addresses(member.address)
            seen.append(look(member.name, address))
    return [*map(_judge_one, seen), *judge_together(seen)]


def look(name: str, address: Address) -> Seen:
    """Ask one member how it is, and how it sees the others."""
    begun = time.perf_counter()
    try:
        with socket.create_connection((address.host, address.port), TIMEOUT_S) as sock:
            talk = _Talk(sock)
            talk.ask(wire.HELLO, wire.encode(wire.Hello(wire.PROTOCOL_VERSION, "waypost doctor")))
            begun = time.perf_counter()
            status = wire.decode_status(talk.ask(wire.STATUS, b""))
            ms = (time.perf_counter() - begun) * 1000
            try:
                ask = wire.encode(ClusterAsk("status"))
                state = wire.decode_cluster_state(talk.ask(wire.CLUSTER, ask))
            except WaypostError:
                state = None  # it has no others, or nobody leads who could say
    except TimeoutError:
        return Seen(name, str(address), None, None, 0.0, f"no answer within {TIMEOUT_S:g} s")
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        return Seen(name, str(address), None, None, 0.0, why)
    except (WaypostError, msgspec.MsgspecError) as error:
        return Seen(name, str(address), None, None, 0.0, str(error))
    return Seen(status.node, str(address), status, state, ms, "")


def judge_together(seen: Sequence[Seen]) -> list[Finding]:
    """Whether what they say fits together."""
    up = [(each.name, each.status) for each in seen if each.status is not None]
    if not up:
        return []
    found = [
        *_agree("cluster", {name: s.cluster for name, s in up}, "bad", "they are not one cluster"),
        *_agree("version", {name: s.version for name, s in up}, "poor", "upgrade the older ones"),
        *_agree(
            "epoch", {name: str(s.epoch) for name, s in up}, "poor", "wait; one is catching up"
        ),
    ]
    leaders = {name: s.leader for name, s in up}
    if not any(leaders.values()):
        remedy = "start the members that are down; 'waypost cluster recover' if they are lost"
        found.append(Finding("leader", "bad", "nobody leads: no writes are taken", remedy))
    else:
        found += _agree("leader", leaders, "poor", "ask again; if it stays, look at the network")
    full = [name for name, status in up if not status.writable]
    if full:
        remedy = "free some space on its disk, or replace it"
        found.append(Finding("disk", "bad", f"{', '.join(full)} take no writes", remedy))
    return found + _unheard(seen)


def _judge_one(seen: Seen) -> Finding:
    name = f"member {seen.name}"
    status = seen.status
    if status is None:
        remedy = "start it, or open the way to its port; if it is gone, replace it"
        return Finding(name, "bad", f"{seen.address}: {seen.trouble}", remedy)
    text = (
        f"{seen.address}: {status.role}, version {status.version}, revision {status.revision}, "
        f"answers in {seen.ms:.1f} ms"
    )
    if seen.ms > SLOW_MS:
        remedy = "a leader so far away needs longer election timeouts"
        return Finding(name, "poor", text, remedy)
    return Finding(name, "good", text)


def _agree(check: str, said: dict[str, str], state: str, remedy: str) -> list[Finding]:
    if len(set(said.values())) == 1:
        return [Finding(check, "good", next(iter(said.values())) or "none")]
    text = ", ".join(f"{name} says {value or 'nobody'}" for name, value in said.items())
    return [Finding(check, "bad" if state == "bad" else "poor", text, remedy)]


def _unheard(seen: Sequence[Seen]) -> list[Finding]:
    """Whom a member has not heard lately, as it says itself."""
    views = {each.state.node: each.state for each in seen if each.state is not None}
    found: list[Finding] = []
    for node, state in views.items():
        away = [
            member.name
            for member in state.members
            if member.votes and member.name != node and not 0 <= member.heard_ms <= HEARD_MS
        ]
        if away:
            text = f"{node} does not hear {', '.join(away)}"
            remedy = "open the native port between them, both ways"
            found.append(Finding("between members", "bad", text, remedy))
    if views and not found:
        who = ", ".join(views)
        found.append(Finding("between members", "good", f"{who} hears all of the others"))
    return found


def _named(seen: Sequence[Seen]) -> list[wire.MemberView]:
    return [member for each in seen if each.state is not None for member in each.state.members]


class _Talk:
    """One question after the other, blocking."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = FrameReader(wire.ANSWER_BYTES_MAX)
        self._next_id = 0

    def ask(self, kind: int, body: bytes) -> bytes:
        """The body of the answer; raises what the node refused with."""
        self._next_id += 1
        self._sock.sendall(encode_frame(kind, self._next_id, body))
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until:
            data = self._sock.recv(1 << 16)
            if not data:
                raise ConnectionResetError("it closed the connection")
            for got, _, answer in self._reader.feed(data):
                if got == wire.PING:
                    self._sock.sendall(encode_frame(wire.PONG, 0))
                elif got == wire.FAULT:
                    raise WaypostError(wire.decode_fault(answer).message)
                elif got in (wire.WELCOME, wire.STATE, wire.MEMBERS):
                    return answer
        raise TimeoutError
