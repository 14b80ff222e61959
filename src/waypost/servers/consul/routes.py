"""Which operation a path and a method name."""

from collections.abc import Iterable
from itertools import chain

from waypost.servers.consul import (
    agent,
    catalog,
    catalog_writes,
    checks,
    events,
    health,
    kv,
    register,
    sessions,
    status,
    txn,
)
from waypost.servers.consul.absent import why_absent
from waypost.servers.consul.operations import Operation, Perform
from waypost.servers.consul.refusals import NotMethod

OPERATIONS: tuple[Operation, ...] = tuple(
    chain(
        agent.OPERATIONS,
        catalog.OPERATIONS,
        catalog_writes.OPERATIONS,
        checks.OPERATIONS,
        health.OPERATIONS,
        register.OPERATIONS,
        status.OPERATIONS,
        kv.OPERATIONS,
        sessions.OPERATIONS,
        txn.OPERATIONS,
        events.OPERATIONS,
    )
)


class Routes:
    """The table, to look up in."""

    def __init__(self, operations: Iterable[Operation] = OPERATIONS) -> None:
        self._paths: dict[str, dict[str, Perform]] = {}
        for operation in operations:
            methods = self._paths.setdefault(operation.path, {})
            assert operation.method not in methods, operation
            methods[operation.method] = operation.perform

    def find(self, path: str) -> tuple[dict[str, Perform], str]:
        """The methods of a path, and the part that it leaves open; raises ``Refusal``."""
        methods = self._paths.get(path)
        if methods is not None:
            return methods, ""
        end = len(path)
        while (end := path.rfind("/", 0, end)) > 0:
            methods = self._paths.get(path[: end + 1])
            if methods is not None:
                return methods, path[end + 1 :]
        raise why_absent(path)


def allowed(methods: Iterable[str]) -> str:
    """For the header ``Allow``."""
    return ",".join(("OPTIONS", *methods))


def chosen(methods: dict[str, Perform], method: str) -> Perform:
    """The operation of a method; raises ``NotMethod``."""
    perform = methods.get(method)
    if perform is None:
        raise NotMethod(method, allowed(methods))
    return perform
