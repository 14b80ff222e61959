"""Servers to measure: ours and etcd, each with its data on the same disk, fsync on."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator

from waypost.cli.demo.ports import free_ports

PYTHON = sys.executable
ANY_PORTS = ("--port", "0", "--http-port", "0", "--dns-port", "0")


class Ours:
    def __init__(self, process: "subprocess.Popen[str]", ready: dict[str, str]) -> None:
        self.process = process
        self.native = ready["native"]
        self.http = ready["http"]
        self.dns = ready["dns"]

    @property
    def native_address(self) -> tuple[str, int]:
        host, port = self.native.rsplit(":", 1)
        return host, int(port)

    def bench(self, *arguments: str) -> dict[str, float]:
        """One line of ``waypost bench``, from a process of its own."""
        command = [PYTHON, "-m", "waypost", "bench", *arguments, "--json", "--server", self.native]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
        return json.loads(done.stdout)


@contextlib.contextmanager
def ours(*arguments: str, data_dir: str | None = None) -> Iterator[Ours]:
    """A registry of ours: durable, in a process of its own."""
    with contextlib.ExitStack() as stack:
        directory = data_dir or stack.enter_context(tempfile.TemporaryDirectory(dir=_disk()))
        process = subprocess.Popen(
            [PYTHON, "-m", "waypost", "serve", "--data-dir", directory, *ANY_PORTS, *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(_end, process)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the registry did not start; its standard error says why")
        yield Ours(process, json.loads(line))


@contextlib.contextmanager
def etcd() -> Iterator[str]:
    """An etcd of one member; yields its client address."""
    client, peer = free_ports(2)
    with tempfile.TemporaryDirectory(dir=_disk()) as directory:
        process = subprocess.Popen(
            [
                "etcd",
                f"--data-dir={directory}/data",
                f"--listen-client-urls=http://127.0.0.1:{client}",
                f"--advertise-client-urls=http://127.0.0.1:{client}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-cluster=default=http://127.0.0.1:{peer}",
                "--log-level=error",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(100):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{client}/health", timeout=1).read()
                    break
                time.sleep(0.1)
            yield f"127.0.0.1:{client}"
        finally:
            _end(process)


def etcd_version() -> str:
    """The version line of the installed etcd; empty if there is none."""
    if not shutil.which("etcd") or not shutil.which("wrk"):
        return ""
    command = ["etcd", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.partition("\n")[0]


def _disk() -> str | None:
    """Where data goes: a real disk, not a tmpfs (set WAYPOST_BENCH_DIR to choose)."""
    return os.environ.get("WAYPOST_BENCH_DIR") or None


def _end(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
