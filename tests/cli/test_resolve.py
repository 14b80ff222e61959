import json

import pytest
from tests.cli.programs import World

from waypost.client.blocking import BlockingRegistry


def register(registry: BlockingRegistry, service: str, *ids: str, **more: object) -> None:
    for number, instance_id in enumerate(ids, 1):
        registry.register(
            service,
            id=instance_id,
            host=f"10.0.0.{number}",
            port=8000 + number,
            ttl=0,
            **more,  # type: ignore[arg-type]
        )


def test_what_is_found_is_json_in_a_pipe_with_its_freshness(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    register(registry, "orders", "o1", "o2", zone="a", tags=["x"], meta={"k": "v"}, weight=2)

    found = world.run("resolve", "orders", server=server)

    assert found.code == 0
    assert found.err == ""
    assert set(found.json) == {"service", "revision", "age_ms", "source", "instances"}
    assert found.json["service"] == "orders"
    assert found.json["source"] == "leader"
    assert found.json["revision"] > 0
    first, second = found.json["instances"]
    assert (first["id"], second["id"]) == ("o1", "o2")
    assert (first["host"], first["port"], first["weight"]) == ("10.0.0.1", 8001, 2)
    assert (first["zone"], first["tags"], first["meta"]) == ("a", ["x"], {"k": "v"})
    assert (first["health"], first["suspect"]) == ("passing", False)


def test_what_is_found_is_a_table_on_a_terminal(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    register(registry, "shown", "s1", "s2", zone="zurich", meta={"markup": "[red]x[/red]"})

    found = world.on_a_terminal("resolve", "shown", server=server)

    assert found.code == 0
    lines = found.out.splitlines()
    assert lines[0].split() == ["ID", "ADDRESS", "HEALTH", "ZONE", "META"]
    assert lines[2].split() == ["s1", "10.0.0.1:8001", "passing", "zurich", "markup=[red]x[/red]"]
    assert lines[3].split()[0] == "s2"
    assert "revision" in lines[4]
    assert "from leader" in lines[4]


def test_json_is_given_on_a_terminal_when_it_is_asked_for(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    register(registry, "asked", "a1")

    found = world.on_a_terminal("resolve", "asked", "--json", server=server)

    assert json.loads(found.out)["instances"][0]["id"] == "a1"


def test_an_unknown_name_is_1(world: World, server: str) -> None:
    found = world.run("resolve", "nobody", server=server)

    assert found.code == 1
    assert found.json["instances"] == []
    assert found.err.startswith(f"waypost: cannot resolve 'nobody' at {server}: ")
    assert "check the name" in found.err


def test_an_unknown_name_is_an_error_in_json_too(world: World, server: str) -> None:
    found = world.run("resolve", "nobody", "--json", server=server)

    assert found.code == 1
    assert found.error["code"] == "unknown-service"
    assert found.error["retryable"] is False


def test_known_but_none_healthy_is_2_and_says_why(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    register(registry, "sick", "s1", health="critical")

    found = world.run("resolve", "sick", server=server)

    assert found.code == 2
    assert found.json["instances"] == []
    assert "1 critical" in found.err


def test_known_but_none_that_meets_the_conditions_is_2(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    register(registry, "zoned", "z1", zone="a")

    found = world.run("resolve", "zoned", "--zone", "b", server=server)

    assert found.code == 2
    assert "none of them meets the conditions" in found.err


def test_the_sick_are_shown_when_they_are_asked_for(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    register(registry, "ailing", "a1", health="critical")

    for health in ("any", "critical"):
        found = world.run("resolve", "ailing", "--health", health, server=server)

        assert found.code == 0
        assert found.json["instances"][0]["health"] == "critical"


@pytest.mark.parametrize("condition", [("--tag", "blue"), ("--meta", "stage=two"), ("--zone", "b")])
def test_conditions_filter(
    world: World, server: str, registry: BlockingRegistry, condition: tuple[str, str]
) -> None:
    service = f"filtered-{condition[0].lstrip('-')}"
    register(registry, service, "plain")
    registry.register(
        service,
        id="wanted",
        host="10.0.0.9",
        port=9,
        ttl=0,
        tags=["blue"],
        meta={"stage": "two"},
        zone="b",
    )

    found = world.run("resolve", service, *condition, server=server)

    assert [instance["id"] for instance in found.json["instances"]] == ["wanted"]


@pytest.mark.parametrize("policy", [None, "random", "round_robin", "weighted"])
def test_one_is_one(
    world: World, server: str, registry: BlockingRegistry, policy: str | None
) -> None:
    service = f"one-{policy or 'default'}".replace("_", "-")
    register(registry, service, "a", "b", "c")

    found = world.run(
        "resolve", service, "--one", *(["--policy", policy] if policy else []), server=server
    )

    assert found.code == 0
    assert found.json["instance"]["id"] in ("a", "b", "c")
    assert "instances" not in found.json


def test_one_is_chosen_by_its_policy(world: World, server: str, registry: BlockingRegistry) -> None:
    register(registry, "heavy", "light", weight=0)
    registry.register("heavy", id="only", host="10.0.0.2", port=2, ttl=0, weight=5)

    found = world.run("resolve", "heavy", "--one", "--policy", "weighted", server=server)

    assert found.json["instance"]["id"] == "only"


def test_an_unknown_policy_is_a_wrong_command_line(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    register(registry, "policed", "p1")

    refused = world.run("resolve", "policed", "--one", "--policy", "best", server=server)

    assert refused.code == 64
    assert "round_robin" in refused.err


def test_consistency_and_staleness_are_passed_on(
    world: World, server: str, registry: BlockingRegistry
) -> None:
    register(registry, "fresh", "f1")

    fresh = ("--consistency", "linearizable", "--max-stale", "2s")

    assert world.run("resolve", "fresh", *fresh, server=server).code == 0


def test_without_a_registry_the_last_known_answer_is_given_with_a_warning(world: World) -> None:
    with world.serving() as registry:
        server = registry.native
        world.run("register", "kept", "--port", "8000", "--ttl", "0", server=server)
        asked = world.run("resolve", "kept", server=server)

    again = world.run("resolve", "kept", server=server)

    assert again.code == 0
    assert again.json["source"] == "disk"
    assert again.json["instances"] == asked.json["instances"]
    assert "no registry answers" in again.err


def test_without_a_registry_the_last_known_answer_is_not_given_as_fresh(world: World) -> None:
    with world.serving() as registry:
        server = registry.native
        world.run("register", "kept", "--port", "8000", "--ttl", "0", server=server)
        world.run("resolve", "kept", server=server)

    for bound in (("--max-stale", "10s"), ("--consistency", "linearizable")):
        refused = world.run("resolve", "kept", *bound, server=server)

        assert refused.code == 3
        assert refused.out == ""


def test_without_a_registry_and_with_nothing_known_it_is_3(world: World) -> None:
    refused = world.run("resolve", "orders", server="127.0.0.1:1")

    assert refused.code == 3
    assert refused.out == ""
    assert "127.0.0.1:1" in refused.err
