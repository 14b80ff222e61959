import json
import signal
from pathlib import Path

from tests.cli.programs import Terminal, World, eventually

import waypost
from waypost.client.blocking import BlockingRegistry


def register(registry: BlockingRegistry, service: str, instance_id: str) -> None:
    registry.register(service, id=instance_id, host="10.0.0.1", port=8000, ttl=0)


def test_a_snapshot_comes_first_and_then_every_change_in_order(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    register(registry, "orders", "o1")
    register(registry, "elsewhere", "e1")
    with world.running("watch", "orders", server=server) as watch:
        snapshot = watch.line()
        register(registry, "orders", "o2")
        register(registry, "elsewhere", "e2")
        registry.drain("orders", "o2")
        registry.deregister("orders", "o2")
        events = [watch.line() for _ in range(3)]

    assert set(snapshot) == {"event", "service", "revision", "source", "instances"}
    assert (snapshot["event"], snapshot["service"]) == ("snapshot", "orders")
    assert [instance["id"] for instance in snapshot["instances"]] == ["o1"]
    assert [event["event"] for event in events] == ["up", "changed", "down"]
    assert [event["instance"]["id"] for event in events] == ["o2"] * 3
    assert [event["instance"]["health"] for event in events] == ["passing", "draining", "draining"]
    assert events[2]["instance"]["why"] == "deregistered"
    revisions = [event["revision"] for event in events]
    assert snapshot["revision"] < revisions[0] < revisions[1] < revisions[2]


def test_a_service_that_is_not_there_yet_can_be_waited_for(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    with world.running("watch", "future", server=server) as watch:
        assert watch.line()["instances"] == []
        register(registry, "future", "f1")
        assert watch.line()["event"] == "up"


def test_without_a_name_every_service_is_followed(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    with world.running("watch", server=server) as watch:
        assert watch.line()["service"] == ""
        register(registry, "every-one", "e1")
        register(registry, "every-two", "e2")
        events = [watch.line(), watch.line()]

    assert [e["instance"]["service"] for e in events] == ["every-one", "every-two"]


def test_a_restart_of_the_registry_shows_only_on_stderr(world: World, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with world.serving("--data-dir", data) as registry:
        server = registry.native
        with waypost.connect(server, cache_dir=None) as client:
            register(client, "kept", "k1")
        with world.running("watch", "kept", server=server) as watch:
            assert [i["id"] for i in watch.line()["instances"]] == ["k1"]
            registry.send(signal.SIGKILL)
            registry.finish()
            watch.wait_for_error("lost the registry")
            port = server.rpartition(":")[2]
            with world.serving("--data-dir", data, "--port", port, "--http-port", "0"):
                with waypost.connect(server, cache_dir=None) as client:
                    register(client, "kept", "k2")

                assert watch.line()["instance"]["id"] == "k2"


def test_without_a_registry_it_ends_with_3(world: World) -> None:
    refused = world.run("watch", "orders", server="127.0.0.1:1")

    assert refused.code == 3
    assert refused.out == ""


def test_when_nobody_reads_on_it_ends_quietly_and_at_once(world: World, server: str) -> None:
    with world.running("watch", "unread", server=server) as watch:
        watch.line()
        assert watch.process.stdout is not None
        watch.process.stdout.close()

        assert watch.process.wait(20) == 141
        assert watch.process.stderr is not None
        assert watch.process.stderr.read() == b""


def test_an_interrupted_watch_is_130(world: World, server: str) -> None:
    with world.running("watch", "interrupted", server=server) as watch:
        watch.line()
        watch.send(signal.SIGINT)
        ended = watch.finish()

    assert ended.code == 130
    assert ended.err.strip() == ""


def test_on_a_terminal_a_person_reads_a_table_and_a_line_per_change(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    register(registry, "shown", "s1")

    def act(terminal: Terminal) -> None:
        terminal.wait_for("revision")
        register(registry, "shown", "s2")
        terminal.wait_for("shown/s2")
        registry.deregister("shown", "s2")
        terminal.wait_for("deregistered")
        terminal.process.send_signal(signal.SIGINT)

    shown = world.on_a_terminal("watch", "shown", server=server, then=act)

    assert shown.code == 130
    lines = shown.out.splitlines()
    assert lines[0].split()[:3] == ["ID", "ADDRESS", "HEALTH"]
    assert lines[2].split() == ["s1", "10.0.0.1:8000", "passing"]
    assert [line.split()[1:] for line in lines[4:6]] == [
        ["+", "up", "shown/s2", "10.0.0.1:8000", "passing"],
        ["-", "down", "shown/s2", "10.0.0.1:8000", "deregistered"],
    ]


# --exec


def states(file: Path) -> list[list[str]]:
    """The ids that each run of the command was told."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [[i["id"] for i in json.loads(line)["instances"]] for line in lines]


def test_a_command_is_run_with_the_state_at_first_and_after_each_change(
    world: World, server: str, registry: BlockingRegistry, tmp_path: Path
) -> None:
    out, name = tmp_path / "out", tmp_path / "name"
    command = f'cat >> {out}; echo "$WAYPOST_SERVICE" > {name}'
    with world.running("watch", "hooked", "--exec", command, server=server) as watch:
        eventually(lambda: states(out) == [[]], "for the first run")
        register(registry, "hooked", "h1")
        eventually(lambda: states(out) == [[], ["h1"]], "for the second run")
        ended = watch.stop()

    assert name.read_text().strip() == "hooked"
    assert ended.out == ""
    (last,) = out.read_text().splitlines()[1:]
    assert set(json.loads(last)) == {"service", "revision", "source", "instances"}


def test_changes_that_come_together_or_while_it_runs_are_one_run(
    world: World, server: str, registry: BlockingRegistry, tmp_path: Path
) -> None:
    out, gate = tmp_path / "out", tmp_path / "gate"
    command = f"cat >> {out}; until [ -e {gate} ]; do sleep 0.05; done"
    with world.running("watch", "burst", "--exec", command, server=server):
        eventually(lambda: states(out) == [[]], "for the first run")
        for number in range(10):
            register(registry, "burst", f"b{number}")
        gate.touch()
        everybody = [f"b{number}" for number in range(10)]
        eventually(lambda: everybody in states(out), "for the run after the burst")

    assert states(out) == [[], everybody]


def test_a_command_that_fails_is_told_and_run_again(
    world: World, server: str, registry: BlockingRegistry, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = f"cat >> {out}; exit 9"
    with world.running("watch", "failing", "--exec", command, server=server) as watch:
        watch.wait_for_error("ended with 9")
        register(registry, "failing", "f1")
        eventually(lambda: states(out) == [[], ["f1"]], "for the second run")


def test_a_command_that_does_not_read_its_input_is_no_trouble(
    world: World, server: str, registry: BlockingRegistry, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = f"echo ran >> {out}"
    with world.running("watch", "deaf", "--exec", command, "--json", server=server) as watch:
        assert watch.line()["event"] == "snapshot"
        eventually(out.exists, "for the first run")
        register(registry, "deaf", "d1")
        assert watch.line()["event"] == "up"
        eventually(lambda: len(out.read_text().splitlines()) == 2, "for the second run")
