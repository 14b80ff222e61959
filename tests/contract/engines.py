"""The engines that the contract holds for, and all in which they may differ.

What is not told here is the same everywhere.  No test asks which engine it runs on: one that needs
a property is run ``on`` the engines that have it.
"""

from collections.abc import Iterable

import msgspec
import pytest


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """One way to keep the log."""

    name: str
    """Of the engine, as ``status`` tells it."""
    nodes: tuple[str, ...] = ("a", "b", "c")
    elects: bool = True
    """One node leads, and the others know its name."""
    keeps: bool = True
    """What was acknowledged outlives a restart of all nodes."""
    outlives: int = 0
    """So many nodes may be lost, and the others go on."""
    speaks: bool = True
    """Its nodes speak to each other, and a drain waits for the watchers of all of them."""
    asks: str = ""
    """Whose majority confirms a write: ``nodes``, ``etcd``, or nobody's."""

    def __str__(self) -> str:
        return self.name if self.keeps else "memory"


ENGINES = (
    Engine(name="local", nodes=("a",), keeps=False),
    Engine(name="local", nodes=("a",)),
    Engine(name="raft", outlives=1, asks="nodes"),
    Engine(name="paxos", outlives=1, asks="nodes"),
    Engine(name="etcd", nodes=("a", "b"), elects=False, speaks=False, outlives=1, asks="etcd"),
)
KEEPING = [engine for engine in ENGINES if engine.keeps]
OF_SEVERAL = [engine for engine in ENGINES if len(engine.nodes) > 1]
OUTLIVING = [engine for engine in ENGINES if engine.outlives]
ELECTING = [engine for engine in OUTLIVING if engine.elects]
ASKING = [engine for engine in ENGINES if engine.asks]


def on(engines: Iterable[Engine]) -> pytest.MarkDecorator:
    """Run a test on these only."""
    return pytest.mark.parametrize("engine", engines, indirect=True, ids=str, scope="session")
