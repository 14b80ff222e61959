"""Real clients of Eureka, as processes that register themselves and tell what they see."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.doors.cached import cached
from tests.doors.program import Program
from tests.processes.cluster import ClusterProcesses

HERE = Path(__file__).parent
JS = ("eureka-js-client@4.5.0",)
OPENED = ("java.lang", "java.lang.reflect", "java.text", "java.util")
"""What its XStream looks into."""


class Client(Program):
    """One of them."""

    def __init__(self, directory: Path, command: Sequence[str]) -> None:
        super().__init__(directory, command, talks=True)

    def say(self, line: str) -> Any:
        """Have it do something; returns what it answers."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the client ended: {self.log()}"
        return json.loads(answer)

    def see(self, app: str) -> dict[str, str]:
        """The instances of an application that it knows, and their statuses."""
        found: dict[str, str] = self.say(f"see {app}")
        return found

    def leave(self) -> None:
        """End it as it wants to end."""
        assert self.process.stdin is not None
        self.process.stdin.write("leave\n")
        self.process.stdin.flush()
        assert self.process.wait(20) == 0, self.log()


def servers(cluster: ClusterProcesses, first: str = "a", root: str = "/eureka") -> str:
    """All nodes, one of them first."""
    nodes = sorted(cluster.nodes.values(), key=lambda node: node.name != first)
    return ",".join(f"http://{node.http}{root}" for node in nodes)


def python_client(directory: Path, *arguments: str) -> Client:
    """``py-eureka-client``, of this environment."""
    return Client(directory, [sys.executable, str(HERE / "py_client.py"), *arguments])


def js_client(directory: Path, *arguments: str) -> Client:
    """``eureka-js-client``."""
    node, npm = shutil.which("node"), shutil.which("npm")
    assert node is not None, "Node.js is not installed: apt-get install nodejs"
    assert npm is not None, "npm is not installed: apt-get install npm"

    def install(place: Path) -> None:
        (place / "package.json").write_text('{"private": true}')
        command = [npm, "install", "--no-audit", "--no-fund", "--silent", *JS]
        subprocess.run(command, cwd=place, check=True, timeout=100)

    directory.mkdir(exist_ok=True)
    program = directory / "js_client.js"
    shutil.copy(HERE / "js_client.js", program)
    (directory / "node_modules").symlink_to(cached(JS, install) / "node_modules")
    return Client(directory, [node, str(program), *arguments])


def java_client(directory: Path, *arguments: str) -> Client:
    """Netflix's own, that of Spring Cloud."""
    java, javac, mvn = shutil.which("java"), shutil.which("javac"), shutil.which("mvn")
    assert java is not None, "Java is not installed: apt-get install default-jdk-headless"
    assert javac is not None, "its compiler is not: apt-get install default-jdk-headless"
    assert mvn is not None, "Maven is not installed: apt-get install maven"
    program, pom = HERE / "JavaClient.java", HERE / "pom.xml"

    def install(place: Path) -> None:
        shutil.copy(pom, place)
        fetch = [mvn, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={place}"]
        subprocess.run(fetch, cwd=place, check=True, timeout=100)
        subprocess.run([javac, "-cp", f"{place}/*", "-d", place, program], check=True, timeout=60)

    place = cached((pom.read_text(), program.read_text()), install)
    opened = [word for each in OPENED for word in ("--add-opens", f"java.base/{each}=ALL-UNNAMED")]
    small = ["-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    return Client(
        directory, [java, *small, *opened, "-cp", f"{place}/*:{place}", "JavaClient", *arguments]
    )
