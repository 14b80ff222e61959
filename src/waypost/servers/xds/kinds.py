"""The four types of resources that are served, and in which order a change of several is told.

Make before break: a cluster and its endpoints are told before the listener and the routes that
lead to it.

Source: xDS protocol, "Eventual consistency considerations".
"""

from typing import Final

Kind = str
"""The URL of a type."""

_PREFIX: Final = "type.googleapis.com/"
LDS: Final[Kind] = _PREFIX + "envoy.config.listener.v3.Listener"
RDS: Final[Kind] = _PREFIX + "envoy.config.route.v3.RouteConfiguration"
CDS: Final[Kind] = _PREFIX + "envoy.config.cluster.v3.Cluster"
EDS: Final[Kind] = _PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"

IN_ORDER: Final = (CDS, EDS, LDS, RDS)
"""As they are told."""
TOLD_WHOLE: Final = frozenset((LDS, CDS))
"""In the state of the world, a resource that a response leaves out is deleted; of the other two
types, a response holds what changed, and nothing can be deleted."""


def short(kind: Kind) -> str:
    """Name a type as people do."""
    return kind.rpartition(".")[2]
