import asyncio
import gzip
import json
import random
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from tests.servers.mounted import Mounted, served

from waypost.checks import Check
from waypost.commands import DropCheck, PutCheck

JSON = {"accept": "application/json"}
INSTANCE: dict[str, Any] = {
    "instanceId": "10.0.0.1:orders:8080",
    "hostName": "orders.example",
    "app": "ORDERS",
    "ipAddr": "10.0.0.1",
    "status": "UP",
    "port": {"$": 8080, "@enabled": "true"},
    "securePort": {"$": 8443, "@enabled": "false"},
    "countryId": 1,
    "dataCenterInfo": {
        "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
        "name": "MyOwn",
    },
    "leaseInfo": {"renewalIntervalInSecs": 5, "durationInSecs": 20},
    "metadata": {"management.port": "8081", "zone": "a"},
    "homePageUrl": "http://orders.example:8080/",
    "vipAddress": "orders,shop",
    "secureVipAddress": "orders-tls",
    "lastDirtyTimestamp": "1700000000000",
}


def posted(**changes: Any) -> bytes:
    return json.dumps({"instance": {**INSTANCE, **changes}}).encode()


async def register(world: Mounted, **changes: Any) -> None:
    await world.ask("/eureka/apps/ORDERS", 204, method="POST", content=posted(**changes))


async def shown(world: Mounted, path: str = "apps/ORDERS/10.0.0.1:orders:8080") -> Any:
    return (await world.ask(f"/eureka/{path}", headers=JSON)).json()["instance"]


async def status(world: Mounted) -> tuple[str, str]:
    found = await shown(world)
    return found["status"], found["overriddenstatus"]


async def applications(world: Mounted, path: str = "apps") -> Any:
    return (await world.ask(f"/eureka/{path}", headers=JSON)).json()["applications"]


ONE = "/eureka/apps/ORDERS/10.0.0.1:orders:8080"


@served
async def test_a_registration_is_answered_with_204_and_no_body(world: Mounted) -> None:
    answer = await world.ask("/eureka/apps/ORDERS", 204, method="POST", content=posted())

    assert answer.content == b""


@served
async def test_what_was_registered_is_shown_as_it_was_given(world: Mounted) -> None:
    await register(world)

    found = await shown(world)
    lease = found.pop("leaseInfo")
    assert {key: found[key] for key in INSTANCE if key != "leaseInfo"} == {
        key: value for key, value in INSTANCE.items() if key != "leaseInfo"
    }
    assert (lease["renewalIntervalInSecs"], lease["durationInSecs"]) == (5, 20)


@served
async def test_a_registration_is_an_instance_at_every_other_door(world: Mounted) -> None:
    await register(world)

    (instance,) = (await world.ask("/api/v1/services/orders")).json()["instances"]
    assert instance["id"] == "10.0.0.1:orders:8080"
    assert (instance["host"], instance["port"]) == ("10.0.0.1", 8080)
    assert (instance["zone"], instance["health"]) == ("a", "passing")
    assert instance["meta"]["management.port"] == "8081"
    assert instance["meta"]["eureka.hostName"] == "orders.example"


@served
async def test_an_instance_of_another_door_looks_like_one_of_eureka(world: Mounted) -> None:
    await world.register(
        "team-a/billing",
        "b-1",
        zone="b",
        version="2",
        tags=("x", "y"),
        weight=3.0,
        node="rack-1",
        meta={"k": "v"},
        ports={"secure": 8443, "metrics": 9100},
    )

    found = await shown(world, "apps/BILLING.TEAM-A/b-1")
    assert found["app"] == "BILLING.TEAM-A"
    assert (found["instanceId"], found["hostName"], found["ipAddr"]) == (
        "b-1",
        "10.0.0.1",
        "10.0.0.1",
    )
    assert found["port"] == {"$": 8000, "@enabled": "true"}
    assert found["securePort"] == {"$": 8443, "@enabled": "true"}
    assert found["vipAddress"] == "billing.team-a"
    assert found["homePageUrl"] == "http://10.0.0.1:8000/"
    assert found["metadata"] == {
        "k": "v",
        "port.secure": "8443",
        "port.metrics": "9100",
        "tags": "x,y",
        "zone": "b",
        "version": "2",
        "node": "rack-1",
        "weight": "3",
    }
    assert found["dataCenterInfo"]["name"] == "MyOwn"
    assert found["leaseInfo"]["durationInSecs"] == 90


@served
async def test_xml_is_the_answer_to_whoever_does_not_ask_for_json(world: Mounted) -> None:
    await register(world, metadata={"a_b": "1", "management.port": "8081"})

    for headers in ({}, {"accept": "*/*"}, {"accept": "application/xml"}):
        answer = await world.ask("/eureka/apps", headers=headers)
        assert answer.headers["content-type"].startswith("application/xml")
        root = ElementTree.fromstring(answer.text)
        assert root.tag == "applications"
        assert root.findtext("apps__hashcode") == "UP_1_"
        (instance,) = root.findall("application/instance")
        port = instance.find("port")
        assert port is not None
        assert (port.text, port.attrib) == ("8080", {"enabled": "true"})
        center = instance.find("dataCenterInfo")
        assert center is not None
        assert center.attrib["class"].startswith("com.netflix.appinfo.")
        assert instance.findtext("metadata/a__b") == "1"
        assert instance.findtext("metadata/management.port") == "8081"


@served
async def test_an_empty_registry_is_an_empty_list_in_both_forms(world: Mounted) -> None:
    found = await applications(world)
    assert found["application"] == []
    assert found["apps__hashcode"] == ""
    root = ElementTree.fromstring((await world.ask("/eureka/v2/apps/")).text)
    assert root.findall("application") == []


@served
async def test_xml_registers_as_json_does(world: Mounted) -> None:
    await register(world)
    as_xml = (await world.ask(ONE)).text
    await world.ask(ONE, method="DELETE")

    await world.ask("/eureka/apps/ORDERS", 204, method="POST", content=as_xml)

    assert ElementTree.fromstring((await world.ask(ONE)).text).findtext("hostName") == (
        "orders.example"
    )
    found = await shown(world)
    assert found["metadata"] == INSTANCE["metadata"]
    assert found["lastDirtyTimestamp"] == INSTANCE["lastDirtyTimestamp"]


@pytest.mark.parametrize("root", ["/eureka", "/eureka/v2"])
@pytest.mark.parametrize("end", ["", "/"])
@served
async def test_every_path_is_served_below_both_roots_and_with_a_slash_at_its_end(
    world: Mounted, root: str, end: str
) -> None:
    await register(world)
    for path in (
        "apps",
        "apps/delta",
        "apps/orders",
        "apps/Orders/10.0.0.1:orders:8080",
        "instances/10.0.0.1:orders:8080",
        "vips/shop",
        "svips/orders-tls",
    ):
        answer = await world.ask(f"{root}/{path}{end}")
        assert "orders.example" in answer.text


@served
async def test_what_is_not_there_is_404_and_says_so(world: Mounted) -> None:
    await register(world)
    for method, path in (
        ("GET", "apps/BILLING"),
        ("GET", "apps/ORDERS/x"),
        ("GET", "instances/x"),
        ("GET", "vips/billing"),
        ("GET", "svips/orders"),
        ("DELETE", "apps/ORDERS/x"),
        ("PUT", "apps/ORDERS/x/status?value=UP"),
        ("DELETE", "apps/ORDERS/x/status"),
        ("PUT", "apps/ORDERS/x/metadata?k=v"),
        ("GET", "nothing"),
        ("GET", ""),
        ("POST", "peerreplication/batch/"),
    ):
        answer = await world.ask(f"/eureka/{path}", 404, method=method)
        assert answer.text.strip()


@served
async def test_a_heartbeat_keeps_the_lease_and_says_when_to_register_again(
    world: Mounted,
) -> None:
    await register(world)

    await world.ask(ONE, method="PUT")
    await world.ask(f"{ONE}?status=UP&lastDirtyTimestamp=1700000000000", method="PUT")
    await world.ask(f"{ONE}?lastDirtyTimestamp=1600000000000", method="PUT")
    await world.ask(f"{ONE}?lastDirtyTimestamp=nonsense", method="PUT")
    await world.ask(f"{ONE}?status=UP&lastDirtyTimestamp=1700000000001", 404, method="PUT")


@served
async def test_a_heartbeat_of_what_is_unknown_is_404_without_a_body(world: Mounted) -> None:
    await register(world)
    for path in ("apps/ORDERS/x", "apps/BILLING/x?status=UP", "apps/ORDERS/x?lastDirtyTimestamp=9"):
        answer = await world.ask(f"/eureka/{path}", 404, method="PUT")
        assert not answer.content
        assert answer.headers["x-waypost-error"].startswith("unknown-")


@served
async def test_without_heartbeats_an_instance_goes(world: Mounted) -> None:
    await register(world, leaseInfo={"durationInSecs": 1})

    async with asyncio.timeout(10):
        while (await applications(world))["application"]:
            await asyncio.sleep(0.05)
    await world.ask(ONE, 404, method="PUT")


@served
async def test_a_cancelled_instance_is_gone(world: Mounted) -> None:
    await register(world)

    await world.ask(ONE, method="DELETE")

    await world.ask(ONE, 404)
    await world.ask(ONE, 404, method="DELETE")


@served
async def test_every_status_is_a_health_and_back(world: Mounted) -> None:
    for given, health in (
        ("DOWN", "critical"),
        ("STARTING", "starting"),
        ("UP", "passing"),
        ("UNKNOWN", "critical"),
        ("OUT_OF_SERVICE", "draining"),
        ("UP", "passing"),
    ):
        await register(world, status=given)
        assert await status(world) == (given, "UNKNOWN")
        found = await world.ask("/api/v1/services/orders?health=any")
        assert found.json()["instances"][0]["health"] == health


@pytest.mark.parametrize("override", ["OUT_OF_SERVICE", "DOWN", "STARTING"])
@served
async def test_an_override_outlives_heartbeats_and_registrations(
    world: Mounted, override: str
) -> None:
    await register(world)

    await world.ask(f"{ONE}/status?value={override}&lastDirtyTimestamp=1", method="PUT")

    assert await status(world) == (override, override)
    await world.ask(ONE, method="PUT")
    assert await status(world) == (override, override)
    await register(world, lastDirtyTimestamp="1700000000009")
    assert await status(world) == (override, override)
    assert (await applications(world))["apps__hashcode"] == f"{override}_1_"


@served
async def test_an_override_to_up_brings_an_instance_back(world: Mounted) -> None:
    await register(world)
    await world.ask(f"{ONE}/status?value=OUT_OF_SERVICE", method="PUT")

    await world.ask(f"{ONE}/status?value=UP", method="PUT")

    assert await status(world) == ("UP", "UP")
    await register(world, status="OUT_OF_SERVICE")
    assert await status(world) == ("UP", "UP")
    await register(world, status="DOWN")
    assert await status(world) == ("DOWN", "UP")


@served
async def test_without_its_override_an_instance_is_unknown_until_it_registers(
    world: Mounted,
) -> None:
    await register(world)
    await world.ask(f"{ONE}/status?value=DOWN", method="PUT")

    await world.ask(f"{ONE}/status", method="DELETE")

    assert await status(world) == ("UNKNOWN", "UNKNOWN")
    await world.ask(ONE, 404, method="PUT")
    await register(world)
    await world.ask(ONE, method="PUT")
    assert await status(world) == ("UP", "UNKNOWN")


@served
async def test_an_override_may_be_removed_for_a_status(world: Mounted) -> None:
    await register(world)
    await world.ask(f"{ONE}/status?value=OUT_OF_SERVICE", method="PUT")

    await world.ask(f"{ONE}/status?value=UP", method="DELETE")

    assert await status(world) == ("UP", "UNKNOWN")
    await world.ask(ONE, method="PUT")


@served
async def test_a_drain_of_another_door_is_an_override_to_out_of_service(world: Mounted) -> None:
    await register(world)

    await world.registry.drain("orders", "10.0.0.1:orders:8080", 100)

    assert await status(world) == ("OUT_OF_SERVICE", "OUT_OF_SERVICE")
    await register(world)
    assert await status(world) == ("OUT_OF_SERVICE", "OUT_OF_SERVICE")


@served
async def test_a_failing_check_neither_ends_an_override_nor_becomes_one(world: Mounted) -> None:
    await register(world)
    await world.ask(f"{ONE}/status?value=STARTING", method="PUT")
    check = PutCheck("orders", "10.0.0.1:orders:8080", "", Check("c", kind="manual"), "critical")
    await world.registry.write([check])

    assert await status(world) == ("DOWN", "STARTING")
    await register(world)
    await world.ask(f"{ONE}/metadata?a=b", method="PUT")
    await world.registry.write([DropCheck("orders", "10.0.0.1:orders:8080", "", "c")])
    assert await status(world) == ("STARTING", "STARTING")


@served
async def test_metadata_is_added_to_what_there_is(world: Mounted) -> None:
    await register(world)

    await world.ask(f"{ONE}/metadata?zone=b&weight=3&eureka.x=1", method="PUT")

    assert (await shown(world))["metadata"] == {
        "management.port": "8081",
        "zone": "b",
        "weight": "3",
        "eureka.x": "1",
    }
    assert (await shown(world))["vipAddress"] == "orders,shop"
    await world.ask(ONE, method="PUT")


@served
async def test_a_delta_tells_what_was_added_modified_and_deleted(world: Mounted) -> None:
    for name in ("a", "b", "c"):
        await register(world, instanceId=name)
    catalog = world.standalone.node.catalog
    catalog.history.floor = catalog.revision  # what is older is forgotten
    catalog.history._all.clear()
    catalog.now_ms += 200_000

    await world.ask("/eureka/apps/ORDERS/b/status?value=DOWN", method="PUT")
    await world.ask("/eureka/apps/ORDERS/c", method="DELETE")
    await register(world, instanceId="d")
    await register(world, instanceId="e")
    await world.ask("/eureka/apps/ORDERS/e", method="DELETE")
    catalog.history.floor = 0

    found = await applications(world, "apps/delta")
    assert found["apps__hashcode"] == "DOWN_1_UP_2_"
    assert found["versions__delta"] == str(catalog.revision)
    (app,) = found["application"]
    assert {one["instanceId"]: one["actionType"] for one in app["instance"]} == {
        "b": "MODIFIED",
        "c": "DELETED",
        "d": "ADDED",
        "e": "DELETED",
    }


@served
async def test_a_delta_without_a_history_adds_everything(world: Mounted) -> None:
    await register(world, instanceId="a")
    catalog = world.standalone.node.catalog
    catalog.history._all.clear()
    catalog.history.floor = catalog.revision

    found = await applications(world, "apps/delta")

    (app,) = found["application"]
    assert [(one["instanceId"], one["actionType"]) for one in app["instance"]] == [("a", "ADDED")]
    assert found["apps__hashcode"] == "UP_1_"


@served
async def test_a_suspect_is_down_while_there_are_better_ones(world: Mounted) -> None:
    await world.register("orders", "a")
    await world.register("orders", "b", weight=0.0)

    found = {one["instanceId"]: one["status"] for one in await instances(world)}

    assert found == {"a": "UP", "b": "OUT_OF_SERVICE"}


async def instances(world: Mounted) -> list[Any]:
    (app,) = (await applications(world))["application"]
    return app["instance"]  # type: ignore[no-any-return]


@served
async def test_what_is_asked_for_packed_is_packed(world: Mounted) -> None:
    await register(world)
    await register(world, instanceId="a")
    plain = await applications(world)

    for path in ("apps", "apps/delta"):
        answer = await world.ask(
            f"/eureka/{path}", headers={**JSON, "accept-encoding": "gzip, deflate"}
        )
        assert answer.headers["content-encoding"] == "gzip"
        if path == "apps":
            assert answer.json()["applications"] == plain
    await register(world, instanceId="b")
    answer = await world.ask("/eureka/apps", headers={**JSON, "accept-encoding": "gzip"})
    assert answer.json()["applications"]["apps__hashcode"] == "UP_3_"


@served
async def test_a_packed_body_is_read_and_no_bomb_is(world: Mounted) -> None:
    headers = {"content-encoding": "gzip"}
    path = "/eureka/apps/ORDERS"
    await world.ask(path, 204, method="POST", content=gzip.compress(posted()), headers=headers)

    bomb = gzip.compress(b" " * (8 << 20))
    await world.ask(path, 413, method="POST", content=bomb, headers=headers)
    await world.ask(path, 400, method="POST", content=gzip.compress(b"x")[:9], headers=headers)
    await world.ask(path, 400, method="POST", content=b"no gzip", headers=headers)
    await world.ask(path, 400, method="POST", content=b"x", headers={"content-encoding": "br"})


BOMB = b"""<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<instance><app>&b;</app></instance>"""
FILE = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><instance><app>&a;</app></instance>'


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "body: is required"),
        (b"  \n", "body: is required"),
        (b"{", "instance"),
        (b"[]", "instance"),
        (b"{}", "instance"),
        (b'{"instance": []}', "instance"),
        (b'{"instance": {}}', "dataCenterInfo"),
        (b"\xff\xfe", "body"),
        (b"[" * 10_000, "body"),
        (b"<", "not XML"),
        (b"<other/>", "<instance> is expected"),
        (b"<instance/>", "dataCenterInfo"),
        (b"<instance><a></instance>", "not XML"),
        (b"<instance>" + b"<a>" * 50, "within each other"),
        (b"<instance>" + b"<a/>" * 2_000, "elements"),
        (b'<?xml version="1.0" encoding="klingon"?><instance/>', "not XML"),
        (BOMB, "document type"),
        (FILE, "document type"),
        (posted(instanceId="", hostName=""), "Missing instanceId"),
        (posted(hostName=""), "Missing hostname"),
        (posted(ipAddr=None), "Missing ip address"),
        (posted(app=""), "Missing appName"),
        (posted(app="BILLING"), "Mismatched appName"),
        (posted(dataCenterInfo=None), "Missing dataCenterInfo"),
        (posted(dataCenterInfo={}), "Missing dataCenterInfo Name"),
        (posted(dataCenterInfo="MyOwn"), "dataCenterInfo"),
        (posted(status="WELL"), "status: 'WELL' is none of UP"),
        (posted(overriddenstatus=7), "overriddenstatus"),
        (posted(port={"$": 70_000}), "port: 70000"),
        (posted(port={"$": "x"}), "port"),
        (posted(port=[8080]), "port"),
        (posted(port=0), "port: 0"),
        (posted(port={"$": 1, "@enabled": "yes"}), "neither true nor false"),
        (posted(leaseInfo={"durationInSecs": "soon"}), "durationInSecs"),
        (posted(leaseInfo={"durationInSecs": 10**9}), "ttl"),
        (posted(leaseInfo=[]), "leaseInfo"),
        (posted(metadata={"a": {"b": "c"}}), "metadata.a"),
        (posted(metadata={f"k{n}": "v" for n in range(70)}), "meta"),
        (posted(metadata={"a": "x" * 600}), "meta"),
        (posted(ipAddr="not a host"), "host"),
        (posted(instanceId="\u00e9" * 60), "instanceId"),
        (posted(lastDirtyTimestamp="yesterday"), "lastDirtyTimestamp"),
        (posted(countryId=1.5), "countryId"),
    ],
)
@served
async def test_a_registration_that_makes_no_sense_is_refused_with_the_reason(
    world: Mounted, body: bytes, said: str
) -> None:
    answer = await world.ask("/eureka/apps/ORDERS", 400, method="POST", content=body)

    assert said in answer.text
    assert (await applications(world))["application"] == []


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("PUT", "apps/MY_APP/x", 400, "no '_'"),
        ("GET", "apps/A.B.C", 400, "app"),
        ("PUT", f"{ONE[8:]}/status?value=WELL", 400, "value"),
        ("PUT", f"{ONE[8:]}/status", 400, "value"),
        ("DELETE", f"{ONE[8:]}/status?value=WELL", 400, "value"),
        ("PUT", f"{ONE[8:]}/metadata?{'k' * 200}=v", 400, "meta"),
        ("GET", "apps/ORDERS/%ff", 400, "UTF-8"),
        ("GET", "apps/ORDERS/%zz", 400, "hexadecimal"),
        ("PATCH", "apps", 405, "GET, HEAD"),
        ("PUT", "apps/ORDERS", 405, "GET, HEAD, POST"),
        ("POST", "vips/x", 405, "GET, HEAD"),
    ],
)
@served
async def test_what_cannot_be_asked_is_refused_with_the_reason(
    world: Mounted, method: str, path: str, status: int, said: str
) -> None:
    await register(world)

    answer = await world.ask(f"/eureka/{path}", status, method=method)

    assert said in answer.text


@served
async def test_a_page_of_another_site_changes_nothing(world: Mounted) -> None:
    await world.ask(
        "/eureka/apps/ORDERS",
        403,
        method="POST",
        content=posted(),
        headers={"origin": "http://evil.example"},
    )


@served
async def test_ids_outside_of_our_alphabet_are_served(world: Mounted) -> None:
    for given, path in (
        ("a/b c", "a%2Fb%20c"),
        ("[::1]:orders:80", "[::1]:orders:80"),
        ("_x", "_x"),
        ("h\u00f6st", "h%C3%B6st"),
        ("eureka:a@2Fb", "eureka:a@2Fb"),
        ("user@host", "user@host"),
    ):
        await register(world, instanceId=given)
        await world.ask(f"/eureka/apps/ORDERS/{path}", method="PUT")
        assert (await shown(world, f"apps/ORDERS/{path}"))["instanceId"] == given
        assert (await shown(world, f"instances/{path}"))["instanceId"] == given
        await world.ask(f"/eureka/apps/ORDERS/{path}", method="DELETE")


@served
async def test_what_other_doors_write_into_its_meta_breaks_no_list(world: Mounted) -> None:
    nonsense = {
        f"eureka.{key}": "nonsense"
        for key in (
            "hostName",
            "port",
            "securePort",
            "countryId",
            "renewalIntervalInSecs",
            "lastDirtyTimestamp",
            "isCoordinatingDiscoveryServer",
            "dataCenterInfo.class",
            "unknown",
        )
    }
    await world.register("orders", "a", meta={**nonsense, "x": "\x00\ud7ff\ufffe<&>\r\n"})
    await world.registry.set_health("orders", "a", "critical", "override: nonsense")

    assert len(await instances(world)) == 1
    ElementTree.fromstring((await world.ask("/eureka/apps")).text)
    await world.ask("/eureka/apps/ORDERS/a?lastDirtyTimestamp=5", method="PUT")


@served
async def test_others_have_their_turn_while_a_long_list_is_made(world: Mounted) -> None:
    for service in range(20):
        await asyncio.gather(*(world.register(f"s{service}", f"o-{n}") for n in range(20)))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    asking = asyncio.create_task(applications(world))
    counting = asyncio.create_task(other())
    assert len((await asking)["application"]) == 20
    counting.cancel()
    assert turns > 4


@served
async def test_no_body_however_broken_is_our_own_mistake(world: Mounted) -> None:
    chance = random.Random(4)
    await register(world)
    as_xml = (await world.ask(ONE)).content
    for _ in range(400):
        body = bytearray(chance.choice((posted(), as_xml)))
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(body))
            match chance.randrange(4):
                case 0:
                    body[at] = chance.randrange(256)
                case 1:
                    del body[at : at + chance.randrange(1, 20)]
                case 2:
                    body[at:at] = bytes(body[at : at + 30])
                case _:
                    body[at:at] = chance.choice((b"null", b"{}", b"[", b"<a>", b"&x;", b"-1", b'"'))
        answer = await world.client.post("/eureka/apps/ORDERS", content=bytes(body))
        assert answer.status_code in (204, 400), (bytes(body), answer.text)
        assert answer.status_code == 204 or answer.text.strip()
    await applications(world)
    ElementTree.fromstring((await world.ask("/eureka/apps")).text)
