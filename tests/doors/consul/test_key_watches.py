"""Who follows a key or a prefix by its index alone misses no change, whatever happens to nodes."""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.processes.cluster import ClusterProcesses, NodeProcess

KEYS = [f"soak/{directory}/{number}" for directory in "ab" for number in range(3)]
PREFIXES = ["soak/", "soak/a/", "soak/b"]


class Follower:
    """A client that blocks on a path, at one node after another, and keeps what it was told."""

    def __init__(self, nodes: list[NodeProcess], path: str, begins: int) -> None:
        self.path = path
        self.shown: dict[str, str] = {}
        self.answers = 0
        self._nodes = nodes[begins:] + nodes[:begins]
        self._index = 0

    async def run(self) -> None:
        async with httpx2.AsyncClient(timeout=20) as client:
            while True:
                url = f"http://{self._nodes[0].http}/v1/kv/{self.path}"
                try:
                    answer = await client.get(f"{url}index={self._index}&wait=5s")
                except httpx2.HTTPError:
                    self._nodes.append(self._nodes.pop(0))
                    await asyncio.sleep(0.02)
                    continue
                if answer.status_code not in (200, 404):
                    await asyncio.sleep(0.02)
                    continue
                index = int(answer.headers["x-consul-index"])
                assert index >= self._index, f"{self.path}: {self._index}, then {index}"
                self._index = index
                self.answers += 1
                pairs: list[Any] = answer.json() if answer.status_code == 200 else []
                self.shown = {pair["Key"]: pair["Value"] for pair in pairs}


class Writer:
    """A client that changes keys, and knows what came of it."""

    def __init__(self, nodes: list[NodeProcess]) -> None:
        self._nodes = nodes
        self._draw = random.Random(5)
        self.changes = 0

    async def run(self) -> None:
        async with httpx2.AsyncClient(timeout=10) as client:
            while True:
                await self._change(client)
                await asyncio.sleep(0.005)

    async def state(self, client: httpx2.AsyncClient) -> dict[str, str]:
        """All keys, as of now."""
        answer = await client.get(f"http://{self._nodes[0].http}/v1/kv/soak/?recurse&consistent")
        if answer.status_code == 404:
            return {}
        return {pair["Key"]: pair["Value"] for pair in answer.raise_for_status().json()}

    async def _change(self, client: httpx2.AsyncClient) -> None:
        draw = self._draw
        url = f"http://{draw.choice(self._nodes).http}/v1/kv/"
        key = draw.choice(KEYS)
        with contextlib.suppress(httpx2.HTTPError):
            match draw.randrange(10):
                case 0:
                    answer = await client.delete(f"{url}{key}")
                case 1:
                    answer = await client.delete(f"{url}{draw.choice(PREFIXES)}?recurse")
                case _:
                    answer = await client.put(f"{url}{key}", content=b"%d" % self.changes)
            self.changes += answer.status_code == 200


@pytest.mark.slow
def test_no_change_is_missed_and_no_index_goes_back_while_nodes_are_lost(
    tmp_path: Path,
) -> None:
    cluster = ClusterProcesses(tmp_path)

    async def story() -> None:
        nodes = list(cluster.nodes.values())
        paths = [f"{key}?" for key in KEYS] + [f"{prefix}?recurse&" for prefix in PREFIXES]
        followers = [Follower(nodes, path, n % 3) for n, path in enumerate(paths * 3)]
        running = [asyncio.create_task(each.run()) for each in followers]
        writer = Writer(nodes)
        writing = asyncio.create_task(writer.run())
        try:
            for turn in range(3):
                await asyncio.sleep(2)
                lost = await cluster.leader() if turn < 2 else None
                for node in nodes if lost is None else [lost]:
                    node.kill()
                for node in nodes if lost is None else [lost]:
                    node.begin()
                for node in nodes if lost is None else [lost]:
                    await asyncio.to_thread(node.wait_ready)
            await asyncio.sleep(1)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await cluster.leader()
            await follow_up(followers, running, writer)
        finally:
            for task in [writing, *running]:
                task.cancel()
            await asyncio.gather(writing, *running, return_exceptions=True)
        assert writer.changes > 100
        assert min(each.answers for each in followers) > 10

    try:
        cluster.start()
        asyncio.run(story())
    finally:
        cluster.stop()


async def follow_up(
    followers: list[Follower], running: list["asyncio.Task[None]"], writer: Writer
) -> None:
    """Everybody knows the last state soon, though it changes no more."""
    async with httpx2.AsyncClient(timeout=10) as client, asyncio.timeout(30):
        while True:
            with contextlib.suppress(httpx2.HTTPError):
                last = await writer.state(client)
                break
            await asyncio.sleep(0.1)
    behind = followers
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(15):
            while behind:
                await asyncio.sleep(0.05)
                behind = [each for each in followers if each.shown != expected(each.path, last)]
                for task in running:
                    if task.done():
                        task.result()
    assert not behind, [(each.path, each.shown, last) for each in behind]


def expected(path: str, state: dict[str, str]) -> dict[str, str]:
    name, _, flags = path.partition("?")
    return {
        key: value
        for key, value in state.items()
        if (key.startswith(name) if flags else key == name)
    }
