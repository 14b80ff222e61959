"""``waypost xds-bootstrap``: what a gRPC client has to be told before it can ask over xDS.

Several nodes are one server of several addresses where they can be: every gRPC takes those as one
``ipv4:`` or ``ipv6:`` target and goes on at the next when one is lost, while a list of servers is
read beyond its first only by some.

Source: gRFC A27 (bootstrap), A71 (fallback); gRPC Name Resolution, "ipv4" and "ipv6".
"""

import ipaddress
import json
import socket
from typing import Any, Final

import click

XDS_PORT: Final = 8502


@click.command("xds-bootstrap")
@click.option(
    "--server",
    "servers",
    default=f"127.0.0.1:{XDS_PORT}",
    show_default=True,
    metavar="HOST:PORT",
    help="Where a node speaks xDS (serve --xds-port), or several of them with commas between.",
)
@click.option("--zone", default="", help="Where the client runs.")
@click.option("--id", "client_id", default="", help="Its name in logs.  [default: the host's name]")
def xds_bootstrap(servers: str, zone: str, client_id: str) -> int:
    """Print the bootstrap file of a gRPC client.

    \b
    waypost xds-bootstrap > bootstrap.json
    GRPC_XDS_BOOTSTRAP=bootstrap.json python client.py    # which dials xds:///orders
    """
    print(json.dumps(bootstrap_of(servers, zone, client_id), indent=2))
    return 0


def bootstrap_of(servers: str, zone: str = "", client_id: str = "") -> dict[str, Any]:
    """The bootstrap of a client of these servers, given as ``HOST:PORT[,HOST:PORT]``."""
    return {
        "xds_servers": [
            {
                "server_uri": uri,
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
            for uri in _targets([_address(one.strip()) for one in servers.split(",")])
        ],
        "node": {
            "id": client_id or socket.gethostname(),
            # grpc-js needs all three to be there, even if they say nothing.
            "locality": {"region": "", "zone": zone, "sub_zone": ""},
        },
    }


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(XDS_PORT)
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise click.BadParameter(
            f"{text!r} is not an address: give host and port, as in 10.0.0.1:{XDS_PORT}",
            param_hint="--server",
        )
    return host, int(port)


def _targets(addresses: list[tuple[str, int]]) -> list[str]:
    """Name the servers as gRPC does."""
    versions = {_version(host) for host, _ in addresses}
    shown = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses]
    if len(shown) == 1 or len(versions) > 1 or 0 in versions:
        return shown
    return [f"ipv{versions.pop()}:{','.join(shown)}"]


def _version(host: str) -> int:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return 0
