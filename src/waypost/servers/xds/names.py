"""Which service a resource's name means, and what a service's resources are named.

A gRPC client asks for the text of its target: ``xds:///orders`` for ``orders``, and
``xds:///orders:8080`` for ``orders:8080``, where the port is no more than what the client will say
as its authority.  A namespace comes behind a dot, or as everywhere else in front of a slash.
"""

from waypost.errors import Invalid
from waypost.model import ServiceName, check_service


def service_of(name: str) -> ServiceName:
    """Tell which service a resource's name means; empty if it cannot mean any."""
    bare, _, port = name.lower().partition(":")
    if port and not port.isdecimal():
        return ""
    if "/" not in bare and "." in bare:
        label, _, namespace = bare.partition(".")
        bare = f"{namespace}/{label}"
    try:
        check_service(bare)
    except Invalid:
        return ""
    return bare


def name_of(service: ServiceName) -> str:
    """Name the resources of a service: what a wildcard lists, and what resources refer to."""
    namespace, _, label = service.rpartition("/")
    return f"{label}.{namespace}" if namespace else label
