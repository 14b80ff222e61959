"""Health checks over HTTP."""

from typing import Any

import pytest
from tests.servers.http.world import World, of, served

WEB_1 = of("web") + "/instances/web-1"
HTTP = {
    "kind": "http",
    "target": "http://10.0.0.1:8080/health",
    "interval": 5,
    "timeout": 1.5,
    "headers": {"x-token": "t"},
    "deregister_after": 60,
    "name": "the page",
}


@served
async def test_a_check_is_put_shown_listed_reported_and_dropped(world: World) -> None:
    await world.register("web", "web-1", node="m-1")

    put = await world.put(f"{WEB_1}/checks/page", HTTP, 200)
    shown = await world.get(f"{WEB_1}/checks/page")

    assert shown.pop("since_ms") > 0
    assert shown == {
        **HTTP,
        "id": "page",
        "ttl": 0,
        "args": [],
        "runs_on": "",
        "method": "GET",
        "body": "",
        "tls": False,
        "tls_skip_verify": False,
        "up_after": 2,
        "down_after": 2,
        "notes": "",
        "status": "critical",
        "output": "",
        "revision": put["revision"],
    }
    (instance,) = (await world.get(of("web") + "?health=any"))["instances"]
    assert (instance["health"], instance["why"], instance["node"]) == (
        "critical",
        "check 'page' is critical",
        "m-1",
    )
    await world.post(f"{WEB_1}/checks/page/report", {"status": "passing", "output": "fine"}, 200)
    listed = await world.get(f"{WEB_1}/checks")
    assert [(each["status"], each["output"]) for each in listed["checks"]] == [("passing", "fine")]
    await world.delete(f"{WEB_1}/checks/page", 200)
    assert (await world.get(f"{WEB_1}/checks"))["checks"] == []


@served
async def test_a_check_in_a_namespace_has_a_path_as_well(world: World) -> None:
    await world.register("team-a/web", "web-1")
    path = of("team-a/web") + "/instances/web-1/checks/c"

    await world.put(path, {"kind": "manual", "status": "warning"}, 200)

    assert (await world.get(path))["status"] == "warning"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "http", "target": "file:///etc/passwd"}, "check.target"),
        ({"kind": "http", "target": "http://a/", "interval": 0.1}, "check.interval"),
        ({"kind": "http", "target": "http://a/", "interval": 1e300}, "check.interval"),
        ({"kind": "ttl"}, "check.ttl"),
        ({"kind": "script", "target": "rm -rf /"}, "kind"),
        ({"kind": "manual", "args": ["rm"]}, "args"),
    ],
)
def test_what_cannot_be_a_check_is_refused_by_field(body: Any, field: str) -> None:
    @served
    async def refused(world: World) -> None:
        await world.register("web", "web-1")
        problem = await world.put(f"{WEB_1}/checks/c", body, 400)
        assert problem["field"] == field

    refused()


@served
async def test_what_is_not_there_is_not_found(world: World) -> None:
    await world.put(f"{WEB_1}/checks/c", HTTP, 404)
    await world.register("web", "web-1")
    for method, path in (("GET", "checks/c"), ("DELETE", "checks/c")):
        problem = (await world.ask(method, f"{WEB_1}/{path}", 404)).json()
        assert problem["code"] == "unknown-check"
    problem = await world.post(f"{WEB_1}/checks/c/report", {"status": "passing"}, 404)
    assert problem["code"] == "unknown-check"


@served
async def test_a_registration_brings_its_checks_and_another_list_replaces_them(
    world: World,
) -> None:
    own = {**HTTP, "id": "page"}
    body = {"host": "10.0.0.1", "port": 8080}
    await world.put(WEB_1, {**body, "checks": [own, {"id": "told", "kind": "manual"}]}, 201)

    listed = (await world.get(f"{WEB_1}/checks"))["checks"]
    assert [(each["id"], each["status"]) for each in listed] == [
        ("page", "critical"),
        ("told", "critical"),
    ]
    await world.put(WEB_1, {**body, "weight": 2}, 200)
    assert len((await world.get(f"{WEB_1}/checks"))["checks"]) == 2, "nothing was said of them"
    await world.put(WEB_1, {**body, "checks": [own]}, 200)
    assert [each["id"] for each in (await world.get(f"{WEB_1}/checks"))["checks"]] == ["page"]

    item = {"op": "register", "service": "web", "id": "web-1", **body, "checks": []}
    await world.post("/api/v1/batch", {"items": [item]}, 200)
    assert (await world.get(f"{WEB_1}/checks"))["checks"] == []
    (instance,) = (await world.get(of("web")))["instances"]
    assert instance["health"] == "passing"


@pytest.mark.parametrize(
    ("checks", "field"),
    [
        ([{"id": "a", "kind": "http", "target": "nowhere"}], "check.target"),
        ([{"id": "a", "kind": "manual"}, {"id": "a", "kind": "manual"}], "check.id"),
        ([{"id": "", "kind": "manual"}], "id"),
        ([{"id": str(n), "kind": "manual"} for n in range(65)], "checks"),
    ],
)
@served
async def test_a_registration_with_wrong_checks_registers_nothing(
    world: World, checks: list[Any], field: str
) -> None:
    body = {"host": "10.0.0.1", "port": 8080, "checks": checks}
    assert (await world.put(WEB_1, body, 400))["field"] == field
    item = {"op": "register", "service": "web", "id": "web-1", **body}
    await world.post("/api/v1/batch", {"items": [item]}, 400)
    await world.get(f"{WEB_1}/checks", 404)
