"""An instance as a target group of Prometheus' HTTP service discovery.

One group for each instance, because its labels are its own.  Every label begins with ``__meta_``:
Prometheus offers those to relabelling and drops them afterwards, so nothing lands in the time
series that nobody asked for.  Values are strings, as the format demands.

Source: prometheus.io/docs/prometheus/latest/http_sd.
"""

import re
from typing import Final

import msgspec

from waypost.model import Instance, Record

METRICS_PORT: Final = "metrics"
"""Of an instance's named ports the one to scrape; without it, its only port."""

_NOT_IN_LABELS = re.compile(r"[^a-zA-Z0-9_]")


class Group(msgspec.Struct, frozen=True, gc=False):
    """One of the format's list."""

    targets: list[str]
    labels: dict[str, str]


def group_of(record: Record) -> Group:
    """Show an instance."""
    instance = record.instance
    labels = {
        "__meta_waypost_service": instance.service,
        "__meta_waypost_id": instance.id,
        "__meta_waypost_host": instance.host,
        "__meta_waypost_port": str(instance.port),
        "__meta_waypost_node": instance.node or instance.host,
        "__meta_waypost_zone": instance.zone,
        "__meta_waypost_version": instance.version,
        "__meta_waypost_health": record.health,
        "__meta_waypost_suspect": "true" if record.suspect else "false",
    }
    if instance.tags:
        # Commas at both ends, so that a rule may look for ",a," wherever it stands.
        labels["__meta_waypost_tags"] = f",{','.join(instance.tags)},"
    for tag in instance.tags:
        labels.setdefault(f"__meta_waypost_tag_{_in_label(tag)}", "true")
    for name, port in sorted(instance.ports.items()):
        labels.setdefault(f"__meta_waypost_port_{_in_label(name)}", str(port))
    for key, value in sorted(instance.meta.items()):
        labels.setdefault(f"__meta_waypost_meta_{_in_label(key)}", value)
    return Group([address_of(instance)], labels)


def address_of(instance: Instance) -> str:
    """Where to scrape it."""
    port = instance.ports.get(METRICS_PORT, instance.port)
    host = instance.host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _in_label(name: str) -> str:
    return _NOT_IN_LABELS.sub("_", name)
