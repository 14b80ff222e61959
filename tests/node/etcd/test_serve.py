"""``waypost serve --etcd``: whole processes without a disk, one registry."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.node.etcd.servers import EtcdServer

import waypost


@contextlib.contextmanager
def serving(etcd: EtcdServer, name: str, *more: str) -> Iterator[tuple[dict[str, str], int]]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "waypost", "serve", "--name", name, "--etcd", etcd.endpoint),
            *(
                "--etcd-prefix",
                "/serve",
                "--port",
                "0",
                "--http-port",
                "0",
                "--dns-port",
                "0",
                *more,
            ),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline()), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        process.stdout.close()


def test_what_one_process_registers_every_other_one_resolves(etcd: EtcdServer) -> None:
    with serving(etcd, "a") as (a, _), serving(etcd, "b") as (b, _):
        assert (a["engine"], a["durable"], a["data_dir"]) == ("etcd", True, "")
        assert a["cluster"] == b["cluster"]
        with waypost.connect(a["native"], cache_dir=None) as one:
            one.register("orders", id="o-1", host="127.0.0.1", port=1, ttl=0)
        with waypost.connect(b["native"], cache_dir=None) as other:
            (instance,) = other.resolve("orders", consistency="linearizable").instances
    with serving(etcd, "a") as (again, _), waypost.connect(again["native"], cache_dir=None) as one:
        (kept,) = one.resolve("orders").instances

    assert instance.id == kept.id == "o-1"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--etcd", "http://127.0.0.1:1"], "add --name"),
        (["--name", "a", "--etcd", "http://127.0.0.1:1", "--memory"], "leave out"),
        (["--name", "a", "--etcd", "127.0.0.1:1"], "use http://host:port"),
        (["--name", "a", "--etcd-user", "x"], "add --etcd URL"),
        (["--name", "a", "--etcd", "http://h:1", "--etcd-user", "x"], "--etcd-password-file"),
    ],
)
def test_a_command_line_that_cannot_be_is_refused(arguments: list[str], why: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "waypost",
            "serve",
            "--port",
            "0",
            "--http-port",
            "0",
            "--dns-port",
            "0",
            *arguments,
        ],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )

    assert done.returncode == 64
    assert why in done.stderr
