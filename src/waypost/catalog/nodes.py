"""Nodes: the machines or agents on which instances run, as far as anybody speaks of them.

Somebody may register a node explicitly (``entries``); it needs no entry to have instances or
checks.  Which instances are on a node is an index, and no part of the state: every instance names
its node.  An instance that names none costs nothing here.

Invariant: ``on`` lists exactly the instances that name a node, and no node without any.
"""

from collections.abc import Iterable

from waypost.checks import NodeEntry, NodeName
from waypost.model import InstanceId, Revision, ServiceName

Key = tuple[ServiceName, InstanceId]


class Nodes:
    """All nodes that are known."""

    __slots__ = ("_on", "entries", "revision")

    def __init__(self) -> None:
        self.entries: dict[NodeName, NodeEntry] = {}
        self.revision: Revision = 0
        """Of the latest change of any entry, one that is gone included."""
        self._on: dict[NodeName, dict[Key, None]] = {}

    def on(self, name: NodeName) -> list[Key]:
        """List the instances on a node, by service and id."""
        return sorted(self._on.get(name, ()))

    def has_any(self, name: NodeName) -> bool:
        """Whether an instance is on a node."""
        return name in self._on

    @property
    def names(self) -> list[NodeName]:
        """The nodes that have an entry or an instance, by name."""
        return sorted({**self.entries, **self._on})

    def part(self, names: Iterable[NodeName]) -> "Nodes":
        """Copy all entries, and of these nodes which instances are on them."""
        copy = Nodes()
        copy.entries, copy.revision = dict(self.entries), self.revision
        copy._on = {name: dict(self._on[name]) for name in names if name in self._on}
        return copy

    def moved(self, key: Key, before: NodeName, node: NodeName) -> None:
        """An instance is on another node now; the empty name stands for none."""
        if before:
            left = self._on[before]
            del left[key]
            if not left:
                del self._on[before]
        if node:
            self._on.setdefault(node, {})[key] = None
