"""Checks and nodes in a snapshot: their frames, written and read back.

A registry without any writes none of them.  Order in each table is part of the state, and is kept.
"""

from collections.abc import Iterator
from itertools import islice

import msgspec

from waypost.catalog.capture import Capture
from waypost.catalog.checks import Checks, Held
from waypost.catalog.nodes import Nodes
from waypost.checks import CheckState, NodeEntry, NodeName
from waypost.model import Health, InstanceId, Revision, ServiceName

ROWS_PER_FRAME = 64
"""With 64 checks of 12 KiB in each, still below what a frame may take."""


class HeldRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One instance that checks count for."""

    service: ServiceName
    id: InstanceId
    declared: Health
    why: str
    checks: list[CheckState]


class CheckedFrame(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """What the instances with checks declare, and their own checks."""

    rows: list[HeldRow]


class NodeChecksFrame(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """The checks of nodes."""

    rows: list[tuple[NodeName, list[CheckState]]]


class NodesFrame(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """The nodes that were registered explicitly."""

    rows: list[NodeEntry]


class CheckRevisionsFrame(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """When a check last changed, by service."""

    rows: list[tuple[ServiceName, Revision]]


CheckFrame = CheckedFrame | NodeChecksFrame | NodesFrame | CheckRevisionsFrame


def rows_of(capture: Capture) -> int:
    """Count what ``captured_checks`` writes."""
    return (
        len(capture.checked)
        + len(capture.node_checks)
        + len(capture.nodes)
        + len(capture.check_revisions)
    )


def captured_checks(capture: Capture) -> Iterator[CheckFrame]:
    """Write all that a capture has of checks and nodes."""
    held = iter(capture.checked.items())
    while rows := list(islice(held, ROWS_PER_FRAME)):
        yield CheckedFrame(
            [
                HeldRow(service, instance_id, each.declared, each.why, list(each.checks))
                for (service, instance_id), each in rows
            ]
        )
    of_nodes = iter(capture.node_checks.items())
    while found := list(islice(of_nodes, ROWS_PER_FRAME)):
        yield NodeChecksFrame([(node, list(states)) for node, states in found])
    entries = iter(capture.nodes.values())
    while nodes := list(islice(entries, ROWS_PER_FRAME)):
        yield NodesFrame(nodes)
    revisions = iter(capture.check_revisions.items())
    while moved := list(islice(revisions, ROWS_PER_FRAME)):
        yield CheckRevisionsFrame(moved)


def restore(checks: Checks, nodes: Nodes, frame: CheckFrame) -> int:
    """Read one frame back; tell how many rows it had."""
    match frame:
        case CheckedFrame():
            for row in frame.rows:
                checks.instances[row.service, row.id] = Held(
                    row.declared, row.why, tuple(row.checks)
                )
                checks.count += len(row.checks)
        case NodeChecksFrame():
            for node, states in frame.rows:
                checks.replace_of_node(node, tuple(states))
        case NodesFrame():
            for entry in frame.rows:
                nodes.entries[entry.name] = entry
        case CheckRevisionsFrame():
            checks.revisions.update(frame.rows)
    return len(frame.rows)
