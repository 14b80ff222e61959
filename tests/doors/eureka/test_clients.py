"""Clients of Eureka, as they are: they register, discover, and outlive the loss of a leader."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.doors.eureka.programs import Client, java_client, js_client, python_client, servers
from tests.doors.over_http import Api, eventually
from tests.doors.prometheus.program import Scraped
from tests.processes.cluster import ClusterProcesses

Start = Callable[..., Client]
CLIENTS: dict[str, Start] = {"py": python_client, "js": js_client, "java": java_client}


def sees(client: Client, app: str, expected: dict[str, str]) -> None:
    """Wait until it does."""
    eventually(
        lambda: client.see(app) == expected,
        lambda: f"{expected}, not {client.see(app)}\n{client.log()}",
    )


def health_is(api: Api, service: str, instance_id: str, expected: str) -> None:
    eventually(
        lambda: api.instances(service).get(instance_id, {}).get("health") == expected,
        lambda: api.instances(service),
    )


@pytest.mark.slow  # they ask once a second
@pytest.mark.parametrize("kind", CLIENTS)
def test_a_client_registers_and_sees_what_comes_fails_drains_and_goes(
    cluster: ClusterProcesses, api: Api, tmp_path: Path, kind: str
) -> None:
    api.register("billing", "b-1", port=9001, zone="z")
    start = CLIENTS[kind]
    with start(tmp_path / "client", servers(cluster), "shop", "shop-host", "9000") as client:
        sees(client, "billing", {"b-1": "UP"})
        health_is(api, "shop", "shop-host", "passing")
        shop = api.instances("shop")["shop-host"]
        assert (shop["host"], shop["port"]) == ("127.0.0.1", 9000)
        sees(client, "SHOP", {"shop-host": "UP"})

        api.register("billing", "b-2", port=9002)
        sees(client, "billing", {"b-1": "UP", "b-2": "UP"})
        api.say("billing", "b-1", "critical")
        sees(client, "billing", {"b-1": "DOWN", "b-2": "UP"})
        api.say("billing", "b-1", "warning")
        sees(client, "billing", {"b-1": "UP", "b-2": "UP"})
        api.say("billing", "b-2", "draining")
        sees(client, "billing", {"b-1": "UP", "b-2": "OUT_OF_SERVICE"})
        api.deregister("billing", "b-2")
        sees(client, "billing", {"b-1": "UP"})
        api.register("billing", "b-2", port=9002)
        sees(client, "billing", {"b-1": "UP", "b-2": "UP"})

        api.deregister("shop", "shop-host")  # it hears of it by its next heartbeat
        health_is(api, "shop", "shop-host", "passing")

        client.leave()
        eventually(lambda: api.instances("shop") == {})


@pytest.mark.slow  # two leases, of all at once
def test_a_client_keeps_its_registration_and_sees_more_while_the_leader_dies(
    cluster: ClusterProcesses, api: Api, tmp_path: Path
) -> None:
    leader = asyncio.run(cluster.leader())
    nodes = servers(cluster, first=leader.name, root="/eureka/v2")
    api.register("billing", "b-1")
    with ExitStack() as stack:
        clients = {
            f"shop-{kind}": stack.enter_context(
                start(tmp_path / kind, nodes, f"shop-{kind}", "shop-host", "9000")
            )
            for kind, start in CLIENTS.items()
        }
        lives: dict[str, str] = {}
        for app, client in clients.items():
            sees(client, "billing", {"b-1": "UP"})
            health_is(api, app, "shop-host", "passing")
            lives[app] = api.instances(app)["shop-host"]["incarnation"]

        leader.kill()
        api.register("billing", "b-2", port=9002)
        for client in clients.values():
            sees(client, "billing", {"b-1": "UP", "b-2": "UP"})
        deadline = time.monotonic() + 8  # two leases
        while time.monotonic() < deadline:
            for app, client in clients.items():
                assert api.instances(app)["shop-host"]["health"] == "passing", client.log()
            time.sleep(0.5)
        for app, client in clients.items():
            assert api.instances(app)["shop-host"]["incarnation"] == lives[app], client.log()

        for client in clients.values():
            client.process.kill()
        for app in clients:
            eventually(lambda app=app: api.instances(app) == {})  # type: ignore[misc]


@pytest.mark.slow
def test_an_override_by_the_python_client_holds_until_it_is_removed(
    cluster: ClusterProcesses, api: Api, tmp_path: Path
) -> None:
    with python_client(tmp_path / "client", servers(cluster), "shop", "s-1", "9000") as client:
        health_is(api, "shop", "s-1", "passing")

        client.say("status OUT_OF_SERVICE")
        health_is(api, "shop", "s-1", "draining")
        sees(client, "shop", {"s-1": "OUT_OF_SERVICE"})
        client.say("status UP")
        health_is(api, "shop", "s-1", "passing")
        client.say("status DOWN")
        health_is(api, "shop", "s-1", "critical")
        client.say("no-status")
        health_is(api, "shop", "s-1", "passing")  # it registered, as its heartbeat was told to


@pytest.mark.slow
def test_the_java_client_says_how_it_is_and_keeps_to_deltas(
    cluster: ClusterProcesses, api: Api, tmp_path: Path
) -> None:
    with java_client(tmp_path / "client", servers(cluster), "shop", "s-1", "9000") as client:
        health_is(api, "shop", "s-1", "passing")
        sees(client, "shop", {"s-1": "UP"})
        for said, health in (
            ("DOWN", "critical"),
            ("OUT_OF_SERVICE", "draining"),
            ("UP", "passing"),
        ):
            client.say(f"say {said}")
            health_is(api, "shop", "s-1", health)
            sees(client, "shop", {"s-1": said})
        whole = client.log().count("Getting all instance registry info")
        api.register("billing", "b-1")
        sees(client, "billing", {"b-1": "UP"})
        assert client.log().count("Getting all instance registry info") == whole


@pytest.mark.slow
def test_a_call_by_the_python_client_reaches_a_provider_of_another_door(
    cluster: ClusterProcesses, api: Api, tmp_path: Path
) -> None:
    with Scraped() as provider:
        api.register("billing", "b-1", port=provider.port)
        with python_client(tmp_path / "client", servers(cluster), "shop", "s", "9000") as client:
            assert client.say("call billing") == "orders_served 42\n"


@pytest.mark.slow
def test_the_js_client_follows_deltas(cluster: ClusterProcesses, api: Api, tmp_path: Path) -> None:
    arguments = servers(cluster), "shop", "shop-host", "9000", "delta"
    with js_client(tmp_path / "client", *arguments) as client:
        sees(client, "SHOP", {"shop-host": "UP"})

        api.register("billing", "b-1")
        sees(client, "billing", {"b-1": "UP"})
        api.say("billing", "b-1", "critical")
        sees(client, "billing", {"b-1": "DOWN"})
        api.deregister("billing", "b-1")
        sees(client, "billing", {})
