"""Every endpoint, field by field: Consul's documentation of its HTTP API, version 1.16."""

import uuid
from typing import Any

from tests.servers.mounted import Mounted, served

READ_HEADERS = {
    "x-consul-index",
    "x-consul-knownleader",
    "x-consul-lastcontact",
    "x-consul-effective-consistency",
    "x-consul-default-acl-policy",
    "x-consul-query-backend",
}
PROXY = {"Mode": "", "MeshGateway": {}, "Expose": {}}
WEB = {
    "ID": "web-1",
    "Name": "Web",
    "Tags": ["a", "B"],
    "Address": "10.1.1.1",
    "Port": 8080,
    "Meta": {"zone": "x"},
    "Weights": {"Passing": 3, "Warning": 2},
    "EnableTagOverride": True,
    "Check": {"TTL": "10s", "Status": "passing", "Notes": "beats"},
}


async def put(there: Mounted, path: str, body: Any = None, status: int = 200) -> Any:
    return await there.ask(path, status, method="PUT", json=body)


async def read(there: Mounted, path: str) -> Any:
    answer = await there.ask(path)
    assert {name for name in answer.headers if name.startswith("x-consul")} == READ_HEADERS
    assert int(answer.headers["x-consul-index"]) >= 1
    assert answer.headers["x-consul-knownleader"] == "true"
    assert answer.headers["x-consul-lastcontact"] == "0"
    return answer.json()


def node_of(there: Mounted) -> dict[str, Any]:
    name = there.registry.name
    return {
        "Node": name,
        "Address": "127.0.0.1",
        "Datacenter": "dc1",
        "TaggedAddresses": {
            "lan": "127.0.0.1",
            "lan_ipv4": "127.0.0.1",
            "wan": "127.0.0.1",
            "wan_ipv4": "127.0.0.1",
        },
        "Meta": {},
        "CreateIndex": 1,
        "ModifyIndex": 1,
    }


def serf_of(node: str) -> dict[str, Any]:
    return {
        "Node": node,
        "CheckID": "serfHealth",
        "Name": "Serf Health Status",
        "Status": "passing",
        "Notes": "",
        "Output": "Agent alive and reachable",
        "ServiceID": "",
        "ServiceName": "",
        "ServiceTags": [],
        "Type": "",
        "Interval": "",
        "Timeout": "",
        "ExposedPort": 0,
        "Definition": {},
        "CreateIndex": 1,
        "ModifyIndex": 1,
    }


def web_check(there: Mounted) -> dict[str, Any]:
    return {
        **serf_of(there.registry.name),
        "CheckID": "service:web-1",
        "Name": "Service 'web' check",
        "Notes": "beats",
        "Output": "",
        "ServiceID": "web-1",
        "ServiceName": "web",
        "ServiceTags": ["a", "B"],
        "Type": "ttl",
        "Definition": {"TTL": "10s"},
    }


ADDRESS = {"Address": "10.1.1.1", "Port": 8080}
WEB_SHOWN = {
    "ID": "web-1",
    "Service": "web",
    "Tags": ["a", "B"],
    "Meta": {"zone": "x"},
    "Port": 8080,
    "Address": "10.1.1.1",
    "Weights": {"Passing": 3, "Warning": 2},
    "EnableTagOverride": True,
}
WEB_IN_CATALOG = {
    **WEB_SHOWN,
    "TaggedAddresses": {"lan_ipv4": ADDRESS, "wan_ipv4": ADDRESS},
    "Proxy": PROXY,
    "Connect": {},
    "PeerName": "",
}


def without(shown: dict[str, Any], *names: str) -> dict[str, Any]:
    """Without what differs from run to run: which must be there all the same."""
    return {key: value for key, value in shown.items() if key not in names} | dict.fromkeys(
        set(names) - shown.keys(), "missing"
    )


INDEXES = ("CreateIndex", "ModifyIndex")


@served
async def test_agent_services_has_exactly_these_fields_and_no_consul(there: Mounted) -> None:
    answer = await put(there, "/v1/agent/service/register", WEB)

    assert answer.content == b""
    answer = await there.ask("/v1/agent/services")
    assert answer.json() == {"web-1": {**WEB_SHOWN, "Datacenter": "dc1"}}
    assert "x-consul-index" not in answer.headers


@served
async def test_a_service_needs_no_more_than_a_name(there: Mounted) -> None:
    await put(there, "/v1/agent/service/register", {"name": "foo"})

    assert (await there.ask("/v1/agent/services")).json() == {
        "foo": {
            "ID": "foo",
            "Service": "foo",
            "Tags": [],
            "Meta": {},
            "Port": 0,
            "Address": "",
            "Weights": {"Passing": 1, "Warning": 1},
            "EnableTagOverride": False,
            "Datacenter": "dc1",
        }
    }
    (entry,) = await read(there, "/v1/health/service/foo")
    assert "Port" not in entry["Service"]
    assert entry["Service"]["Meta"] == {}
    assert entry["Checks"] == [serf_of(there.registry.name)]
    (flat,) = await read(there, "/v1/catalog/service/foo")
    assert flat["ServicePort"] == 0
    assert flat["ServiceTags"] == []


@served
async def test_a_tag_may_be_a_rule_of_traefiks(there: Mounted) -> None:
    hosts = " || ".join(f"Host(`web-{number}.example.org`)" for number in range(12))
    tag = f"traefik.http.routers.web.rule=({hosts}) && PathPrefix(`/api`)"
    assert len(tag) > 300
    await put(there, "/v1/agent/service/register", {"Name": "web", "Tags": [tag]})

    assert (await read(there, "/v1/catalog/services"))["web"] == [tag]
    too_long = {"Name": "web", "Tags": ["x" * 513]}
    answer = await put(there, "/v1/agent/service/register", too_long, 400)
    assert "tags" in answer.text


@served
async def test_health_service(there: Mounted) -> None:
    await put(there, "/v1/agent/service/register", WEB)

    (entry,) = await read(there, "/v1/health/service/web")

    assert without(entry["Node"], "ID") == node_of(there)
    uuid.UUID(entry["Node"]["ID"])
    assert without(entry["Service"], *INDEXES) == WEB_IN_CATALOG
    serf, check = entry["Checks"]
    assert serf == serf_of(there.registry.name)
    assert without(check, *INDEXES) == without(web_check(there), *INDEXES)
    assert set(entry) == {"Node", "Service", "Checks"}
    assert await read(there, "/v1/health/service/Web?passing") == [entry]
    assert await read(there, "/v1/health/service/nothing") == []


@served
async def test_catalog_service_is_flat(there: Mounted) -> None:
    await put(there, "/v1/agent/service/register", WEB)

    (shown,) = await read(there, "/v1/catalog/service/web")

    node = without(node_of(there), *INDEXES)
    assert without(shown, "ID", *INDEXES) == {
        **without(node, "Meta"),
        "NodeMeta": {},
        "ServiceKind": "",
        "ServiceID": "web-1",
        "ServiceName": "web",
        "ServiceTags": ["a", "B"],
        "ServiceAddress": "10.1.1.1",
        "ServiceTaggedAddresses": {"lan_ipv4": ADDRESS, "wan_ipv4": ADDRESS},
        "ServiceWeights": {"Passing": 3, "Warning": 2},
        "ServiceMeta": {"zone": "x"},
        "ServicePort": 8080,
        "ServiceSocketPath": "",
        "ServiceEnableTagOverride": True,
        "ServiceProxy": PROXY,
        "ServiceConnect": {},
        "ServiceLocality": None,
    }


@served
async def test_catalog_services_nodes_and_datacenters(there: Mounted) -> None:
    assert await read(there, "/v1/catalog/services") == {"consul": []}
    await put(there, "/v1/agent/service/register", WEB)
    await put(there, "/v1/agent/service/register", {**WEB, "ID": "web-2", "Tags": ["c", "a"]})

    assert await read(there, "/v1/catalog/services") == {"consul": [], "web": ["B", "a", "c"]}
    (node,) = await read(there, "/v1/catalog/nodes")
    assert without(node, "ID") == node_of(there)
    answer = await there.ask("/v1/catalog/datacenters")
    assert answer.json() == ["dc1"]
    assert "x-consul-index" not in answer.headers


@served
async def test_catalog_node_has_services_by_id_and_as_a_list(there: Mounted) -> None:
    await put(there, "/v1/agent/service/register", WEB)
    name = there.registry.name

    shown = await read(there, f"/v1/catalog/node/{name}")
    listed = await read(there, f"/v1/catalog/node-services/{name}")

    assert set(shown) == {"Node", "Services"}
    assert without(shown["Node"], "ID") == node_of(there)
    assert set(shown["Services"]) == {"consul", "web-1"}
    assert without(shown["Services"]["web-1"], *INDEXES) == WEB_IN_CATALOG
    assert listed["Services"] == [shown["Services"]["consul"], shown["Services"]["web-1"]]
    assert await read(there, "/v1/catalog/node/nobody") is None
    assert await read(there, "/v1/catalog/node-services/nobody") == {"Node": None, "Services": []}
    few = await read(there, f'/v1/catalog/node/{name}?filter=Service == "web"')
    assert set(few["Services"]) == {"web-1"}


@served
async def test_the_service_consul_is_every_server(there: Mounted) -> None:
    (entry,) = await read(there, "/v1/health/service/consul?passing")

    port = int(there.standalone.native_address.rpartition(":")[2])
    assert (entry["Service"]["ID"], entry["Service"]["Port"]) == ("consul", port)
    assert entry["Checks"] == [serf_of(there.registry.name)]
    assert len(await read(there, "/v1/catalog/service/consul")) == 1


@served
async def test_health_by_node_service_and_state(there: Mounted) -> None:
    await put(there, "/v1/agent/service/register", WEB)
    name = there.registry.name
    checks = await read(there, "/v1/health/checks/web")

    assert [each["CheckID"] for each in checks] == ["service:web-1"]
    assert await read(there, f"/v1/health/node/{name}") == [serf_of(name), *checks]
    assert await read(there, "/v1/health/node/nobody") == []
    assert await read(there, "/v1/health/state/any") == [serf_of(name), *checks]
    assert await read(there, "/v1/health/state/passing") == [serf_of(name), *checks]
    assert await read(there, "/v1/health/state/critical") == []
    await put(there, "/v1/agent/check/fail/service:web-1?note=broken")
    (critical,) = await read(there, "/v1/health/state/critical")
    assert (critical["Output"], critical["Status"]) == ("broken", "critical")
    assert await read(there, "/v1/health/state/warning") == []
    await there.ask("/v1/health/state/fine", 400)


@served
async def test_agent_checks_are_those_of_the_services_and_the_node(there: Mounted) -> None:
    await put(there, "/v1/agent/service/register", WEB)
    await put(there, "/v1/agent/check/register", {"Name": "disk", "TTL": "1m", "Notes": "space"})

    checks = (await there.ask("/v1/agent/checks")).json()

    assert set(checks) == {"disk", "service:web-1"}
    assert (checks["disk"]["Status"], checks["disk"]["ServiceID"]) == ("critical", "")
    assert without(checks["service:web-1"], *INDEXES) == without(web_check(there), *INDEXES)
    few = await there.ask('/v1/agent/checks?filter=ServiceID == "web-1"')
    assert set(few.json()) == {"service:web-1"}


@served
async def test_what_a_ttl_check_is_told_is_its_status_and_output(there: Mounted) -> None:
    await put(there, "/v1/agent/service/register", {"Name": "web", "Check": {"TTL": "10s"}})

    async def now() -> tuple[str, str]:
        check = (await there.ask("/v1/agent/checks")).json()["service:web"]
        return check["Status"], check["Output"]

    assert await now() == ("critical", "")
    await put(there, "/v1/agent/check/pass/service:web?note=fine")
    assert await now() == ("passing", "fine")
    await put(there, "/v1/agent/check/warn/service:web?note=slow")
    assert await now() == ("warning", "slow")
    assert await read(there, "/v1/health/service/web?passing") == []
    update = {"Status": "critical", "Output": "gone"}
    await put(there, "/v1/agent/check/update/service:web", update)
    assert await now() == ("critical", "gone")
    await put(there, "/v1/agent/service/register", {"Name": "web", "Check": {"TTL": "10s"}})
    assert await now() == ("critical", "gone"), "a registration keeps what is known"


@served
async def test_several_checks_are_numbered(there: Mounted) -> None:
    checks = [{"TTL": "10s"}, {"TCP": "127.0.0.1:1", "Interval": "10s"}, {"TTL": "5s", "Name": "x"}]
    await put(there, "/v1/agent/service/register", {"Name": "web", "Checks": checks})

    shown = (await there.ask("/v1/agent/checks")).json()

    assert sorted(shown) == ["service:web:1", "service:web:2", "service:web:3"]
    assert shown["service:web:2"]["Type"] == "tcp"
    assert shown["service:web:2"]["Interval"] == "10s"
    assert shown["service:web:2"]["Definition"] == {"TCP": "127.0.0.1:1", "Interval": "10s"}
    assert shown["service:web:3"]["Name"] == "x"
    again = {"Name": "web", "Check": {"CheckID": "only", "TTL": "10s"}}
    await put(there, "/v1/agent/service/register?replace-existing-checks", again)
    assert set((await there.ask("/v1/agent/checks")).json()) == {"only"}


@served
async def test_maintenance_of_a_service_and_of_the_node(there: Mounted) -> None:
    await put(there, "/v1/agent/service/register", WEB)

    await put(there, "/v1/agent/service/maintenance/web-1?enable=true&reason=rest")
    check = (await there.ask("/v1/agent/checks")).json()["_service_maintenance:web-1"]
    assert (check["Status"], check["Notes"]) == ("critical", "rest")
    assert check["Name"] == "Service Maintenance Mode"
    assert await read(there, "/v1/health/service/web?passing") == []
    await there.ask("/v1/agent/health/service/id/web-1", 503)
    await put(there, "/v1/agent/service/maintenance/web-1?enable=false")
    assert len(await read(there, "/v1/health/service/web?passing")) == 1
    await put(there, "/v1/agent/maintenance?enable=true")
    assert "_node_maintenance" in (await there.ask("/v1/agent/checks")).json()
    assert await read(there, "/v1/health/service/web?passing") == []
    await put(there, "/v1/agent/maintenance?enable=false")
    await put(there, "/v1/agent/maintenance?enable=false")
    assert len(await read(there, "/v1/health/service/web?passing")) == 1


@served
async def test_agent_health_is_a_status_a_word_and_json(there: Mounted) -> None:
    await put(there, "/v1/agent/service/register", WEB)
    path = "/v1/agent/health/service/id/web-1"

    answer = await there.ask(path)
    assert answer.headers["x-consul-reason"] == "passing"
    assert set(answer.json()) == {"AggregatedStatus", "Service", "Checks"}
    assert answer.json()["AggregatedStatus"] == "passing"
    await put(there, "/v1/agent/check/warn/service:web-1")
    assert (await there.ask(f"{path}?format=text", 429)).text == "warning"
    await put(there, "/v1/agent/check/fail/service:web-1")
    answer = await there.ask(path, 503, headers={"accept": "text/plain"})
    assert answer.text == "critical"
    named = await there.ask("/v1/agent/health/service/name/web", 503)
    assert [each["Service"]["ID"] for each in named.json()] == ["web-1"]
    await there.ask("/v1/agent/health/service/id/nothing", 404)
    await there.ask("/v1/agent/health/service/name/nothing", 404)


@served
async def test_agent_self_tells_the_datacenter_the_node_and_a_version(there: Mounted) -> None:
    shown = (await there.ask("/v1/agent/self")).json()

    assert set(shown) == {"Config", "DebugConfig", "Coord", "Member", "Stats", "Meta", "xDS"}
    assert shown["Config"]["Datacenter"] == shown["Config"]["PrimaryDatacenter"] == "dc1"
    assert shown["Config"]["NodeName"] == there.registry.name
    assert [int(part) for part in shown["Config"]["Version"].split(".")] >= [1, 16]
    leader = (await there.ask("/v1/status/leader")).json()
    assert shown["Stats"]["consul"]["leader_addr"] == leader
    assert len(shown["Coord"]["Vec"]) == 8
    assert (await there.ask("/v1/agent/members")).json() == [shown["Member"]]


@served
async def test_catalog_register_takes_a_node_a_service_and_checks(there: Mounted) -> None:
    node_id = "40e4a748-2192-161a-0510-9bf59fe950b5"
    body = {
        "Datacenter": "dc1",
        "ID": node_id,
        "Node": "foobar",
        "Address": "192.168.10.10",
        "TaggedAddresses": {"lan": "192.168.10.10", "wan": "10.0.10.10"},
        "NodeMeta": {"somekey": "somevalue"},
        "Service": {"ID": "redis1", "Service": "redis", "Tags": ["v1"], "Port": 8000},
        "Check": {"Node": "foobar", "CheckID": "service:redis1", "Name": "Redis health check",
                  "Status": "passing", "ServiceID": "redis1"},
        "SkipNodeUpdate": False,
    }  # fmt: skip

    assert (await put(there, "/v1/catalog/register", body)).json() is True

    (entry,) = await read(there, "/v1/health/service/redis")
    assert without(entry["Node"], *INDEXES) == {
        "ID": node_id,
        "Node": "foobar",
        "Address": "192.168.10.10",
        "Datacenter": "dc1",
        "TaggedAddresses": {"lan": "192.168.10.10", "wan": "10.0.10.10"},
        "Meta": {"somekey": "somevalue"},
    }
    assert entry["Service"]["ID"] == "redis1"
    assert entry["Service"]["Address"] == ""
    assert [each["CheckID"] for each in entry["Checks"]] == ["serfHealth", "service:redis1"]
    assert (await there.ask("/v1/agent/services")).json() == {}
    assert len(await read(there, "/v1/health/service/redis?node-meta=somekey:somevalue")) == 1
    assert await read(there, "/v1/health/service/redis?node-meta=somekey:other") == []
    few = await read(there, "/v1/catalog/services?node-meta=somekey:somevalue")
    assert few == {"redis": ["v1"]}
    body["Check"]["Status"] = "critical"  # type: ignore[index]
    await put(there, "/v1/catalog/register", body)
    assert await read(there, "/v1/health/service/redis?passing") == []


@served
async def test_catalog_deregister_removes_a_check_a_service_or_the_node(there: Mounted) -> None:
    for name in ("a", "b"):
        body = {
            "Node": "n1",
            "Address": "10.0.0.1",
            "Service": {"Service": name},
            "Check": {"Name": f"check-{name}", "ServiceID": name, "Status": "passing"},
        }
        await put(there, "/v1/catalog/register", body)

    gone = {"Node": "n1", "CheckID": "check-a"}
    assert (await put(there, "/v1/catalog/deregister", gone)).json() is True
    assert await read(there, "/v1/health/checks/a") == []
    assert (await put(there, "/v1/catalog/deregister", gone)).json() is True
    await put(there, "/v1/catalog/deregister", {"Node": "n1", "ServiceID": "a"})
    assert set((await read(there, "/v1/catalog/node/n1"))["Services"]) == {"b"}
    await put(there, "/v1/catalog/deregister", {"Node": "n1"})
    assert await read(there, "/v1/catalog/node/n1") is None
    assert await read(there, "/v1/catalog/services") == {"consul": []}


@served
async def test_instances_of_other_doors_are_shown_as_services(there: Mounted) -> None:
    await there.register("orders", "o-1", host="10.0.0.1", tags=("v1",), meta={"k": "v"})
    await there.register("orders", "o-2", host="orders.example", health="warning")
    await there.register("team-a/orders", "o-3", host="10.0.0.3", health="starting")
    await there.register("idle", "i-1", weight=0.0)

    first, second = await read(there, "/v1/health/service/orders")

    assert first["Node"]["Node"] == first["Node"]["Address"] == "10.0.0.1"
    assert first["Service"]["Address"] == "10.0.0.1"
    assert first["Service"]["Meta"] == {"k": "v"}
    assert [each["CheckID"] for each in first["Checks"]] == ["serfHealth"]
    assert "TaggedAddresses" not in second["Service"], "a host name is no address"
    assert [each["Status"] for each in second["Checks"]] == ["passing", "warning"]
    (third,) = await read(there, "/v1/health/service/orders.team-a")
    assert third["Service"]["Service"] == "orders.team-a"
    assert third["Checks"][-1]["Status"] == "critical"
    assert await read(there, "/v1/health/service/idle?passing") == []
    names = await read(there, "/v1/catalog/services")
    assert names == {"consul": [], "idle": [], "orders": ["v1"], "orders.team-a": []}


@served
async def test_a_drain_is_shown_as_maintenance_and_ended_like_it(there: Mounted) -> None:
    await put(there, "/v1/agent/service/register", WEB)
    (record,) = (there.registry.catalog.service("web") or {}).values()
    await there.registry.drain("web", record.instance.id, 0)

    assert await read(there, "/v1/health/service/web?passing") == []
    answer = await there.ask("/v1/agent/health/service/id/web-1?format=text", 503)
    assert answer.text == "maintenance"
    await put(there, "/v1/agent/service/maintenance/web-1?enable=false")
    assert len(await read(there, "/v1/health/service/web?passing")) == 1
