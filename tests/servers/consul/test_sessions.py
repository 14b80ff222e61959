"""``/v1/session`` as Consul 1.16 answers, field by field."""

import uuid
from typing import Any

import pytest
from tests.servers.mounted import Mounted, served

from waypost.catalog.holders import session_of


async def create(there: Mounted, **fields: object) -> str:
    answer = await there.ask("/v1/session/create", method="PUT", json=fields)
    assert list(answer.json()) == ["ID"]
    return str(answer.json()["ID"])


async def info(there: Mounted, session: str) -> Any:
    (shown,) = (await there.ask(f"/v1/session/info/{session}")).json()
    return shown


@served
async def test_a_session_has_the_fields_and_defaults_of_consul(there: Mounted) -> None:
    answer = await there.ask("/v1/session/create", method="PUT")
    session = answer.json()["ID"]

    assert str(uuid.UUID(session)) == session
    shown = await info(there, session)
    assert shown == {
        "ID": session,
        "Name": "",
        "Node": there.registry.name,
        "LockDelay": 15_000_000_000,
        "Behavior": "release",
        "TTL": "",
        "NodeChecks": ["serfHealth"],
        "ServiceChecks": None,
        "CreateIndex": shown["CreateIndex"],
        "ModifyIndex": shown["CreateIndex"],
    }
    assert shown["CreateIndex"] > 0


@served
async def test_what_is_asked_for_is_kept(there: Mounted) -> None:
    session = await create(
        there,
        name="worker",
        lockdelay="5s",
        Behavior="delete",
        TTL="1m30s",
        Checks=[],
    )

    shown = await info(there, session)

    assert (shown["Name"], shown["LockDelay"]) == ("worker", 5 * 10**9)
    assert (shown["Behavior"], shown["TTL"]) == ("delete", "1m30s")
    assert shown["NodeChecks"] == []


@served
async def test_a_session_ends_with_a_check_of_its_node(there: Mounted) -> None:
    service = {"Name": "web", "Check": {"TTL": "60s", "Status": "passing"}}
    await there.ask("/v1/agent/service/register", method="PUT", json=service)
    checks = [{"ID": "service:web", "Namespace": ""}]

    session = await create(there, ServiceChecks=checks, LockDelay="0s")
    await there.ask(f"/v1/kv/lock?acquire={session}", method="PUT", content=b"x")

    assert (await info(there, session))["ServiceChecks"] == checks
    await there.ask("/v1/agent/check/fail/service:web", method="PUT")
    assert (await there.ask(f"/v1/session/info/{session}")).json() == []
    assert "Session" not in (await there.ask("/v1/kv/lock")).json()[0]
    refused = await there.ask(
        "/v1/session/create", 500, method="PUT", json={"ServiceChecks": checks}
    )
    assert "'service:web'" in refused.text


@served
async def test_a_session_is_on_a_node_that_is_known(there: Mounted) -> None:
    refused = await there.ask("/v1/session/create", 500, method="PUT", json={"Node": "far"})
    assert refused.text == "Missing node registration"
    node = {"Node": "far", "Address": "10.0.0.9"}
    await there.ask("/v1/catalog/register", method="PUT", json=node)

    session = await create(there, Node="far")
    assert (await info(there, session))["Node"] == "far"
    await there.ask("/v1/catalog/deregister", method="PUT", json={"Node": "far"})
    assert (await there.ask("/v1/session/list")).json() == []


@pytest.mark.parametrize(
    ("given", "ns"),
    [(20, 20 * 10**9), ("500ms", 500_000_000), (3 * 10**9, 3 * 10**9), (0, 0), ("3h", 60 * 10**9)],
)
def test_a_lock_delay_may_be_said_in_every_way(given: object, ns: int) -> None:
    @served
    async def run(there: Mounted) -> None:
        session = await create(there, LockDelay=given)
        assert (await info(there, session))["LockDelay"] == ns

    run()


@served
async def test_what_cannot_be_is_refused(there: Mounted) -> None:
    for fields, status, says in (
        ({"Behavior": "keep"}, 500, "Invalid Behavior setting 'keep'"),
        ({"TTL": "5s"}, 500, "must be between [10s=24h0m0s]"),
        ({"TTL": "25h"}, 500, "must be between [10s=24h0m0s]"),
        ({"TTL": "x"}, 500, "Session TTL 'x' invalid"),
        ({"LockDelay": "x"}, 400, "Request decode failed"),
        ({"TTL": 10}, 400, "Request decode failed"),
        ({"Name": "n" * 3000}, 500, "2048"),
    ):
        answer = await there.ask("/v1/session/create", status, method="PUT", json=fields)
        assert says in answer.text
    await there.ask("/v1/session/create", 400, method="PUT", content=b"{")
    assert (await there.ask("/v1/session/list")).json() == []


@served
async def test_one_that_is_unknown_is_an_empty_list_and_destroyed_already(there: Mounted) -> None:
    answer = await there.ask("/v1/session/info/nobody")
    assert answer.json() == []
    assert int(answer.headers["x-consul-index"]) >= 1
    assert (await there.ask("/v1/session/destroy/nobody", method="PUT")).json() is True
    renewed = await there.ask("/v1/session/renew/nobody", 404, method="PUT")
    assert renewed.text == "Session id 'nobody' not found"
    for path in ("info/", "destroy/", "renew/"):
        method = "GET" if path == "info/" else "PUT"
        assert (
            await there.ask(f"/v1/session/{path}", 400, method=method)
        ).text == "Missing session"


@served
async def test_lists_are_of_all_or_of_a_node_by_id(there: Mounted) -> None:
    sessions = sorted([await create(there, Name=name) for name in "abc"])

    listed = await there.ask("/v1/session/list")
    assert [each["ID"] for each in listed.json()] == sessions
    of_node = await there.ask(f"/v1/session/node/{there.registry.name}")
    assert of_node.json() == listed.json()
    assert (await there.ask("/v1/session/node/elsewhere")).json() == []
    await there.ask("/v1/session/node/", 400)


@served
async def test_destroying_a_session_frees_its_keys_after_the_lock_delay(there: Mounted) -> None:
    one, two = await create(there, LockDelay="10s"), await create(there)
    await there.ask(f"/v1/kv/lock?acquire={one}", method="PUT", content=b"x")

    assert (await there.ask(f"/v1/session/destroy/{one}", method="PUT")).json() is True

    (entry,) = (await there.ask("/v1/kv/lock")).json()
    assert "Session" not in entry
    again = await there.ask(f"/v1/kv/lock?acquire={two}", method="PUT", content=b"y")
    assert again.json() is False  # until 10 s have passed


@served
async def test_a_session_may_take_its_keys_with_it(there: Mounted) -> None:
    one = await create(there, Behavior="delete")
    await there.ask(f"/v1/kv/lock?acquire={one}", method="PUT", content=b"x")

    await there.ask(f"/v1/session/destroy/{one}", method="PUT")

    await there.ask("/v1/kv/lock", 404)


@served
async def test_a_renewal_touches_neither_the_log_nor_an_index(there: Mounted) -> None:
    one = await create(there, TTL="10s")
    revision = there.registry.revision
    node = there.standalone.node
    held = node.sessions.find(session_of(one))
    assert held is not None
    heard_ns = held.heard_ns

    answer = await there.ask(f"/v1/session/renew/{one}", method="PUT")

    assert answer.json() == [await info(there, one)]
    assert "x-consul-index" not in answer.headers
    assert there.registry.revision == revision
    assert held.heard_ns > heard_ns


@served
async def test_a_session_that_is_not_renewed_ends_after_its_ttl_and_not_before(
    there: Mounted,
) -> None:
    node = there.standalone.node
    one = await create(there, TTL="10s", LockDelay="0s")
    await there.ask(f"/v1/kv/lock?acquire={one}", method="PUT", content=b"x")
    held = node.sessions.find(session_of(one))
    assert held is not None

    node.sessions.tick(held.heard_ns + 9_900_000_000)
    assert await info(there, one)
    await there.ask(f"/v1/session/renew/{one}", method="PUT")
    node.sessions.tick(held.heard_ns + 9_900_000_000)
    assert await info(there, one)
    node.sessions.tick(held.heard_ns + 10_000_000_001)
    while (await there.ask(f"/v1/session/info/{one}")).json():
        pass

    assert "Session" not in (await there.ask("/v1/kv/lock")).json()[0]
    await there.ask(f"/v1/session/renew/{one}", 404, method="PUT")


@served
async def test_a_session_that_is_about_to_end_is_saved_by_a_renewal_or_is_gone(
    there: Mounted,
) -> None:
    one = await create(there, TTL="10s")
    held = there.standalone.node.sessions.find(session_of(one))
    assert held is not None
    held.is_expiring = True  # its Expire was proposed and has not come back

    await there.ask(f"/v1/session/renew/{one}", method="PUT")

    renewed = there.standalone.node.sessions.find(session_of(one))
    assert renewed is not None
    assert renewed.attachment > held.attachment
    assert not renewed.is_expiring
    assert await info(there, one)


@served
async def test_the_list_wakes_for_sessions_and_not_for_keys(there: Mounted) -> None:
    await create(there)
    answer = await there.ask("/v1/session/list")
    index = int(answer.headers["x-consul-index"])
    await there.ask("/v1/kv/a", method="PUT", content=b"1")

    unchanged = await there.ask(f"/v1/session/list?index={index}&wait=20ms")
    assert int(unchanged.headers["x-consul-index"]) == index
    session = await create(there)
    answer = await there.ask(f"/v1/session/list?index={index}&wait=60s")
    assert session in [each["ID"] for each in answer.json()]
    assert int(answer.headers["x-consul-index"]) > index
