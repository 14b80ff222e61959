"""A cluster whose DNS doors are where every program looks for them: named in ``/etc/resolv.conf``.

That needs a network and a file of its own, so what asks there runs as a module, inside.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.doors.over_http import Api
from tests.doors.program import installed
from tests.processes.cluster import ClusterProcesses, NodeProcess


class Loopback:
    """Machines that are addresses of one."""

    hosts = {"a": "127.0.0.1", "b": "127.0.0.2", "c": "127.0.0.3"}  # noqa: RUF012

    def at(self, name: str) -> list[str]:
        """Each is here."""
        return []


class Cluster:
    """Three nodes, inside."""

    def __init__(self, directory: Path) -> None:
        self._resolv_conf = directory / "resolv.conf"
        self.processes = ClusterProcesses(directory, "--dns-port", "53", network=Loopback())
        self.api = Api(self.processes)
        self.name_servers("a")

    def name_servers(self, first: str) -> None:
        """Have programs ask one node first."""
        names = sorted(Loopback.hosts, key=lambda name: name != first)
        lines = [f"nameserver {Loopback.hosts[name]}\n" for name in names]
        self._resolv_conf.write_text("".join(lines))  # in place: it is mounted

    def kill_the_leader(self, spared: str = "") -> None:
        """Kill it, after it was made the one that is asked first; ``spared`` is an HTTP door."""
        leader = asyncio.run(self.processes.leader_but(spared))
        self.name_servers(leader.name)
        leader.kill()

    @property
    def follower(self) -> NodeProcess:
        """One that does not lead now."""
        leader = asyncio.run(self.processes.leader())
        return next(node for node in self.processes.nodes.values() if node is not leader)


@contextmanager
def inside(directory: Path) -> Iterator[Cluster]:
    """The cluster, where ``run_at_port_53`` brought this program."""
    cluster = Cluster(directory)
    try:
        cluster.processes.start()
        yield cluster
    finally:
        cluster.api.close()
        cluster.processes.stop()


def run_at_port_53(module: str, directory: Path) -> str:
    """Run a module in there, with the directory as its argument; returns what it prints."""
    (directory / "resolv.conf").touch()
    unshare = [installed("unshare", "util-linux"), "--map-root-user", "--mount", "--net"]
    script = (
        f"ip link set lo up; mount --bind {directory}/resolv.conf /etc/resolv.conf; "
        f"exec {sys.executable} -m {module} {directory}"
    )
    done = subprocess.run(
        [*unshare, "sh", "-ec", script], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
