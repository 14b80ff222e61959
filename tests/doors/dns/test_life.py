"""dig, kdig, HAProxy, nginx and libc, as they are, follow instances and a cluster."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.doors.dns.programs import HOSTS, Backends, Proxy, dig, haproxy, kdig, nginx
from tests.doors.life import SERVICE, Told, killer, live_through, usable
from tests.doors.over_http import Api, eventually
from tests.doors.port_53 import run_at_port_53
from tests.processes.cluster import ClusterProcesses

NAME = f"{SERVICE}.service.waypost"


def see(told: Told, found: Callable[[], object]) -> None:
    """Wait until these are found, and nobody else."""
    hosts = {HOSTS[each] for each in usable(told)}
    eventually(lambda: found() == hosts, lambda: f"{hosts}, not {found()}")


@pytest.mark.parametrize("client", [dig, kdig])
def test_dig_and_kdig_follow_at_every_node(
    client: Callable[..., list[str]], cluster: ClusterProcesses, api: Api
) -> None:
    def sees(told: Told) -> None:
        for node in cluster.running:
            see(told, lambda node=node: set(client(node.dns.rpartition(":")[2], NAME)))

    live_through(api, {each: {"host": host} for each, host in HOSTS.items()}, sees, killer(cluster))


def proxied(cluster: ClusterProcesses, api: Api, start: Callable[..., Proxy]) -> None:
    """Have a proxy find what comes and goes, by the DNS doors of all nodes."""
    resolvers = [node.dns for node in cluster.nodes.values()]
    with Backends() as backends, start(backends.port, *resolvers) as proxy:
        places = {each: {"host": host, "port": backends.port} for each, host in HOSTS.items()}
        live_through(api, places, lambda told: see(told, proxy.seen), killer(cluster))


def test_haproxy_follows_by_srv(cluster: ClusterProcesses, api: Api, tmp_path: Path) -> None:
    proxied(cluster, api, lambda _, *resolvers: haproxy(tmp_path / "haproxy", *resolvers))


@pytest.mark.slow  # a second a step, and five when it asks the node that is gone
def test_nginx_follows_by_address(cluster: ClusterProcesses, api: Api, tmp_path: Path) -> None:
    proxied(cluster, api, lambda *where: nginx(tmp_path / "nginx", *where))


def test_libc_follows_whatever_servers_etc_resolv_conf_names(tmp_path: Path) -> None:
    assert run_at_port_53("tests.doors.dns.glibc", tmp_path) == "found, followed, and gone\n"
