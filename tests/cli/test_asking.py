"""The commands that ask a registry once: services, status, deregister, drain."""

import asyncio
import threading

from tests.cli.programs import World

import waypost
from waypost.client.blocking import BlockingRegistry


def test_services_are_listed_in_numbers(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    registry.register("counted", id="c1", host="10.0.0.1", port=1, ttl=0)
    registry.register("counted", id="c2", host="10.0.0.1", port=2, ttl=0, health="critical")

    listed = world.run("services", server=server)

    assert listed.code == 0
    assert set(listed.json) == {"revision", "age_ms", "source", "services"}
    (counted,) = [each for each in listed.json["services"] if each["service"] == "counted"]
    assert (counted["instances"], counted["pickable"]) == (2, 1)
    assert counted["revision"] > 0


def test_services_are_a_table_on_a_terminal(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    registry.register("tabled", id="t1", host="10.0.0.1", port=1, ttl=0)

    listed = world.on_a_terminal("services", server=server)

    assert listed.code == 0
    assert listed.out.split()[:3] == ["SERVICE", "INSTANCES", "USABLE"]
    assert any(line.split()[:3] == ["tabled", "1", "1"] for line in listed.out.splitlines())


def test_an_empty_registry_says_that_it_is_empty(world: World) -> None:
    with world.serving() as running:
        assert world.run("services", server=running.native).json["services"] == []
        assert "No service" in world.on_a_terminal("services", server=running.native).out


def test_the_status_is_told(world: World, server: str) -> None:
    asked = world.run("status", server=server)

    assert asked.code == 0
    assert asked.json["role"] == "leader"
    assert asked.json["writable"] is True
    assert asked.json["data_dir"] == ""


def test_the_status_is_a_table_on_a_terminal(world: World, server: str) -> None:
    lines = world.on_a_terminal("status", server=server).out.splitlines()

    assert ["role", "leader"] in [line.split() for line in lines]
    assert ["durable", "no"] in [line.split() for line in lines]


def test_a_deregistered_instance_is_gone(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    registry.register("leaving", id="l1", host="10.0.0.1", port=1, ttl=0)

    done = world.run("deregister", "leaving", "l1", server=server)

    assert done.code == 0
    assert done.json == {"event": "deregistered", "service": "leaving", "id": "l1"}
    assert registry.resolve("leaving", health="any").records == ()


def test_what_is_not_there_cannot_be_deregistered(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    registry.register("staying", id="s1", host="10.0.0.1", port=1, ttl=0)

    for name, instance_id in (("nobody", "n1"), ("staying", "s2")):
        refused = world.run("deregister", name, instance_id, server=server)

        assert refused.code == 1
        assert refused.out == ""
        assert refused.err.startswith(f"waypost: cannot deregister {name}/{instance_id} at ")


def test_drain_returns_once_every_consumer_has_noticed(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    registry.register("drained", id="d1", host="10.0.0.1", port=1, ttl=0)
    consumer = registry.service("drained")
    consumer.ready()

    done = world.run("drain", "drained", "d1", server=server)

    assert done.code == 0
    assert consumer.instances == ()
    assert (done.json["watchers"], done.json["unseen"]) == (1, 0)
    assert done.json["revision"] <= consumer.revision


def test_a_drain_that_not_everybody_has_seen_is_5(world: World, server: str) -> None:
    started, go_on = threading.Event(), threading.Event()

    async def consume() -> None:
        async with waypost.connect(server, cache_dir=None) as client:
            await client.register("unseen", id="u1", host="10.0.0.1", port=1, ttl=0)
            await client.service("unseen").ready()
            started.set()
            go_on.wait()  # its event loop stands still, so it confirms nothing

    thread = threading.Thread(target=asyncio.run, args=(consume(),))
    thread.start()
    try:
        assert started.wait(20)
        done = world.run("drain", "unseen", "u1", "--deadline", "300ms", server=server)
    finally:
        go_on.set()
        thread.join()

    assert done.code == 5
    assert done.json["unseen"] == 1
    assert "had not confirmed within 0.3 s" in done.err


def test_what_is_not_there_cannot_be_drained(world: World, server: str) -> None:
    assert world.run("drain", "nobody", "n1", server=server).code == 1


def test_what_was_done_is_told_to_people_in_words(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    registry.register("worded", id="w1", host="10.0.0.1", port=1, ttl=0)

    drained = world.on_a_terminal("drain", "worded", "w1", server=server)
    gone = world.on_a_terminal("deregister", "worded", "w1", server=server)

    assert drained.out.startswith("Drained worded/w1: ")
    assert gone.out.strip() == "Deregistered worded/w1."
