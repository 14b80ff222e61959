"""What Prometheus' ``consul_sd`` sends, as recorded from version 3, and what it needs.

Debian's Prometheus is built without it.  It finds nothing at all without the datacenter in
``agent/self``, or with an index that is missing or 0; it takes the ill instances too, and labels
them by their checks.
"""

import asyncio
from typing import Any

from tests.servers.mounted import Mounted, served

HEADERS = {
    "accept-encoding": "gzip",
    "user-agent": "Prometheus/3.0.0",
    "x-consul-token": "secret",
}
SERVICES = "/v1/catalog/services?node-meta=rack%3Ar1&stale=&wait=120000ms"
ALL_SERVICES = "/v1/catalog/services?stale=&wait=120000ms"
SERVICE = "/v1/health/service/web?stale=&tag=a&wait=120000ms"


async def sent(there: Mounted, path: str, index: int = 0) -> tuple[Any, int]:
    at = f"&index={index}" if index else ""
    answer = await there.ask(path + at, headers=HEADERS)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-consul-knownleader"] == "true"
    assert int(answer.headers["x-consul-lastcontact"]) >= 0
    assert answer.headers["x-consul-effective-consistency"] == "stale"
    return answer.json(), int(answer.headers["x-consul-index"])


@served
async def test_it_finds_the_datacenter(there: Mounted) -> None:
    answer = await there.ask("/v1/agent/self", headers=HEADERS)

    assert answer.json()["Config"]["Datacenter"] == "dc1"


@served
async def test_it_finds_services_and_follows_their_list(there: Mounted) -> None:
    found, index = await sent(there, ALL_SERVICES)
    assert found == {"consul": []}
    assert index > 0

    waiting = asyncio.create_task(sent(there, ALL_SERVICES, index))
    await asyncio.sleep(0.05)
    await there.register("web", "w-1", tags=("a", "b"))

    found, later = await asyncio.wait_for(waiting, 5)
    assert found == {"consul": [], "web": ["a", "b"]}
    assert later > index


@served
async def test_it_finds_instances_with_what_its_labels_are_made_of(there: Mounted) -> None:
    await there.register("web", "w-1", tags=("a", "b"), meta={"team": "x"}, port=9100)
    await there.register("web", "w-2", tags=("b",))

    (entry,), index = await sent(there, SERVICE)

    node, service = entry["Node"], entry["Service"]
    assert (node["Node"], node["Address"], node["Datacenter"]) == ("10.0.0.1", "10.0.0.1", "dc1")
    assert isinstance(node["Meta"], dict)
    assert isinstance(node["TaggedAddresses"], dict)
    assert (service["ID"], service["Address"], service["Port"]) == ("w-1", "10.0.0.1", 9100)
    assert (service["Tags"], service["Meta"]) == (["a", "b"], {"team": "x"})
    assert {each["Status"] for each in entry["Checks"]} == {"passing"}
    waiting = asyncio.create_task(sent(there, SERVICE, index))
    await asyncio.sleep(0.05)
    await there.registry.set_health("web", "w-1", "critical")
    (entry,), later = await asyncio.wait_for(waiting, 5)
    assert "critical" in {each["Status"] for each in entry["Checks"]}
    assert later > index


@served
async def test_it_chooses_by_node_meta_and_by_filter(there: Mounted) -> None:
    for name, rack in (("web", "r1"), ("db", "r2")):
        body = {
            "Node": f"node-{rack}",
            "Address": "10.0.0.1",
            "NodeMeta": {"rack": rack},
            "Service": {"Service": name, "Tags": ["a"], "Port": 80},
        }
        await there.ask("/v1/catalog/register", method="PUT", json=body)

    assert (await sent(there, SERVICES))[0] == {"web": ["a"]}
    chosen = "&filter=NodeMeta.rack+%3D%3D+%22r2%22"
    assert (await sent(there, ALL_SERVICES + chosen))[0] == {"db": ["a"]}
    chosen = "&filter=Service.Tags+contains+%22z%22"
    assert (await sent(there, SERVICE + chosen))[0] == []
