"""What Consul has and Waypost has not: told as that, and never as a success."""

from typing import Final

from waypost.servers.consul.refusals import Refusal

_ACL: Final = "ACL support disabled"
_REASONS: Final = {
    "config": "Waypost has no service mesh, and so no config entries",
    "connect": "Waypost has no service mesh: there is nothing to intend and no certificate",
    "discovery-chain": "Waypost has no service mesh",
    "exported-services": "Waypost has one partition and no peers",
    "imported-services": "Waypost has one partition and no peers",
    "internal": "Waypost has no interior of Consul's",
    "namespace": "Waypost has no namespaces of Consul's",
    "namespaces": "Waypost has no namespaces of Consul's",
    "operator": "Waypost's members are shown and changed by 'waypost cluster'",
    "partition": "Waypost has no partitions",
    "partitions": "Waypost has no partitions",
    "peering": "Waypost does not peer with other clusters",
    "peerings": "Waypost does not peer with other clusters",
    "query": "Waypost has no prepared queries: ask health/service with a filter",
    "snapshot": "Waypost's snapshots are at /api/v1/snapshot",
    "coordinate": "Waypost keeps no network coordinates",
    "agent/connect": "Waypost has no service mesh",
    "agent/metrics": "Waypost's metrics are at /metrics",
    "agent/monitor": "Waypost's log is on its standard error",
    "agent/join": "a Waypost node joins when it starts, with --join",
    "agent/force-leave": "a Waypost node is removed by 'waypost cluster remove'",
    "agent/leave": "a Waypost node is stopped by SIGTERM, and removed by 'waypost cluster remove'",
    "agent/reload": "Waypost has no configuration to reload",
    "catalog/connect": "Waypost has no service mesh",
    "catalog/gateway-services": "Waypost has no gateways",
    "health/connect": "Waypost has no service mesh",
    "health/ingress": "Waypost has no gateways",
}


def why_absent(path: str) -> Refusal:
    """The refusal of a path that is not served; ``path`` is without ``/v1/``."""
    parts = path.split("/")
    if parts[0] == "acl" or parts[:2] == ["agent", "token"]:
        return Refusal(401, _ACL)
    reason = _REASONS.get("/".join(parts[:2])) or _REASONS.get(parts[0])
    if reason is not None:
        return Refusal(404, f"Not supported: /v1/{path[:200]}: {reason}")
    return Refusal(404, f"Invalid URL path: /v1/{path[:200]}")
