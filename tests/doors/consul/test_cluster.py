"""Three nodes, each the agent of its callers: what stays apart, what is shared, what is lost."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests.doors.over_http import eventually
from tests.processes.cluster import ClusterProcesses, NodeProcess


class Agents:
    """The doors of all nodes."""

    def __init__(self, cluster: ClusterProcesses) -> None:
        self._cluster = cluster
        self._client = httpx2.Client(timeout=30)

    def close(self) -> None:
        self._client.close()

    def put(self, node: NodeProcess, path: str, body: Any = None) -> httpx2.Response:
        return self._client.put(f"http://{node.http}/v1/{path}", json=body)

    def get(self, node: NodeProcess, path: str) -> httpx2.Response:
        return self._client.get(f"http://{node.http}/v1/{path}")


@pytest.fixture
def agents(cluster: ClusterProcesses) -> Iterator[Agents]:
    there = Agents(cluster)
    try:
        yield there
    finally:
        there.close()


def test_the_same_id_at_every_server_at_once_is_as_many_instances(
    cluster: ClusterProcesses, agents: Agents
) -> None:
    nodes = list(cluster.nodes.values())
    body = {"ID": "web", "Name": "web", "Port": 80, "Check": {"TTL": "1h", "Status": "passing"}}

    async def register_all() -> None:
        puts = (
            asyncio.to_thread(agents.put, node, "agent/service/register", body) for node in nodes
        )
        for answer in await asyncio.gather(*puts):
            assert answer.status_code == 200, answer.text

    asyncio.run(register_all())

    for node in nodes:
        assert list(agents.get(node, "agent/services").json()) == ["web"]
        eventually(
            lambda node=node: (
                [  # type: ignore[misc]
                    each["Node"]["Node"]
                    for each in agents.get(node, "health/service/web?passing").json()
                ]
                == ["a", "b", "c"]
            )
        )
        assert agents.get(node, "agent/self").json()["Config"]["NodeName"] == node.name
    agents.put(nodes[0], "agent/check/fail/service:web")
    eventually(
        lambda: (
            [
                each["Node"]["Node"]
                for each in agents.get(nodes[2], "health/service/web?passing").json()
            ]
            == ["b", "c"]
        )
    )
    assert agents.put(nodes[0], "agent/service/deregister/web").status_code == 200
    assert agents.put(nodes[0], "agent/service/deregister/web").status_code == 404
    assert list(agents.get(nodes[1], "agent/services").json()) == ["web"]


def test_every_server_is_a_node_with_the_service_consul(
    cluster: ClusterProcesses, agents: Agents
) -> None:
    for node in cluster.nodes.values():
        shown = agents.get(node, "health/service/consul").json()
        assert [each["Node"]["Node"] for each in shown] == ["a", "b", "c"]
        assert agents.get(node, "status/leader").json() in cluster.addresses
        assert sorted(agents.get(node, "status/peers").json()) == sorted(cluster.addresses)


def test_what_one_server_has_written_another_reads_consistently(
    cluster: ClusterProcesses, agents: Agents
) -> None:
    one, other, _ = cluster.nodes.values()
    for number in range(20):
        body = {"Name": f"s-{number}", "Port": 80}
        assert agents.put(one, "agent/service/register", body).status_code == 200
        assert len(agents.get(one, f"health/service/s-{number}").json()) == 1
        answer = agents.get(other, f"health/service/s-{number}?consistent")
        assert len(answer.json()) == 1
        assert answer.headers["x-consul-effective-consistency"] == "consistent"


def test_without_a_majority_reads_go_on_and_say_so(
    cluster: ClusterProcesses, agents: Agents
) -> None:
    left, one, other = cluster.nodes.values()
    body = {"Name": "web", "Port": 80}
    assert agents.put(left, "agent/service/register", body).status_code == 200
    one.kill()
    other.kill()
    path = "health/service/web?stale"

    eventually(lambda: agents.get(left, path).headers["x-consul-knownleader"] == "false")

    answer = agents.get(left, path)
    assert len(answer.json()) == 1
    assert int(answer.headers["x-consul-lastcontact"]) > 0
    begun = time.monotonic()

    async def ask_for_more() -> None:
        read, written = await asyncio.gather(
            asyncio.to_thread(agents.get, left, "health/service/web?consistent"),
            asyncio.to_thread(agents.put, left, "agent/service/register", body),
        )
        assert read.status_code == 500
        assert read.text.startswith("No cluster leader")
        assert written.status_code == 500

    asyncio.run(ask_for_more())
    assert time.monotonic() - begun < 25
