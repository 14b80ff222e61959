"""Each operation, asked over the network."""

import asyncio
import json

import pytest
from tests.servers.http.world import INSTANCE, World, of, served

from waypost.model import Health
from waypost.node.registry import Registry
from waypost.wire import Verified

WEB_1 = of("web") + "/instances/web-1"


@served
async def test_what_is_said_of_an_instance_is_resolved(world: World) -> None:
    said = {
        "host": "127.0.0.1",
        "port": world.port,
        "weight": 2.5,
        "zone": "a",
        "version": "1.2",
        "tags": ["blue", "green"],
        "meta": {"team": "größe\n"},
        "ports": {"metrics": 9100},
    }

    registered = await world.put(WEB_1, {**said, "health": "warning", "why": "new"}, 201)
    answer = await world.get(of("web"))

    (instance,) = answer.pop("instances")
    assert answer == {
        "service": "web",
        "revision": registered["revision"],
        "age_ms": 0,
        "source": "leader",
    }
    assert instance.pop("since_ms") > 0
    assert instance == {
        **said,
        "id": "web-1",
        "service": "web",
        "incarnation": registered["incarnation"],
        "node": "",
        "health": "warning",
        "why": "new",
        "suspect": False,
        "session": "lease:web/web-1",
        "revision": registered["revision"],
    }


@served
async def test_a_second_registration_refreshes_the_first(world: World) -> None:
    first = await world.put(WEB_1, {"host": "10.0.0.1", "port": 1}, 201)
    second = await world.put(WEB_1, {"host": "10.0.0.2", "port": 1}, 200)

    assert second["incarnation"] == first["incarnation"]
    assert second["revision"] > first["revision"]
    (instance,) = (await world.get(of("web")))["instances"]
    assert instance["host"] == "10.0.0.2"


@served
async def test_a_lease_is_of_ten_seconds_unless_another_is_asked_for(world: World) -> None:
    plain = await world.put(WEB_1, {"host": "h", "port": 1})
    short = await world.put(of("web") + "/instances/web-2", {"host": "h", "port": 1, "ttl": 0.5})

    assert plain["ttl"] == 10.0
    assert short["ttl"] == 0.5
    assert {held.ttl_ns for held in world.node.sessions} == {10_000_000_000, 500_000_000}


@served
async def test_a_ttl_of_zero_asks_for_no_lease(world: World) -> None:
    registered = await world.put(WEB_1, {"host": "h", "port": 1, "ttl": 0})

    assert registered["ttl"] == 0
    (instance,) = (await world.get(of("web")))["instances"]
    assert instance["session"] == ""
    assert len(world.node.sessions) == 0


@served
async def test_an_address_that_can_be_reached_gives_no_warning(world: World) -> None:
    assert (await world.register("web", "a", port=world.port))["warnings"] == []


@served
async def test_an_address_that_cannot_be_reached_is_registered_with_a_warning(
    world: World,
) -> None:
    registered = await world.register("web", "a", port=1)

    (warning,) = registered["warnings"]
    assert "127.0.0.1:1" in warning
    assert len((await world.get(of("web")))["instances"]) == 1


class SilentAddresses(Registry):
    async def verify(self, service: str, instance_id: str, seen_as: str = "") -> Verified:
        return await asyncio.get_running_loop().create_future()


@served(make=SilentAddresses)
async def test_a_silent_address_does_not_keep_a_registration_waiting(world: World) -> None:
    async with asyncio.timeout(5):
        registered = await world.register("web", "a")

    assert registered["warnings"] == ["the advertised address did not answer within 250 ms"]


@served
async def test_a_renewal_keeps_the_lease(world: World) -> None:
    await world.put(WEB_1, {"host": "h", "port": 1})
    (held,) = world.node.sessions
    before = held.heard_ns

    renewed = await world.post(WEB_1 + "/renew", status=200)

    assert held.heard_ns > before
    assert renewed == {"revision": world.node.revision}


@served
async def test_what_is_not_registered_cannot_be_changed(world: World) -> None:
    for verb, body in (("renew", None), ("health", {"health": "passing"}), ("drain", None)):
        problem = await world.post(f"{WEB_1}/{verb}", body, 404)
        assert problem["code"] == "unknown-service", verb
    assert (await world.delete(WEB_1, 404))["code"] == "unknown-service"

    await world.register("web", "web-2")
    for verb, body in (("renew", None), ("health", {"health": "passing"}), ("drain", None)):
        problem = await world.post(f"{WEB_1}/{verb}", body, 404)
        assert problem["code"] == "unknown-instance", verb
    assert (await world.delete(WEB_1, 404))["code"] == "unknown-instance"


@served
async def test_a_service_with_no_healthy_instance_is_known_and_empty(world: World) -> None:
    await world.register("web", "web-1")

    answer = await world.post(WEB_1 + "/health", {"health": "critical", "why": "disk"}, 200)

    assert answer == {"revision": world.node.revision}
    assert (await world.get(of("web")))["instances"] == []
    (instance,) = (await world.get(of("web") + "?health=any"))["instances"]
    assert (instance["health"], instance["why"]) == ("critical", "disk")


@served
async def test_a_service_that_nobody_registered_is_unknown(world: World) -> None:
    for path in (of("web"), of("web") + "?health=any"):
        problem = await world.get(path, 404)
        assert problem["code"] == "unknown-service"
        assert "'web'" in problem["detail"]


@served
async def test_a_drained_instance_leaves_resolution(world: World) -> None:
    await world.register("web", "web-1")
    await world.register("web", "web-2")

    drained = await world.post(WEB_1 + "/drain", {"deadline": 1}, 200)

    assert drained == {"revision": world.node.revision, "watchers": 0, "unseen": 0}
    assert [i["id"] for i in (await world.get(of("web")))["instances"]] == ["web-2"]


@served
async def test_a_drain_without_a_body_has_a_deadline_of_its_own(world: World) -> None:
    await world.register("web", "web-1")

    assert (await world.post(WEB_1 + "/drain", status=200))["unseen"] == 0


@served
async def test_a_removed_instance_is_gone(world: World) -> None:
    await world.put(WEB_1, {"host": "h", "port": 1})

    assert await world.delete(WEB_1, 200) == {"revision": world.node.revision}
    await world.get(of("web"), 404)
    assert len(world.node.sessions) == 0


@served
async def test_an_older_life_of_an_instance_is_refused(world: World) -> None:
    old = (await world.register("web", "web-1"))["incarnation"]
    await world.delete(WEB_1, 200)
    new = (await world.register("web", "web-1"))["incarnation"]

    refused = [
        await world.put(WEB_1, {**INSTANCE, "incarnation": old}, 409),
        await world.post(WEB_1 + "/health", {"health": "critical", "incarnation": old}, 409),
        await world.delete(f"{WEB_1}?incarnation={old}", 409),
    ]

    assert {problem["code"] for problem in refused} == {"superseded"}
    await world.put(WEB_1, {**INSTANCE, "incarnation": new}, 200)
    await world.delete(f"{WEB_1}?incarnation={new}", 200)


@served
async def test_every_service_is_listed_in_numbers(world: World) -> None:
    await world.register("web", "web-1")
    await world.register("web", "web-2", health="critical")
    last = await world.register("team-a/orders", "o-1")

    assert await world.get("/api/v1/services") == {
        "revision": last["revision"],
        "age_ms": 0,
        "source": "leader",
        "services": [
            {"service": "team-a/orders", "instances": 1, "pickable": 1, "revision": 3},
            {"service": "web", "instances": 2, "pickable": 1, "revision": 2},
        ],
    }


@pytest.mark.parametrize("path", ["team-a/orders", "team-a%2Forders", "team-a%2forders"])
@served
async def test_a_namespace_is_written_before_a_slash_escaped_or_not(
    world: World, path: str
) -> None:
    instance = of(path) + "/instances/o-1"
    await world.put(instance, INSTANCE, 201)
    await world.post(instance + "/renew", status=200)
    await world.post(instance + "/health", {"health": "warning"}, 200)

    for resolved in (of(path), of(path) + "?zone="):
        assert [i["id"] for i in (await world.get(resolved))["instances"]] == ["o-1"], resolved
    await world.get(of("orders"), 404)
    await world.post(instance + "/drain", status=200)
    await world.delete(instance, 200)


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", "abc"),
        ("health=any", "abcde"),
        ("health=critical", "d"),
        ("health=passing&zone=x", "a"),
        ("zone=x", "ab"),
        ("zone=none", ""),
        ("tag=red", "ac"),
        ("tag=red&tag=big", "c"),
        ("version=2", "b"),
        ("meta.team=core", "b"),
        ("meta.team=core&meta.a%2Eb=1", "b"),
        ("meta.team=core&meta.a.b=2", ""),
        ("consistency=linearizable", "abc"),
        ("consistency=default&max_stale=0", "abc"),
        ("max_stale=2s", "abc"),
        ("max_stale=500ms", "abc"),
        ("max_stale=1.5", "abc"),
    ],
)
@served
async def test_every_condition_must_hold(world: World, query: str, ids: str) -> None:
    await world.register("web", "a", zone="x", tags=["red"])
    await world.register(
        "web", "b", zone="x", health="warning", version="2", meta={"team": "core", "a.b": "1"}
    )
    await world.register("web", "c", tags=["red", "big"])
    await world.register("web", "d", health="critical")
    await world.register("web", "e", weight=0)

    answer = await world.get(f"{of('web')}?{query}")

    assert "".join(i["id"] for i in answer["instances"]) == ids


@served
async def test_the_short_way_and_the_long_way_give_the_same_answer(world: World) -> None:
    await world.register("web", "a", meta={"k": 'v"\\\u2028'})
    await world.register("web", "b")

    short = await world.ask("GET", of("web"), 200)
    long = await world.ask("GET", of("web") + "?health=resolvable", 200)

    assert short.content == long.content
    assert short.headers["etag"] == long.headers["etag"]
    assert short.headers["content-type"] == long.headers["content-type"]


@pytest.mark.parametrize("query", ["", "?health=any"])
@served
async def test_an_answer_that_the_client_has_already_is_not_sent_again(
    world: World, query: str
) -> None:
    await world.register("web", "a")
    path = of("web") + query
    tag = (await world.ask("GET", path, 200)).headers["etag"]

    await world.register("other", "a")  # moves the revision, and not this service
    same = await world.ask("GET", path, 304, headers={"if-none-match": tag})
    await world.register("web", "b")
    changed = await world.ask("GET", path, 200, headers={"if-none-match": tag})

    assert same.content == b""
    assert same.headers["etag"] == tag
    assert changed.headers["etag"] != tag


@served
async def test_head_tells_what_get_would(world: World) -> None:
    await world.register("web", "a")
    for path in ("/", "/healthz", "/api/v1/services", of("web")):
        head = await world.ask("HEAD", path, 200)
        got = await world.ask("GET", path, 200)
        assert head.content == b""
        for name in ("content-type", "content-length", "etag"):
            assert head.headers.get(name) == got.headers.get(name), (path, name)
    assert (await world.ask("HEAD", of("nobody"))).status_code == 404


# Many changes at once


@served
async def test_a_batch_is_one_entry_of_the_log(world: World) -> None:
    await world.register("web", "old")
    await world.put(of("web") + "/instances/leased", {"host": "h", "port": 1})
    before = world.node.revision
    batch = [
        {"op": "register", "service": "web", "id": "new", **INSTANCE},
        {"op": "register", "service": "api", "id": "new", "host": "h", "port": 1, "ttl": 3},
        {"op": "set_health", "service": "web", "id": "old", "health": "critical", "why": "x"},
        {"op": "renew", "service": "web", "id": "leased"},
        {"op": "deregister", "service": "web", "id": "nobody"},
    ]

    answer = await world.post("/api/v1/batch", {"items": batch}, 200)

    assert answer["revision"] == before + 1 == world.node.revision
    statuses = [result["status"] for result in answer["results"]]
    assert statuses == [200, 200, 200, 200, 404]
    assert answer["results"][0]["incarnation"] > 0
    assert "incarnation" not in answer["results"][2]
    assert answer["results"][4]["error"]["code"] == "unknown-instance"
    known = {
        i["id"]: i["health"] for i in (await world.get(of("web") + "?health=any"))["instances"]
    }
    assert known == {"old": "critical", "leased": "passing", "new": "passing"}


@served
async def test_nothing_of_a_batch_with_an_invalid_item_is_done(world: World) -> None:
    good = {"op": "register", "service": "web", "id": "a", **INSTANCE}
    bad = {"op": "register", "service": "web", "id": "b", **INSTANCE, "port": 0}

    problem = await world.post("/api/v1/batch", {"items": [good, bad]}, 400)

    assert problem["field"] == "items[1].port"
    assert "65535" in problem["detail"]
    await world.get(of("web"), 404)


@served
async def test_an_empty_batch_does_nothing(world: World) -> None:
    await world.register("web", "a")

    answer = await world.post("/api/v1/batch", {"items": []}, 200)

    assert answer == {"revision": world.node.revision, "results": []}


@served
async def test_a_batch_has_a_limit(world: World) -> None:
    item = {"op": "renew", "service": "web", "id": "a"}

    problem = await world.post("/api/v1/batch", {"items": [item] * 1001}, 400)

    assert problem["field"] == "items"
    assert "1000" in problem["detail"]


# The node


@served
async def test_the_node_says_how_it_is(world: World) -> None:
    await world.register("web", "a")

    status = await world.get("/api/v1/status")

    assert status["node"] == world.node.name
    assert status["instances"] == 1
    assert status["role"] == "leader"
    assert status["members"] == list(world.node.status().members)


class Leaderless(Registry):
    def is_ready(self) -> tuple[bool, str]:
        return False, "no leader"


@served(make=Leaderless)
async def test_a_process_may_be_alive_and_not_ready(world: World) -> None:
    assert await world.get("/healthz") == {"status": "alive"}
    problem = await world.get("/readyz", 503)
    assert problem["code"] == "not-ready"
    assert problem["retryable"] is True
    assert "no leader" in problem["detail"]


@served
async def test_a_node_that_takes_writes_is_ready(world: World) -> None:
    assert await world.get("/readyz") == {"status": "ready"}


@served
async def test_the_page_asks_nothing_of_anybody_else(world: World) -> None:
    page = await world.ask("GET", "/", 200)

    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    text = page.text.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in text
    assert "https://" not in text
    assert "innerHTML" not in text


@pytest.mark.parametrize("health", ["starting", "passing", "warning", "critical", "draining"])
@served
async def test_every_health_can_be_reported(world: World, health: Health) -> None:
    await world.register("web", "web-1")

    await world.post(WEB_1 + "/health", {"health": health}, 200)

    record = world.registry.record("web", "web-1")
    assert record.health == health


@served
async def test_answers_are_json_also_to_the_last_byte(world: World) -> None:
    await world.register("web", "a", meta={"k": "\x00\x1f\u2029</script>"})

    for path in (of("web"), of("web") + "?health=any", "/api/v1/services", "/openapi.json"):
        answer = await world.ask("GET", path, 200)
        assert answer.headers["content-type"] == "application/json"
        json.loads(answer.content)
