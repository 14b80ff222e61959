"""A network that can be cut: one namespace for each machine, joined by a bridge in this one.

What is cut is lost without a word, as between real machines: no reset, no refusal, and what was
sent before is sent again by TCP when it is mended.

``enter`` runs a program in a network namespace of its own first, so that nothing of this is left
when it ends, and root is only needed where user namespaces are not allowed.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

BRIDGE: Final = "hub"
INSIDE: Final = "WAYPOST_TEST_NETWORK"
"""Set where the network is this program's own."""
PORT: Final = 8300


class Network:
    """Machines and the wires between them."""

    def __init__(self, names: Sequence[str]) -> None:
        assert self.is_own(), "this would change the machine's own network: enter() first"
        self.hosts = {name: f"10.77.0.{number}" for number, name in enumerate(names, 1)}
        self._holders: dict[str, subprocess.Popen[bytes]] = {}
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        _run("ip", "addr", "add", "10.77.0.254/24", "dev", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")
        for name, host in self.hosts.items():
            holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
            self._holders[name] = holder
            while os.readlink(f"/proc/{holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
                assert holder.poll() is None, f"no network namespace for {name}"
            wire = f"wire-{name}"
            _run(
                "ip",
                "link",
                "add",
                wire,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                str(holder.pid),
            )
            _run("ip", "link", "set", wire, "master", BRIDGE, "up")
            _run(*self.at(name), "ip", "link", "set", "lo", "up")
            _run(*self.at(name), "ip", "addr", "add", f"{host}/24", "dev", "eth0")
            _run(*self.at(name), "ip", "link", "set", "eth0", "up")

    @staticmethod
    def is_own() -> bool:
        """Whether the network that this program sees is its own."""
        return INSIDE in os.environ

    def at(self, name: str) -> list[str]:
        """What to put before a command so that it runs on that machine."""
        return ["nsenter", f"--net=/proc/{self._holders[name].pid}/ns/net"]

    def cut(self, name: str) -> None:
        """No other machine reaches this one, nor it them; who is no machine still does."""
        for other in self.hosts:
            if other != name:
                self.cut_one_way(name, other)
                self.cut_one_way(other, name)

    def cut_one_way(self, name: str, other: str) -> None:
        """Nothing that ``name`` sends reaches ``other``."""
        _run(*self.at(name), "ip", "route", "add", "blackhole", f"{self.hosts[other]}/32")

    def mend(self, name: str) -> None:
        """Undo ``cut``."""
        for other in self.hosts:
            if other != name:
                for a, b in ((name, other), (other, name)):
                    _run(*self.at(a), "ip", "route", "del", "blackhole", f"{self.hosts[b]}/32")

    def unplug(self, name: str) -> None:
        """Nobody at all reaches this one."""
        _run("ip", "link", "set", f"wire-{name}", "down")

    def plug(self, name: str) -> None:
        """Undo ``unplug``."""
        _run("ip", "link", "set", f"wire-{name}", "up")

    def close(self) -> None:
        """End what keeps the namespaces."""
        for holder in self._holders.values():
            holder.kill()
            holder.wait()


def enter(module: str, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run a module in a network namespace of its own; raises if there can be none."""
    missing = [tool for tool in ("ip", "unshare", "nsenter") if shutil.which(tool) is None]
    if missing:
        raise RuntimeError(f"{', '.join(missing)} missing: apt-get install iproute2 util-linux")
    ways = [["unshare", "--net"], ["unshare", "--user", "--map-root-user", "--net"]]
    possible = [way for way in ways if not subprocess.run([*way, "true"], check=False).returncode]
    if not possible:
        raise RuntimeError("no network namespace can be made here: run it as root")
    return subprocess.run(
        [*possible[0], sys.executable, "-m", module, *arguments],
        env={**os.environ, INSIDE: "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
