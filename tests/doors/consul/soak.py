"""Many watchers, random changes, nodes that are killed: nobody misses one, no index goes back.

    python -m tests.doors.consul.soak --seconds 600 --watchers 200

Every watcher follows one service (one in twenty: the table of all) by blocking queries, at any of
three nodes, and goes to another one with the index that it has when its own is gone.  Before a
service changes again, all of its watchers must have been told of the change before: so a wake-up
that is lost cannot be hidden by the next one.  The leader is killed, and started again, now and
then.
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
from tests.processes.cluster import ClusterProcesses

TOLD_WITHIN_S = 20.0
"""Of a change: an election and a start of a node included, on a machine that others use."""
WAIT = "45s"
SERVICES_PER_WRITER = 8
WRITERS = 5


class Report:
    """What was seen."""

    def __init__(self) -> None:
        self.changes = 0
        self.answers = 0
        self.needless = 0
        """Answers before their time with nothing new, while no node was killed."""
        self.kills = 0
        self.slowest_s = 0.0
        self.lost: list[str] = []
        self.backwards: list[str] = []

    def __str__(self) -> str:
        return (
            f"{self.changes} changes, {self.answers} answers ({self.needless} needless), "
            f"{self.kills} kills, slowest to be told {self.slowest_s:.2f} s, "
            f"{len(self.lost)} wake-ups lost, {len(self.backwards)} indexes backwards"
        )


class Watcher:
    """Follows one service, or the table of all."""

    path = ""

    def __init__(self, soak: "Soak") -> None:
        self._soak = soak
        self.shown: Any = None
        self.index = 0
        self.told = asyncio.Event()

    async def run(self) -> None:
        while True:
            try:
                await self._ask()
            except (httpx2.HTTPError, OSError):
                await asyncio.sleep(0.05)

    def knows(self, service: str, state: dict[str, str]) -> bool:
        """Whether it was told that this is how the service is."""
        raise NotImplementedError

    def watches(self, service: str) -> bool:
        """Whether it is to be told of that service."""
        raise NotImplementedError

    def read(self, answer: Any) -> Any:
        """What it keeps of an answer."""
        raise NotImplementedError

    async def _ask(self) -> None:
        report, since, begun = self._soak.report, self.index, time.monotonic()
        kills = report.kills
        url = f"http://{self._soak.any_node()}/v1/{self.path}"
        params = {"index": str(since), "wait": WAIT} if since else {}
        answer = await self._soak.client.get(url, params=params)
        if answer.status_code != 200:
            await asyncio.sleep(0.05)
            return
        report.answers += 1
        self.index = int(answer.headers["x-consul-index"])
        if self.index < since:
            report.backwards.append(f"{self.path}: {since} then {self.index}")
        shown = self.read(answer.json())
        if shown == self.shown and time.monotonic() - begun < 40 and kills == report.kills:
            report.needless += not self._soak.is_disturbed
        self.shown = shown
        self.told.set()


class ServiceWatcher(Watcher):
    """Follows the instances of one service."""

    def __init__(self, soak: "Soak", service: str) -> None:
        super().__init__(soak)
        self._service = service
        self.path = f"health/service/{service}"

    def knows(self, service: str, state: dict[str, str]) -> bool:
        return bool(self.shown == {f"{service}-{key}": value for key, value in state.items()})

    def watches(self, service: str) -> bool:
        return service == self._service

    def read(self, answer: Any) -> Any:
        return {each["Service"]["ID"]: each["Service"]["Meta"]["v"] for each in answer}


class TableWatcher(Watcher):
    """Follows which services there are, and their tags."""

    path = "catalog/services"

    def knows(self, service: str, state: dict[str, str]) -> bool:
        return bool(self.shown.get(service, []) == sorted(state.values()))

    def watches(self, service: str) -> bool:
        return True

    def read(self, answer: Any) -> Any:
        return answer


class Soak:
    """The cluster, who changes it, and who watches."""

    def __init__(self, cluster: ClusterProcesses, watchers: int, seed: int) -> None:
        self.report = Report()
        self.is_disturbed = True
        self._cluster = cluster
        self._random = random.Random(seed)
        self._state: dict[str, dict[str, str]] = {
            f"s-{writer}-{number}": {}
            for writer in range(WRITERS)
            for number in range(SERVICES_PER_WRITER)
        }
        names = list(self._state)
        self.watchers: list[Watcher] = [
            TableWatcher(self) if n % 20 == 19 else ServiceWatcher(self, names[n % len(names)])
            for n in range(watchers)
        ]
        self.client: httpx2.AsyncClient

    def any_node(self) -> str:
        running = [node.http for node in self._cluster.nodes.values() if node.is_running]
        return self._random.choice(running)

    async def run(self, seconds: float, kill_every_s: float) -> Report:
        limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=1000)
        async with httpx2.AsyncClient(timeout=70, limits=limits) as self.client:
            tasks = [asyncio.create_task(watcher.run()) for watcher in self.watchers]
            try:
                async with asyncio.timeout(60):
                    for watcher in self.watchers:
                        await watcher.told.wait()
                self.is_disturbed = False
                deadline = time.monotonic() + seconds
                async with asyncio.TaskGroup() as group:
                    for writer in range(WRITERS):
                        group.create_task(self._write(writer, deadline))
                    group.create_task(self._disturb(deadline, kill_every_s))
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return self.report

    async def _write(self, writer: int, deadline: float) -> None:
        names = [name for name in self._state if name.startswith(f"s-{writer}-")]
        number = 0
        while time.monotonic() < deadline and not self.report.lost:
            number += 1
            name = self._random.choice(names)
            state = self._state[name]
            instance = f"i-{self._random.randrange(4)}"
            if instance in state and self._random.random() < 0.4:
                await self._put(f"/v1/agent/service/deregister/{name}-{instance}", None)
                del state[instance]
            else:
                body = {
                    "ID": f"{name}-{instance}",
                    "Name": name,
                    "Address": "10.0.0.1",
                    "Port": 80,
                    "Tags": [f"{writer}.{number}"],
                    "Meta": {"v": f"{writer}.{number}"},
                }
                await self._put("/v1/agent/service/register", body)
                state[instance] = f"{writer}.{number}"
            self.report.changes += 1
            await self._until_told(name)
            await asyncio.sleep(self._random.uniform(0, 0.05))

    async def _put(self, path: str, body: Any) -> None:
        """Until a node has said that it is done, as any client would."""
        while True:
            url = f"http://{self.any_node()}{path}"
            with contextlib.suppress(httpx2.HTTPError, OSError):
                answer = await self.client.put(url, json=body, params={"node": "soak"}, timeout=5)
                if answer.status_code == 200 or (answer.status_code == 404 and body is None):
                    return
            await asyncio.sleep(0.05)

    async def _until_told(self, name: str) -> None:
        begun = time.monotonic()
        state = self._state[name]
        for watcher in self.watchers:
            if not watcher.watches(name):
                continue
            while not watcher.knows(name, state):
                watcher.told.clear()
                left = begun + TOLD_WITHIN_S - time.monotonic()
                try:
                    async with asyncio.timeout(left):
                        await watcher.told.wait()
                except TimeoutError:
                    lost = f"{watcher.path} at {watcher.index}: {watcher.shown}"
                    self.report.lost.append(f"{lost}, and {name} is {state}")
                    return
        self.report.slowest_s = max(self.report.slowest_s, time.monotonic() - begun)

    async def _disturb(self, deadline: float, every_s: float) -> None:
        while time.monotonic() + every_s < deadline:
            await asyncio.sleep(every_s)
            self.is_disturbed = True
            leader = await self._cluster.leader()
            await asyncio.to_thread(leader.kill)
            self.report.kills += 1
            await asyncio.sleep(self._random.uniform(0.5, 2))
            leader.begin()
            await asyncio.to_thread(leader.wait_ready)
            await self._cluster.leader()
            await asyncio.sleep(1)
            self.is_disturbed = False


@contextlib.asynccontextmanager
async def soaked(directory: Path, watchers: int, seed: int) -> AsyncIterator[Soak]:
    cluster = ClusterProcesses(directory)
    try:
        await asyncio.to_thread(cluster.start)
        yield Soak(cluster, watchers, seed)
    finally:
        cluster.stop()


async def run(
    directory: Path, *, seconds: float, watchers: int, kill_every_s: float, seed: int
) -> Report:
    async with soaked(directory, watchers, seed) as soak:
        return await soak.run(seconds, kill_every_s)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--watchers", type=int, default=200)
    parser.add_argument("--kill-every", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    asked = parser.parse_args()
    print(json.dumps(vars(asked)), flush=True)
    with tempfile.TemporaryDirectory() as directory:
        report = asyncio.run(
            run(
                Path(directory),
                seconds=asked.seconds,
                watchers=asked.watchers,
                kill_every_s=asked.kill_every,
                seed=asked.seed,
            )
        )
    print(report)
    for line in (*report.lost, *report.backwards):
        print(line)
    return 1 if report.lost or report.backwards else 0


if __name__ == "__main__":
    sys.exit(main())
