"""``/v1/txn`` on nodes, services and checks, as Consul 1.16 answers."""

import base64
from typing import Any

from tests.servers.mounted import Mounted, served


def node(verb: str, name: str, **fields: object) -> dict[str, Any]:
    return {"Node": {"Verb": verb, "Node": {"Node": name, **fields}}}


def service(verb: str, on: str, service_id: str, **fields: object) -> dict[str, Any]:
    return {"Service": {"Verb": verb, "Node": on, "Service": {"ID": service_id, **fields}}}


def check(verb: str, on: str, check_id: str, **fields: object) -> dict[str, Any]:
    return {"Check": {"Verb": verb, "Check": {"Node": on, "CheckID": check_id, **fields}}}


def key(verb: str, name: str, value: str = "") -> dict[str, Any]:
    return {"KV": {"Verb": verb, "Key": name, "Value": base64.b64encode(value.encode()).decode()}}


async def transact(there: Mounted, *steps: dict[str, Any], status: int = 200) -> Any:
    answer = await there.ask("/v1/txn", status, method="PUT", json=list(steps))
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


async def refused(there: Mounted, *steps: dict[str, Any]) -> list[tuple[int, str]]:
    answer = await transact(there, *steps, status=409)
    assert answer["Results"] is None
    return [(each["OpIndex"], each["What"]) for each in answer["Errors"]]


WEB = (
    node("set", "m1", Address="10.0.0.1", Meta={"rack": "7"}),
    service("set", "m1", "web-1", Service="web", Port=80, Tags=["v1"], Meta={"a": "b"}),
    check("set", "m1", "http", ServiceID="web-1", Status="passing", Name="HTTP", Notes="n"),
    check("set", "m1", "disk", Status="passing", Output="12% used"),
    key("set", "web/deployed", "web-1"),
)


async def everything(there: Mounted) -> dict[str, Any]:
    """What the other endpoints show."""
    return {
        path: (await there.ask(path)).json()
        for path in ("/v1/catalog/nodes", "/v1/health/service/web", "/v1/health/state/any")
    }


@served
async def test_a_node_its_service_their_checks_and_a_key_come_in_one_entry(there: Mounted) -> None:
    before = there.registry.revision

    done = await transact(there, *WEB)

    index = there.registry.revision
    assert index == before + 1
    assert done["Errors"] is None
    made_node, made_service, made_check, disk, made_key = done["Results"]
    assert made_node["Node"] == {
        "ID": made_node["Node"]["ID"],
        "Node": "m1",
        "Address": "10.0.0.1",
        "Datacenter": "dc1",
        "TaggedAddresses": made_node["Node"]["TaggedAddresses"],
        "Meta": {"rack": "7"},
        "CreateIndex": index,
        "ModifyIndex": index,
    }
    told = made_service["Service"]
    assert (told["ID"], told["Service"], told["Port"], told["Tags"], told["Meta"]) == (
        "web-1",
        "web",
        80,
        ["v1"],
        {"a": "b"},
    )
    assert (told["Address"], told["ModifyIndex"]) == ("", index)
    told = made_check["Check"]
    assert (told["Node"], told["CheckID"], told["Name"]) == ("m1", "http", "HTTP")
    assert (told["ServiceID"], told["ServiceName"], told["ServiceTags"]) == ("web-1", "web", ["v1"])
    assert (told["Status"], told["Notes"], told["ModifyIndex"]) == ("passing", "n", index)
    assert (disk["Check"]["ServiceID"], disk["Check"]["Output"]) == ("", "12% used")
    assert made_key["KV"]["Key"] == "web/deployed"
    (entry,) = (await there.ask("/v1/health/service/web?passing")).json()
    assert (entry["Node"]["Address"], entry["Service"]["ID"]) == ("10.0.0.1", "web-1")
    assert {each["CheckID"] for each in entry["Checks"]} == {"http", "disk", "serfHealth"}


@served
async def test_what_is_read_is_what_was_set_and_costs_no_entry(there: Mounted) -> None:
    written = (await transact(there, *WEB))["Results"]
    revision = there.registry.revision
    reads = (
        node("get", "m1"),
        service("get", "m1", "web-1"),
        check("get", "m1", "http"),
        check("get", "m1", "disk"),
    )

    answer = await there.ask("/v1/txn?consistent", method="PUT", json=list(reads))

    assert answer.json()["Results"] == written[:4]
    assert answer.headers["x-consul-knownleader"] == "true"
    assert there.registry.revision == revision
    both = await transact(there, key("get", "web/deployed"), reads[0], key("get-tree", "web/"))
    assert [list(each) for each in both["Results"]] == [["KV"], ["Node"], ["KV"]]


@served
async def test_one_that_fails_changes_nothing_and_names_each_that_failed(there: Mounted) -> None:
    await transact(there, *WEB)
    index, before = there.registry.revision, await everything(there)
    other = index + 9

    failed = await refused(
        there,
        node("set", "m2", Address="10.0.0.2"),
        node("cas", "m1", Address="10.9.9.9", ModifyIndex=other),
        node("get", "m3"),
        node("delete-cas", "m1", ModifyIndex=other),
        service("cas", "m1", "web-1", Service="web", Port=81, ModifyIndex=other),
        service("get", "m1", "none"),
        service("delete-cas", "m1", "web-1", ModifyIndex=other),
        service("set", "m3", "web-1", Service="web"),
        check("cas", "m1", "disk", Status="critical", ModifyIndex=other),
        check("get", "m1", "none"),
        check("delete-cas", "m1", "http", ModifyIndex=other),
        check("set", "m1", "http", ServiceID="none"),
        check("set", "m3", "disk"),
        key("set", "other", "x"),
    )

    assert failed == [
        (1, 'failed to set node "m1", index is stale'),
        (2, 'node "m3" doesn\'t exist'),
        (3, 'failed to delete node "m1", index is stale'),
        (4, 'failed to set service "web-1" on node "m1", index is stale'),
        (5, 'service "none" on node "m1" doesn\'t exist'),
        (6, 'failed to delete service "web-1" on node "m1", index is stale'),
        (7, "Missing node registration"),
        (8, 'failed to set check "disk" on node "m1", index is stale'),
        (9, 'check "none" on node "m1" doesn\'t exist'),
        (10, 'failed to delete check "http" on node "m1", index is stale'),
        (11, "Missing service registration"),
        (12, "Missing node registration"),
    ]
    assert await everything(there) == before
    assert (await there.ask("/v1/kv/?keys")).json() == ["web/deployed"]


@served
async def test_with_the_index_that_it_was_read_at_a_thing_is_set_once(there: Mounted) -> None:
    await transact(
        there,
        node("cas", "m1", Address="10.0.0.1", ModifyIndex=0),
        service("cas", "m1", "web-1", Service="web", Port=80, ModifyIndex=0),
        check("cas", "m1", "disk", Status="passing", ModifyIndex=0),
    )
    index = there.registry.revision
    steps = (
        node("cas", "m1", Address="10.0.0.9", ModifyIndex=index),
        service("cas", "m1", "web-1", Service="web", Port=81, ModifyIndex=index),
        check("cas", "m1", "disk", Status="warning", ModifyIndex=index),
    )

    done = await transact(there, *steps)

    assert done["Results"][0]["Node"]["Address"] == "10.0.0.9"
    assert done["Results"][1]["Service"]["Port"] == 81
    assert done["Results"][2]["Check"]["Status"] == "warning"
    assert [number for number, _ in await refused(there, *steps)] == [0, 1, 2]
    index = there.registry.revision - 1  # of what was done: the refused one is an entry too
    await transact(
        there,
        service("delete-cas", "m1", "web-1", ModifyIndex=index),
        check("delete-cas", "m1", "disk", ModifyIndex=index),
    )
    assert (await there.ask("/v1/catalog/service/web")).json() == []


@served
async def test_a_node_goes_with_all_that_is_on_it_and_going_again_is_no_error(
    there: Mounted,
) -> None:
    await transact(there, *WEB)

    gone = (
        check("delete", "m1", "http"),
        service("delete", "m1", "web-2"),
        node("delete", "m1"),
    )
    assert await transact(there, *gone) == {"Results": [], "Errors": None}

    assert await transact(there, *gone) == {"Results": [], "Errors": None}
    assert (await there.ask("/v1/health/service/web")).json() == []
    assert "m1" not in {each["Node"] for each in (await there.ask("/v1/catalog/nodes")).json()}


@served
async def test_each_operation_sees_what_those_before_it_did(there: Mounted) -> None:
    await transact(there, *WEB)

    done = await transact(
        there,
        node("delete", "m1"),
        node("set", "m1", Address="10.0.0.2"),
        service("set", "m1", "web-1", Service="web", Port=82),
        service("get", "m1", "web-1"),
        check("set", "m1", "http", ServiceID="web-1", Status="warning"),
    )

    read = done["Results"][2]["Service"]
    assert (read["Port"], read["Tags"]) == (82, [])
    (entry,) = (await there.ask("/v1/health/service/web")).json()
    assert entry["Node"]["Address"] == "10.0.0.2"
    assert {each["CheckID"]: each["Status"] for each in entry["Checks"]} == {
        "serfHealth": "passing",
        "http": "warning",
    }
    failed = await refused(there, service("delete", "m1", "web-1"), service("get", "m1", "web-1"))
    assert failed == [(1, 'service "web-1" on node "m1" doesn\'t exist')]
    assert (await there.ask("/v1/catalog/service/web")).json() != []


@served
async def test_it_sees_what_an_agent_registered_and_leaves_its_checks_to_it(there: Mounted) -> None:
    await there.ask(
        "/v1/agent/service/register?node=m1",
        method="PUT",
        json={"Name": "web", "ID": "web-1", "Port": 80, "Check": {"TTL": "30s", "CheckID": "up"}},
    )

    done = await transact(
        there,
        service("set", "m1", "web-1", Service="shop", Port=80),
        service("get", "m1", "web-1"),
    )
    assert done["Results"][1]["Service"]["Service"] == "shop"
    assert (await there.ask("/v1/catalog/service/web")).json() == []

    await there.ask(
        "/v1/agent/check/register?node=m1",
        method="PUT",
        json={"Name": "up", "ServiceID": "web-1", "TTL": "30s"},
    )
    told = check("set", "m1", "up", ServiceID="web-1", Status="passing", Output="by hand")
    assert (await transact(there, told))["Results"][0]["Check"]["Definition"] == {"TTL": "30s"}
    await there.ask("/v1/agent/check/fail/up?node=m1", method="PUT")


@served
async def test_who_waits_for_a_service_is_woken_by_it(there: Mounted) -> None:
    await transact(there, *WEB)
    index = there.registry.revision

    await transact(there, check("set", "m1", "disk", Status="critical"))

    for path in ("/v1/health/service/web", "/v1/health/node/m1", "/v1/health/state/critical"):
        answer = await there.ask(f"{path}?index={index}&wait=60s")
        assert int(answer.headers["x-consul-index"]) > index, path


@served
async def test_who_watches_machines_says_that_one_died_and_that_it_is_back(there: Mounted) -> None:
    async def is_used(since: int) -> bool:
        found = await there.ask(f"/v1/health/service/web?passing&index={since}&wait=60s")
        return found.json() != []

    await transact(there, *WEB)
    lost = check("set", "m1", "serfHealth", Status="critical", Output="unreachable")

    revision = there.registry.revision
    done = await transact(there, check("get", "m1", "disk"), lost)
    assert not await is_used(revision)
    shown = (await there.ask("/v1/health/node/m1")).json()
    assert {each["CheckID"]: each["Status"] for each in shown}["serfHealth"] == "critical"

    revision = there.registry.revision
    index = done["Results"][1]["Check"]["ModifyIndex"]
    await transact(there, check("delete-cas", "m1", "serfHealth", ModifyIndex=index))
    assert await is_used(revision)


@served
async def test_a_session_ends_with_the_check_that_it_lived_by(there: Mounted) -> None:
    await transact(there, *WEB)
    session = (
        await there.ask(
            "/v1/session/create",
            method="PUT",
            json={"Node": "m1", "NodeChecks": ["disk"], "LockDelay": "0s"},
        )
    ).json()["ID"]
    await there.ask(f"/v1/kv/lock?acquire={session}", method="PUT", content=b"")

    await transact(there, check("set", "m1", "disk", Status="critical"), key("set", "k", "v"))

    assert (await there.ask(f"/v1/session/info/{session}")).json() == []
    assert "Session" not in (await there.ask("/v1/kv/lock")).json()[0]


@served
async def test_the_node_of_the_registry_itself_is_there(there: Mounted) -> None:
    name = there.registry.name

    done = await transact(
        there,
        node("get", name),
        service("set", name, "web-1", Service="web", Port=80),
    )

    assert done["Results"][0]["Node"]["Node"] == name
    assert done["Results"][0]["Node"]["Address"] == "127.0.0.1"
    assert (await there.ask("/v1/agent/services")).json()["web-1"]["Port"] == 80


@served
async def test_what_is_no_operation_is_named_with_its_number(there: Mounted) -> None:
    fine = node("set", "m1", Address="10.0.0.1")
    for wrong, what in (
        ({}, "no operation specified"),
        (node("steal", "m1"), 'unknown Node verb "steal"'),
        (service("lock", "m1", "web"), 'unknown Service verb "lock"'),
        (check("lock", "m1", "up"), 'unknown Check verb "lock"'),
        (node("set", ""), "Must provide node"),
        (node("set", "m1", ID="x"), "Bad node ID"),
        (node("cas", "m1", ModifyIndex=-1), "ModifyIndex must be an unsigned number"),
        (node("set", "m" * 300), "1 to 253"),
        (service("set", "", "web"), "Must provide node"),
        (service("set", "m1", "web"), "Must provide service name"),
        (service("get", "m1", ""), "Must provide service ID"),
        (service("set", "m1", "w", Service="my_web"), "service name 'my_web'"),
        (service("set", "m1", "w", Service="w", Kind="connect-proxy"), "no service mesh"),
        (service("set", "m1", "w", Service="w", Port=70_000), "Port 70000"),
        (check("set", "m1", ""), "Must provide CheckID"),
        (check("set", "", "up"), "Must provide node"),
        (check("set", "m1", "up", Status="great"), "Bad check status"),
    ):
        ((number, told),) = await refused(there, fine, wrong)
        assert number == 1
        assert what in told, told
    assert there.registry.catalog.nodes.entries == {}


@served
async def test_weights_that_nothing_can_have_are_1_in_the_catalog(there: Mounted) -> None:
    none = {"Passing": 0, "Warning": 0}  # what Consul's own client in Go sends for none
    body = {"Node": "m1", "Address": "10.0.0.1"}
    db = {"Service": "db", "Port": 1, "Weights": none}
    await there.ask("/v1/catalog/register", method="PUT", json={**body, "Service": db})
    await transact(there, service("set", "m1", "web", Service="web", Port=80, Weights=none))

    for name in ("db", "web"):
        (found,) = (await there.ask(f"/v1/catalog/service/{name}")).json()
        assert found["ServiceWeights"] == {"Passing": 1, "Warning": 1}
