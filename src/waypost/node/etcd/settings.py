"""Where a user's etcd is, and how to get in: known without grpcio, which is an extra."""

from typing import Final

import msgspec

NO_GRPC: Final = "etcd: grpcio is not installed here: pip install 'waypost[etcd]'"


class EtcdSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the user's etcd is, and how to get in."""

    endpoints: tuple[str, ...]
    """``http://host:port`` or ``https://host:port``, any number of the cluster's members."""
    prefix: str = "/waypost"
    """Everything is below it; two registries in one etcd need two."""
    ca: str = ""
    """File with the certificates that sign etcd's; empty takes grpc's own roots."""
    cert: str = ""
    key: str = ""
    """Files with this node's certificate and its key, for an etcd that asks for one."""
    user: str = ""
    password: str = ""
