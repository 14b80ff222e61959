"""A registry that is started again on its data goes on with the indexes that it told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2

from waypost.node.bootstrap import NodeConfig
from waypost.standalone import Standalone, new_event_loop

PATHS = (
    "health/service/web",
    "health/service/gone",
    "health/service/never",
    "catalog/services",
    "catalog/nodes",
    "catalog/node/local",
    "health/state/any",
    "health/checks/web",
)


@contextlib.asynccontextmanager
async def registry(directory: Path) -> AsyncIterator[httpx2.AsyncClient]:
    standalone = Standalone(
        NodeConfig(data_dir=str(directory)), native_port=0, http_port=0, on_fatal=print
    )
    await standalone.start()
    try:
        async with httpx2.AsyncClient(
            base_url=f"http://{standalone.http_address}/v1/", timeout=20
        ) as client:
            yield client
    finally:
        await standalone.stop()


async def indexes(client: httpx2.AsyncClient) -> dict[str, int]:
    return {path: int((await client.get(path)).headers["x-consul-index"]) for path in PATHS}


def test_no_index_is_lower_after_a_restart_and_waiting_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with registry(tmp_path) as client:
            for name in ("web", "gone", "other"):
                body = {"Name": name, "Port": 80, "Check": {"TTL": "1h"}}
                (await client.put("agent/service/register", json=body)).raise_for_status()
            await client.put("agent/check/pass/service:web")
            await client.put("agent/service/deregister/gone")
            before = await indexes(client)
        async with registry(tmp_path) as client:
            after = await indexes(client)
            assert all(after[path] >= before[path] for path in PATHS), (before, after)
            assert after["health/service/web"] == before["health/service/web"]
            asked = [
                asyncio.create_task(client.get(path, params={"index": before[path], "wait": "15s"}))
                for path in ("health/service/web", "health/service/gone")
            ]
            await asyncio.sleep(0.1)
            assert not any(each.done() for each in asked), "nothing has changed"
            await client.put("agent/check/fail/service:web")
            await client.put("agent/service/register", json={"Name": "gone", "Port": 80})
            for each in asked:
                answer = await asyncio.wait_for(each, 5)
                assert len(answer.json()) == 1

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
