import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.programs import Running, Terminal, World, eventually, relatives

from waypost.cli.demo.cast import Actor
from waypost.cli.demo.doors_story import missing_clients
from waypost.cli.demo.ledger import trouble_in
from waypost.cli.demo.sightings import Sightings
from waypost.cli.demo.stage import Stage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.env["TMPDIR"] = str(tmp_path)
    return world


def wait_for_line(demo: Running, text: str) -> str:
    while text not in (line := demo.text_line()):
        pass
    return line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "measured"),
    [
        (["demo"], "instances lost by its death"),
        (["demo", "cluster"], "raft to paxos: the pause"),
        (["demo", "doors"], "a drain: seen first, last"),
    ],
)
def test_every_claim_of_the_demo_holds_and_it_leaves_nothing_behind(
    world: World, tmp_path: Path, arguments: list[str], measured: str
) -> None:
    done = world.run(*arguments, timeout=100)

    assert done.code == 0, done
    assert done.err == ""
    assert "\x1b" not in done.out
    assert "NOT SO" not in done.out
    held = re.search(r"(\d+) of (\d+) claims held", done.out)
    assert held is not None
    assert held[1] == held[2]
    assert int(held[1]) >= 10
    assert measured in done.out
    assert relatives(world) == {}
    assert list(tmp_path.glob("waypost-demo-*")) == []


@pytest.mark.slow
def test_on_a_terminal_the_shares_move(world: World) -> None:
    def look(terminal: Terminal) -> None:
        terminal.wait_for("━━━━")
        terminal.wait_for("2. kill -9")
        terminal.process.send_signal(signal.SIGINT)

    assert world.on_a_terminal("demo", then=look).code == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("arguments", "line"), [(["demo"], "hello-"), (["demo", "doors"], "3. ")])
def test_an_interrupted_demo_leaves_nothing_behind(
    world: World, tmp_path: Path, number: int, arguments: list[str], line: str
) -> None:
    with world.running(*arguments) as demo:
        wait_for_line(demo, line)
        assert len(relatives(world)) >= 3
        demo.send(number)
        ended = demo.finish()

    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert relatives(world) == {}
    assert list(tmp_path.glob("waypost-demo-*")) == []


@pytest.mark.slow
def test_a_demo_of_a_cluster_that_loses_its_majority_does_not_pass(world: World) -> None:
    with world.running("demo", "cluster") as demo:
        wait_for_line(demo, "two providers")
        members = [pid for pid, command in relatives(world).items() if " serve " in command]
        for pid in sorted(members)[:2]:
            os.kill(pid, signal.SIGKILL)
        ended = demo.finish(90)

    assert ended.code == 5
    assert "the demo stopped" in ended.err
    assert relatives(world) == {}


@pytest.mark.slow
def test_a_demo_of_the_doors_does_not_pass_when_one_of_them_does_not_see_a_change(
    world: World,
) -> None:
    with world.running("demo", "doors") as demo:
        wait_for_line(demo, "6. kill -9")
        (client,) = [pid for pid, what in relatives(world).items() if "door_clients dns " in what]
        wait_for_line(demo, "7. All come back")
        os.kill(client, signal.SIGKILL)
        ended = demo.finish(60)

    assert ended.code == 5, ended
    assert "NOT SO  every door shows all three (after 15 s DNS shows by-consul)" in ended.out
    assert relatives(world) == {}


@pytest.mark.slow
def test_a_demo_of_the_doors_stops_when_its_registry_does(world: World) -> None:
    with world.running("demo", "doors") as demo:
        wait_for_line(demo, "4. The check")
        (registry,) = [pid for pid, what in relatives(world).items() if " serve " in what]
        wait_for_line(demo, "5. by-eureka is drained")
        os.kill(registry, signal.SIGKILL)
        ended = demo.finish(90)

    assert ended.code == 5, ended
    assert "NOT SO" in ended.out or "the demo stopped" in ended.err
    assert relatives(world) == {}


def test_what_a_client_saw_is_counted_from_the_change_and_only_while_it_sees_it() -> None:
    told = '{"sees": ["h:1"]}\n{"sees": ["h:2"]}\n{"sees": ["h:1", "h:2"]}\n'
    process = subprocess.Popen(
        [sys.executable, "-c", f"print({told!r}, end='')"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        actor = Actor("client", process)
        actor.said = {"sees": []}
        began = time.monotonic()
        seen = Sightings(actor, {"h:1": "one", "h:2": "two"})
        eventually(lambda: len(seen.now) == 2, "for all that it says")

    at = seen.first(frozenset({"one", "two"}), began)
    assert at is not None
    assert at > began
    assert seen.first(frozenset({"one", "two"}), at + 1) == at + 1
    assert seen.first(frozenset({"one"}), began) is None
    assert seen.first(frozenset(), began) is None


def test_a_client_that_is_not_installed_is_asked_for_once() -> None:
    assert missing_clients() == ""
    packages = {"click": "click", "no-such-client": "'it[all]'", "nor-this-one": "'it[all]'"}
    assert missing_clients(packages) == "'it[all]'"


def test_a_watcher_that_is_told_twice_or_not_at_all_is_found_out() -> None:
    acknowledged = {"a": 1, "b": 2, "c": 3}

    assert trouble_in([(1, "a"), (2, "b"), (3, "c")], acknowledged) == ""
    assert trouble_in([(1, "a"), (2, "b"), (2, "b"), (3, "c")], acknowledged) == "1 twice"
    assert trouble_in([(1, "a"), (3, "c")], acknowledged) == "1 never"
    assert trouble_in([(2, "b"), (1, "a"), (3, "c")], acknowledged) == "out of order"
    assert "another revision" in trouble_in([(1, "a"), (2, "b"), (4, "c")], acknowledged)


@pytest.mark.slow
def test_a_demo_that_goes_wrong_says_so_and_does_not_pass(world: World) -> None:
    with world.running("demo") as demo:
        wait_for_line(demo, "hello-")
        eventually(lambda: len(relatives(world)) >= 4, "for both providers")
        (registry,) = [pid for pid, command in relatives(world).items() if " serve " in command]
        os.kill(registry, signal.SIGKILL)
        ended = demo.finish(60)

    assert ended.code == 5
    assert "NOT SO" in ended.out or "the demo stopped" in ended.err
    assert relatives(world) == {}


def test_a_claim_that_does_not_hold_is_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage()
    stage.claim("the sky is blue", True)
    stage.claim("the moon is near", False, "measured 384400 km")
    stage.end(1.0, "and so on")

    shown = capsys.readouterr().out
    assert stage.broken == ["the moon is near (measured 384400 km)"]
    assert "ok  the sky is blue" in shown
    assert "1 of 2 claims held" in shown
