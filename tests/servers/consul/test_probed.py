"""Checks that this registry itself performs, as Consul's clients give and see them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import uvloop
from tests.servers.mounted import Mounted, mounted, served

from waypost.checks import Check, check_check
from waypost.commands import PutCheck
from waypost.errors import Invalid

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


SCRIPT = {
    "Name": "job",
    "Check": {"CheckID": "c", "Args": ["sh", "-c", "echo 7"], "Interval": "1s"},
}


def serving_scripts(test: Callable[[Mounted], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            async with mounted(check_scripts=True) as there:
                await test(there)

        uvloop.run(main())

    run.__name__ = test.__name__
    return run


@serving_scripts
async def test_a_script_is_run_where_the_node_was_told_to(there: Mounted) -> None:
    await there.ask(REGISTER, method="PUT", json=SCRIPT)

    shown = await until_status(there, "c", "passing")
    assert (shown["Type"], shown["Interval"], shown["Output"]) == ("script", "1s", "7\n")
    assert "sh" not in str(shown["Definition"])
    by_name = {"ID": "d", "Name": "d", "ScriptArgs": ["sh", "-c", "exit 1"], "Interval": "1s"}
    await there.ask("/v1/agent/check/register", method="PUT", json=by_name)
    await until_status(there, "d", "warning")


@serving_scripts
async def test_a_script_needs_an_interval_and_a_program(there: Mounted) -> None:
    for check, says in (
        ({"Args": ["true"]}, "Interval must be > 0"),
        ({"Args": [""], "Interval": "1s"}, "check.args"),
        ({"Args": ["x"] * 65, "Interval": "1s"}, "check.args: 65 given"),
        ({"Args": ["x\0"], "Interval": "1s"}, "check.args"),
        ({"Script": "true", "Interval": "1s"}, "use Args"),
    ):
        body = {"Name": "job", "Check": check}
        answer = await there.ask(REGISTER, 400, method="PUT", json=body)
        assert says in answer.text


@serving_scripts
async def test_a_script_is_taken_from_nobody_but_programs_on_the_machine(there: Mounted) -> None:
    for header in (
        {"Origin": f"http://{there.standalone.http_address}"},  # a page, perhaps by rebinding
        {"X-Forwarded-For": "10.0.0.7"},
        {"Forwarded": "for=10.0.0.7"},
        {"Via": "1.1 proxy"},
    ):
        answer = await there.ask(REGISTER, 400, method="PUT", json=SCRIPT, headers=header)
        assert "--check-scripts" in answer.text
    assert (await there.ask("/v1/agent/services")).json() == {}


@serving_scripts
async def test_no_probe_of_the_registry_itself_brings_it_a_script(there: Mounted) -> None:
    url = f"http://{there.standalone.http_address}{REGISTER}"
    probe = {
        "CheckID": "probe",
        "HTTP": url,
        "Method": "PUT",
        "Body": json.dumps(SCRIPT),
        "Header": {"Waypost-Probe": [""]},
        "Interval": "1s",
    }
    await there.ask(REGISTER, method="PUT", json={"Name": "web", "Port": 80, "Check": probe})

    async with asyncio.timeout(20):
        while "--check-scripts" not in (await until_status(there, "probe", "critical"))["Output"]:
            await asyncio.sleep(0.05)
    assert list((await there.ask("/v1/agent/services")).json()) == ["web"]
    for name in ("Transfer-Encoding", "content-length", "Connection"):
        probe["Header"] = {name: ["chunked"]}  # with a second request in the body
        body = {"Name": "web", "Port": 80, "Check": probe}
        answer = await there.ask(REGISTER, 400, method="PUT", json=body)
        assert "is for the prober to say" in answer.text


@serving_scripts
async def test_no_other_door_takes_a_script(there: Mounted) -> None:
    await there.register("job", "job")
    path, name = "/api/v1/services/job/instances/job/checks/c", there.registry.name
    answer = await there.ask(path, 400, method="PUT", json={"kind": "script"})
    assert "kind" in answer.text
    check = Check("c", kind="script", args=("true",), runs_on=name)
    with pytest.raises(Invalid, match="by the Consul door alone"):
        await there.registry.put_check("job", "job", check)
    with pytest.raises(Invalid, match="by the Consul door alone"):
        check_check(msgspec.structs.replace(check, kind="ttl", ttl_ms=1_000))


@serving_scripts
async def test_a_script_of_another_node_is_left_to_that_one(there: Mounted) -> None:
    await there.register("job", "job", node=there.registry.name)
    theirs = Check("c", kind="script", args=("true",), runs_on="elsewhere", interval_ms=1_000)
    own = msgspec.structs.replace(theirs, id="own", runs_on=there.registry.name)
    await there.registry.write([PutCheck("job", "job", "", each) for each in (theirs, own)])

    await until_status(there, "own", "passing")
    await asyncio.sleep(1.2)  # longer than the interval
    shown = await until_status(there, "c", "critical")
    assert shown["Output"] == ""


@served
async def test_a_node_that_was_not_told_to_takes_no_script(there: Mounted) -> None:
    answer = await there.ask(REGISTER, 400, method="PUT", json=SCRIPT)

    assert "started with --check-scripts" in answer.text
