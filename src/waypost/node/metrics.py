"""What a node counts, as families of the Prometheus data model."""

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from waypost.node.node import Node


class Metric(msgspec.Struct, frozen=True, gc=False):
    """One family: its samples by labels."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: list[tuple[dict[str, str], float]]


def metrics_of(node: "Node") -> list[Metric]:
    """Everything that a node counts, its log's part included."""
    status = node.status()
    space = node.catalog.keyspace
    syncs, sync_s = node.engine.syncs
    shed: list[tuple[dict[str, str], float]] = [
        ({"kind": kind}, float(n)) for kind, n in node.admission.shed.items()
    ]
    return [
        _gauge("revision", "Log index of the state served.", status.revision),
        _gauge("services", "Services with at least one instance.", status.services),
        _gauge("instances", "Instances registered.", status.instances),
        _gauge("suspects", "Instances that wait for the eviction guard.", node.catalog.orphans),
        _gauge("sessions", "Sessions that this node owns.", status.sessions),
        _gauge("connections", "Native connections open.", status.connections),
        _gauge("watchers", "Watches open, over all doors.", status.watchers),
        _gauge("keys", "Keys that are set.", len(space.keys)),
        _gauge("keys_bytes", "What they take, of what --keys-max allows.", space.keys.size),
        _gauge("holders", "Holders of keys that are open.", len(space.holders)),
        _gauge("writable", "1 while writes are taken.", float(status.writable)),
        _gauge("is_leader", "1 while this node leads.", float(status.role == "leader")),
        _gauge(
            "waiting_commands",
            "Commands offered and not yet answered.",
            node.replica.waiting_commands,
        ),
        _counter("commands_total", "Commands applied.", node.commands_applied),
        _counter("log_syncs_total", "Times the log was made durable.", syncs),
        _counter("log_sync_seconds_total", "Seconds that this took, in all.", sync_s),
        _counter("stalls_total", "Times the event loop stood still.", node.stalls),
        _counter(
            "watch_coalesced_total",
            "Times a slow watcher was given the latest state at once.",
            node.watches.coalesced,
        ),
        Metric("waypost_shed_total", "counter", "Requests refused under load.", shed),
    ]


def _counter(name: str, help_: str, value: float) -> Metric:
    return Metric(f"waypost_{name}", "counter", help_, [({}, value)])


def _gauge(name: str, help_: str, value: float) -> Metric:
    return Metric(f"waypost_{name}", "gauge", help_, [({}, value)])
