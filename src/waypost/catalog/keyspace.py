"""What each command does to keys, to those who hold them, and to the latest events.

All of it is total: a condition that does not hold is an outcome.  The operations of a transaction
(``transacting``) work on a ``Draft``, which is thrown away unless all of them went through.

Knows no clock and no connection: time is the stamp of the entry, and a holder's lease is a session.
"""

from collections import deque
from typing import Final, Literal, assert_never

import msgspec

from waypost.catalog.draft import Draft, Store
from waypost.catalog.holders import HOLDERS_MAX, LOCK_DELAY_MS_MAX, Holder, Holders, holder_of
from waypost.catalog.keys import Keys, Pair
from waypost.commands import (
    CheckKey,
    CloseHolder,
    DropKey,
    FireEvent,
    KeyCommand,
    KeyOperation,
    OpenHolder,
    Outcome,
    PutKey,
    ReadKey,
    Refused,
)
from waypost.errors import Invalid, UnknownHolder
from waypost.model import Revision, SessionId

EVENTS_MAX: Final = 256

MissKind = Literal[
    "stale",
    "held",
    "delayed",
    "not-held",
    "unknown-holder",
    "missing",
    "exists",
    "revision",
    "holder",
    "too-large",
    "no-node",
    "no-service",
    "full",
]


class Miss(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why an operation did not go through."""

    kind: MissKind
    found: str = ""
    """The revision or the holder that there is instead; or what is full, and what to do."""


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something that somebody told everybody."""

    id: str
    name: str
    payload: bytes
    node: str
    service: str
    tag: str
    number: int
    revision: Revision


class Touched(msgspec.Struct):
    """What one entry changed, for those who wait for it."""

    keys: dict[str, None] = {}
    holders: bool = False
    events: bool = False


class Keyspace:
    """Keys, holders and events.

    Invariant: the holder of a key is open.
    """

    def __init__(self) -> None:
        self.keys = Keys()
        self.holders = Holders()
        self.events: deque[Event] = deque(maxlen=EVENTS_MAX)
        """The latest ones, the oldest first."""
        self.events_fired = 0
        self.touched: Touched | None = None
        """What the entry that is being applied has changed so far."""

    @property
    def is_empty(self) -> bool:
        """Whether nobody ever used any of it."""
        return not (self.keys.revision or self.holders.revision or self.events_fired)

    def apply(
        self, command: KeyCommand, revision: Revision, now_ms: int, *, has_session: bool
    ) -> Outcome:
        """Do what a command says; ``has_session``: the lease that it needs is there."""
        match command:
            case PutKey():
                done = self._put(self.keys, command, revision, now_ms)
                if isinstance(done, Miss):
                    is_unknown = done.kind == "unknown-holder"
                    return unknown_holder(command.acquire) if is_unknown else 0
                if done.revision == revision:
                    self._touch().keys[command.key] = None
                return 1
            case DropKey():
                return self._drop_alone(command, revision)
            case OpenHolder():
                return self._open(command, revision, has_session=has_session)
            case CloseHolder():
                return self.close(command.id, revision, now_ms)
            case FireEvent():
                return self._fire(command, revision)
            case _:
                assert_never(command)

    def session_closed(self, session_id: SessionId, revision: Revision, now_ms: int) -> None:
        """A session ended: whoever lived as long as it ends too."""
        holder_id = holder_of(session_id)
        if holder_id:
            self.close(holder_id, revision, now_ms)

    def close(self, holder_id: str, revision: Revision, now_ms: int) -> int:
        """End a holder, and let its keys go."""
        holder = self.holders.find(holder_id)
        if holder is None:
            return 0
        keys = self.keys.held_by(holder_id)
        delay_ms = min(holder.lock_delay_ms, LOCK_DELAY_MS_MAX)
        for key in keys:
            pair = self.keys.find(key)
            assert pair is not None, "a held key is there"
            if holder.behavior == "delete":
                self.keys.drop(key, revision)
            else:
                self.keys.put(msgspec.structs.replace(pair, holder="", revision=revision))
            if delay_ms > 0:
                self.holders.hold_back(key, now_ms + delay_ms, now_ms)
        self.holders.remove(holder)
        self.holders.revision = revision
        touched = self._touch()
        touched.keys.update(dict.fromkeys(keys))
        touched.holders = True
        return 1

    def operate(
        self, draft: Draft, operation: KeyOperation, revision: Revision, now_ms: int, room: int
    ) -> list[Pair] | Miss:
        """Do an operation of a transaction to a draft, reading no more bytes than ``room``."""
        match operation:
            case PutKey():
                done = self._put(draft, operation, revision, now_ms)
                return done if isinstance(done, Miss) else [_without_value(done)]
            case DropKey():
                gone = self._drop(draft, operation, revision)
                return gone if isinstance(gone, Miss) else []
            case ReadKey():
                return _read(draft, operation, room)
            case CheckKey():
                return _check(draft.find(operation.key), operation)
            case _:
                assert_never(operation)

    def commit(self, draft: Draft, revision: Revision) -> None:
        """Keep what was done to a draft."""
        if changed := draft.commit(revision):
            self._touch().keys.update(dict.fromkeys(changed))

    # What commands are made of

    def _touch(self) -> Touched:
        if self.touched is None:
            self.touched = Touched()
        return self.touched

    def _put(self, store: Store, command: PutKey, revision: Revision, now_ms: int) -> Pair | Miss:
        """Tell the pair as it is then, which is the one before if nothing differs."""
        key = command.key
        before = store.find(key)
        if command.cas >= 0 and command.cas != (0 if before is None else before.revision):
            return Miss("stale")
        holder = "" if before is None else before.holder
        lock_index = 0 if before is None else before.lock_index
        if command.acquire and command.acquire != holder:
            if self.holders.find(command.acquire) is None:
                return Miss("unknown-holder", command.acquire)
            if holder:
                return Miss("held", holder)
            if self.holders.is_held_back(key, now_ms):
                return Miss("delayed")
            holder, lock_index = command.acquire, lock_index + 1
        if command.release:
            if holder != command.release:
                return Miss("not-held", holder)
            holder = ""
        created = revision if before is None else before.created
        known = revision if before is None else before.revision
        pair = Pair(key, command.value, command.flags, lock_index, holder, created, known)
        if before is not None and pair == before:
            return before
        pair = msgspec.structs.replace(pair, revision=revision)
        store.put(pair)
        return pair

    def _drop(self, store: Store, command: DropKey, revision: Revision) -> list[str] | Miss:
        """Tell which keys are gone."""
        if command.is_prefix:
            return store.drop_under(command.key, revision)
        before = store.find(command.key)
        if before is None:
            return []
        if command.cas >= 0 and command.cas != before.revision:
            return Miss("stale")
        store.drop(command.key, revision)
        return [command.key]

    def _drop_alone(self, command: DropKey, revision: Revision) -> Outcome:
        gone = self._drop(self.keys, command, revision)
        if isinstance(gone, Miss):
            return 0
        if gone:
            self._touch().keys.update(dict.fromkeys(gone))
        return 1

    def _open(self, command: OpenHolder, revision: Revision, *, has_session: bool) -> Outcome:
        if not command.id or self.holders.find(command.id) is not None:
            return Refused(Invalid.code, f"id: holder {command.id!r} is open already: draw another")
        if len(self.holders) >= HOLDERS_MAX:
            return Refused(
                Invalid.code,
                f"holders: {HOLDERS_MAX} are open, and no more may be: close those that nobody "
                "needs, or give them a lease",
            )
        if command.ttl_ms and not has_session:
            return Refused(Invalid.code, "ttl: its session is not open: open it with the holder")
        self.holders.put(
            Holder(
                command.id,
                command.name,
                command.node,
                command.ttl_ms,
                command.behavior,
                command.lock_delay_ms,
                command.node_checks,
                command.service_checks,
                revision,
            )
        )
        self.holders.revision = revision
        self._touch().holders = True
        return revision

    def _fire(self, command: FireEvent, revision: Revision) -> Outcome:
        self.events_fired += 1
        self.events.append(
            Event(
                command.id,
                command.name,
                command.payload,
                command.node,
                command.service,
                command.tag,
                self.events_fired,
                revision,
            )
        )
        self._touch().events = True
        return self.events_fired


def unknown_holder(holder_id: str) -> Refused:
    """Say that there is no such holder."""
    return Refused(
        UnknownHolder.code,
        f"holder: {holder_id!r} is not open, it ended or never was: open one, and acquire again",
    )


def _read(draft: Draft, operation: ReadKey, room: int) -> list[Pair] | Miss:
    found: list[Pair] = []
    if operation.is_prefix:
        for pair in draft.under(operation.key):
            found.append(pair)
            room -= len(pair.value) + len(pair.key)
            if room < 0:
                return Miss("too-large")
        return found
    pair_or_none = draft.find(operation.key)
    if pair_or_none is None:
        empty = Pair(operation.key, b"", 0, 0, "", 0, 0)
        return [empty] if operation.may_miss else Miss("missing")
    return [pair_or_none] if len(pair_or_none.value) <= room else Miss("too-large")


def _check(found: Pair | None, operation: CheckKey) -> list[Pair] | Miss:
    if operation.revision < 0 and operation.holder is None:
        return [] if found is None else Miss("exists")
    if found is None:
        return Miss("missing")
    if operation.revision >= 0 and found.revision != operation.revision:
        return Miss("revision", str(found.revision))
    if operation.holder is not None and found.holder != operation.holder:
        return Miss("holder", found.holder)
    return [_without_value(found)]


def _without_value(pair: Pair) -> Pair:
    return msgspec.structs.replace(pair, value=b"")
