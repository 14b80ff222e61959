"""What is refused, with Consul's codes and words."""

from typing import Any

import pytest
from tests.servers.mounted import Mounted, served

REGISTER = "/v1/agent/service/register"
CHECK = "/v1/agent/check/register"


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (REGISTER, {}, 400, "Missing service name"),
        (REGISTER, {"Name": "x", "Address": "0.0.0.0"}, 400, "Invalid service address"),
        (REGISTER, {"Name": "x", "Address": "::"}, 400, "Invalid service address"),
        (REGISTER, {"Name": "My_Shop"}, 400, "register and look it up as 'my-shop'"),
        (REGISTER, {"Name": "_x_.a_b"}, 400, "1 to 63 letters, digits and inner hyphens"),
        (REGISTER, {"Name": "_x_.a_b"}, 400, "look it up as 'x.a-b'"),
        (REGISTER, {"Name": "x", "Port": "80"}, 400, "Request decode failed"),
        (REGISTER, {"Name": "x", "Port": 70000}, 400, "outside 0 to 65535"),
        (REGISTER, {"Name": "x", "Weights": {"Passing": 0}}, 400, "Invalid Weights"),
        (REGISTER, {"Name": "x", "Kind": "connect-proxy"}, 400, "no service mesh"),
        (REGISTER, {"Name": "x", "Meta": {"k": "v" * 600}}, 400, "Invalid service: meta"),
        (REGISTER, {"Name": "x", "Check": {"TTL": "10"}}, 400, "missing unit in duration"),
        (REGISTER, {"Name": "x", "Check": {"HTTP": "http://x"}}, 400, "Interval must be > 0"),
        (REGISTER, {"Name": "x", "Check": {"Args": ["id"], "Interval": "1s"}}, 400, "scripts"),
        (REGISTER, {"Name": "x", "Check": {"UDP": "x:1", "Interval": "1s"}}, 400, "UDP"),
        (CHECK, {"TTL": "10s"}, 400, "Missing check name"),
        (CHECK, {"Name": "x"}, 400, "TTL must be > 0 for TTL checks"),
        (CHECK, {"Name": "x", "TTL": "1s", "Interval": "1s"}, 400, "cannot both"),
        (CHECK, {"Name": "x", "TTL": "1s", "Status": "fine"}, 400, "Bad check status"),
        (CHECK, {"Name": "x", "TTL": "1s", "ServiceID": "q"}, 404, 'ServiceID "q" does not exist'),
        ("/v1/agent/check/pass/x", None, 404, "Unknown check ID"),
        ("/v1/agent/check/update/x", {"Status": "fine"}, 400, "Invalid check status: 'fine'"),
        ("/v1/agent/check/deregister/x", None, 404, "Unknown check ID"),
        ("/v1/agent/service/deregister/x", None, 404, 'Unknown service ID "x". Ensure that'),
        ("/v1/agent/service/maintenance/x", None, 400, "Missing value for enable"),
        ("/v1/agent/service/maintenance/x?enable=so", None, 400, "Invalid value for ?enable"),
        ("/v1/agent/service/maintenance/x?enable=true", None, 404, "Unknown service ID"),
        ("/v1/agent/maintenance", None, 400, "Missing value for enable"),
        ("/v1/catalog/register", {"Address": "10.0.0.1"}, 500, "Must provide node"),
        ("/v1/catalog/register", {"Node": "n"}, 500, "Must provide address if SkipNodeUpdate"),
        ("/v1/catalog/register", {"Node": "n", "Address": "a", "ID": "7"}, 500, "Bad node ID"),
        (
            "/v1/catalog/register",
            {"Node": "n", "Address": "a", "Service": {"ID": "s"}},
            500,
            "Must provide service name (Service.Service) when service ID is provided",
        ),
        ("/v1/catalog/deregister", {}, 500, "Must provide node"),
        ("/v1/catalog/deregister", {"Node": "n", "Datacenter": "dc9"}, 500, "No path to"),
    ],
)
@served
async def test_a_wrong_write(there: Mounted, path: str, body: Any, status: int, words: str) -> None:
    answer = await there.ask(path, status, method="PUT", json=body)

    assert words in answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert there.registry.catalog.instance_count == 0


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("index=x", 400, "Invalid index"),
        ("index=-1", 400, "Invalid index"),
        ("wait=soon", 400, "Invalid wait time"),
        ("stale&consistent", 400, "Cannot specify ?stale with ?consistent"),
        ("cached&consistent", 400, "Cannot specify ?cached with ?consistent"),
        ("max_stale=old", 400, "Invalid max_stale value"),
        ("passing=maybe", 400, "Invalid value for ?passing"),
        ("dc=dc2", 500, "No path to datacenter"),
        ("dc=dc1&datacenter=dc2", 500, "No path to datacenter"),
        ("filter=Service.Nothing == 1", 400, 'Selector "Service.Nothing" is not valid'),
        ("filter=Service.ID ==", 400, "Failed to create boolean expression evaluator"),
    ],
)
@served
async def test_a_wrong_read(there: Mounted, query: str, status: int, words: str) -> None:
    assert words in (await there.ask(f"/v1/health/service/web?{query}", status)).text


@served
async def test_a_wrong_cache_control_is_refused_and_a_right_one_read(there: Mounted) -> None:
    path = "/v1/health/service/web?cached"

    await there.ask(path, 400, headers={"cache-control": "max-age=old"})
    answer = await there.ask(path, headers={"cache-control": "max-age=5, must-revalidate"})
    assert (answer.headers["x-cache"], answer.headers["age"]) == ("HIT", "0")


@served
async def test_a_check_that_is_not_told_cannot_be_told(there: Mounted) -> None:
    check = {"Name": "x", "TCP": "127.0.0.1:1", "Interval": "1h"}
    await there.ask(CHECK, method="PUT", json=check)

    answer = await there.ask("/v1/agent/check/pass/x", 500, method="PUT")

    assert answer.text == 'CheckID "x" does not have associated TTL'


@served
async def test_a_token_is_taken_wherever_it_is_given(there: Mounted) -> None:
    for options in (
        {"headers": {"x-consul-token": "t"}},
        {"headers": {"authorization": "Bearer t"}},
        {"params": {"token": "t"}},
    ):
        await there.ask("/v1/catalog/services", **options)


@served
async def test_a_page_of_another_site_changes_nothing(there: Mounted) -> None:
    headers = {"origin": "http://evil.example"}

    await there.ask(REGISTER, 403, method="PUT", json={"Name": "x"}, headers=headers)


@served
async def test_names_are_read_in_any_case_and_unknown_ones_are_ignored(there: Mounted) -> None:
    body = {
        "name": "web",
        "enable_tag_override": True,
        "TAGS": None,
        "Nonsense": {"a": 1},
        "tagged_addresses": {"Lan": {"address": "10.0.0.9", "PORT": 9}},
        "meta": {"Some_Key": "v"},
        "check": {"ttl": 10_000_000_000, "deregister_critical_service_after": "1m30s"},
    }
    await there.ask(REGISTER, method="PUT", json=body)

    shown = (await there.ask("/v1/agent/services")).json()["web"]
    assert shown["EnableTagOverride"] is True
    assert shown["TaggedAddresses"] == {"Lan": {"Address": "10.0.0.9", "Port": 9}}
    assert shown["Meta"] == {"Some_Key": "v"}
    check = (await there.ask("/v1/agent/checks")).json()["service:web"]
    assert check["Definition"] == {"TTL": "10s", "DeregisterCriticalServiceAfter": "1m30s"}
