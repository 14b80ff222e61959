"""Unmodified clients of Consul keep keys, hold locks and run transactions."""

import asyncio
import itertools
import subprocess
from pathlib import Path

import httpx2
import pytest
from tests.doors.consul.lockers import Locker
from tests.doors.consul.programs import (
    PY_CONSUL,
    PYTHON_CONSUL2,
    Traefik,
    js_command,
    python_command,
)
from tests.doors.over_http import eventually
from tests.processes.cluster import ClusterProcesses


def follower(cluster: ClusterProcesses) -> str:
    """Where a node is that does not lead."""
    leader = asyncio.run(cluster.leader())
    return next(node.http for node in cluster.nodes.values() if node is not leader)


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize(("package", "more"), [(PY_CONSUL, ["ttl"]), (PYTHON_CONSUL2, [])])
def test_python_clients_keep_keys_and_hold_locks(
    package: str, more: list[str], cluster: ClusterProcesses
) -> None:
    run([*python_command(package, "py_keys.py"), follower(cluster), *more])


def test_the_node_js_client_keeps_keys_and_holds_locks(
    cluster: ClusterProcesses, tmp_path: Path
) -> None:
    run([*js_command(tmp_path / "js", "js_keys.js"), follower(cluster)])


def test_traefik_takes_its_configuration_from_keys(
    cluster: ClusterProcesses, tmp_path: Path
) -> None:
    at = follower(cluster)
    servers = "traefik/http/services/web/loadbalancer/servers"

    def put(key: str, value: str) -> None:
        assert httpx2.put(f"http://{at}/v1/kv/{key}", content=value).json() is True

    put("traefik/http/routers/web/rule", "Host(`web.example`)")
    put("traefik/http/routers/web/service", "web")
    put(f"{servers}/0/url", "http://10.0.0.1:80")
    with Traefik(tmp_path / "traefik", at, of_keys=True) as traefik:
        traefik.until("web", "http://10.0.0.1:80")
        put(f"{servers}/1/url", "http://10.0.0.2:80")
        traefik.until("web", "http://10.0.0.1:80", "http://10.0.0.2:80")
        asyncio.run(cluster.leader_but(at)).kill()
        asyncio.run(cluster.leader())
        removed = httpx2.delete(f"http://{at}/v1/kv/{servers}/1?recurse", timeout=10)
        assert removed.json() is True
        traefik.until("web", "http://10.0.0.1:80")


def test_exactly_one_holds_a_lock_at_any_time_though_the_leader_is_killed(
    cluster: ClusterProcesses, tmp_path: Path
) -> None:
    nodes = [node.http for node in cluster.nodes.values()]
    lockers = [
        Locker(python_command(PY_CONSUL, "py_locker.py"), nodes, tmp_path, "p"),
        Locker(js_command(tmp_path / "js", "js_locker.js"), nodes[::-1], tmp_path, "j"),
    ]
    try:

        def all_held(times: int) -> None:
            before = [len(locker.held()) for locker in lockers]
            eventually(
                lambda: all(
                    len(locker.held()) >= count + times
                    for locker, count in zip(lockers, before, strict=True)
                ),
                lambda: [locker.log.read_text()[-2000:] for locker in lockers],
            )

        all_held(10)
        leader = asyncio.run(cluster.leader())
        leader.kill()
        all_held(10)
        leader.begin()
        leader.wait_ready()
        asyncio.run(cluster.leader()).kill()
        all_held(10)

        held = sorted(time for locker in lockers for time in locker.held())
    finally:
        for locker in lockers:
            locker.stop()
    for (_, until), (since, _) in itertools.pairwise(held):
        assert until <= since, "two held it at once"
