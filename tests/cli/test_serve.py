import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.cli.programs import Running, Terminal, World
from tests.standing import go_on, stand_still

import waypost

FREE_PORTS = ("--port", "0", "--http-port", "0", "--dns-port", "0")


def register(server: str, name: str, instance_id: str = "i1") -> None:
    with waypost.connect(server, cache_dir=None) as registry:
        registry.register(name, id=instance_id, host="127.0.0.1", port=1, ttl=0)


def get(address: str, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{address}{path}") as answer:
        return bytes(answer.read())


def test_once_ready_it_says_so_in_exactly_one_line_of_json(world: World) -> None:
    with world.serving() as registry:
        pid = registry.process.pid
        ended = registry.stop()

    ready = registry.ready
    assert ended.code == 0
    assert ended.out == ""
    assert ready["event"] == "ready"
    assert ready["pid"] == pid
    assert (ready["node"], ready["engine"]) == ("local", "local")
    assert (ready["durable"], ready["data_dir"]) == (False, "")
    assert ready["native"].startswith("127.0.0.1:")
    assert ready["http"].startswith("127.0.0.1:")


def test_both_doors_are_open_once_it_is_ready(world: World) -> None:
    with world.serving("--name", "n1") as registry:
        assert world.run("status", server=registry.native).json["node"] == "n1"
        status = json.loads(get(registry.ready["http"], "/api/v1/status"))

    assert status["node"] == "n1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_gracefully(world: World, number: int) -> None:
    with world.serving() as registry:
        registry.send(number)
        ended = registry.finish()

    assert ended.code == 0
    assert "Traceback" not in ended.err


def test_a_second_signal_ends_it_at_once(world: World) -> None:
    with world.serving() as registry:
        stand_still(registry.process.pid)  # so that both have come before either is looked at
        registry.send(signal.SIGINT)
        registry.send(signal.SIGTERM)
        go_on(registry.process.pid)
        ended = registry.finish()

    assert ended.code in (128 + signal.SIGTERM, 128 + signal.SIGINT)


def test_a_client_that_follows_does_not_keep_it_from_stopping(world: World) -> None:
    with (
        world.serving() as registry,
        socket.create_connection(registry.ready["http"].split(":")) as follower,
        world.running("watch", server=registry.native) as watch,
    ):
        assert watch.line()["event"] == "snapshot"
        follower.sendall(
            b"GET /api/v1/watch HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
        )
        assert follower.recv(4096)
        assert registry.stop().code == 0


def test_on_a_terminal_it_says_what_it_keeps_and_what_to_paste(world: World) -> None:
    def stop(terminal: Terminal) -> None:
        terminal.wait_for("Ctrl-C stops it.")
        terminal.process.send_signal(signal.SIGINT)

    shown = world.on_a_terminal("serve", *FREE_PORTS, then=stop)

    assert shown.code == 0
    assert "in memory: nothing survives a restart; --data-dir keeps it" in shown.out
    for command in ("register web", "resolve web", "watch web"):
        assert f"  waypost {command}" in shown.out
    assert "--server 127.0.0.1:" in shown.out
    assert "(xDS)" not in shown.out


def test_on_a_terminal_it_says_where_it_keeps_its_data_and_where_xds_is(
    world: World, tmp_path: Path
) -> None:
    def stop(terminal: Terminal) -> None:
        terminal.wait_for("Ctrl-C stops it.")
        terminal.process.send_signal(signal.SIGINT)

    data = str(tmp_path / "data")
    arguments = ("serve", *FREE_PORTS, "--data-dir", data, "--xds-port", "0")

    shown = world.on_a_terminal(*arguments, then=stop).out

    assert f"on disk in {data}" in shown
    assert re.search(r", 127\.0\.0\.1:\d+ \(xDS\)", shown)


def test_with_a_data_dir_what_was_acknowledged_survives_a_kill(
    world: World, tmp_path: Path
) -> None:
    data = str(tmp_path / "data")
    with world.serving("--data-dir", data) as registry:
        assert registry.ready["durable"] is True
        assert registry.ready["data_dir"] == data
        register(registry.native, "orders")
        registry.send(signal.SIGKILL)
        registry.finish()

    with world.serving("--data-dir", data) as registry:
        found = world.run("resolve", "orders", server=registry.native)

    assert [instance["id"] for instance in found.json["instances"]] == ["i1"]


def test_a_data_dir_has_one_owner(world: World, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with world.serving("--data-dir", data) as registry:
        second = world.run("serve", *FREE_PORTS, "--data-dir", data)

        assert second.code == 64
        assert f"in use by process {registry.process.pid}" in second.err
        assert len(second.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "door"),
    [
        ("--port", "native"),
        ("--http-port", "http"),
        ("--dns-port", "dns"),
    ],
)
def test_a_busy_port_names_its_holder_and_the_way_out(world: World, option: str, door: str) -> None:
    with world.serving() as registry:
        port = registry.ready[door].rpartition(":")[2]
        others = {"--port", "--http-port", "--dns-port"} - {option}
        free = [word for each in sorted(others) for word in (each, "0")]
        second = world.run("serve", option, port, *free)

        assert second.code == 71
        assert len(second.err.splitlines()) == 1
        assert f"127.0.0.1:{port}" in second.err
        assert f"{option} 0" in second.err
        if sys.platform == "linux":
            assert f"process {registry.process.pid} " in second.err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "registry.example"])
def test_it_does_not_listen_beyond_this_machine_unless_told_twice(world: World, host: str) -> None:
    refused = world.run("serve", *FREE_PORTS, "--host", host)

    assert refused.code == 64
    assert "--insecure" in refused.err
    assert "TLS" in refused.err
    assert len(refused.err.splitlines()) == 1


def test_told_twice_it_does(world: World) -> None:
    with world.serving("--host", "0.0.0.0", "--insecure") as registry:
        port = registry.native.rpartition(":")[2]

        assert registry.native.startswith("0.0.0.0:")
        assert world.run("status", server=f"127.0.0.1:{port}").code == 0


def test_an_address_of_another_machine_cannot_be_listened_on(world: World) -> None:
    arguments = (*FREE_PORTS, "--host", "192.0.2.1", "--insecure")

    refused = world.run("serve", *arguments)

    assert refused.code == 71
    assert "not an address of this machine" in refused.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--memory", "--data-dir", "x"), "exclude each other"),
        (("--accept-data-loss",), "--data-dir"),
        (("--name", "Not A Name"), "not a node name"),
        (("--port", "65536"), "65535"),
        (("--dns-ttl", "orders=never"), "whole seconds"),
        (("--dns-forward", "resolver.example"), "IP address"),
        (("--without", "dsn"), "there is no door 'dsn'"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    world: World, arguments: tuple[str, ...], says: str
) -> None:
    refused = world.run("serve", "--http-port", "0", *arguments)

    assert refused.code == 64
    assert says in refused.err
    assert len(refused.err.splitlines()) == 1


def test_a_data_dir_that_cannot_be_made_is_told(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    refused = world.run("serve", "--data-dir", str(tmp_path / "file" / "data"))

    assert refused.code == 71
    assert "--data-dir" in refused.err


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_a_disk_that_fails_ends_it_at_once_with_a_code_of_its_own(
    world: World, tmp_path: Path
) -> None:
    with world.serving("--data-dir", str(tmp_path / "data")) as registry:
        fail_writes_of(registry)
        with world.running("register", "a", "--port", "1", server=registry.native) as provider:
            ended = registry.finish()
            registered = provider.process.poll()

    assert registered is None  # nothing was acknowledged
    assert ended.code == 70
    assert "Traceback" not in ended.err
    assert (
        sum(line.startswith("waypost: the registry ends: ") for line in ended.err.split("\n")) == 1
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_a_disk_that_fails_ends_it_although_nobody_reads_its_errors(
    world: World, tmp_path: Path
) -> None:
    with world.serving("--data-dir", str(tmp_path / "data"), "-v") as registry:
        fail_writes_of(registry)
        assert registry.process.stderr is not None
        fill(Path(f"/proc/{registry.process.pid}/fd/2"))
        with world.running("register", "a", "--port", "1", server=registry.native):
            assert registry.process.wait(20) == 70


def test_a_bug_in_the_log_ends_it_with_what_to_report() -> None:
    code = "from waypost.cli.serve import _die\ntry: 1/0\nexcept ArithmeticError as e: _die(e)"

    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 70
    assert "ZeroDivisionError" in ended.stderr
    assert "start it again" in ended.stderr.splitlines()[-1]


def fail_writes_of(registry: Running) -> None:
    resource.prlimit(registry.process.pid, resource.RLIMIT_FSIZE, (1, 1))


def fill(pipe: Path) -> None:
    writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    try:
        for size in (4096, 1):
            try:
                while True:
                    os.write(writer, b"x" * size)
            except BlockingIOError:
                pass
    finally:
        os.close(writer)


def test_its_log_is_one_line_per_event_with_the_time_in_utc(world: World) -> None:
    with world.serving("-v") as registry:
        stand_still(registry.process.pid)
        with (
            pytest.raises(TimeoutError),
            socket.create_connection(registry.native.split(":"), timeout=1.0) as idle,
        ):
            idle.recv(1)
        go_on(registry.process.pid)  # it notices, and says, that it was stalled
        registry.wait_for_error("stalled")
        ended = registry.stop()

    for line in ended.err.splitlines():
        assert line[10] == "T"
        assert line[23] == "Z"
        assert line.split()[1] in ("DEBUG", "INFO", "WARNING")
