"""An id is a service's own on its node: whose node that is, and what follows."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.servers.mounted import Mounted, served

from waypost.model import check_id
from waypost.servers.consul.names import is_plain_id, qualified_id

ON = {"x-waypost-node": "web-1"}
REGISTER = "/v1/agent/service/register"
texts = st.text(min_size=1, max_size=40)


async def register(there: Mounted, body: dict[str, Any], **options: Any) -> None:
    await there.ask(REGISTER, method="PUT", json=body, **options)


async def services(there: Mounted, **options: Any) -> set[str]:
    return set((await there.ask("/v1/agent/services", **options)).json())


@served
async def test_the_same_id_on_two_nodes_is_two_instances(there: Mounted) -> None:
    await register(there, {"ID": "web", "Name": "web", "Address": "10.0.0.1", "Port": 1})
    await register(
        there, {"ID": "web", "Name": "web", "Address": "10.0.0.2", "Port": 1}, headers=ON
    )
    other = {"params": {"node": "web-2"}}
    await register(there, {"ID": "web", "Name": "web", "Address": "10.0.0.3", "Port": 1}, **other)

    entries = (await there.ask("/v1/health/service/web")).json()
    assert [each["Service"]["ID"] for each in entries] == ["web", "web", "web"]
    assert {each["Service"]["Address"] for each in entries} == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    assert [each["Node"]["Node"] for each in entries] == ["local", "web-1", "web-2"]
    assert set(there.registry.catalog.service("web") or ()) == {"web", "web@web-1", "web@web-2"}
    await there.ask("/v1/agent/service/deregister/web", method="PUT", headers=ON)
    left = (await there.ask("/v1/health/service/web")).json()
    assert [each["Node"]["Node"] for each in left] == ["local", "web-2"]


@served
async def test_each_node_sees_and_changes_only_its_own(there: Mounted) -> None:
    await register(there, {"Name": "web", "Check": {"TTL": "1h"}}, headers=ON)
    await register(there, {"Name": "db"})

    assert await services(there) == {"db"}
    assert await services(there, headers=ON) == {"web"}
    assert (await there.ask("/v1/agent/checks")).json() == {}
    assert set((await there.ask("/v1/agent/checks", headers=ON)).json()) == {"service:web"}
    await there.ask("/v1/agent/service/deregister/web", 404, method="PUT")
    await there.ask("/v1/agent/check/pass/service:web", 404, method="PUT")
    await there.ask("/v1/agent/check/pass/service:web", method="PUT", headers=ON)
    self_ = (await there.ask("/v1/agent/self", headers=ON)).json()
    assert self_["Config"]["NodeName"] == "web-1"


@served
async def test_an_id_that_moves_to_another_name_leaves_the_old_one(there: Mounted) -> None:
    await register(there, {"ID": "one", "Name": "old"})
    await register(there, {"ID": "one", "Name": "new"})

    assert await services(there) == {"one"}
    assert list(there.registry.catalog.service_names()) == ["new"]


@served
async def test_a_node_is_known_while_it_has_services(there: Mounted) -> None:
    await register(there, {"Name": "web"}, headers=ON)
    nodes = (await there.ask("/v1/catalog/nodes")).json()
    assert {each["Node"]: each["Address"] for each in nodes} == {
        "local": "127.0.0.1",
        "web-1": "127.0.0.1",
    }

    await there.ask("/v1/agent/service/deregister/web", method="PUT", headers=ON)

    nodes = (await there.ask("/v1/catalog/nodes")).json()
    assert [each["Node"] for each in nodes] == ["local"]


@served
async def test_a_node_with_a_check_and_no_service_is_known(there: Mounted) -> None:
    check = {"Name": "disk", "TTL": "1h", "Status": "passing"}
    await there.ask("/v1/agent/check/register", method="PUT", json=check, headers=ON)

    nodes = (await there.ask("/v1/catalog/nodes")).json()
    assert [each["Node"] for each in nodes] == ["local", "web-1"]
    checks = (await there.ask("/v1/health/node/web-1")).json()
    assert [each["CheckID"] for each in checks] == ["disk", "serfHealth"]


@served
async def test_ids_that_waypost_has_not_are_found_again(there: Mounted) -> None:
    for service_id in ("_nomad-task-1", "a/b c", "é", "x" * 200):
        await register(there, {"ID": service_id, "Name": "web", "Port": 1})
    assert await services(there) == {"_nomad-task-1", "a/b c", "é", "x" * 200}

    for path in ("_nomad-task-1", "a%2Fb%20c", "%C3%A9", "x" * 200):
        await there.ask(f"/v1/agent/service/{path}")
        await there.ask(f"/v1/agent/service/deregister/{path}", method="PUT")

    assert await services(there) == set()


@served
async def test_an_address_that_is_the_nodes_comes_back_if_it_was_given(there: Mounted) -> None:
    await register(there, {"Name": "a", "Address": "127.0.0.1", "Port": 1})
    await register(there, {"Name": "b", "Port": 1})

    shown = (await there.ask("/v1/agent/services")).json()
    assert (shown["a"]["Address"], shown["b"]["Address"]) == ("127.0.0.1", "")
    (flat,) = (await there.ask("/v1/catalog/service/b")).json()
    assert (flat["Address"], flat["ServiceAddress"]) == ("127.0.0.1", "")


@given(texts, texts)
def test_every_id_on_every_node_is_an_instance_id(service_id: str, node: str) -> None:
    check_id(qualified_id(service_id, node))
    if is_plain_id(service_id):
        check_id(service_id)


@given(st.lists(st.tuples(texts, texts), unique=True, max_size=8))
def test_no_two_services_of_nodes_share_an_instance_id(pairs: list[tuple[str, str]]) -> None:
    assert len({qualified_id(*pair) for pair in pairs}) == len(pairs)


@given(st.text("a@", min_size=1, max_size=4), st.text("a@", min_size=1, max_size=4))
def test_a_plain_id_is_no_other_services(service_id: str, node: str) -> None:
    for other in ("a", "a@a", "@a", "aa"):
        if is_plain_id(other):
            assert qualified_id(service_id, node) != other
