"""Checks that this registry itself performs, as Consul's clients give and see them."""

import asyncio
from typing import Any

from tests.servers.mounted import Mounted, served

REGISTER = "/v1/agent/service/register"


async def until_status(there: Mounted, check_id: str, status: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            shown: dict[str, Any] = (await there.ask("/v1/agent/checks")).json()[check_id]
            if shown["Status"] == status:
                return shown
            await asyncio.sleep(0.02)


@served
async def test_a_ttl_that_nobody_renews_runs_out(there: Mounted) -> None:
    body = {"Name": "web", "Port": 80, "Check": {"TTL": "100ms", "Status": "passing"}}
    await there.ask(REGISTER, method="PUT", json=body)

    shown = await until_status(there, "service:web", "critical")

    assert shown["Output"].startswith("TTL expired")
    assert (await there.ask("/v1/health/service/web?passing")).json() == []
    await there.ask("/v1/agent/check/pass/service:web", method="PUT")
    await until_status(there, "service:web", "passing")


@served
async def test_an_http_check_is_made(there: Mounted) -> None:
    url = f"http://{there.standalone.http_address}/"
    body = {
        "Name": "web",
        "Port": 80,
        "Checks": [
            {"CheckID": "page", "HTTP": url, "Interval": "1s", "Timeout": "5s"},
            {"CheckID": "none", "HTTP": f"{url}nothing", "Interval": "1s", "Timeout": "5s"},
            {"CheckID": "port", "TCP": there.standalone.http_address, "Interval": "1s"},
        ],
    }
    await there.ask(REGISTER, method="PUT", json=body)

    shown = await until_status(there, "page", "passing")
    assert "200" in shown["Output"]
    await until_status(there, "port", "passing")
    async with asyncio.timeout(20):
        while "404" not in (await until_status(there, "none", "critical"))["Output"]:
            await asyncio.sleep(0.05)


@served
async def test_an_alias_is_as_the_service_that_it_names(there: Mounted) -> None:
    web = {"Name": "web", "Port": 80, "Check": {"TTL": "1h", "Status": "passing"}}
    await there.ask(REGISTER, method="PUT", json=web)
    side = {"Name": "side", "Port": 81, "Check": {"CheckID": "as-web", "AliasService": "web"}}
    await there.ask(REGISTER, method="PUT", json=side)

    await until_status(there, "as-web", "passing")
    await there.ask("/v1/agent/check/fail/service:web", method="PUT")
    await until_status(there, "as-web", "critical")
