"""The doors that others speak to: Consul's HTTP API.

answers   wrk on ``/v1/health/service/web?passing``, ten instances, one node
idle      5,000 blocking queries that wait for a service of their own, on one node: the memory
          that they take, and what they leave of the speed for others
"""

import asyncio
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2
from tests.processes.cluster import NodeProcess, free_ports

SECONDS = 4
INSTANCES = 10
WAITING = 5_000
WRK_CONNECTIONS = 32
PATH = "/v1/health/service/web?passing"


def main() -> None:
    assert shutil.which("wrk"), "wrk is not installed: apt-get install wrk"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * WAITING + 1000)), hard))
    with tempfile.TemporaryDirectory() as directory:
        node = NodeProcess("a", Path(directory) / "a", f"127.0.0.1:{free_ports(1)[0]}")
        node.begin()
        node.wait_ready()
        try:
            asyncio.run(_measure(node))
        finally:
            node.kill()


async def _measure(node: NodeProcess) -> None:
    url = f"http://{node.http}"
    async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
        for number in range(INSTANCES):
            body = {"ID": f"w-{number}", "Name": "web", "Address": f"10.0.0.{number}", "Port": 80}
            (await client.put("/v1/agent/service/register", json=body)).raise_for_status()
        alone = await asyncio.to_thread(_wrk, url + PATH)
        print(f"   answers: {alone:,.0f} requests/s of {PATH}")
        before = _resident(node)
        waiting = await _wait_many(node.http, await _index(client))
        taken = _resident(node) - before
        crowded = await asyncio.to_thread(_wrk, url + PATH)
        begun = time.perf_counter()
        body = {"ID": "o-1", "Name": "one-7", "Address": "10.0.0.1", "Port": 80}
        (await client.put("/v1/agent/service/register", json=body)).raise_for_status()
        reader, _ = waiting[7]
        line = await asyncio.wait_for(reader.readline(), 10)
        assert b"200" in line, line
        print(f"   idle: a change reaches its waiter in {time.perf_counter() - begun:.4f} s")
        for _, writer in waiting:
            writer.transport.abort()
        await asyncio.sleep(1)
        again = await asyncio.to_thread(_wrk, url + PATH)
        print(
            f"   idle: {WAITING:,} blocking queries take {taken / 1e6:,.0f} MB "
            f"({taken / WAITING / 1e3:.1f} kB each); beside them {crowded:,.0f} requests/s, "
            f"without them {alone:,.0f} before and {again:,.0f} after"
        )


async def _index(client: httpx2.AsyncClient) -> int:
    return int((await client.get("/v1/health/service/nothing")).headers["x-consul-index"])


async def _wait_many(
    address: str, index: int
) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = address.rpartition(":")
    waiting = []
    for number in range(WAITING):
        reader, writer = await asyncio.open_connection(host, int(port))
        path = f"/v1/health/service/one-{number}?index={index}&wait=10m"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        waiting.append((reader, writer))
        if number % 200 == 199:
            await asyncio.sleep(0.02)
    await asyncio.sleep(1)
    return waiting


def _wrk(url: str) -> float:
    told = subprocess.run(
        ["wrk", "-t1", f"-c{WRK_CONNECTIONS}", f"-d{SECONDS}", url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Non-2xx" not in told, told
    found = re.search(r"Requests/sec:\s+([\d.]+)", told)
    assert found is not None, told
    return float(found[1])


def _resident(node: NodeProcess) -> int:
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
