"""Checks beside the records: what they found, and what the providers themselves declare.

A record's health is the worst of both, so what was declared is kept here, for exactly those
instances that a check counts for: one of their own, or one of their node.  An instance without
checks is in no table, and a registry without checks pays a truth test.

Values are immutable, and a table is never changed by a reader: a shallow copy is a snapshot.

Invariants: ``instances`` has exactly the instances with a check of their own or of their node; the
checks of each owner stand by id, and there is one at least; ``revisions`` names only services that
have an instance; ``count`` is that of all checks.
"""

from collections.abc import Iterable

import msgspec

from waypost.catalog.nodes import Key
from waypost.checks import CheckKey, CheckState, NodeName, worst
from waypost.model import Health, Revision, ServiceName

States = tuple[CheckState, ...]


class Held(msgspec.Struct, frozen=True, gc=False):
    """One instance that checks count for."""

    declared: Health
    why: str
    checks: States
    """Its own; those of its node stand there."""


class Checks:
    """All checks, by owner."""

    __slots__ = (
        "_reported",
        "_reported_at",
        "count",
        "instances",
        "nodes",
        "revision",
        "revisions",
    )

    def __init__(self) -> None:
        self.instances: dict[Key, Held] = {}
        self.nodes: dict[NodeName, States] = {}
        self.revision: Revision = 0
        """Of the latest change of any check, one that is gone included."""
        self.revisions: dict[ServiceName, Revision] = {}
        """Of the latest change of a check, or of a node, that counts for the service."""
        self.count = 0
        self._reported: list[CheckKey] = []
        self._reported_at: Revision = 0

    def reported_at(self, revision: Revision) -> list[CheckKey]:
        """List what the entry of that revision, the latest one, reported; no part of the state."""
        if self._reported_at != revision:
            self._reported, self._reported_at = [], revision
        return self._reported

    def own(self, key: Key) -> States:
        """Tell the checks of an instance itself."""
        held = self.instances.get(key)
        return () if held is None else held.checks

    def of_node(self, node: NodeName) -> States:
        """Tell the checks that count for all instances on a node."""
        return self.nodes.get(node, ())

    def find(self, key: Key, node: NodeName, check_id: str) -> CheckState | None:
        """Look a check up, of a node if one is named, or else of an instance."""
        states = self.nodes.get(node, ()) if node else self.own(key)
        return next((state for state in states if state.check.id == check_id), None)

    def part(self, nodes: Iterable[NodeName], keys: Iterable[Key]) -> "Checks":
        """Copy what there is of these nodes and instances, and how many there are of all."""
        copy = Checks()
        for key in keys:
            if key in self.instances:
                copy.instances[key] = self.instances[key]
            if key[0] in self.revisions:
                copy.revisions[key[0]] = self.revisions[key[0]]
        copy.nodes = {name: self.nodes[name] for name in nodes if name in self.nodes}
        copy.revision, copy.count = self.revision, self.count
        return copy

    def declare(self, key: Key, node: NodeName, health: Health, why: str) -> tuple[Health, str]:
        """Take what an instance on a node declares; tell how it is with all its checks."""
        return self._settle(key, node, health, why, self.own(key))

    def replace(self, key: Key, node: NodeName, declared: Held, own: States) -> tuple[Health, str]:
        """Give an instance these checks of its own; tell how it is."""
        self.count += len(own) - len(self.own(key))
        return self._settle(key, node, declared.declared, declared.why, own)

    def replace_of_node(self, node: NodeName, states: States) -> None:
        """Give a node these checks; then call ``declare`` for each instance on it."""
        self.count += len(states) - len(self.of_node(node))
        if states:
            self.nodes[node] = states
        else:
            self.nodes.pop(node, None)

    def forget(self, key: Key) -> States:
        """An instance is gone; tell which checks went with it."""
        held = self.instances.pop(key, None)
        if held is None:
            return ()
        self.count -= len(held.checks)
        return held.checks

    def _settle(
        self, key: Key, node: NodeName, declared: Health, why: str, own: States
    ) -> tuple[Health, str]:
        of_node = self.nodes.get(node, ()) if node else ()
        if not own and not of_node:
            self.instances.pop(key, None)
            return declared, why
        self.instances[key] = Held(declared, why, own)
        return worst(declared, why, (*own, *of_node))


def with_state(states: States, state: CheckState) -> States:
    """Put a check among others of its owner, in place of the one with its id."""
    rest = without(states, state.check.id)
    return tuple(sorted((*rest, state), key=lambda each: each.check.id))


def without(states: States, check_id: str) -> States:
    """Take a check away."""
    return tuple(state for state in states if state.check.id != check_id)
