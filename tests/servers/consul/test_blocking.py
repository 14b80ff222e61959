"""Blocking queries: who is woken, by what, with which index; and that nobody stays behind."""

import asyncio
import time
from typing import Any

import httpx2
from tests.servers.mounted import Mounted, mounted, served

from waypost.checks import Check
from waypost.servers.consul.blocking import Waits
from waypost.servers.consul.door import ConsulDoor
from waypost.standalone import new_event_loop

WEB = "/v1/health/service/web"


def waits_of(there: Mounted) -> Waits:
    door = there.standalone._http._app._mounted["v1"]  # type: ignore[union-attr]
    assert isinstance(door, ConsulDoor)
    return door.waits


async def index_of(there: Mounted, path: str) -> int:
    return int((await there.ask(path)).headers["x-consul-index"])


async def begin(there: Mounted, path: str, wait: str = "60s") -> "asyncio.Task[httpx2.Response]":
    """A blocking query for what comes after now, once it waits."""
    index = await index_of(there, path)
    before = len(waits_of(there))
    mark = "&" if "?" in path else "?"
    asked = asyncio.create_task(there.ask(f"{path}{mark}index={index}&wait={wait}"))
    await until(lambda: len(waits_of(there)) > before or asked.done())
    assert not asked.done(), f"{path} did not wait: {asked.result().text}"
    return asked


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def woken(asked: "asyncio.Task[httpx2.Response]") -> httpx2.Response:
    async with asyncio.timeout(5):
        return await asked


@served
async def test_a_change_of_the_service_answers_at_once_with_a_higher_index(
    there: Mounted,
) -> None:
    await there.register("web", "w-1")
    index = await index_of(there, WEB)
    asked = await begin(there, WEB)

    await there.registry.set_health("web", "w-1", "critical")

    answer = await woken(asked)
    assert int(answer.headers["x-consul-index"]) > index
    assert answer.json()[0]["Checks"][-1]["Status"] == "critical"
    assert len(waits_of(there)) == 0


@served
async def test_a_change_of_another_service_wakes_nobody(there: Mounted) -> None:
    await there.register("web", "w-1")
    asked = await begin(there, WEB, "60s")

    for number in range(20):
        await there.register("other", f"o-{number}")
    await there.registry.deregister("other", "o-3")
    await asyncio.sleep(0.05)

    assert not asked.done()
    await there.registry.deregister("web", "w-1")
    assert (await woken(asked)).json() == []


@served
async def test_who_waits_for_a_service_that_is_not_there_is_told_when_it_comes(
    there: Mounted,
) -> None:
    await there.register("other", "o-1")
    asked = await begin(there, WEB)

    await there.registry.deregister("other", "o-1")
    await asyncio.sleep(0.05)
    assert not asked.done(), "another service's end is none of its business"
    await there.register("web", "w-1")

    assert len((await woken(asked)).json()) == 1


@served
async def test_a_service_that_goes_and_one_that_comes_back_are_both_told(there: Mounted) -> None:
    await there.register("web", "w-1")
    index = await index_of(there, WEB)

    asked = await begin(there, WEB)
    await there.registry.deregister("web", "w-1")
    answer = await woken(asked)
    assert answer.json() == []
    gone = int(answer.headers["x-consul-index"])
    assert gone > index
    asked = await begin(there, WEB)
    await there.register("web", "w-1")
    answer = await woken(asked)
    assert int(answer.headers["x-consul-index"]) > gone


@served
async def test_a_change_that_came_before_the_question_is_not_lost(there: Mounted) -> None:
    await there.register("web", "w-1")
    index = await index_of(there, WEB)
    await there.registry.deregister("web", "w-1")

    begun = time.monotonic()
    answer = await there.ask(f"{WEB}?index={index}&wait=60s")

    assert answer.json() == []
    assert time.monotonic() - begun < 5


@served
async def test_when_the_time_is_up_the_same_is_told_with_an_index_not_lower(
    there: Mounted,
) -> None:
    await there.register("web", "w-1")
    await there.register("other", "o-1")
    index = await index_of(there, WEB)

    begun = time.monotonic()
    answer = await there.ask(f"{WEB}?index={index}&wait=200ms")

    assert time.monotonic() - begun >= 0.2
    assert int(answer.headers["x-consul-index"]) >= index
    assert len(answer.json()) == 1
    later = await there.ask(f"{WEB}?index={index + 1}&wait=50ms")
    assert int(later.headers["x-consul-index"]) >= index + 1, "what it came with, it keeps"


@served
async def test_an_index_of_another_life_is_told_the_lower_one_soon(there: Mounted) -> None:
    await there.register("web", "w-1")

    answer = await there.ask(f"{WEB}?index=1000000&wait=60s")

    assert int(answer.headers["x-consul-index"]) < 1000000


@served
async def test_the_very_first_change_of_a_registry_is_told(there: Mounted) -> None:
    for path in (WEB, "/v1/catalog/services", "/v1/health/state/any"):
        assert await index_of(there, path) >= 1
    asked = [await begin(there, path) for path in (WEB, "/v1/catalog/services")]

    await there.register("web", "w-1")

    for each in asked:
        answer = await woken(each)
        assert "web" in answer.text
        assert int(answer.headers["x-consul-index"]) > 1


@served
async def test_the_output_of_a_check_wakes_who_waits_for_its_service(there: Mounted) -> None:
    body = {"Name": "web", "Check": {"TTL": "1h", "Status": "passing"}}
    await there.ask("/v1/agent/service/register", method="PUT", json=body)
    paths = [WEB, "/v1/health/checks/web", "/v1/health/state/any", "/v1/health/node/local"]
    asked = [await begin(there, path) for path in paths]
    tags = await begin(there, "/v1/catalog/services")

    await there.ask("/v1/agent/check/pass/service:web?note=words", method="PUT")

    for each in asked:
        assert "words" in (await woken(each)).text
    assert not tags.done(), "no service and no tag changed"
    tags.cancel()


@served
async def test_the_same_report_again_wakes_nobody(there: Mounted) -> None:
    body = {"Name": "web", "Check": {"TTL": "1h"}}
    await there.ask("/v1/agent/service/register", method="PUT", json=body)
    await there.ask("/v1/agent/check/pass/service:web?note=ok", method="PUT")
    index = await index_of(there, WEB)

    await there.ask("/v1/agent/check/pass/service:web?note=ok", method="PUT")
    await there.ask("/v1/agent/service/register", method="PUT", json=body)

    assert await index_of(there, WEB) == index


@served
async def test_a_check_of_the_node_wakes_who_waits_for_a_service_on_it(there: Mounted) -> None:
    await there.ask("/v1/agent/service/register", method="PUT", json={"Name": "web"})
    asked = await begin(there, WEB)

    check = Check("disk", "disk", "manual")
    node = there.registry.name
    await there.registry.put_check("", "", check, node=node, status="critical")

    (entry,) = (await woken(asked)).json()
    assert [each["CheckID"] for each in entry["Checks"]] == ["disk", "serfHealth"]


@served
async def test_the_services_table_hears_of_services_and_tags_only(there: Mounted) -> None:
    await there.register("web", "w-1", tags=("a",))
    path = "/v1/catalog/services"
    asked = await begin(there, path)

    await there.registry.set_health("web", "w-1", "critical")
    await there.register("web", "w-2", tags=("a",))
    await asyncio.sleep(0.1)
    assert not asked.done()
    await there.register("web", "w-2", tags=("b",))
    assert (await woken(asked)).json()["web"] == ["a", "b"]
    asked = await begin(there, path)
    await there.register("new", "n-1")
    assert "new" in (await woken(asked)).json()
    asked = await begin(there, path)
    await there.registry.deregister("new", "n-1")
    assert "new" not in (await woken(asked)).json()


@served
async def test_the_nodes_table_hears_of_nodes_only(there: Mounted) -> None:
    await there.register("web", "w-1", host="10.0.0.1")
    path = "/v1/catalog/nodes"
    asked = await begin(there, path)

    await there.registry.set_health("web", "w-1", "critical")
    await asyncio.sleep(0.1)
    assert not asked.done()
    await there.register("web", "w-2", host="10.0.0.2")
    assert [each["Node"] for each in (await woken(asked)).json()][:2] == ["10.0.0.1", "10.0.0.2"]
    asked = await begin(there, path)
    body = {"Node": "m1", "Address": "10.0.0.9"}
    await there.ask("/v1/catalog/register", method="PUT", json=body)
    assert "m1" in (await woken(asked)).text


@served
async def test_a_service_with_its_hash_waits_until_it_is_another_one(there: Mounted) -> None:
    body = {"Name": "web", "Check": {"TTL": "1h"}}
    await there.ask("/v1/agent/service/register", method="PUT", json=body)
    shown = await there.ask("/v1/agent/service/web")
    known = shown.json()["ContentHash"]
    assert shown.headers["x-consul-contenthash"] == known
    path = f"/v1/agent/service/web?hash={known}&wait=60s"
    asked = asyncio.create_task(there.ask(path))
    await until(lambda: len(waits_of(there)) == 1)

    await there.ask("/v1/agent/check/pass/service:web", method="PUT")
    await asyncio.sleep(0.05)
    assert not asked.done(), "how it is is not what it is"
    await there.ask("/v1/agent/service/register", method="PUT", json={**body, "Tags": ["new"]})

    answer = await woken(asked)
    assert answer.json()["Tags"] == ["new"]
    assert answer.json()["ContentHash"] != known
    assert (await there.ask(path)).json() == answer.json()
    known = answer.json()["ContentHash"]
    later = await there.ask(f"/v1/agent/service/web?hash={known}&wait=20ms")
    assert later.json() == answer.json()


@served
async def test_a_client_that_hangs_up_frees_its_waiter_at_once(there: Mounted) -> None:
    await there.register("web", "w-1")
    asked = await begin(there, WEB)
    watchers = there.registry.status().watchers
    assert watchers == 1

    asked.cancel()

    await until(lambda: len(waits_of(there)) == 0)
    assert there.registry.status().watchers == 0


def test_a_door_that_closes_answers_all_who_wait() -> None:
    async def main() -> None:
        async with mounted() as there:
            await there.register("web", "w-1")
            asked = [await begin(there, WEB) for _ in range(5)]
            asked.append(await begin(there, "/v1/catalog/services"))

            begun = time.monotonic()
            await there.standalone._http.stop()  # type: ignore[union-attr]

            for each in asked:
                assert (await woken(each)).status_code == 200
            assert time.monotonic() - begun < 3

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())


@served
async def test_a_drain_waits_for_who_waits_here(there: Mounted) -> None:
    await there.register("web", "w-1")
    asked = await begin(there, WEB)

    drained = await there.registry.drain("web", "w-1", 5000)

    assert (drained.watchers, drained.unseen) == (1, 0)
    await woken(asked)
