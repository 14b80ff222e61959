"""What one node was told holds at the others, and when the leader is gone."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests.doors.over_http import Api, eventually
from tests.processes.cluster import ClusterProcesses, NodeProcess

ONE = "apps/SHOP/s-1"
BODY: dict[str, Any] = {
    "instance": {
        "instanceId": "s-1",
        "hostName": "shop.example",
        "app": "SHOP",
        "ipAddr": "10.0.0.1",
        "port": {"$": 9000, "@enabled": "true"},
        "vipAddress": "shop",
        "dataCenterInfo": {"name": "MyOwn"},
        "leaseInfo": {"durationInSecs": 30},
    }
}


class Asked:
    """The Eureka door of each node."""

    def __init__(self) -> None:
        self._client = httpx2.Client(timeout=10, headers={"accept": "application/json"})

    def close(self) -> None:
        self._client.close()

    def __call__(self, node: NodeProcess, method: str, path: str, body: Any = None) -> int:
        """The status of the answer."""
        url = f"http://{node.http}/eureka/{path}"
        content = None if body is None else json.dumps(body)
        return self._client.request(method, url, content=content).status_code

    def status(self, node: NodeProcess) -> list[str]:
        """Of the instance, and by an override."""
        answer = self._client.get(f"http://{node.http}/eureka/{ONE}")
        found = answer.json()["instance"] if answer.status_code == 200 else {}
        return [found.get("status", ""), found.get("overriddenstatus", "")]


@pytest.fixture
def ask() -> Iterator[Asked]:
    asked = Asked()
    yield asked
    asked.close()


def test_an_override_holds_at_every_node_and_without_the_leader(
    cluster: ClusterProcesses, api: Api, ask: Asked
) -> None:
    nodes = list(cluster.nodes.values())
    for first, second, third in itertools.permutations(nodes):
        assert ask(first, "POST", "apps/SHOP", BODY) == 204
        eventually(lambda node=second: ask(node, "PUT", ONE) == 200)  # type: ignore[misc]
        assert ask(second, "PUT", f"{ONE}/status?value=DOWN") == 200
        assert ask(third, "POST", "apps/SHOP", BODY) == 204  # at once, wherever
        for node in nodes:
            eventually(lambda node=node: ask.status(node) == ["DOWN", "DOWN"])  # type: ignore[misc]
        assert ask(first, "DELETE", ONE) == 200

    assert ask(nodes[0], "POST", "apps/SHOP", BODY) == 204
    assert ask(nodes[0], "PUT", f"{ONE}/status?value=OUT_OF_SERVICE") == 200
    leader = asyncio.run(cluster.leader())
    leader.kill()
    for node in (node for node in nodes if node is not leader):
        eventually(lambda node=node: ask(node, "PUT", ONE) == 200)  # type: ignore[misc]
        eventually(lambda node=node: ask(node, "POST", "apps/SHOP", BODY) == 204)  # type: ignore[misc]
        assert ask.status(node) == ["OUT_OF_SERVICE", "OUT_OF_SERVICE"]
    assert api.instances("shop")["s-1"]["health"] == "draining"
