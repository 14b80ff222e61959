"""Programs that the tests start, kill and start again."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path


class RegistryProcess:
    """``waypost serve`` in a process of its own."""

    def __init__(self, data_dir: Path | None = None) -> None:
        self._data_dir = data_dir
        self._port = "0"
        self.process: subprocess.Popen[str]
        self.native = ""

    def start(self) -> "RegistryProcess":
        """Start it, on the port that it had before if it ran before."""
        data = ["--data-dir", str(self._data_dir)] if self._data_dir else []
        command = [sys.executable, "-m", "waypost", "serve", "--port", self._port]
        self.process = subprocess.Popen(
            [*command, "--http-port", "0", "--dns-port", "0", *data],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the registry did not start"
        self.native = json.loads(line)["native"]
        self._port = self.native.rsplit(":", 1)[1]
        return self

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.native.rsplit(":", 1)
        return host, int(port)

    def kill(self) -> None:
        """SIGKILL it."""
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        """SIGTERM it; returns its exit code."""
        self.process.terminate()
        return self._reap()

    def _reap(self) -> int:
        code = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


PROVIDER = """
import sys, time, waypost
with waypost.connect(sys.argv[1]) as registry:
    with registry.register(sys.argv[2], port=9000, host="127.0.0.1", id=sys.argv[3],
                           ttl=float(sys.argv[4]), grace=float(sys.argv[5])):
        print("registered", flush=True)
        time.sleep(3600)
"""


class ProviderProcess:
    """A provider, by the client library, in a process of its own."""

    def __init__(
        self, registry: str, service: str, instance_id: str, *, ttl: float = 10, grace: float = 2
    ) -> None:
        self.id = instance_id
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROVIDER, registry, service, instance_id, str(ttl), str(grace)],
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_registered(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "registered\n"

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
