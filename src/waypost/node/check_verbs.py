"""The verbs on checks and nodes: part of ``Registry``, which every door calls.

Limits are checked here, so that what comes from a door without its own checks is refused as well.
Whoever must know of each change of a check, its output alone included, listens (``on_checks``); a
watch of instances tells only what became of those.
"""

from collections.abc import Awaitable, Callable
from typing import Literal

from waypost.checks import (
    Check,
    CheckState,
    CheckStatus,
    NodeEntry,
    NodeName,
    check_check,
    check_check_id,
    check_node,
    check_node_name,
    check_owner,
    cut_output,
)
from waypost.commands import (
    CheckCommand,
    Command,
    DropCheck,
    DropNode,
    PutCheck,
    PutNode,
    ReportCheck,
)
from waypost.model import InstanceId, Revision, ServiceName
from waypost.node.checkup import CheckListener
from waypost.node.node import Node
from waypost.node.refusal import raised
from waypost.wire import Outcomes

Write = Callable[[list[Command]], Awaitable[Outcomes]]


class CheckVerbs:
    """Those of one node."""

    def __init__(self, node: Node, write: Write) -> None:
        self._node = node
        self._write = write

    async def put_check(
        self,
        service: ServiceName,
        instance_id: InstanceId,
        check: Check,
        *,
        node: NodeName = "",
        status: CheckStatus | Literal[""] = "",
        output: str = "",
    ) -> Revision:
        """Give an instance, or with both names empty a node, a check, or replace one.

        Without a status a check that is known keeps its own, and a new one is critical.
        """
        return await self._one(
            PutCheck(service, instance_id, node, check, status, cut_output(output))
        )

    async def drop_check(
        self,
        service: ServiceName,
        instance_id: InstanceId,
        check_id: str,
        *,
        node: NodeName = "",
    ) -> Revision:
        """Take a check away."""
        return await self._one(DropCheck(service, instance_id, node, check_id))

    async def report_check(
        self,
        service: ServiceName,
        instance_id: InstanceId,
        check_id: str,
        status: CheckStatus,
        output: str = "",
        *,
        node: NodeName = "",
    ) -> Revision:
        """Say what a check found; what says nothing new changes nothing.

        A TTL check that is told again what is known costs no entry of the log: its owner hears it.
        """
        output = cut_output(output)
        checkup = self._node.check_news.checkup
        state = self._node.catalog.checks.find((service, instance_id), node, check_id)
        if (
            state is not None
            and state.check.kind == "ttl"
            and (state.status, state.output) == (status, output)
            and checkup is not None
            and await checkup.hear(state)
        ):
            return self._node.revision
        command = ReportCheck(service, instance_id, node, check_id, status, output)
        return await self._one(command)

    async def put_node(self, entry: NodeEntry) -> Revision:
        """Register a node, or replace what is known of it."""
        return await self._one(PutNode(entry))

    async def drop_node(self, node: NodeName) -> Revision:
        """Forget a node and its checks; the instances on it stay."""
        return await self._one(DropNode(node))

    async def _one(self, command: CheckCommand) -> Revision:
        check_check_command(command)
        done = await self._write([command])
        raised(done.outcomes[0])
        return done.revision

    # Reads

    def checks(self, service: ServiceName, instance_id: InstanceId) -> tuple[CheckState, ...]:
        """The checks of an instance itself, by id; see ``node_checks`` for those of its node."""
        return self._node.catalog.checks.own((service, instance_id))

    def node_checks(self, node: NodeName) -> tuple[CheckState, ...]:
        """The checks of a node, by id."""
        return self._node.catalog.checks.of_node(node)

    def nodes(self) -> list[NodeEntry]:
        """Those that were registered explicitly, by name."""
        entries = self._node.catalog.nodes.entries
        return [entries[name] for name in sorted(entries)]

    def node(self, name: NodeName) -> NodeEntry | None:
        """One of those."""
        return self._node.catalog.nodes.entries.get(name)

    def on_node(self, name: NodeName) -> list[tuple[ServiceName, InstanceId]]:
        """The instances on a node, whether that is registered or not, by service and id."""
        return self._node.catalog.nodes.on(name)

    def checks_revision(self, service: ServiceName = "") -> Revision:
        """When a check of a service last changed, or the entry or a check of a node it is on.

        The empty name asks for all checks.  0 stands for never, or before the service was gone.
        """
        checks = self._node.catalog.checks
        return checks.revisions.get(service, 0) if service else checks.revision

    def nodes_revision(self) -> Revision:
        """When the entry of any node last changed."""
        return self._node.catalog.nodes.revision

    def on_checks(self, listener: CheckListener) -> Callable[[], None]:
        """Call ``listener(revision, services)`` for each entry that changed a check or a node.

        Among the services an empty name stands for a node itself.  Call the answer to stop.
        """
        listeners = self._node.check_news.listeners
        listeners.append(listener)
        return lambda: listeners.remove(listener)


def check_check_command(command: CheckCommand, scripts_on: NodeName = "") -> None:
    """Raise ``Invalid`` unless all that it says of a check, or of a node, is within limits.

    A script is refused unless it is one for the node ``scripts_on``.
    """
    match command:
        case PutCheck():
            check_owner(command.service, command.id, command.node)
            check_check(command.check, scripts_on)
        case DropCheck() | ReportCheck():
            check_owner(command.service, command.id, command.node)
            check_check_id(command.check_id)
        case PutNode():
            check_node(command.entry)
        case DropNode():
            check_node_name(command.node)
