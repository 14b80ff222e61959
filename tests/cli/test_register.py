import json
import os
import signal
import socket
import sys
import textwrap
from pathlib import Path

import pytest
from tests.cli.programs import World, eventually, is_alive

import waypost
from waypost.client.blocking import BlockingRegistry

PROGRAM = """
    import json, os, signal, socket, sys, time

    port, report, behaviour = int(sys.argv[1]), sys.argv[2], sys.argv[3]

    def told(*_):
        import waypost
        with waypost.connect(cache_dir=None) as registry:
            (record,) = registry.resolve(os.environ["WAYPOST_SERVICE"], health="any").records
        with open(report, "a") as file:
            print(record.health, file=file)
        if behaviour != "stubborn":
            os._exit(7)

    signal.signal(signal.SIGTERM, told)
    signal.signal(signal.SIGINT, told)
    time.sleep(0.3)
    listener = socket.create_server(("127.0.0.1", port))
    with open(report, "a") as file:
        print("listening", os.getpid(), os.getpgrp(), file=file)
    if behaviour == "brief":
        listener.accept()[0].close()
        time.sleep(1.0)
        os._exit(5)
    while True:
        try:
            listener.accept()[0].close()
        except InterruptedError:
            pass
"""


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Program:
    """A program to stand in for: it says in a file what happens to it."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self.script = directory / "program.py"
        self.script.write_text(textwrap.dedent(PROGRAM))
        self.report = directory / "report"

    def arguments(self, name: str, behaviour: str = "polite") -> list[str]:
        command = [sys.executable, str(self.script), str(self.port), str(self.report), behaviour]
        return ["register", name, "--id", "p1", "--port", str(self.port), "--", *command]

    def said(self) -> list[list[str]]:
        text = self.report.read_text() if self.report.exists() else ""
        return [line.split() for line in text.splitlines()]

    @property
    def pid(self) -> int:
        return int(self.said()[0][1])


@pytest.fixture
def program(tmp_path: Path, port: int) -> Program:
    return Program(tmp_path, port)


def ids(registry: BlockingRegistry, service: str) -> list[str]:
    return [record.instance.id for record in registry.resolve(service, health="any").records]


# Without a program


def test_it_stays_registered_until_it_is_told_to_stop(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    options = ("--port", "8000", "--host", "10.0.0.1", "--zone", "a", "--version", "1.2")
    more = ("--tag", "x", "--tag", "y", "--meta", "k=v=w", "--weight", "2.5", "--id", "w1")
    with world.running("register", "web", *options, *more, server=server) as provider:
        registered = provider.line()
        (record,) = registry.resolve("web").records
        ended = provider.stop()

    assert registered["event"] == "registered"
    assert (registered["service"], registered["id"]) == ("web", "w1")
    instance = record.instance
    assert (instance.host, instance.port, instance.weight) == ("10.0.0.1", 8000, 2.5)
    assert (instance.zone, instance.version) == ("a", "1.2")
    assert (instance.tags, instance.meta) == (("x", "y"), {"k": "v=w"})
    assert ended.code == 0
    assert [json.loads(line)["event"] for line in ended.out.splitlines()] == [
        "drained",
        "deregistered",
    ]
    assert ids(registry, "web") == []


def test_an_interrupted_one_deregisters_too(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    with world.running("register", "inter", "--port", "8000", server=server) as provider:
        provider.line()
        provider.send(signal.SIGINT)

        assert provider.finish().code == 0
    assert ids(registry, "inter") == []


def test_that_nobody_reads_what_it_says_does_not_end_it(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    with world.running("register", "mute", "--port", "8000", server=server) as provider:
        assert provider.process.stdout is not None
        provider.process.stdout.close()
        eventually(lambda: len(ids(registry, "mute")) == 1, "for it to be registered")
        provider.send(signal.SIGTERM)

        assert provider.process.wait(20) == 0
    assert ids(registry, "mute") == []


def test_a_killed_one_leaves_resolution_at_once(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    registry.register("pair", id="stays", host="10.0.0.2", port=1, ttl=0)
    with world.running("register", "pair", "--port", "8000", server=server) as provider:
        provider.line()
        provider.send(signal.SIGKILL)
        provider.finish()

        eventually(
            lambda: [i.id for i in registry.resolve("pair").instances] == ["stays"],
            "for the killed one to leave",
        )


def test_a_permanent_one_stays_when_the_command_has_returned(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    done = world.run(
        "register", "perm", "--port", "5432", "--ttl", "0", "--id", "d1", server=server
    )

    assert done.code == 0
    assert done.json["event"] == "registered"
    assert ids(registry, "perm") == ["d1"]


def test_on_a_terminal_it_speaks_in_words(world: World, server: str) -> None:
    arguments = (
        "register",
        "words",
        "--port",
        "1",
        "--host",
        "10.0.0.1",
        "--id",
        "w",
        "--ttl",
        "0",
    )

    done = world.on_a_terminal(*arguments, server=server)

    assert done.out.startswith("Registered words/w at 10.0.0.1:1")


def test_without_a_registry_it_says_so_and_ends(world: World) -> None:
    refused = world.run("register", "web", "--port", "8000", server="127.0.0.1:1")

    assert refused.code == 3
    assert "127.0.0.1:1" in refused.err
    assert "waypost serve" in refused.err


def test_one_whose_id_was_taken_over_stands_down_when_it_hears_of_it(
    world: World, tmp_path: Path
) -> None:
    arguments = ("register", "sup", "--port", "8000", "--host", "10.0.0.1", "--id", "s1")
    data = str(tmp_path / "data")
    with world.serving("--data-dir", data) as registry:
        server = registry.native
        with (
            world.running(*arguments, server=server) as older,
            world.running(*arguments, server=server) as newer,
        ):
            lives = {running: running.line()["incarnation"] for running in (older, newer)}
            loser, winner = sorted(lives, key=lambda running: lives[running])
            registry.send(signal.SIGKILL)  # both say on the next connection which life they are
            registry.finish()
            with world.serving(
                "--data-dir", data, "--port", server.rpartition(":")[2], "--http-port", "0"
            ):
                stood_down = loser.finish()

                assert stood_down.code == 4
                assert "newer than" in stood_down.err
                assert winner.process.poll() is None
                assert winner.stop().code == 0


def test_it_comes_back_by_itself_when_the_registry_was_killed(world: World, tmp_path: Path) -> None:
    with world.serving() as registry:  # in memory: it forgets everybody
        server = registry.native
        arguments = ("register", "back", "--port", "8000", "--host", "10.0.0.1", "--id", "b1")
        with world.running(*arguments, server=server) as provider:
            provider.line()
            registry.send(signal.SIGKILL)
            registry.finish()
            provider.wait_for_error("lost the registry")
            native = server.rpartition(":")[2]
            with (
                world.serving("--port", native, "--http-port", "0"),
                waypost.connect(server, cache_dir=None) as client,
            ):
                eventually(lambda: ids(client, "back") == ["b1"], "for it to come back")

                assert provider.stop().code == 0
                assert ids(client, "back") == []


# With a program


def test_a_program_is_registered_once_it_accepts_connections(
    world: World, server: str, registry: BlockingRegistry, program: Program
) -> None:
    with (
        registry.watch("prog") as watch,
        world.running(*program.arguments("prog"), server=server) as provider,
    ):
        change = next(watch)
        seen = [line[0] for line in program.said()]
        ended = provider.stop()

    assert change.kind == "up"
    assert change.record.instance.port == program.port
    assert seen == ["listening"]
    assert "Registered prog/p1" in ended.err


def test_a_program_has_drained_before_it_is_told_to_stop(
    world: World, server: str, registry: BlockingRegistry, program: Program
) -> None:
    with world.running(*program.arguments("gentle"), server=server) as provider:
        provider.wait_for_error("Registered gentle/p1")
        consumer = registry.service("gentle")
        consumer.ready()
        ended = provider.stop()

    assert ended.code == 7  # the program's own
    assert [line[0] for line in program.said()] == ["listening", "draining"]
    assert "Drained: seen by 1 of 1 watchers" in ended.err
    assert consumer.instances == ()
    assert ids(registry, "gentle") == []
    assert not is_alive(program.pid)


def test_a_program_that_ends_is_deregistered_and_its_exit_code_passed_on(
    world: World, server: str, registry: BlockingRegistry, program: Program
) -> None:
    with world.running(*program.arguments("brief", "brief"), server=server) as provider:
        provider.wait_for_error("Registered brief/p1")
        ended = provider.finish()

    assert ended.code == 5
    assert ids(registry, "brief") == []


def test_a_program_that_is_killed_is_deregistered(
    world: World, server: str, registry: BlockingRegistry, program: Program
) -> None:
    with world.running(*program.arguments("killed"), server=server) as provider:
        provider.wait_for_error("Registered killed/p1")
        os.kill(program.pid, signal.SIGKILL)
        ended = provider.finish()

    assert ended.code == 128 + signal.SIGKILL
    assert ids(registry, "killed") == []


def test_a_program_that_ends_before_it_listens_is_never_registered(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    with registry.watch("never") as watch:
        watch.ready()
        arguments = ("register", "never", "--port", "1", "--", "sh", "-c", "exit 3")
        ended = world.run(*arguments, server=server)
        registry.register("never", id="later", host="10.0.0.1", port=1, ttl=0)

        assert next(watch).record.instance.id == "later"
    assert ended.code == 3
    assert "Registered" not in ended.err


def test_a_second_signal_does_not_wait_for_a_stubborn_program(
    world: World, server: str, program: Program
) -> None:
    with world.running(*program.arguments("stub", "stubborn"), server=server) as provider:
        provider.wait_for_error("Registered stub/p1")
        provider.send(signal.SIGTERM)
        eventually(lambda: len(program.said()) == 2, "for the program to be told")
        provider.send(signal.SIGTERM)
        ended = provider.finish()

    assert ended.code == 128 + signal.SIGKILL
    assert not is_alive(program.pid)


def test_what_the_program_started_ends_with_it(world: World, server: str, program: Program) -> None:
    command = program.arguments("nested", "brief")
    start = command.index("--") + 1
    shell = " ".join(command[start:-1]) + " stubborn & wait"
    nested = [*command[:start], "sh", "-c", shell]
    with world.running(*nested, server=server) as provider:
        provider.wait_for_error("Registered nested/p1")
        provider.stop()

    eventually(lambda: not is_alive(program.pid), "for the shell's child to end")


def test_a_key_on_the_terminal_reaches_the_program_only_through_us(
    world: World, server: str, program: Program
) -> None:
    with world.running(*program.arguments("group"), server=server) as provider:
        provider.wait_for_error("Registered group/p1")
        ((_, pid, group),) = program.said()

        assert pid == group
        assert int(group) != os.getpgid(provider.process.pid)
        provider.stop()


def test_a_program_runs_although_no_registry_answers_and_is_registered_when_one_does(
    world: World, program: Program
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        native = listener.getsockname()[1]
    server = f"127.0.0.1:{native}"
    with world.running(*program.arguments("early"), server=server) as provider:
        provider.wait_for_error("not registered yet")
        assert is_alive(program.pid)
        with world.serving("--port", str(native), "--http-port", "0"):
            provider.wait_for_error("Registered early/p1")

            assert provider.stop().code == 7


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("no-such-command-anywhere", 127, "no such command"),
        ("/", 126, "permission denied"),
    ],
)
def test_a_program_that_cannot_be_run_is_told(
    world: World, server: str, command: str, code: int, says: str
) -> None:
    refused = world.run("register", "web", "--port", "1", "--", command, server=server)

    assert refused.code == code
    assert says in refused.err
    assert len(refused.err.splitlines()) == 1


def test_what_is_out_of_bounds_is_told_before_the_program_is_started(
    world: World, server: str, program: Program
) -> None:
    wrong_address = world.run(*program.arguments("web"), server="http://127.0.0.1:8500")
    wrong_name = world.run(*program.arguments("Not A Name"), server=server)

    assert wrong_address.code == wrong_name.code == 64
    assert program.said() == []


def test_the_registry_looks_for_itself_where_a_check_says(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        with world.running(
            *("register", "checked", "--id", "c1", "--host", "127.0.0.1", "--port", port),
            *("--check", "tcp", "--check-interval", "1s", "--check-timeout", "500ms"),
            server=server,
        ):
            eventually(lambda: ids(registry, "checked") == ["c1"])
    dead = ["register", "dead", "--id", "d1", "--host", "127.0.0.1", "--port", "1", "--ttl", "0"]
    assert world.run(*dead, "--check", "http=/health", "--check", "grpc=x", server=server).code == 0
    eventually(lambda: all(state.output for state in registry.checks("dead").checks))
    shown = world.run("checks", "dead", server=server).json
    assert [(each["check"]["id"], each["status"]) for each in shown["checks"]] == [
        ("grpc", "critical"),
        ("http", "critical"),
    ]
    assert "connection refused" in shown["checks"][1]["output"]
    told = world.on_a_terminal("checks", "dead", server=server).out
    assert "connection refused" in " ".join(told.split())
    assert "has no health checks" in world.on_a_terminal("checks", "none", server=server).out
    (record,) = registry.resolve("dead", health="any").records
    assert (record.health, record.why) == ("critical", "check 'grpc' is critical")


@pytest.mark.parametrize(
    ("arguments", "option", "remedy"),
    [
        (("--check", "htp=/x"), "--check", "write http=/PATH, tcp or grpc=SERVICE"),
        (("--check", "http="), "--check", "such as --check http=/health"),
        (("--check", "http=health"), "--check", "give a URL that begins with http://"),
        (("--check", "tcp", "--check-interval", "200ms"), "--check-interval", "1 s to 24 h"),
        (("--check", "tcp", "--check-timeout", "25h"), "--check-timeout", "0.001 s to 24 h"),
    ],
)
def test_a_check_that_cannot_be_is_refused_with_its_option_and_a_remedy(
    world: World, arguments: tuple[str, ...], option: str, remedy: str
) -> None:
    refused = world.run("register", "orders", "--port", "80", *arguments, server="127.0.0.1:1")
    assert refused.code == 64
    assert f"Invalid value for {option}" in refused.err
    assert remedy in " ".join(refused.err.split())
