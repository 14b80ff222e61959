"""A watch tells every change, once, in order: its events are a stretch of the log without a gap."""

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

import msgspec

from waypost.sim.checkers.history import OK, Index, Verdict

E = TypeVar("E", bound=Hashable)


class Event(msgspec.Struct, Generic[E], frozen=True, array_like=True):
    """One change: of the log, or as a watcher was told it."""

    index: Index
    key: str
    what: E


class Watched(msgspec.Struct, Generic[E], frozen=True):
    """What a watcher was told from one snapshot or cursor on.

    A watcher that was resynced with a new snapshot begins a new one.
    """

    client: str
    key: str
    """What it watches; empty for everything."""
    since: Index
    """Of the snapshot, or its cursor: it hears of what came after."""
    events: tuple[Event[E], ...]
    upto: Index
    """The highest index of which it was told that it had heard everything."""


def check_watch(log: Sequence[Event[E]], watched: Watched[E]) -> Verdict:
    """Check one watch against all changes that were applied, in order of the log."""
    due = [
        event
        for event in log
        if watched.since < event.index <= watched.upto and watched.key in ("", event.key)
    ]
    for number, (told, expected) in enumerate(zip(watched.events, due, strict=False)):
        if told != expected:
            return _wrong(watched, number, told, expected, due)
    if len(watched.events) > len(due):
        return _wrong(watched, len(due), watched.events[len(due)], None, due)
    if len(watched.events) < len(due):
        missing = due[len(watched.events)]
        return _violation(watched, f"was told up to {watched.upto}, and never of {missing}")
    return OK


def _wrong(
    watched: Watched[E], number: int, told: Event[E], expected: Event[E] | None, due: list[Event[E]]
) -> Verdict:
    before = watched.events[:number]
    if told in before:
        what = f"was told twice of {told}"
    elif told.index <= watched.since:
        what = f"was told of {told}, which its snapshot or cursor covers"
    elif told not in due:
        what = f"was told of {told}, which is not in the log"
    elif expected is not None and expected in watched.events:
        what = f"was told of {told} before {expected}"
    else:
        what = f"was told of {told}, and never of {expected}"
    return _violation(watched, what)


def _violation(watched: Watched[E], what: str) -> Verdict:
    whole = f"{watched.key or 'everything'} since {watched.since}"
    return Verdict("violation", f"watch: {watched.client}, watching {whole}, {what}")
