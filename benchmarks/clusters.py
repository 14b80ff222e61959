"""Clusters of three to measure: ours and etcd, each member a process with a data directory.

Both can be asked who leads, and have a member killed and started again.
"""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from benchmarks.servers import PYTHON
from waypost.cli.demo.ports import free_ports

C = TypeVar("C", bound="Cluster")
NAMES = ("a", "b", "c")
START_S = 30.0


class Cluster(Protocol):
    """Three members."""

    engine: str
    processes: "dict[str, subprocess.Popen[bytes]]"

    def start(self, name: str) -> None:
        """Start a member, again if it ran before."""
        ...

    def leader(self) -> str:
        """The member that leads, by name; empty if nobody does."""
        ...

    def native(self, name: str) -> str:
        """Where a member takes clients, as host:port."""
        ...


class OurCluster:
    """``waypost serve --cluster``, three times."""

    def __init__(self, engine: str, directory: Path) -> None:
        self.engine = engine
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._directory = directory
        self._ports = {name: tuple(free_ports(2)) for name in NAMES}

    def start(self, name: str) -> None:
        port, http = self._ports[name]
        log = (self._directory / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            [
                *(PYTHON, "-m", "waypost", "serve", "--name", name),
                *("--data-dir", str(self._directory / name)),
                *(
                    "--port",
                    str(port),
                    "--http-port",
                    str(http),
                    "--dns-port",
                    "0",
                    "--engine",
                    self.engine,
                ),
                *("--cluster", ",".join(f"{each}={self.native(each)}" for each in NAMES)),
            ],
            stdout=log,
            stderr=log,
        )
        log.close()

    def leader(self) -> str:
        for name in NAMES:
            with contextlib.suppress(OSError, ValueError):
                status = _json(f"http://{self.http(name)}/api/v1/status")
                if status.get("leader"):
                    return str(status["leader"])
        return ""

    def native(self, name: str) -> str:
        return f"127.0.0.1:{self._ports[name][0]}"

    def http(self, name: str) -> str:
        return f"127.0.0.1:{self._ports[name][1]}"

    def bench(self, servers: list[str], *arguments: str) -> dict[str, float]:
        """One line of ``waypost bench``, each connection to the next of the servers."""
        where = ",".join(map(self.native, servers))
        command = [PYTHON, "-m", "waypost", "bench", *arguments, "--json", "--server", where]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
        return json.loads(done.stdout)


class EtcdCluster:
    """etcd, three times, with its defaults: heartbeat 100 ms, election 1,000 ms."""

    engine = "etcd"

    def __init__(self, directory: Path) -> None:
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._directory = directory
        self._ports = {name: tuple(free_ports(2)) for name in NAMES}

    def start(self, name: str) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in self._ports[name])
        peers = ",".join(f"{each}=http://127.0.0.1:{self._ports[each][1]}" for each in NAMES)
        self.processes[name] = subprocess.Popen(
            [
                *("etcd", f"--name={name}", f"--data-dir={self._directory / name}"),
                *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
                *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
                *(f"--initial-cluster={peers}", "--log-level=error"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def leader(self) -> str:
        for name in NAMES:
            with contextlib.suppress(OSError, ValueError):
                status = _json(f"http://{self.native(name)}/v3/maintenance/status", {})
                if status.get("leader") == status["header"]["member_id"]:
                    return name
        return ""

    def native(self, name: str) -> str:
        return f"127.0.0.1:{self._ports[name][0]}"


@contextlib.contextmanager
def our_cluster(engine: str) -> Iterator[OurCluster]:
    with _directory() as directory, _running(OurCluster(engine, directory)) as cluster:
        yield cluster


@contextlib.contextmanager
def etcd_cluster() -> Iterator[EtcdCluster]:
    with _directory() as directory, _running(EtcdCluster(directory)) as cluster:
        yield cluster


@contextlib.contextmanager
def _running(cluster: C) -> Iterator[C]:
    try:
        for name in NAMES:
            cluster.start(name)
        wait_for(lambda: takes_writes(cluster), "a leader")
        yield cluster
    finally:
        for process in cluster.processes.values():
            process.kill()
        for process in cluster.processes.values():
            process.wait()


def takes_writes(cluster: Cluster) -> bool:
    """Whether it has a leader, and a member that is up takes a write."""
    leader = cluster.leader()
    if not leader:
        return False
    try:
        if isinstance(cluster, EtcdCluster):
            key = base64.b64encode(b"/warm").decode()
            _json(f"http://{cluster.native(leader)}/v3/kv/put", {"key": key, "value": key})
        elif isinstance(cluster, OurCluster):
            url = f"http://{cluster.http(leader)}/api/v1/services/warm/instances/warm"
            _json(url, {"host": "127.0.0.1", "port": 1, "ttl": 0}, "PUT")
    except (OSError, ValueError):
        return False
    return True


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + START_S
    while not is_so():
        if time.monotonic() > until:
            raise RuntimeError(f"no {what} within {START_S:g} s")
        time.sleep(0.05)


def _json(url: str, body: dict[str, Any] | None = None, method: str = "POST") -> dict[str, Any]:
    request = urllib.request.Request(url)
    if body is not None:
        head = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(body).encode(), head, method=method)
    with urllib.request.urlopen(request, timeout=2) as answer:
        return json.loads(answer.read() or b"{}")


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir=os.environ.get("WAYPOST_BENCH_DIR") or None))
    try:
        yield path
    except BaseException:
        for log in path.glob("*.log"):
            print(f"--- {log.name}\n{log.read_text()[-2000:]}")
        raise
    finally:
        shutil.rmtree(path, ignore_errors=True)
