"""Unmodified clients of Consul register, discover, and follow a cluster that loses its leader."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.doors.consul.programs import (
    PY_CONSUL,
    PYTHON_CONSUL2,
    Make,
    Teller,
    Traefik,
    js_program,
    python_program,
)
from tests.doors.over_http import Api
from tests.processes.cluster import ClusterProcesses, NodeProcess


@pytest.fixture
def follower(cluster: ClusterProcesses) -> NodeProcess:
    """A node that does not lead, and will not be killed."""
    leader = asyncio.run(cluster.leader())
    return next(node for node in cluster.nodes.values() if node is not leader)


def kill_the_leader(cluster: ClusterProcesses, follower: NodeProcess) -> None:
    asyncio.run(cluster.leader_but(follower.http)).kill()


def change_it_by_other_doors(api: Api, until: Any, one: Any, other: Any) -> None:
    """An instance comes, is ill, well again, drained, goes and comes back."""
    api.register("web", "n-1", host="10.0.0.7", port=8007)
    until(one, other)
    api.say("web", "n-1", "critical")
    until(one)
    api.say("web", "n-1", "passing")
    until(one, other)
    api.say("web", "n-1", "draining")
    until(one)
    api.deregister("web", "n-1")
    until(one)
    api.register("web", "n-1", host="10.0.0.7", port=8007)
    until(one, other)


@pytest.mark.parametrize("package", [PY_CONSUL, PYTHON_CONSUL2])
def test_python_clients(
    package: str,
    cluster: ClusterProcesses,
    follower: NodeProcess,
    api: Api,
    tmp_path: Path,
) -> None:
    make = python_program(package)
    with (
        make(tmp_path / "watcher", follower.http, "watch", "web") as watcher,
        make(tmp_path / "doer", follower.http, "do") as doer,
    ):
        watcher.until([])
        ttl = {"check": "ttl", "with": ["30s"]}
        where = {"address": "10.0.0.8", "port": 8008, "service_id": "p-1", "tags": ["v1"]}
        assert doer.ask("agent.service.register", ["web"], {**where, "check": ttl}) is True
        story(api, cluster, watcher, follower, Words(
            report=lambda how: doer.ask(f"agent.check.ttl_{how}", ["service:p-1"], {}),
            rest=lambda is_on: doer.ask("agent.service.maintenance", ["p-1", is_on], {}),
            services=lambda: doer.ask("catalog.services", [], {})[1],
            own=lambda: list(doer.ask("agent.services", [], {})),
            leave=lambda: doer.ask("agent.service.deregister", ["p-1"], {}),
            leader=lambda: doer.ask("status.leader", [], {}),
        ))  # fmt: skip


def test_the_node_js_client(
    cluster: ClusterProcesses, follower: NodeProcess, api: Api, tmp_path: Path
) -> None:
    make: Make = js_program
    with (
        make(tmp_path / "watcher", follower.http, "watch", "web") as watcher,
        make(tmp_path / "doer", follower.http, "do") as doer,
    ):
        watcher.until([])
        service = {"name": "web", "id": "p-1", "address": "10.0.0.8", "port": 8008, "tags": ["v1"]}
        assert doer.ask("agent.service.register", {**service, "check": {"ttl": "30s"}}) is None
        story(api, cluster, watcher, follower, Words(
            report=lambda how: doer.ask(f"agent.check.{how}", {"id": "service:p-1"}),
            rest=lambda on: doer.ask("agent.service.maintenance", {"id": "p-1", "enable": on}),
            services=lambda: doer.ask("catalog.service.list", {}),
            own=lambda: list(doer.ask("agent.service.list", {})),
            leave=lambda: doer.ask("agent.service.deregister", {"id": "p-1"}),
            leader=lambda: doer.ask("status.leader", {}),
        ))  # fmt: skip


class Words:
    """What a library calls what every story needs."""

    def __init__(self, **verbs: Any) -> None:
        self.report, self.rest, self.services = verbs["report"], verbs["rest"], verbs["services"]
        self.own, self.leave, self.leader = verbs["own"], verbs["leave"], verbs["leader"]


def story(
    api: Api, cluster: ClusterProcesses, watcher: Teller, follower: NodeProcess, words: Words
) -> None:
    """What a program that registered ``p-1`` and one that watches ``web`` live through."""

    def until(*ids: str) -> None:
        watcher.until(sorted(ids))

    assert words.own() == ["p-1"]
    words.report("pass")
    until("p-1")
    assert words.services() == {"consul": [], "web": ["v1"]}
    words.report("fail")
    until()
    words.report("warn")
    words.report("pass")
    until("p-1")
    words.rest(True)
    until()
    words.rest(False)
    until("p-1")
    change_it_by_other_doors(api, until, "p-1", "n-1")
    assert words.leader() in cluster.addresses

    kill_the_leader(cluster, follower)

    api.register("web", "n-2", host="10.0.0.9", port=8009)
    until("n-1", "n-2", "p-1")
    words.leave()
    until("n-1", "n-2")
    assert words.own() == []


@pytest.mark.parametrize("watches", [True, False], ids=["watch", "poll"])
def test_traefik(
    watches: bool, cluster: ClusterProcesses, follower: NodeProcess, api: Api, tmp_path: Path
) -> None:
    api.register("web", "n-0", host="10.0.0.6", port=8006)
    with Traefik(tmp_path / "traefik", follower.http, watches=watches) as traefik:
        one, other, third = (f"http://10.0.0.{n}:800{n}" for n in (6, 7, 8))

        def until(*servers: str) -> None:
            traefik.until("web", *servers)

        until(one)
        change_it_by_other_doors(api, until, one, other)
        kill_the_leader(cluster, follower)
        api.register("web", "n-2", host="10.0.0.8", port=8008)
        until(one, other, third)
        api.deregister("web", "n-2")
        until(one, other)
