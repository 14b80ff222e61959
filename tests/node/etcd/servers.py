"""A real etcd for a test: on free ports, in a directory of its own, killed and started at will."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.standing import go_on, stand_still

from waypost.cli.demo.ports import free_ports

ETCDCTL = {**os.environ, "ETCDCTL_API": "3"}


class EtcdServer:
    """One member; alone in its cluster unless it is told of the others."""

    def __init__(self, directory: Path, name: str = "m0", *options: str, scheme: str = "http"):
        self.directory = directory / name
        self.name = name
        self.options = options
        self.endpoint = f"{scheme}://127.0.0.1:{free_ports(1)[0]}"
        self.peer = f"http://127.0.0.1:{free_ports(1)[0]}"
        self.cluster = f"{name}={self.peer}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> "EtcdServer":
        assert shutil.which("etcd"), "apt-get install etcd-server etcd-client"
        self._process = subprocess.Popen(
            [
                "etcd",
                f"--name={self.name}",
                f"--data-dir={self.directory}",
                f"--listen-client-urls={self.endpoint}",
                f"--advertise-client-urls={self.endpoint}",
                f"--listen-peer-urls={self.peer}",
                f"--initial-advertise-peer-urls={self.peer}",
                f"--initial-cluster={self.cluster}",
                "--log-level=error",
                "--unsafe-no-fsync=true" if "3.5" in _version() else "--heartbeat-interval=100",
                *self.options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if wait:
            self.wait()
        return self

    def wait(self) -> None:
        """Until it takes writes."""
        if self.endpoint.startswith("https"):
            host, port = self.endpoint.removeprefix("https://").split(":")
            _wait(lambda: _connects(host, int(port)))
            time.sleep(1.0)
            return
        _wait(lambda: b"OK" in self.ctl("put", "--", "probe", "1", check=False))

    def ctl(self, *arguments: str, check: bool = True) -> bytes:
        done = subprocess.run(
            ["etcdctl", f"--endpoints={self.endpoint}", "--command-timeout=2s", *arguments],
            env=ETCDCTL,
            capture_output=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    @property
    def revision(self) -> int:
        return int(self.ctl("get", "probe", "-w=json").split(b'"revision":')[1].split(b",")[0])

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stand_still(self) -> None:
        assert self._process is not None
        stand_still(self._process.pid)

    def go_on(self) -> None:
        assert self._process is not None
        go_on(self._process.pid)

    def stop(self) -> None:
        if self._process is not None:
            self.kill()


def three(directory: Path) -> list[EtcdServer]:
    members = [EtcdServer(directory, f"m{n}") for n in range(3)]
    cluster = ",".join(f"{each.name}={each.peer}" for each in members)
    for each in members:
        each.cluster = cluster
        each.start(wait=False)
    for each in members:
        each.wait()
    return members


def _version() -> str:
    return subprocess.run(["etcd", "--version"], capture_output=True, check=True, text=True).stdout


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port)).close()
    except OSError:
        return False
    return True


def _wait(condition: object) -> None:
    assert callable(condition)
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "etcd does not come up"
        time.sleep(0.05)
