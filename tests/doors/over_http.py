"""What the tests of every door do to a registry, by its own HTTP API: at any node that answers."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import httpx2

from tests.processes.cluster import ClusterProcesses, NodeProcess

PATIENCE_S = 30.0


def eventually(is_so: Callable[[], bool], what: Callable[[], object] = str) -> None:
    """Wait for what a program of others tells nobody when it happens."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain: {what()}"
        time.sleep(0.05)


class Api:
    """The HTTP API of a cluster's nodes."""

    def __init__(self, cluster: ClusterProcesses) -> None:
        self._cluster = cluster
        self._client = httpx2.Client(timeout=10)

    def close(self) -> None:
        self._client.close()

    def register(self, service: str, instance_id: str, **fields: Any) -> None:
        body = {"host": "127.0.0.1", "port": 9, "ttl": 0, **fields}
        self._ask("PUT", f"{service}/instances/{instance_id}", body)

    def deregister(self, service: str, instance_id: str) -> None:
        self._ask("DELETE", f"{service}/instances/{instance_id}", None)

    def say(self, service: str, instance_id: str, health: str) -> None:
        self._ask("POST", f"{service}/instances/{instance_id}/health", {"health": health})

    def instances(self, service: str) -> dict[str, Any]:
        """All that are registered, by id, the ill and the drained ones too."""
        answer = self._ask("GET", f"{service}?health=any&consistency=linearizable", None)
        return {one["id"]: one for one in answer.json().get("instances", [])}

    def metric(self, node: NodeProcess, name: str) -> float:
        """What one node counts."""
        lines = self._client.get(f"http://{node.http}/metrics").text.splitlines()
        (value,) = [line.split()[1] for line in lines if line.startswith(name)]
        return float(value)

    def _ask(self, method: str, path: str, body: object) -> httpx2.Response:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for node in self._cluster.nodes.values():
                if not node.is_running:
                    continue
                url = f"http://{node.http}/api/v1/services/{path}"
                with contextlib.suppress(httpx2.HTTPError):
                    answer = self._client.request(method, url, json=body)
                    if answer.status_code < 500:
                        if (method, answer.status_code) != ("GET", 404):
                            answer.raise_for_status()
                        return answer
            assert time.monotonic() < deadline, f"no node does it: {method} {path}"
            time.sleep(0.1)
