"""Which doors ``waypost serve`` opens, and where: all but the native one and HTTP's port."""

import functools
import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from waypost.servers.dns.settings import DnsSettings

DNS_PORT: Final = 8600

_OPTIONS = (
    click.option(
        "--dns-port",
        type=click.IntRange(0, 65_535),
        default=DNS_PORT,
        show_default=True,
        help="DNS, by UDP and TCP; 0 takes a free port.",
    ),
    click.option(
        "--dns-ttl",
        default="0",
        metavar="S[,SERVICE=S]",
        help="How long DNS answers may be kept, in seconds.",
    ),
    click.option(
        "--dns-forward",
        default="",
        metavar="H:P[,H:P]",
        help="Ask these DNS servers for all other names; without it they are refused.",
    ),
    click.option(
        "--keys-max",
        type=click.IntRange(1, 64 << 10),
        default=256,
        show_default=True,
        metavar="MIB",
        help="What the keys of Consul's KV may take in memory, in MiB.",
    ),
    click.option(
        "--without",
        default="",
        metavar="DOOR[,DOOR]",
        help="Leave these doors closed; see docs/doors.",
    ),
    click.option(
        "--xds-port",
        type=click.IntRange(0, 65_535),
        metavar="PORT",
        help="Speak xDS to gRPC and Envoy on this port, usually 8502; 0 takes a free port. Closed "
        "unless given. Needs the extra waypost[xds].",
    ),
    click.option(
        "--check-allow",
        metavar="CIDR[,CIDR]",
        help="Let health checks probe these networks only, or none. By default all but link-local "
        "addresses and metadata services of clouds.",
    ),
    click.option(
        "--check-scripts",
        is_flag=True,
        help="Run the health checks' programs (Consul's Args) that programs on this machine "
        "register. Whoever reaches the HTTP port from this machine can then run anything as the "
        "registry's user.",
    ),
)


def door_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options; the command gets ``doors``: what ``Standalone`` is to be told of them."""

    @functools.wraps(command)
    def with_doors(
        *,
        dns_port: int,
        dns_ttl: str,
        dns_forward: str,
        keys_max: int,
        xds_port: int | None,
        without: str,
        check_allow: str | None,
        check_scripts: bool,
        **others: Any,
    ) -> int:
        closed = _closed(without)
        doors = {
            "without": closed,
            "dns_port": None if "dns" in closed else dns_port,
            "dns": _dns_settings(dns_ttl, dns_forward),
            "keys_bytes_max": keys_max << 20,
            "xds_port": xds_port,
            "check_allow": _networks(check_allow),
            "check_scripts": check_scripts,
        }
        return command(doors=doors, **others)

    for option in reversed(_OPTIONS):
        with_doors = option(with_doors)
    return with_doors


def _closed(without: str) -> set[str]:
    """Read the names of doors."""
    from waypost.standalone import DOORS

    closed = set(filter(None, without.split(",")))
    if unknown := sorted(closed.difference(DOORS)):
        raise click.UsageError(
            f"--without: there is no door {unknown[0]!r}: choose from {', '.join(DOORS)}"
        )
    return closed


def _networks(given: str | None) -> list[str] | None:
    from waypost.errors import Invalid
    from waypost.node.checks.allowed import Allowed

    if given is None:
        return None
    networks = [] if given == "none" else given.split(",")
    try:
        Allowed(networks)
    except Invalid as error:
        raise click.UsageError(f"--{error.message}") from None
    return networks


def _dns_settings(ttl: str, forward: str) -> "DnsSettings":
    from waypost.servers.dns.settings import TTL_S_MAX, DnsSettings

    default, ttls = 0, dict[str, int]()
    for item in filter(None, ttl.split(",")):
        service, named, seconds = item.rpartition("=")
        if not seconds.isdecimal() or int(seconds) > TTL_S_MAX:
            raise click.UsageError(
                f"--dns-ttl: {item!r} is not a number of whole seconds, 0 to {TTL_S_MAX}, or one "
                "for a service: as in 5 or orders=5"
            )
        if named:
            ttls[service] = int(seconds)
        else:
            default = int(seconds)
    servers = tuple(_server(item) for item in filter(None, forward.split(",")))
    return DnsSettings(default, ttls, servers)


def _server(address: str) -> tuple[str, int]:
    """Read the address of another DNS server: port 53 if it names none."""
    host, colon, port = address.rpartition(":")
    if not colon or (address.count(":") > 1 and not host.endswith("]")):
        host, port = address, "53"
    host = host.strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        host = ""
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise click.UsageError(
            f"--dns-forward: {address!r} is not the address of a DNS server: give its IP address "
            "and port, as in 10.0.0.2:53"
        )
    return host, int(port)
