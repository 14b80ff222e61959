"""Health checks in a cluster of real processes: the members share them, and inherit them."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.node.checks.servers import Target, ok, target
from tests.processes.cluster import ClusterProcesses

COUNT = 24


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterProcesses]:
    processes = ClusterProcesses(tmp_path)
    try:
        yield processes.start()
    finally:
        processes.stop()


class Api:
    def __init__(self, http: str) -> None:
        self._client = httpx2.AsyncClient(base_url=f"http://{http}/api/v1", timeout=10)

    async def put(self, path: str, body: Any) -> None:
        answer = await self._client.put(path, json=body)
        assert answer.is_success, answer.text

    async def report(self, path: str, status: str) -> int:
        answer = await self._client.post(f"{path}/report", json={"status": status})
        assert answer.is_success, answer.text
        return int(answer.json()["revision"])

    async def healths(self, service: str) -> Counter[str]:
        answer = await self._client.get(f"/services/{service}?health=any")
        return Counter(each["health"] for each in answer.json().get("instances", ()))

    async def until(self, service: str, health: str, count: int, within_s: float) -> float:
        began = time.monotonic()
        async with asyncio.timeout(within_s):
            while (await self.healths(service))[health] != count:
                await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def close(self) -> None:
        await self._client.aclose()


def test_when_a_node_dies_the_others_look_after_its_checks(cluster: ClusterProcesses) -> None:
    async def story() -> None:
        leader = await cluster.leader()
        dying = next(node for node in cluster.nodes.values() if node is not leader)
        api = Api(leader.http)
        async with target(ok()) as there:
            for number in range(COUNT):
                path = f"/services/orders/instances/o-{number}"
                await api.put(path, {"host": "127.0.0.1", "port": there.port, "ttl": 0})
                at = f"http://127.0.0.1:{there.port}/{number}"
                await api.put(f"{path}/checks/http", {"kind": "http", "target": at, "interval": 1})
            await api.until("orders", "passing", COUNT, 20)
            asked = there.asked
            await asyncio.sleep(2)
            rate = (there.asked - asked) / 2
            assert rate < 1.6 * COUNT, "each check has one owner, and not three"

            dying.kill()
            there.conduct = ok(b"", "500 Oh")
            took_s = await api.until("orders", "critical", COUNT, 20)
            assert took_s < 8, "two seconds of silence, a second's interval, and the second look"

            dying.begin()
            dying.wait_ready()
            there.conduct = ok()
            await api.until("orders", "passing", COUNT, 20)
            await shares_settle(there)
        await api.close()

    asyncio.run(asyncio.wait_for(story(), 100))


async def shares_settle(there: Target) -> None:
    """Wait until each check has one owner again."""
    async with asyncio.timeout(20):
        while True:
            asked = there.asked
            await asyncio.sleep(2)
            if (there.asked - asked) / 2 < 1.6 * COUNT:
                return


def test_a_ttl_check_is_kept_alive_by_reports_at_any_node(cluster: ClusterProcesses) -> None:
    async def story() -> None:
        await cluster.leader()
        apis = [Api(node.http) for node in cluster.nodes.values()]
        path = "/services/jobs/instances/j-1"
        await apis[0].put(path, {"host": "127.0.0.1", "port": 1, "ttl": 0})
        check = {"kind": "ttl", "ttl": 2, "status": "passing"}
        await apis[0].put(f"{path}/checks/alive", check)
        for api in apis:
            await api.until("jobs", "passing", 1, 10)
        began = time.monotonic()
        said: set[int] = set()
        turn = 0
        while time.monotonic() - began < 5:
            turn += 1
            said.add(await apis[turn % 3].report(f"{path}/checks/alive", "passing"))
            assert await apis[turn % 3].healths("jobs") == {"passing": 1}
            await asyncio.sleep(0.1)
        assert len(said) <= 3, "who owns it was told, and the log was not"

        assert await apis[1].until("jobs", "critical", 1, 10) < 5
        for api in apis:
            await api.close()

    asyncio.run(asyncio.wait_for(story(), 100))
