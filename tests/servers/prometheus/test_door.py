import asyncio
from typing import Any

import pytest
from tests.servers.mounted import Mounted, mounted, served


async def groups(world: Mounted, query: str = "") -> list[dict[str, Any]]:
    answer = await world.ask(f"/prometheus/sd{query}")
    assert answer.headers["content-type"] == "application/json"
    return answer.json()  # type: ignore[no-any-return]


async def ids(world: Mounted, query: str = "") -> list[str]:
    return [group["labels"]["__meta_waypost_id"] for group in await groups(world, query)]


@served
async def test_nothing_registered_is_an_empty_list_and_no_error(world: Mounted) -> None:
    assert (await world.ask("/prometheus/sd")).content == b"[]"
    assert await groups(world, "?service=orders") == []


@served
async def test_an_instance_is_a_target_with_all_that_is_known_of_it(world: Mounted) -> None:
    await world.register(
        "team-a/orders",
        "o-1",
        zone="a",
        version="1.2",
        tags=("canary", "eu-west"),
        meta={"app.kubernetes.io/name": "orders"},
        ports={"admin-http": 9000},
    )

    assert await groups(world) == [
        {
            "targets": ["10.0.0.1:8000"],
            "labels": {
                "__meta_waypost_service": "team-a/orders",
                "__meta_waypost_id": "o-1",
                "__meta_waypost_host": "10.0.0.1",
                "__meta_waypost_port": "8000",
                "__meta_waypost_node": "10.0.0.1",
                "__meta_waypost_zone": "a",
                "__meta_waypost_version": "1.2",
                "__meta_waypost_health": "passing",
                "__meta_waypost_suspect": "false",
                "__meta_waypost_tags": ",canary,eu-west,",
                "__meta_waypost_tag_canary": "true",
                "__meta_waypost_tag_eu_west": "true",
                "__meta_waypost_port_admin_http": "9000",
                "__meta_waypost_meta_app_kubernetes_io_name": "orders",
            },
        }
    ]


@served
async def test_a_port_named_metrics_is_the_one_to_scrape(world: Mounted) -> None:
    await world.register("orders", "o-1", ports={"metrics": 9100})
    await world.register("orders", "o-2", host="::1", ports={"metrics": 9100})

    assert [group["targets"] for group in await groups(world)] == [
        ["10.0.0.1:9100"],
        ["[::1]:9100"],
    ]


@served
async def test_the_ill_are_listed_too_unless_health_asks_for_less(world: Mounted) -> None:
    await world.register("orders", "a")
    await world.register("orders", "b", health="critical")
    await world.register("orders", "c", health="draining")

    assert await ids(world) == ["a", "b", "c"]
    assert await ids(world, "?health=resolvable") == ["a"]
    assert await ids(world, "?health=critical") == ["b"]


@served
async def test_every_condition_must_hold_and_services_may_be_several(world: Mounted) -> None:
    await world.register("orders", "a", zone="z1", tags=("x", "y"), meta={"k": "v"}, version="1")
    await world.register("orders", "b", zone="z2", tags=("x",))
    await world.register("billing", "c", zone="z1")

    assert await ids(world) == ["c", "a", "b"]
    assert await ids(world, "?service=orders") == ["a", "b"]
    assert await ids(world, "?service=orders&service=billing") == ["a", "b", "c"]
    assert await ids(world, "?zone=z1") == ["c", "a"]
    assert await ids(world, "?tag=x&tag=y") == ["a"]
    assert await ids(world, "?meta.k=v&version=1") == ["a"]
    assert await ids(world, "?service=orders&zone=z3") == []


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/prometheus/sd?srevice=orders", 400, "srevice"),
        ("GET", "/prometheus/sd?service=Orders", 400, "Orders"),
        ("GET", "/prometheus/sd?health=well", 400, "well"),
        ("GET", "/prometheus/sd?zone=a&zone=b", 400, "zone"),
        ("GET", "/prometheus/sd?zone=%zz", 400, "hexadecimal"),
        ("GET", "/prometheus/sd/", 404, "/prometheus/sd"),
        ("GET", "/prometheus", 404, "/prometheus/sd"),
        ("POST", "/prometheus/sd", 405, "GET, HEAD"),
    ],
)
@served
async def test_what_cannot_be_answered_is_refused_with_the_reason(
    world: Mounted, method: str, path: str, status: int, said: str
) -> None:
    answer = await world.ask(path, status, method=method)

    assert said in answer.text
    assert answer.headers["content-type"].startswith("text/plain")


@served
async def test_a_head_has_the_headers_and_no_body(world: Mounted) -> None:
    answer = await world.ask("/prometheus/sd", method="HEAD")

    assert answer.headers["content-type"] == "application/json"
    assert answer.content == b""


@served
async def test_others_have_their_turn_while_a_long_list_is_made(world: Mounted) -> None:
    await asyncio.gather(*(world.register("orders", f"o-{n}") for n in range(1_000)))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    asking = asyncio.create_task(groups(world))
    counting = asyncio.create_task(other())
    assert len(await asking) == 1_000
    counting.cancel()
    assert turns > 5


def test_a_door_that_is_left_out_answers_nothing() -> None:
    async def main() -> None:
        async with mounted(without=("prometheus",)) as world:
            answer = await world.ask("/prometheus/sd", 404)
            assert answer.headers["content-type"] == "application/problem+json"

    asyncio.run(main())
