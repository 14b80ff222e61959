"""What the catalog should do, said a second time: slowly, obviously, and sharing none of its code.

One flat list of dicts, searched from its start; fractions for the eviction rate; nothing shared.
"""

from fractions import Fraction
from math import ceil
from typing import Any

from waypost.commands import (
    Attach,
    Command,
    Deregister,
    Detach,
    Expire,
    LogBatch,
    Register,
    SetHealth,
    Suspect,
    Sweep,
)

Entry = dict[str, Any]


class Naive:
    def __init__(self) -> None:
        self.index = 0
        self.now_ms = 0
        self.serial = 0
        self.entries: list[Entry] = []
        self.sessions: dict[str, Entry] = {}
        self.queue: list[tuple[str, str]] = []
        """Orphans of all services, in the order in which they became that."""
        self.tokens: dict[str, tuple[Fraction, int, int]] = {}
        """Of each service: how many evictions are left, of how many, since when."""
        self.told: list[tuple[int, str, Entry, int]] = []

    def apply(self, index: int, batch: LogBatch) -> list[list[int | str]]:
        self.index = index
        self.now_ms = max(self.now_ms, batch.stamp_ms)
        return [[self._one(command) for command in part] for part in batch.parts]

    def _one(self, command: Command) -> int | str:
        if isinstance(command, Register):
            return self._register(command)
        if isinstance(command, Sweep):
            return self._sweep()
        if isinstance(command, Deregister | SetHealth):
            return self._to_instance(command)
        return self._to_session(command)

    def _register(self, command: Register) -> int | str:
        given = command.instance
        if command.session and command.session not in self.sessions:
            return "unknown-session"
        held = self._get(given.service, given.id)
        life = given.incarnation
        if held is None:
            if life != 0 and not (0 < life < 2**53 or 0 < life <= self.serial):
                return "invalid"
            life = life or self._new()
        elif life == 0:
            orphan = (given.service, given.id) in self.queue
            life = self._new() if orphan or held["session"] != command.session else held["life"]
        elif life < held["life"]:
            return "superseded"
        elif life > held["life"] and life >= 2**53 and life > self.serial:
            return "invalid"
        self.serial = max(self.serial, life)
        entry: Entry = {
            "service": given.service,
            "id": given.id,
            "life": life,
            "content": (
                given.host,
                given.port,
                given.weight,
                given.zone,
                given.version,
                given.tags,
                dict(given.meta),
                dict(given.ports),
            ),
            "health": command.health,
            "why": command.why,
            "since": self.now_ms,
            "suspect": False,
            "session": command.session,
        }
        if held is None:
            self.entries.append(entry)
            self._tell("up", entry)
            return life
        if held["health"] == "draining" and life == held["life"]:
            entry["health"], entry["why"] = "draining", held["why"]
        if held["health"] == entry["health"]:
            entry["since"] = held["since"]
        if {**held, "revision": 0} == {**entry, "revision": 0}:
            return life
        self._leave_queue(entry)
        self._set(held, entry)
        return life

    def _to_instance(self, command: Deregister | SetHealth) -> int | str:
        if not any(entry["service"] == command.service for entry in self.entries):
            return "unknown-service"
        held = self._get(command.service, command.id)
        if held is None:
            return "unknown-instance"
        if command.incarnation and command.incarnation < held["life"]:
            return "superseded"
        if command.incarnation and command.incarnation > held["life"]:
            return "unknown-instance"
        if isinstance(command, Deregister):
            self._drop(held, "deregistered")
        elif (held["health"], held["why"]) != (command.health, command.why):
            since = held["since"] if held["health"] == command.health else self.now_ms
            self._set(held, {"health": command.health, "why": command.why, "since": since})
        return 0

    def _to_session(self, command: Attach | Detach | Suspect | Expire) -> int | str:
        name = command.session
        if isinstance(command, Attach):
            if name == "":
                return "invalid"
            self.sessions[name] = {
                "node": command.node,
                "attachment": self._new(),
                "ttl": command.ttl_ms,
                "grace": command.grace_ms,
            }
            for entry in self._of(name):
                if entry["suspect"]:
                    why = "" if entry["why"] == "connection lost" else entry["why"]
                    self._set(entry, {"suspect": False, "why": why})
            return int(self.sessions[name]["attachment"])
        if isinstance(command, Detach):
            if name not in self.sessions:
                return "unknown-session"
            for entry in self._of(name):
                self._drop(entry, "session ended")
            del self.sessions[name]
            return 0
        if name not in self.sessions or self.sessions[name]["attachment"] != command.attachment:
            return 0
        if isinstance(command, Suspect):
            fresh = [entry for entry in self._of(name) if not entry["suspect"]]
            for entry in fresh:
                self._set(entry, {"suspect": True, "why": entry["why"] or "connection lost"})
            return len(fresh)
        return self._expire(name, command.why or "lease expired")

    def _expire(self, session: str, why: str) -> int:
        evicted = 0
        of_session = self._of(session)
        waiting = {service for service, _ in self.queue}
        # A bucket measures the service once per command, before any of it is gone.
        sizes = {entry["service"]: self._size(entry["service"]) for entry in of_session}
        for entry in of_session:
            service = entry["service"]
            if service not in waiting and self._allowed(service, sizes[service]):
                self._drop(entry, why)
                evicted += 1
                continue
            if entry["why"] not in ("", "connection lost"):
                self._set(entry, {"suspect": True, "session": ""})
            else:
                self._set(entry, {"suspect": True, "session": "", "why": why})
            self.queue.append((service, entry["id"]))
        del self.sessions[session]
        return evicted

    def _sweep(self) -> int:
        evicted = 0
        for service in sorted({service for service, _ in self.queue}):
            size = self._size(service)
            for name, instance_id in list(self.queue):
                if name == service and self._allowed(service, size):
                    entry = self._get(name, instance_id)
                    assert entry is not None
                    self._drop(entry, "lease expired; eviction was rate-limited")
                    evicted += 1
        return evicted

    def _allowed(self, service: str, size: int) -> bool:
        capacity = max(5, ceil(Fraction(3, 10) * size))
        left = Fraction(capacity)
        if service in self.tokens:
            before, limit, at_ms = self.tokens[service]
            limit = max(limit, capacity)
            refilled = before + Fraction(limit * (self.now_ms - at_ms), 30_000)
            if refilled < limit:
                left, capacity = refilled, limit
        if left < 1:
            return False
        self.tokens[service] = left - 1, capacity, self.now_ms
        return True

    def _new(self) -> int:
        self.serial = max(self.serial + 1, self.index)
        return self.serial

    def _size(self, service: str) -> int:
        return sum(entry["service"] == service for entry in self.entries)

    def _get(self, service: str, instance_id: str) -> Entry | None:
        for entry in self.entries:
            if (entry["service"], entry["id"]) == (service, instance_id):
                return entry
        return None

    def _of(self, session: str) -> list[Entry]:
        found = [entry for entry in self.entries if entry["session"] == session]
        return sorted(found, key=lambda entry: (entry["service"], entry["id"]))

    def _set(self, entry: Entry, fields: Entry) -> None:
        entry.update(fields)
        self._tell("changed", entry)

    def _drop(self, entry: Entry, why: str) -> None:
        self.entries.remove(entry)
        self._leave_queue(entry)
        entry["why"] = why
        self._tell("down", entry)
        if self._size(entry["service"]) == 0:
            self.tokens.pop(entry["service"], None)

    def _leave_queue(self, entry: Entry) -> None:
        if (entry["service"], entry["id"]) in self.queue:
            self.queue.remove((entry["service"], entry["id"]))

    def _tell(self, kind: str, entry: Entry) -> None:
        entry["revision"] = self.index
        self.told.append((self.index, kind, dict(entry), self.now_ms))
