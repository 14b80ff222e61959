"""Three members are killed, and one or two of them begin again."""

import asyncio
import json
import shutil
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.programs import Running, Terminal, World, eventually

import waypost
from waypost.errors import Unavailable
from waypost.node.inspection import inspect_directory

pytestmark = pytest.mark.slow
NAMES = ("a", "b", "c")


class Trio:
    """Three machines of one ``--cluster`` line."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.directory = directory
        with ExitStack() as stack:
            probes = [stack.enter_context(socket.socket()) for _ in NAMES]
            for probe in probes:
                probe.bind(("127.0.0.1", 0))
            ports = [probe.getsockname()[1] for probe in probes]
        self.addresses = {n: f"127.0.0.1:{p}" for n, p in zip(NAMES, ports, strict=True)}

    def data(self, name: str) -> str:
        return str(self.directory / name)

    @contextmanager
    def serving(self, *names: str) -> Iterator[dict[str, Running]]:
        """Run some of them; they are killed at the end of the block."""
        line = ",".join(f"{name}={at}" for name, at in self.addresses.items())
        with ExitStack() as stack:
            running: dict[str, Running] = {}
            for name in names:
                port = self.addresses[name].rpartition(":")[2]
                arguments = ["serve", "--name", name, "--data-dir", self.data(name)]
                arguments += [
                    "--port",
                    port,
                    "--http-port",
                    "0",
                    "--dns-port",
                    "0",
                    "--cluster",
                    line,
                ]
                running[name] = stack.enter_context(self.world.running(*arguments))
            for each in running.values():
                each.ready = each.line()
            yield running
            for each in running.values():
                each.process.kill()

    def wait_until_all_hold_all(self) -> None:
        """A majority acknowledges; the third member may hold it a moment later."""

        def is_so() -> bool:
            told = [inspect_directory(self.directory / name).directory for name in NAMES]
            return len({each.last for each in told}) == 1

        eventually(is_so, "for every member to hold the whole log")

    def recover(self, *names: str, agreed: bool = True) -> Any:
        flag = ["--accept-data-loss"] if agreed else []
        return self.world.run("cluster", "recover", *map(self.data, names), *flag, "--json")


@pytest.fixture
def trio(world: World, tmp_path: Path) -> Trio:
    """Three members that were killed with six instances registered."""
    trio = Trio(world, tmp_path)
    with trio.serving(*NAMES):
        register(trio, 6)
        trio.wait_until_all_hold_all()
    return trio


def register(trio: Trio, count: int) -> None:
    async def run() -> None:
        address = ",".join(trio.addresses.values())
        async with waypost.connect(address, timeout=20, cache_dir=None) as registry:
            for n in range(count):
                await registry.register("web", id=f"w{n}", host="10.0.0.1", port=80, ttl=0)

    asyncio.run(run())


def status(running: Running) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{running.ready['http']}/api/v1/status") as answer:
        return dict(json.loads(answer.read()))


def led(running: Running) -> dict[str, Any]:
    """Its status once it has a leader."""
    until = time.monotonic() + 15
    while not (told := status(running))["leader"]:
        assert time.monotonic() < until, told
        time.sleep(0.05)
    return told


def test_a_single_survivor_goes_on_with_all_that_it_holds_and_takes_writes(trio: Trio) -> None:
    done = trio.recover("b")

    assert done.code == 0
    assert (done.json["written"], done.json["needed"]) == (True, True)
    assert done.json["members"] == ["b"]
    with trio.serving("b") as running:
        told = led(running["b"])
        assert (told["leader"], told["epoch"]) == ("b", done.json["epoch"])
        assert told["cluster"] == done.json["lineage"]  # so that clients forget what they saw
        assert status(running["b"])["instances"] == 6
        register(trio, 7)
        assert status(running["b"])["instances"] == 7


def test_without_an_agreement_nothing_is_written(trio: Trio) -> None:
    before = {p.name: p.read_bytes() for p in (trio.directory / "b").iterdir()}

    done = trio.recover("b", agreed=False)

    assert done.code == 5
    assert done.json["written"] is False
    assert any("Lost:" in each for each in done.json["warnings"])
    assert {p.name: p.read_bytes() for p in (trio.directory / "b").iterdir()} == before


def test_the_freshest_of_two_survivors_leads_the_way_and_who_is_behind_stays_out(
    trio: Trio,
) -> None:
    old = trio.directory / "old"
    shutil.copytree(trio.data("c"), old)
    with trio.serving(*NAMES):
        register(trio, 9)
        trio.wait_until_all_hold_all()
    shutil.rmtree(trio.data("c"))
    old.rename(trio.data("c"))

    done = trio.recover("b", "c")

    told = {each["node"]: each for each in done.json["directories"]}
    assert (told["b"]["member"], told["c"]["member"]) == (True, False)
    assert "--join" in told["c"]["why"]
    with trio.serving("b") as running:
        led(running["b"])
        assert status(running["b"])["instances"] == 9


def test_a_survivor_of_the_old_history_is_not_taken_into_the_new_one(trio: Trio) -> None:
    trio.recover("b")

    with trio.serving(*NAMES) as running:
        assert led(running["b"])["members"] == ["b"]
        assert led(running["a"])["leader"] in ("a", "c")  # a majority of the old history
        trio.addresses = {"b": trio.addresses["b"]}
        register(trio, 8)
        told = {name: status(each) for name, each in running.items()}
    assert told["b"]["instances"] == 8
    assert told["a"]["instances"] == told["c"]["instances"] == 6


def test_a_directory_in_use_and_one_of_another_cluster_are_refused(
    trio: Trio, world: World, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    with world.serving("--data-dir", str(other)) as registry:
        in_use = world.run("cluster", "recover", str(other), "--accept-data-loss")
        registry.stop()

    mixed = world.run("cluster", "recover", trio.data("a"), str(other), "--accept-data-loss")

    assert (in_use.code, mixed.code) == (64, 64)
    assert "stop every node" in in_use.err
    assert "clusters" in mixed.err


def test_two_thirds_are_told_that_they_need_no_recovery(trio: Trio) -> None:
    done = trio.recover("a", "b", agreed=False)

    assert done.json["needed"] is False
    assert any("start them" in each for each in done.json["warnings"])


@pytest.mark.parametrize(("typed", "code"), [("n", 5), ("y", 0)])
def test_people_see_what_each_holds_and_are_asked(trio: Trio, typed: str, code: int) -> None:
    def answer(terminal: Terminal) -> None:
        terminal.wait_for("Write this")
        terminal.type(f"{typed}\n")

    shown = trio.world.on_a_terminal("cluster", "recover", trio.data("a"), then=answer)

    assert shown.code == code
    assert "6 instances" in " ".join(shown.out.split())
    assert ("Nothing was changed" in shown.out) == (code != 0)


def test_an_unreachable_cluster_stays_so_until_it_is_recovered(trio: Trio) -> None:
    with trio.serving("b"), pytest.raises(Unavailable):

        async def run() -> None:
            async with waypost.connect(trio.addresses["b"], timeout=1, cache_dir=None) as registry:
                await registry.register("web", id="x", host="10.0.0.1", port=80, ttl=0)

        asyncio.run(run())
